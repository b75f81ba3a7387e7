//! One file per command: what the user asked for, in terms of the rooms below.

pub mod audit;
mod audit_data;
mod audit_paper;
pub mod eval;
pub mod example;
pub mod generate;
pub mod inspect;
mod inspect_memory;
mod inspect_suite;
pub mod merge;
pub mod rebuild;
pub mod report;
pub mod reproduce;
pub mod search;
pub mod testbed;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crate::adapter::{Expert, check_place};
use crate::backend::Precision;
use crate::backend::cpu::Isa;
#[cfg(feature = "cuda")]
use crate::backend::cuda::gpu::Gpu;
use crate::cli::{DeviceArg, PrecisionArg, RunArgs};
use crate::error::{Error, Result};
use crate::mini::shipped;
use crate::model::{Application, Device};
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

/// How models are run, as the user asked.
fn options(args: &RunArgs) -> Result<Options> {
    let device = device(args)?;
    let application = args.adapters.map(Application::from);
    Ok(Options { device, isa: Isa::from_environment()?, application, batch: args.batch })
}

/// What runs models; says so where the best is not what might have been hoped for.
#[cfg(feature = "cuda")]
fn device(args: &RunArgs) -> Result<Device> {
    let precision = precision(args.precision);
    let why = match args.device {
        DeviceArg::Cpu => None,
        DeviceArg::Auto | DeviceArg::Cuda => match Gpu::open() {
            Ok(_) => return Ok(Device::Cuda(precision)),
            Err(why) => Some(why),
        },
    };
    match why {
        Some(why) if args.device == DeviceArg::Cuda => {
            Err(Error::Usage(format!("--device cuda: {why}")))
        }
        Some(why) if precision == Precision::Fast => {
            Err(Error::Usage(format!("--precision fast: {why}")))
        }
        Some(why) => {
            eprintln!("running on the processor: {why}");
            Ok(Device::Cpu)
        }
        None => on_processor(args),
    }
}

/// What runs models: this build knows the processor alone.
#[cfg(not(feature = "cuda"))]
fn device(args: &RunArgs) -> Result<Device> {
    match args.device {
        DeviceArg::Auto | DeviceArg::Cpu => on_processor(args),
        DeviceArg::Cuda => {
            let what = "--device cuda: this build has no CUDA; use auto or cpu, or build with \
                        --features cuda";
            Err(Error::Usage(what.into()))
        }
    }
}

/// How exact results are, as the user asked.
fn precision(asked: PrecisionArg) -> Precision {
    match asked {
        PrecisionArg::Exact => Precision::Exact,
        PrecisionArg::Fast => Precision::Fast,
    }
}

fn on_processor(args: &RunArgs) -> Result<Device> {
    match args.precision {
        PrecisionArg::Exact => Ok(Device::Cpu),
        PrecisionArg::Fast => {
            Err(Error::Usage("--precision fast: the processor computes exactly alone".into()))
        }
    }
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

/// Whether an adapter made of these experts may be written to the folder `out`.
fn check_out(out: &Path, experts: &[Expert]) -> Result<()> {
    check_place(out)?;
    if experts.iter().any(|expert| is_same(expert.dir(), out)) {
        return Err(Error::input(out, "is one of the experts, wanted another folder"));
    }
    Ok(())
}

/// Whether both are there, and one and the same.
fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
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
