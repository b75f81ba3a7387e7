//! The command line.

mod inspect;
mod merge;
mod report;
mod reproduce;
mod testbed;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use inspect::{InspectArgs, MemoryArgs};
pub use merge::{MergeArgs, MethodArg, SpaceArg};
pub use report::ReportArgs;
pub use reproduce::{ReproduceArgs, ScaleArg};
pub use testbed::{BuildArgs, CheckArgs, TestbedArgs, TestbedCommand};

use crate::mode::Mode;
use crate::model::Application;
use crate::task::Split;

/// Adapts language-model experts by swarm search.
#[derive(Debug, Parser)]
#[command(name = "model-swarms", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Print the result as JSON on standard output.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Search the weights between experts for a better adapter.
    Search(SearchArgs),
    /// Measure a base model, or an adapter of it, on a task.
    Eval(EvalArgs),
    /// Continue prompts greedily.
    Generate(GenerateArgs),
    /// Make one adapter of several by a formula.
    Merge(MergeArgs),
    /// Compute a table of the paper again.
    Reproduce(ReproduceArgs),
    /// Print what a base model, an adapter, a pool, a run or a suite is made of.
    Inspect(InspectArgs),
    /// Make any particle of any iteration of a run again.
    Rebuild(RebuildArgs),
    /// Write a page about runs of `reproduce` and `search`.
    Report(ReportArgs),
    /// Write a tiny base model, ten experts and a task to try things on.
    Example(ExampleArgs),
    /// Check a testbed, or build the mini testbed.
    Testbed(TestbedArgs),
    /// Recompute the paper's sentences from its printed tables, or look for faults in data files.
    Audit(AuditArgs),
}

/// How a model is run; nothing but the precision changes a result.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What computes.
    #[arg(long, value_enum, default_value = "auto")]
    pub device: DeviceArg,
    /// How exact results are; the processor knows exact alone.
    #[arg(long, value_enum, default_value = "exact")]
    pub precision: PrecisionArg,
    /// Sequences that share a batch, else as suits the device; changes the speed only.
    #[arg(long, value_parser = batch)]
    pub batch: Option<usize>,
    /// How adapters are applied; by default as is faster at the model's size.
    #[arg(long, value_enum)]
    pub adapters: Option<AdaptersArg>,
}

/// `--device`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceArg {
    /// The best that there is.
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// `--precision`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionArg {
    /// f32, summed in one order: the same answers on every device.
    Exact,
    /// bf16 on a GPU's tensor cores: for large models.
    Fast,
}

/// `--adapters`
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum AdaptersArg {
    /// Added to a copy of the weights.
    Merged,
    /// Computed beside the base's weights.
    Unmerged,
}

impl From<AdaptersArg> for Application {
    fn from(adapters: AdaptersArg) -> Self {
        match adapters {
            AdaptersArg::Merged => Self::Merged,
            AdaptersArg::Unmerged => Self::Unmerged,
        }
    }
}

/// `--mode`
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ModeArg {
    /// As the paper's text has it.
    Paper,
    /// As the authors' program has it.
    Code,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Paper => Self::Paper,
            ModeArg::Code => Self::Code,
        }
    }
}

/// `--split`
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SplitArg {
    /// The validation examples, which guide a search.
    Dev,
    /// The test examples.
    Test,
}

impl From<SplitArg> for Split {
    fn from(split: SplitArg) -> Self {
        match split {
            SplitArg::Dev => Self::Dev,
            SplitArg::Test => Self::Test,
        }
    }
}

/// `model-swarms search`
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// The base model: a Hugging Face directory, or an id in the local cache.
    #[arg(long)]
    pub base: String,
    /// A folder of PEFT adapter folders.
    #[arg(long)]
    pub experts: PathBuf,
    /// The task file.
    #[arg(long)]
    pub task: PathBuf,
    /// The run directory to make.
    #[arg(long)]
    pub out: PathBuf,
    /// The seed of all draws.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Whose procedure and whose parsing to follow.
    #[arg(long, value_enum, default_value = "paper")]
    pub mode: ModeArg,
    /// Changes one setting of the search; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Go on with the run that is there.
    #[arg(long)]
    pub resume: bool,
    /// How the model is run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `model-swarms eval`
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The base model: a Hugging Face directory, or an id in the local cache.
    #[arg(long)]
    pub base: String,
    /// A PEFT adapter folder; the bare base where absent.
    #[arg(long)]
    pub adapter: Option<PathBuf>,
    /// The task file.
    #[arg(long)]
    pub task: PathBuf,
    /// Which examples.
    #[arg(long, value_enum)]
    pub split: SplitArg,
    /// Whose parsing to follow.
    #[arg(long, value_enum, default_value = "paper")]
    pub mode: ModeArg,
    /// Write one line of JSON for each example.
    #[arg(long, value_name = "FILE.jsonl")]
    pub predictions: Option<PathBuf>,
    /// How the model is run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `model-swarms generate`
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The base model: a Hugging Face directory, or an id in the local cache.
    #[arg(long)]
    pub base: String,
    /// A PEFT adapter folder; several are run as one job, all over all prompts.
    #[arg(long)]
    pub adapter: Vec<PathBuf>,
    /// Lines of {"id": ..., "prompt": "..."} or {"id": ..., "tokens": [...]}.
    #[arg(long, value_name = "FILE.jsonl")]
    pub prompts: PathBuf,
    /// New tokens for each prompt, at most.
    #[arg(long)]
    pub max_new_tokens: usize,
    /// Put each prompt as a user's turn, by the model's chat template.
    #[arg(long)]
    pub chat: bool,
    /// Also give the logits at the prompt's last position.
    #[arg(long)]
    pub logits: bool,
    /// Go on after an end token.
    #[arg(long)]
    pub ignore_eos: bool,
    /// How the model is run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `model-swarms rebuild`
#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// The run directory.
    pub run: PathBuf,
    /// The iteration; 0 is before the first step.
    #[arg(long)]
    pub iteration: u32,
    /// The particle, counted from 0; the experts come first.
    #[arg(long)]
    pub particle: usize,
    /// The adapter folder to write.
    #[arg(long)]
    pub out: PathBuf,
    /// The folder of experts, where it has moved since the run.
    #[arg(long)]
    pub experts: Option<PathBuf>,
}

/// `model-swarms example`
#[derive(Debug, Args)]
pub struct ExampleArgs {
    /// The folder to make.
    #[arg(long)]
    pub out: PathBuf,
    /// The seed of the weights and questions.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// `model-swarms audit`
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Look at a folder of data files instead: {"dev": [...], "test": [...]} in each .json.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

fn batch(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("wanted a whole number of at least 1".into()),
        Ok(batch) => Ok(batch),
    }
}
