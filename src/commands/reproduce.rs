//! `model-swarms reproduce`: a table of the paper, computed again on a testbed, and compared with
//! what it came to before.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::{BUILT_IN, Format, open_testbed, options, print_as};
use crate::cli::ReproduceArgs;
use crate::error::{Error, Result};
use crate::files::check_writable;
use crate::plan::slug;
use crate::report::{Page, Section};
use crate::reproduce::{Expected, Marks, Request, Results, embedded, in_print, reproduce, text};
use crate::suite::{Scale, Suite};

/// The tables that can be computed: number, name and text of the suite.
const TABLES: [(u32, &str, &str); 1] =
    [(1, "suites/table01.toml", include_str!("../../suites/table01.toml"))];

/// Runs the command.
pub fn run(args: ReproduceArgs, format: Format) -> Result<()> {
    let options = options(&args.run)?;
    let scale = Scale::from(args.scale);
    let suite = suite(args.table)?;
    let testbed = open_testbed(&args.testbed)?;
    let out = args.out.clone().unwrap_or_else(|| default_out(&args, &testbed.name, scale));
    let request = Request { suite, testbed, scale, seed: args.seed, out, options };
    let expected = match &args.expected {
        Some(path) => Some((path.as_path(), Expected::open(path, &request)?)),
        None if args.testbed == Path::new(BUILT_IN) => embedded(&request)?,
        None => None,
    };
    args.write_expected.as_deref().map_or(Ok(()), check_writable)?;
    let results = reproduce(&request, &mut |line| eprintln!("{line}"))?;
    Page::of(vec![Section::of_table(&results)?]).write(&request.out)?;
    let printed = in_print(results.item)?;
    let marks = if std::io::stdout().is_terminal() { Marks::Terminal } else { Marks::Plain };
    print_as(format, &results, |results| text(results, printed.as_ref(), marks))?;
    eprintln!("wrote {}", request.out.join("report.html").display());
    match (&args.write_expected, expected) {
        (Some(path), _) => write_expected(&results, args.commit.as_deref(), path),
        (None, Some((path, expected))) => compare(&results, &expected, path),
        (None, None) => {
            eprintln!("no results are known to compare these with");
            Ok(())
        }
    }
}

fn suite(table: u32) -> Result<Suite> {
    match TABLES.iter().find(|(number, _, _)| *number == table) {
        Some((_, path, text)) => Suite::from_text(Path::new(path), text),
        None => {
            let known: Vec<String> =
                TABLES.iter().map(|(number, _, _)| number.to_string()).collect();
            let what = format!("no suite for table {table}, wanted one of {}", known.join(", "));
            Err(Error::Usage(what))
        }
    }
}

/// A folder of its own for each testbed, table, scale and seed.
fn default_out(args: &ReproduceArgs, testbed: &str, scale: Scale) -> PathBuf {
    let seed = args.seed.map_or(String::new(), |seed| format!("-seed{seed}"));
    let (testbed, scale) = (slug(testbed), scale.name());
    PathBuf::from(format!("reproduced/{testbed}-table{:02}-{scale}{seed}", args.table))
}

fn write_expected(results: &Results, commit: Option<&str>, path: &Path) -> Result<()> {
    Expected::of(results, commit.unwrap_or_default()).write(path)?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

/// Exit code 1, with a line for each difference, where the results are not the expected ones.
fn compare(results: &Results, expected: &Expected, path: &Path) -> Result<()> {
    let departures = expected.departures(results);
    let path = path.display();
    if departures.is_empty() {
        let (n_cells, n_claims) = (expected.cells.len(), expected.verdicts.len());
        eprintln!("as expected by {path}: {n_cells} cells and {n_claims} verdicts");
        return Ok(());
    }
    let Expected { version, commit, .. } = expected;
    let n = departures.len();
    let places = if n == 1 { "place" } else { "places" };
    let of = format!("{path} (version {version}, commit {commit})");
    let list = departures.join("\n  ");
    Err(Error::Check(format!("the results depart from {of} in {n} {places}:\n  {list}")))
}
