//! The command line of `testbed`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::RunArgs;

/// `model-swarms testbed`
#[derive(Debug, Args)]
pub struct TestbedArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TestbedCommand,
}

/// What is done with a testbed.
#[derive(Debug, Subcommand)]
pub enum TestbedCommand {
    /// Print what can be known of a testbed before any search.
    Check(CheckArgs),
    /// Train the mini testbed from a seed (feature `train`).
    Build(BuildArgs),
}

/// `model-swarms testbed check`
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// `mini`, or a file that names base model, experts and tasks: see suites/paper.toml.
    #[arg(long, value_name = "mini|FILE.toml", default_value = "mini")]
    pub testbed: PathBuf,
    /// The seed of the random mixtures.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How the model is run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `model-swarms testbed build`
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The folder of the testbed.
    #[arg(long)]
    pub out: PathBuf,
    /// The folder of the trainings' state, where a build that was stopped goes on
    /// [default: OUT.work]
    #[arg(long)]
    pub work: Option<PathBuf>,
    /// The seed of everything.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}
