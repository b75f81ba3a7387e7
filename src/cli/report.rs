//! The command line of `report`.

use std::path::PathBuf;

use clap::Args;

/// `model-swarms report`
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A folder of results that `reproduce` made, or a run directory of `search`; several may be
    /// given.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// The folder that report.html is written to.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}
