//! `model-swarms search`

use super::{Format, options, print_as};
use crate::cli::SearchArgs;
use crate::error::{Error, Result};
use crate::mode::Mode;
use crate::run::progress::peak_memory;
use crate::run::search::{Request, search};
use crate::run::table::Results;
use crate::swarm::Start;
use crate::swarm::settings::Settings;

/// Runs the command.
pub fn run(args: SearchArgs, format: Format) -> Result<()> {
    let options = options(&args.run)?;
    let mode = Mode::from(args.mode);
    let mut settings = Settings::new(mode);
    for text in &args.settings {
        let Some((key, value)) = text.split_once('=') else {
            return Err(Error::Usage(format!("--set {text}: wanted KEY=VALUE")));
        };
        settings.set(key.trim(), value.trim())?;
    }
    let request = Request {
        base: args.base,
        experts: args.experts,
        task: args.task,
        out: args.out,
        seed: args.seed,
        mode,
        settings,
        start: if args.resume { Start::Resume } else { Start::Fresh },
        options,
    };
    let results = search(&request)?;
    print_as(format, &results, Results::to_text)?;
    eprintln!("wrote {}", request.out.join("best").display());
    if let Some(peak) = peak_memory() {
        eprintln!("peak memory, mapped files included: {peak}");
    }
    Ok(())
}
