//! `model-swarms reproduce`: a table of the paper, computed again on a user's testbed.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::{Format, options, print_as};
use crate::cli::ReproduceArgs;
use crate::error::{Error, Result};
use crate::reproduce::{Marks, Request, in_print, reproduce, text};
use crate::suite::{Scale, Suite};
use crate::testbed::Testbed;

/// The tables that can be computed: number, name and text of the suite.
const TABLES: [(u32, &str, &str); 1] =
    [(1, "suites/table01.toml", include_str!("../../suites/table01.toml"))];

/// Runs the command.
pub fn run(args: ReproduceArgs, format: Format) -> Result<()> {
    let scale = Scale::from(args.scale);
    let suite = suite(args.table)?;
    if args.testbed == Path::new("mini") {
        let what = "the built-in testbed `mini` is not there yet; give the file of your own";
        return Err(Error::Usage(what.into()));
    }
    let default_out =
        || PathBuf::from(format!("reproduced/table{:02}-{}", args.table, scale.name()));
    let request = Request {
        testbed: Testbed::open(&args.testbed)?,
        scale,
        seed: args.seed,
        out: args.out.clone().unwrap_or_else(default_out),
        options: options(&args.run)?,
        suite,
    };
    let results = reproduce(&request, &mut |line| eprintln!("{line}"))?;
    let printed = in_print(&request.suite)?;
    let marks = if std::io::stdout().is_terminal() { Marks::Terminal } else { Marks::Plain };
    print_as(format, &results, |results| text(results, printed.as_ref(), marks))
}

fn suite(table: u32) -> Result<Suite> {
    match TABLES.iter().find(|(number, _, _)| *number == table) {
        Some((_, path, text)) => Suite::from_text(Path::new(path), text),
        None => {
            let known: Vec<String> =
                TABLES.iter().map(|(number, _, _)| number.to_string()).collect();
            let what = format!("no suite for table {table}, there are {}", known.join(", "));
            Err(Error::Usage(what))
        }
    }
}
