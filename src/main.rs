//! The `model-swarms` binary: argv -> command -> exit code.

use std::process::ExitCode;

use clap::Parser;
use model_swarms::cli::{Cli, Command};
use model_swarms::commands;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = if cli.json { commands::Format::Json } else { commands::Format::Text };
    let done = match cli.command {
        Command::Search(args) => commands::search::run(args, format),
        Command::Eval(args) => commands::eval::run(args, format),
        Command::Generate(args) => commands::generate::run(args, format),
        Command::Merge(args) => commands::merge::run(args, format),
        Command::Reproduce(args) => commands::reproduce::run(args, format),
        Command::Report(args) => commands::report::run(args, format),
        Command::Inspect(args) => commands::inspect::run(args, format),
        Command::Rebuild(args) => commands::rebuild::run(args, format),
        Command::Example(args) => commands::example::run(args, format),
        Command::Testbed(args) => commands::testbed::run(args, format),
        Command::Audit(args) => commands::audit::run(args, format),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
