//! `model-swarms merge`: one adapter of several, by a formula and without a task.

use std::path::PathBuf;

use rayon::prelude::*;
use serde_json::{Value, json};

use super::{Format, check_out, print_as};
use crate::adapter::{Expert, ModuleLayout, folders, save};
use crate::baseline::merge::{
    BaseOf, DareTies, Divide, Election, Form, Grain, Masks, Merged, Method, Rescale, Space, Ties,
    merge,
};
use crate::cli::{MergeArgs, MethodArg, SpaceArg};
use crate::error::{Error, Result};
use crate::files::sha256;
use crate::model::locate::locate;
use crate::model::weights::BaseFiles;

/// What ties and dare-ties keep of each change where `--density` is not given.
const DENSITY: f64 = 0.5;

/// Runs the command.
pub fn run(args: MergeArgs, format: Format) -> Result<()> {
    check_options(&args)?;
    let experts = open_experts(&args.experts)?;
    check_out(&args.out, &experts)?;
    let (method, parameters) = method(&args, experts.len());
    let space = args.space.unwrap_or(match args.method {
        MethodArg::Linear | MethodArg::Slerp => SpaceArg::Factor,
        MethodArg::Ties | MethodArg::DareTies | MethodArg::ModelStock => SpaceArg::Delta,
    });
    let base = args.base.as_deref().map(|base| BaseFiles::open(&locate(base)?));
    let base = base.transpose()?;
    let merged = match (space, &base) {
        (SpaceArg::Full, Some(base)) => {
            let weights_of = |module: &ModuleLayout| base.adapted_by(module);
            let base: BaseOf = &weights_of;
            merge(&experts, &method, Space::Full(base))?
        }
        (SpaceArg::Full, None) => {
            let what = "--space full wants --base, whose weights are merged";
            return Err(Error::Usage(what.into()));
        }
        (SpaceArg::Delta, _) => merge(&experts, &method, Space::Delta)?,
        (SpaceArg::Factor, _) => merge(&experts, &method, Space::Factor)?,
    };

    let (method, space) = (name_of(args.method), name_of(space));
    let ranks = merged.adapter.layout.modules.iter().map(|module| module.rank);
    let hashes = hashes(&experts, base.as_ref())?;
    let found = json!({
        "method": method,
        "space": space,
        "parameters": parameters,
        "experts": experts.iter().map(|expert| expert.name.as_str()).collect::<Vec<_>>(),
        "sha256": hashes,
        "exact": merged.form != Form::Factors,
        "ranks": [ranks.clone().min(), ranks.max()],
        "dtype": merged.dtype.to_string(),
        "adapter": args.out.to_string_lossy(),
    });
    let summary = summary(&found, &merged);
    let card = format!(
        "# Merged by {method} in {space} space\n\n```\n{summary}```\n\nMade of these files, with \
         their SHA-256:\n\n```\n{}\n```\n",
        hashes.join("\n")
    );
    save(&args.out, &merged.adapter, &merged.config, merged.dtype, &card)?;
    print_as(format, &found, |_| format!("{}\n{summary}", args.out.display()))
}

/// An option that means nothing to the method, or to the space, is an error.
fn check_options(args: &MergeArgs) -> Result<()> {
    use MethodArg::{DareTies, Linear, Slerp, Ties};
    let options: [(&str, bool, &[MethodArg]); 4] = [
        ("--weights", args.weights.is_some(), &[Linear, Ties, DareTies]),
        ("--t", args.t.is_some(), &[Slerp]),
        ("--density", args.density.is_some(), &[Ties, DareTies]),
        ("--seed", args.seed.is_some(), &[DareTies]),
    ];
    for (option, is_given, methods) in options {
        if is_given && !methods.contains(&args.method) {
            let method = name_of(args.method);
            return Err(Error::Usage(format!("{option} means nothing to {method}")));
        }
    }
    if args.base.is_some() && args.space != Some(SpaceArg::Full) {
        return Err(Error::Usage("--base means nothing without --space full".into()));
    }
    Ok(())
}

/// The folders as they are given; one that is not an adapter stands for the adapters in it.
fn open_experts(paths: &[PathBuf]) -> Result<Vec<Expert>> {
    let paths = match paths {
        [folder] if !folder.join("adapter_config.json").exists() => folders(folder)?,
        paths => paths.to_vec(),
    };
    // Checked side by side; the first in order gives the error.
    let opened: Vec<Result<Expert>> = paths.par_iter().map(|path| Expert::open(path)).collect();
    opened.into_iter().collect()
}

/// The method with all its parameters, and these as they are reported.
fn method(args: &MergeArgs, n_experts: usize) -> (Method<'static>, Value) {
    let weights = |default: f64| args.weights.clone().unwrap_or(vec![default; n_experts]);
    let share = 1.0 / n_experts as f64;
    let density = args.density.unwrap_or(DENSITY);
    let ties = |default_weight: f64, divide: Divide| Ties {
        weights: weights(default_weight),
        densities: vec![density; n_experts],
        election: Election::Sum,
        divide,
    };
    match args.method {
        MethodArg::Linear => {
            let weights = weights(share);
            let parameters = json!({"weights": weights});
            (Method::Linear { weights, divide: Divide::ByNothing }, parameters)
        }
        MethodArg::Slerp => {
            let t = args.t.unwrap_or(0.5);
            (Method::Slerp { t }, json!({"t": t}))
        }
        MethodArg::Ties => {
            let ties = ties(1.0, Divide::ByWeights);
            let parameters =
                json!({"weights": ties.weights, "density": density, "normalize": true});
            (Method::Ties(ties), parameters)
        }
        MethodArg::DareTies => {
            let seed = args.seed.unwrap_or(1);
            let ties = ties(share, Divide::ByNothing);
            let parameters = json!({
                "weights": ties.weights, "density": density, "normalize": false,
                "rescale": "by density", "seed": seed,
            });
            let masks = Masks::Drawn { seed };
            (Method::DareTies(DareTies { ties, rescale: Rescale::ByDensity, masks }), parameters)
        }
        MethodArg::ModelStock => (Method::ModelStock { grain: Grain::Tensor }, json!({})),
    }
}

/// "SHA-256  file" of every input, computed side by side, in the order of the experts.
fn hashes(experts: &[Expert], base: Option<&BaseFiles>) -> Result<Vec<String>> {
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for expert in experts {
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            files.push((format!("{}/{name}", expert.name), expert.dir().join(name)));
        }
    }
    for path in base.into_iter().flat_map(|base| base.paths()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        files.push((format!("base/{name}"), path.to_path_buf()));
    }
    files.into_par_iter().map(|(name, path)| Ok(format!("{}  {name}", sha256(&path)?))).collect()
}

/// The method, its parameters and what came of it, for a person.
fn summary(found: &Value, merged: &Merged) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let mut lines = vec![format!("{} in {} space", text(&found["method"]), text(&found["space"]))];
    let parameters = found["parameters"].as_object().into_iter().flatten();
    for (name, value) in parameters.filter(|(name, _)| *name != "weights") {
        lines.push(format!("{name}: {}", text(value)));
    }
    for (expert_idx, name) in found["experts"].as_array().into_iter().flatten().enumerate() {
        match found["parameters"]["weights"][expert_idx].as_f64() {
            Some(weight) => lines.push(format!("{weight:>9.4} x {}", text(name))),
            None => lines.push(format!("  {}", text(name))),
        }
    }
    let ranks = match (&found["ranks"][0], &found["ranks"][1]) {
        (least, most) if least == most => format!("rank {most}"),
        (least, most) => format!("ranks {least} to {most}"),
    };
    let form = match merged.form {
        Form::Factors => {
            "each factor merged on its own, so that the update mixes those of several experts"
        }
        Form::Concatenated => "the merged update exactly: the experts' factors beside each other",
        Form::Dense => "the merged update exactly: one factor is the update, the other an identity",
    };
    lines.push(format!("{ranks}, {}: {form}", found["dtype"].as_str().unwrap_or_default()));
    lines.into_iter().map(|line| line + "\n").collect()
}

/// As the command line has it.
fn name_of(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default()
}
