//! What a run found, as lines of TOML, for whoever puts several programs' findings together.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

use super::Timed;

/// Names the file that lines are appended to; without it nothing is kept.
pub const VARIABLE: &str = "BENCH_RESULTS";

/// `key = value`
pub fn number(key: &str, value: f64) {
    append(key, format_args!("{value:.6e}"));
}

/// `key = "value"`
pub fn text(key: &str, value: &str) {
    append(key, format_args!("\"{value}\""));
}

/// A kernel's median time, the share of its floor, and what that floor is.
pub fn kernel(name: &str, timed: &Timed, bound: &str) {
    let Timed { seconds, share } = timed;
    let found =
        format_args!("{{ seconds = {seconds:.4e}, share = {share:.3}, bound = \"{bound}\" }}");
    append(&format!("kernels.\"{name}\""), found);
}

fn append(key: &str, value: impl Display) {
    let Some(path) = std::env::var_os(VARIABLE) else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the results");
    writeln!(file, "{key} = {value}").expect("the results");
}
