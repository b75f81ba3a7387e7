//! The command line of `reproduce`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::RunArgs;
use crate::suite::Scale;

/// `--scale`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScaleArg {
    /// Few examples and short searches.
    Smoke,
    /// The paper's sizes.
    Full,
}

impl From<ScaleArg> for Scale {
    fn from(scale: ScaleArg) -> Self {
        match scale {
            ScaleArg::Smoke => Self::Smoke,
            ScaleArg::Full => Self::Full,
        }
    }
}

/// `model-swarms reproduce`
#[derive(Debug, Args)]
pub struct ReproduceArgs {
    /// The number of a table of the paper.
    #[arg(long, value_name = "N")]
    pub table: u32,
    /// "mini", which is built in, or a file that names base model, experts and tasks:
    /// suites/paper.toml is a template.
    #[arg(long, value_name = "FILE.toml")]
    pub testbed: PathBuf,
    /// How large.
    #[arg(long, value_enum, default_value = "smoke")]
    pub scale: ScaleArg,
    /// A seed in the place of the suite's.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The folder of the results, where a run that was interrupted goes on
    /// [default: reproduced/TESTBED-tableNN-SCALE, and -seedN where one is given]
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Compare the results with these; those of the built-in testbed are built in.
    #[arg(long, value_name = "FILE.json", conflicts_with = "write_expected")]
    pub expected: Option<PathBuf>,
    /// Write the results as what later ones are compared with.
    #[arg(long, value_name = "FILE.json", requires = "commit")]
    pub write_expected: Option<PathBuf>,
    /// The commit that the program was made of, for --write-expected.
    #[arg(long, requires = "write_expected")]
    pub commit: Option<String>,
    /// How the model is run.
    #[command(flatten)]
    pub run: RunArgs,
}
