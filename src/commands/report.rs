//! `model-swarms report`: a page about finished runs.

use serde_json::json;

use super::{Format, print_as};
use crate::cli::ReportArgs;
use crate::error::Result;
use crate::report::{Page, Section};

/// Runs the command.
pub fn run(args: ReportArgs, format: Format) -> Result<()> {
    let sections = args.runs.iter().map(|run| Section::open(run)).collect::<Result<Vec<_>>>()?;
    Page::of(sections).write(&args.out)?;
    let path = args.out.join("report.html");
    let report = json!({"report": path.to_string_lossy(), "runs": args.runs.len()});
    print_as(format, &report, |_| format!("wrote {}\n", path.display()))
}
