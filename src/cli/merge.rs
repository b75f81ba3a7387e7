//! The command line of `merge`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `METHOD`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MethodArg {
    /// A weighted sum; without weights, the mean.
    Linear,
    /// The point at t on the arc between two experts.
    Slerp,
    /// Trim to the largest changes, elect a sign, average those that agree.
    Ties,
    /// Drop changes at random and rescale the rest, elect a sign, add those that agree.
    DareTies,
    /// The mean, drawn towards the base by how much the experts disagree.
    ModelStock,
}

/// `--space`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SpaceArg {
    /// Each A and each B on its own.
    Factor,
    /// The updates, scale * B A.
    Delta,
    /// The base's weights with the update added.
    Full,
}

/// `model-swarms merge`
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The formula.
    #[arg(value_enum)]
    pub method: MethodArg,
    /// PEFT adapter folders in the order that counts, or one folder of them, sorted by name.
    #[arg(long, required = true, num_args = 1.., value_name = "DIR")]
    pub experts: Vec<PathBuf>,
    /// The adapter folder to write.
    #[arg(long)]
    pub out: PathBuf,
    /// What is merged [default: factor for linear and slerp, delta for the others]
    #[arg(long, value_enum)]
    pub space: Option<SpaceArg>,
    /// The base model of `--space full`: a Hugging Face directory, or an id in the local cache.
    #[arg(long)]
    pub base: Option<String>,
    /// One for each expert, taken as they are [default: 1/n; 1 for ties, which divides by them]
    #[arg(long, value_name = "W,...", value_delimiter = ',', allow_hyphen_values = true)]
    pub weights: Option<Vec<f64>>,
    /// Slerp: from 0, the first expert, to 1, the second [default: 0.5]
    #[arg(long, allow_hyphen_values = true)]
    pub t: Option<f64>,
    /// Ties and dare-ties: the share of each change that stays [default: 0.5]
    #[arg(long, allow_hyphen_values = true)]
    pub density: Option<f64>,
    /// Dare-ties: the seed of what is dropped [default: 1]
    #[arg(long)]
    pub seed: Option<u64>,
}
