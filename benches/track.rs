//! Draws what `make bench-track` has measured: for each bench a picture, with a line per case.
//!
//! The x axis is the run, in the order of the history; the y axis the share of the peak that was
//! measured in the same run.

use std::collections::BTreeMap;
use std::path::Path;

use model_swarms::report::chart::{Chart, Line, Stroke};

/// A case's shares by run.
type Points = Vec<(f64, f64)>;
/// The cases of a bench by name.
type Cases<'a> = BTreeMap<&'a str, Points>;

/// The columns that are read: commit, machine, case, share.
const COLUMNS: [usize; 4] = [0, 2, 3, 5];

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let Some(path) = std::env::var_os("BENCH_HISTORY").filter(|_| is_bench) else { return };
    let text = std::fs::read_to_string(&path).expect("the history");
    for (bench, svg) in draw(&text) {
        let out = Path::new(&path).with_file_name(format!("bench-{bench}.svg"));
        std::fs::write(&out, svg).expect("a place beside the history");
        println!("wrote {}", out.display());
    }
}

/// A picture for each bench.
fn draw(history: &str) -> Vec<(String, String)> {
    let mut runs: Vec<[&str; 2]> = Vec::new(); // commit and machine
    let mut benches: BTreeMap<&str, Cases> = BTreeMap::new();
    for line in history.lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        assert!(cells.len() == 6, "a line of the history: {line}");
        let [commit, machine, case, share] = COLUMNS.map(|column| cells[column]);
        let run = [commit, machine];
        if runs.last() != Some(&run) {
            runs.push(run);
        }
        let (bench, case) = case.split_once('/').expect("a bench and a case");
        let share: f64 = share.parse().expect("a share");
        let points = benches.entry(bench).or_default().entry(case).or_default();
        points.push((runs.len() as f64, 100.0 * share));
    }
    let picture = |(bench, cases): (&str, Cases)| {
        let line = |(colour, (case, points)): (usize, (&str, Points))| Line {
            name: case.into(),
            colour,
            stroke: Stroke::Solid,
            points,
        };
        let lines = cases.into_iter().enumerate().map(line).collect();
        let title = format!("{bench}: share of the peak, by run");
        let chart = Chart { title: &title, x: "run", y: "% of the peak", lines };
        Some((bench.to_owned(), chart.svg()?))
    };
    benches.into_iter().filter_map(picture).collect()
}
