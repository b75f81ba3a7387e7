//! What was measured before: one line per case and run, so that a slower kernel shows.
//!
//! Times mean nothing beside those of another day or machine; shares of the peak that was measured
//! in the same run do.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use super::Timed;

/// Names the file that medians are appended to; without it nothing is kept.
pub const VARIABLE: &str = "BENCH_HISTORY";

/// The columns of the file.
pub const HEAD: &str = "commit\tdate\tmachine\tcase\tseconds\tshare";

/// Adds a case's medians to the history, where one is kept.
pub fn append(case: &str, timed: &Timed) {
    let Some(path) = std::env::var_os(VARIABLE) else { return };
    let path = Path::new(&path);
    let is_new = !path.exists();
    let asked = |name: &str| std::env::var(name).unwrap_or_else(|_| "unknown".into());
    let (commit, date, machine) =
        (asked("BENCH_COMMIT"), asked("BENCH_DATE"), asked("BENCH_MACHINE"));
    let line =
        format!("{commit}\t{date}\t{machine}\t{case}\t{:.6e}\t{:.4}", timed.seconds, timed.share);
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the history");
    let head = if is_new { format!("{HEAD}\n") } else { String::new() };
    writeln!(file, "{head}{line}").expect("the history");
}
