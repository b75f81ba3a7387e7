//! One file per command: what the user asked for, in terms of the rooms below.

pub mod audit;
mod audit_data;
mod audit_paper;
pub mod eval;
pub mod example;
pub mod generate;
pub mod inspect;
mod inspect_suite;
pub mod merge;
pub mod rebuild;
pub mod report;
pub mod reproduce;
pub mod search;
pub mod testbed;

use std::io::{self, Write};
use std::path::Path;

use crate::backend::cpu::Isa;
use crate::cli::{AdaptersArg, DeviceArg, RunArgs};
use crate::error::{Error, Result};
use crate::mini::shipped;
use crate::model::Application;
use crate::run::evaluate::Options;
use crate::testbed::Testbed;

/// How a result is printed on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a person.
    Text,
    /// For a program.
    Json,
}

/// How models are run, as the user asked; refuses a device that this build does not know.
fn options(args: &RunArgs) -> Result<Options> {
    match args.device {
        DeviceArg::Auto | DeviceArg::Cpu => {}
        DeviceArg::Cuda => {
            let what = "--device cuda: this build has no CUDA; use auto or cpu";
            return Err(Error::Usage(what.into()));
        }
    }
    let application = args.adapters.map(|adapters| match adapters {
        AdaptersArg::Merged => Application::Merged,
        AdaptersArg::Unmerged => Application::Unmerged,
    });
    Ok(Options { isa: Isa::from_environment()?, application, batch: args.batch })
}

/// The name of the built-in testbed.
const BUILT_IN: &str = "mini";

/// The testbed of this name, or at this path.
fn open_testbed(path: &Path) -> Result<Testbed> {
    if path == Path::new(BUILT_IN) {
        return Testbed::open(&shipped::folder()?.join("testbed.toml"));
    }
    Testbed::open(path)
}

/// Writes to standard output; a reader that has gone away is no error.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Error::io("standard output", "write")),
    }
}

/// Prints a value as JSON, or as the text that `text` makes of it.
fn print_as<T: serde::Serialize>(
    format: Format,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<()> {
    match format {
        Format::Text => print(&text(value)),
        Format::Json => {
            let json = serde_json::to_string_pretty(value).expect("plain data");
            print(&format!("{json}\n"))
        }
    }
}
