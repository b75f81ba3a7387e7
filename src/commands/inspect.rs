//! `model-swarms inspect`: what a base model, an adapter, a pool, a run or a suite is made of.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Format, inspect_memory, inspect_suite, print_as};
use crate::adapter::{Expert, Pool};
#[cfg(feature = "cuda")]
use crate::backend::cuda::{driver::Driver, gpu::Gpu};
use crate::cli::InspectArgs;
use crate::error::{Error, Result};
use crate::model::config::Config;
use crate::model::weights::BaseFiles;
use crate::swarm::Recording;

/// Runs the command.
pub fn run(args: InspectArgs, format: Format) -> Result<()> {
    let path = args.path.as_path();
    if args.device.is_some() {
        return inspect_memory::run(path, &args.memory, format);
    }
    if path.join("journal.jsonl").exists() {
        return inspect_run(path, format);
    }
    if path.join("adapter_config.json").exists() {
        return print_as(format, &adapter(&Expert::open(path)?), adapter_text);
    }
    if path.join("config.json").exists() {
        return base(path, format);
    }
    if path.is_dir() {
        return pool(path, format);
    }
    if path.extension().is_some_and(|extension| extension == "toml") {
        return inspect_suite::run(path, format);
    }
    let wanted = "wanted a base model, an adapter, a pool or a run, or a suite's .toml file";
    Err(Error::input(path, format!("is not a folder; {wanted}")))
}

/// Free memory of the GPU that would be used.
#[cfg(feature = "cuda")]
pub(super) fn device_bytes() -> Result<usize> {
    Gpu::open()
        .and_then(|gpu| gpu.free_bytes())
        .map_err(|why| Error::Usage(format!("--device cuda: {why}; or give --memory GIB")))
}

/// Free memory of the GPU that would be used.
#[cfg(not(feature = "cuda"))]
pub(super) fn device_bytes() -> Result<usize> {
    Err(Error::Usage("this build has no CUDA; give --memory GIB".into()))
}

#[derive(Serialize)]
struct AdapterReport {
    name: String,
    dtype: String,
    parameters: usize,
    rank: usize,
    alpha: f64,
    modules: Vec<ModuleReport>,
}

#[derive(Serialize)]
struct ModuleReport {
    name: String,
    rank: usize,
    scale: f32,
    d_in: usize,
    d_out: usize,
    update_norm: f64, // Frobenius norm of scale * B A
}

fn adapter(expert: &Expert) -> AdapterReport {
    let norms = expert.module_norms();
    let modules = expert.layout().modules.iter().zip(norms).map(|(module, (name, update_norm))| {
        let (rank, scale, d_in, d_out) = (module.rank, module.scale, module.d_in, module.d_out);
        ModuleReport { name, rank, scale, d_in, d_out, update_norm }
    });
    AdapterReport {
        name: expert.name.clone(),
        dtype: expert.dtype().to_string(),
        parameters: expert.layout().len,
        rank: expert.config().rank,
        alpha: expert.config().alpha,
        modules: modules.collect(),
    }
}

fn adapter_text(report: &AdapterReport) -> String {
    let mut text = format!(
        "adapter {}: {} modules, {} parameters in {}, r {}, alpha {}\n\n{:<44} {:>4} {:>7} {:>6} \
         {:>6}  norm of the update\n",
        report.name,
        report.modules.len(),
        report.parameters,
        report.dtype,
        report.rank,
        report.alpha,
        "module",
        "rank",
        "scale",
        "in",
        "out"
    );
    for m in &report.modules {
        text.push_str(&format!(
            "{:<44} {:>4} {:>7.3} {:>6} {:>6}  {:.4}\n",
            m.name, m.rank, m.scale, m.d_in, m.d_out, m.update_norm
        ));
    }
    text
}

fn pool(path: &Path, format: Format) -> Result<()> {
    let pool = Pool::open(path)?;
    let reports: Vec<AdapterReport> = pool.experts.iter().map(adapter).collect();
    print_as(format, &reports, |reports| {
        let mut text = format!(
            "{} experts that can be mixed: {} modules, {} parameters each\n\n{:<24} {:>8}  norm of \
             all updates\n",
            reports.len(),
            reports[0].modules.len(),
            reports[0].parameters,
            "expert",
            "dtype"
        );
        for report in reports {
            let squares: f64 = report.modules.iter().map(|m| m.update_norm * m.update_norm).sum();
            text.push_str(&format!(
                "{:<24} {:>8}  {:.4}\n",
                report.name,
                report.dtype,
                squares.sqrt()
            ));
        }
        text
    })
}

fn base(path: &Path, format: Format) -> Result<()> {
    let config = Config::open(path)?;
    let files = BaseFiles::open(path)?;
    files.check(&config)?;
    let report = json!({
        "family": format!("{:?}", config.family), "vocab_size": config.vocab_size,
        "hidden_size": config.dim, "intermediate_size": config.ffn_dim, "layers": config.n_layers,
        "heads": config.n_heads, "kv_heads": config.n_kv_heads, "head_dim": config.head_dim,
        "activation": format!("{:?}", config.activation), "rope_theta": config.rope_theta,
        "sliding_window": config.sliding_window, "output": format!("{:?}", config.output),
        "max_positions": config.max_positions, "parameters": files.n_parameters(),
        "files": files.paths().count(),
    });
    print_as(format, &report, |report| table("base model", report))
}

fn inspect_run(path: &Path, format: Format) -> Result<()> {
    let recording = Recording::read(&path.join("journal.jsonl"))?;
    let header = recording.header();
    let mut report = json!({
        "seed": header.seed, "mode": header.mode, "experts": header.experts,
        "settings": header.settings, "completed": recording.len(),
        "finished": path.join("results.json").exists(),
    });
    if !recording.is_empty() {
        let last = recording.record((recording.len() - 1) as u32)?;
        report["best"] = json!({"utility": last.f_g, "found_by": last.g_source});
        report["utilities"] = json!(last.f);
    }
    print_as(format, &report, |report| table("run", report))
}

fn table(title: &str, report: &Value) -> String {
    let mut text = format!("{title}\n");
    for (key, value) in report.as_object().into_iter().flatten() {
        match value {
            Value::Object(inner) => {
                text.push_str(&format!("  {key}\n"));
                for (key, value) in inner {
                    text.push_str(&format!("    {key:<18} {}\n", plain(value)));
                }
            }
            _ => text.push_str(&format!("  {key:<20} {}\n", plain(value))),
        }
    }
    text
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}
