//! `model-swarms audit`: the paper against its own tables, or data files against themselves.
//!
//! An audit reports and judges nothing by its exit code: 0 whatever it finds, 2 where it cannot
//! read what it was given.

use super::{Format, audit_data, audit_paper, print_as};
use crate::audit::{data, paper};
use crate::cli::AuditArgs;
use crate::error::Result;

/// Runs the command.
pub fn run(args: AuditArgs, format: Format) -> Result<()> {
    match args.data {
        Some(folder) => print_as(format, &data::audit(&folder)?, audit_data::text),
        None => print_as(format, &paper::audit()?, audit_paper::text),
    }
}
