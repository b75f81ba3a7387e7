//! The command line of `inspect`.

use std::path::PathBuf;

use clap::Args;

use super::{AdaptersArg, PrecisionArg};

/// `model-swarms inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A base model, an adapter, a folder of adapters, a run directory or a suite (.toml).
    pub path: PathBuf,
    /// Print instead how a base model would use the memory of this device.
    #[arg(long, value_parser = ["cuda"])]
    pub device: Option<String>,
    /// What to plan for.
    #[command(flatten)]
    pub memory: MemoryArgs,
}

/// What a plan of a GPU's memory depends on, beside the base model.
#[derive(Debug, Args)]
pub struct MemoryArgs {
    /// Free memory to plan for, where the GPU itself is not here.
    #[arg(long, value_name = "GIB", value_parser = gib, requires = "device")]
    pub memory: Option<usize>, // bytes
    /// A folder of PEFT adapter folders; the bare base where absent.
    #[arg(long, value_name = "DIR", requires = "device")]
    pub experts: Option<PathBuf>,
    /// Particles of a search over them.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "experts")]
    pub particles: usize,
    /// How exact results are.
    #[arg(long, value_enum, default_value = "exact", requires = "device")]
    pub precision: PrecisionArg,
    /// Tokens of a sequence, prompt and answer [default: 1024, or the model's longest]
    #[arg(long, value_name = "N", value_parser = super::batch, requires = "device")]
    pub tokens: Option<usize>,
    /// How adapters are applied; by default as is faster at the model's size.
    #[arg(long, value_enum, requires = "device")]
    pub adapters: Option<AdaptersArg>,
}

/// A number of GiB as bytes.
fn gib(text: &str) -> Result<usize, String> {
    const GIB: f64 = (1u64 << 30) as f64;
    match text.parse::<f64>() {
        Ok(gib) if gib > 0.0 && gib.is_finite() => Ok((gib * GIB) as usize),
        _ => Err("wanted a number of GiB above 0".into()),
    }
}
