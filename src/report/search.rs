//! A search as the page shows it: from its journal, and from its results where it is finished.

use std::path::Path;

use serde::Serialize;

use super::chart::{Chart, Line, Stroke};
use super::{Entry, entries};
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::run::table::{Results, Row};
use crate::swarm::{IterationRecord, Recording};

/// What is shown of a search.
#[derive(Debug, Serialize)]
pub struct View {
    title: String,
    facts: Vec<Entry>,
    chart: Option<String>,
    rows: Vec<TableRow>, // empty while unfinished
    coefficients: Vec<Coefficient>,
    settings: Vec<Entry>,
    sha256: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct TableRow {
    name: String,
    dev: String,
    test: String,
}

/// The weight of an expert in the result.
#[derive(Debug, Serialize)]
struct Coefficient {
    expert: String,
    weight: String,
    utility: Option<String>, // of the expert alone
}

impl View {
    /// The view of a run directory.
    pub fn open(run: &Path) -> Result<Self> {
        let journal = run.join("journal.jsonl");
        let recording = Recording::read(&journal)?;
        let header = recording.header();
        let records = (0..recording.len() as u32).map(|k| recording.record(k));
        let records: Vec<IterationRecord> = records.collect::<Result<_>>()?;
        let results = finished(&run.join("results.json"))?;
        let name = run.file_name().unwrap_or_default().to_string_lossy();
        let (title, weights) = match (&results, records.last()) {
            (Some(results), _) => {
                (format!("Search on {}", results.task), results.coefficients.clone())
            }
            (None, Some(last)) => {
                (format!("Search {name}, unfinished"), best_so_far(&records, last, &journal)?)
            }
            (None, None) => return Err(Error::input(run, "no iteration is finished")),
        };
        let experts = header.experts.iter().enumerate();
        let coefficients = experts.zip(&weights).map(|((idx, expert), weight)| Coefficient {
            expert: expert.clone(),
            weight: format!("{weight:.4}"),
            utility: records.first().and_then(|first| first.f.get(idx)).map(|f| format!("{f:.3}")),
        });
        let settings = serde_json::to_value(&header.settings).unwrap_or_default();
        Ok(Self {
            title,
            facts: facts(&recording, &records, results.as_ref()),
            chart: chart(&records),
            rows: results.iter().flat_map(|results| &results.rows).map(row).collect(),
            coefficients: coefficients.collect(),
            settings: entries(&settings),
            sha256: entries(&header.fingerprint["sha256"]),
        })
    }

    /// What the page may be called.
    pub fn title(&self) -> &str {
        &self.title
    }
}

/// The results of a search that is finished.
fn finished(path: &Path) -> Result<Option<Results>> {
    if !path.exists() {
        return Ok(None);
    }
    let results = serde_json::from_str(&read_text(path)?);
    let wrong = |error| Error::input(path, format!("not the results of `search`: {error}"));
    results.map(Some).map_err(wrong)
}

/// Where the best of an unfinished run was found.
fn best_so_far(
    records: &[IterationRecord],
    last: &IterationRecord,
    journal: &Path,
) -> Result<Vec<f64>> {
    let source = last.g_source;
    let found = records.get(source.iteration as usize);
    let found = found.and_then(|record| record.coefficients.get(source.particle)).cloned();
    found.ok_or_else(|| {
        let (particle, iteration) = (source.particle, source.iteration);
        let what = format!("the best is said to be particle {particle} of iteration {iteration}");
        Error::input(journal, format!("{what}, which is not recorded"))
    })
}

fn facts(
    recording: &Recording,
    records: &[IterationRecord],
    results: Option<&Results>,
) -> Vec<Entry> {
    let header = recording.header();
    let n_evaluations: usize = records.iter().map(|record| record.evaluated.len()).sum();
    let mut facts = vec![
        ("seed", header.seed.to_string()),
        ("mode", header.mode.name().to_string()),
        ("iterations", records.len().saturating_sub(1).to_string()),
        ("evaluations of f", n_evaluations.to_string()),
    ];
    if let Some(last) = records.last() {
        let (particle, iteration) = (last.g_source.particle, last.g_source.iteration);
        let at = format!("particle {particle}, iteration {iteration}");
        facts.push(("best on dev", format!("{:.4} ({at})", last.f_g)));
    }
    if let Some(results) = results {
        let [n_dev, n_test] = [results.n_dev, results.n_test];
        facts.push(("examples", format!("{n_dev} dev, {n_test} test")));
        facts.push(("stopped", results.stop_text().to_string()));
    }
    facts.into_iter().map(|(name, value)| Entry { name: name.to_string(), value }).collect()
}

fn row(row: &Row) -> TableRow {
    let test = row.test.map_or("-".to_string(), |test| format!("{test:.3}"));
    TableRow { name: row.name.clone(), dev: format!("{:.3}", row.dev), test }
}

/// The best so far and the mean of all particles, by iteration.
fn chart(records: &[IterationRecord]) -> Option<String> {
    let line = |name: &str, colour: usize, of: fn(&IterationRecord) -> f64| Line {
        name: name.to_string(),
        colour,
        stroke: Stroke::Solid,
        points: records.iter().map(|record| (f64::from(record.iteration), of(record))).collect(),
    };
    let mean = |record: &IterationRecord| record.f.iter().sum::<f64>() / record.f.len() as f64;
    let lines = vec![line("mean of the particles", 1, mean), line("best so far", 0, |r| r.f_g)];
    Chart { title: "f by iteration", x: "iteration", y: "f on dev", lines }.svg()
}
