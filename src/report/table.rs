//! A reproduced table as the page shows it.

use std::mem::discriminant;

use serde::Serialize;
use serde_json::Value;

use super::chart::{Chart, Line, Stroke};
use super::{Entry, entries, plain};
use crate::claims::Cells;
use crate::error::Result;
use crate::reproduce::{
    ABOUT_STARS, CellRecord, Results, Shown, Spent, StarReport, in_print, reasons, shown, spent,
    verdict_text,
};
use crate::suite::{Budget, Row};

/// What is shown of a reproduced table.
#[derive(Debug, Serialize)]
pub struct View {
    title: String,
    facts: Vec<Entry>,
    n_seeds: usize,
    splits: Vec<Split>,
    reasons: Vec<String>,
    claims: Vec<Claim>,
    stars: Vec<Star>,
    about_stars: String,
    charts: Vec<String>,
    budget: usize,
    spent: Vec<Spent>,
    settings: Vec<Entry>,
    methods: Vec<Method>,
    drawn: Vec<String>, // the hyperparameters that a run of a swarm draws
    runs: Vec<Run>,
    sha256: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Split {
    name: String,
    columns: Vec<Column>,
    rows: Vec<TableRow>,
}

#[derive(Debug, Serialize)]
struct Column {
    name: String,
    n_examples: usize,
}

#[derive(Debug, Serialize)]
struct TableRow {
    group: Option<String>, // of the first row of a group
    name: String,
    cells: Vec<Shown>,
}

#[derive(Debug, Serialize)]
struct Claim {
    says: String,
    printed: String,
    here: Option<String>,
    verdict: &'static str,
    why_not: Option<String>,
}

/// Whether a method's lead on a task is more than chance.
#[derive(Debug, Serialize)]
struct Star {
    verdict: &'static str,
    column: String,
    ours: String,
    other: String,
    n: usize,
    z: String,
    paired: Option<String>,
    printed: String,
}

#[derive(Debug, Serialize)]
struct Method {
    row: String,
    parameters: Vec<Entry>,
}

/// A run of a swarm.
#[derive(Debug, Serialize)]
struct Run {
    row: String,
    column: String,
    seed: u64,
    run: usize,
    calls: u64, // of its cell
    drawn: Vec<String>,
}

impl View {
    /// The view of results.
    pub fn of(results: &Results) -> Result<Self> {
        let printed = in_print(results.item)?;
        let list =
            |values: &[u64]| values.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let facts = [
            ("testbed", results.testbed.clone()),
            ("scale", results.scale.name().to_string()),
            ("seeds", list(&results.seeds)),
            ("experts", results.experts.join(", ")),
            ("version", results.version.clone()),
        ];
        let claims = results.claims.iter().map(|claim| Claim {
            says: claim.says.clone(),
            printed: claim.printed_text(),
            here: claim.measured_text(),
            verdict: verdict_text(claim.verdict),
            why_not: claim.not_judged.clone(),
        });
        let lists = results.grid.lists();
        let split = |name: &String| split(results, printed.as_ref(), name);
        Ok(Self {
            title: format!("{}: {}", results.item, results.title),
            facts: facts.map(|(name, value)| Entry { name: name.into(), value }).into(),
            n_seeds: results.seeds.len(),
            splits: results.splits.iter().map(split).collect(),
            reasons: reasons(results),
            claims: claims.collect(),
            stars: results.stars.iter().map(star).collect(),
            about_stars: ABOUT_STARS.join(" "),
            charts: charts(results),
            budget: results.sizes.budget,
            spent: spent(results),
            settings: settings(results),
            methods: results.rows.iter().map(method).collect(),
            drawn: lists.iter().map(|(name, _)| name.to_string()).collect(),
            runs: results.computed().flat_map(|cell| runs(cell, &lists)).collect(),
            sha256: (results.sha256.iter())
                .map(|(name, value)| Entry { name: name.clone(), value: value.clone() })
                .collect(),
        })
    }

    /// What the page may be called.
    pub fn title(&self) -> &str {
        &self.title
    }
}

fn split(results: &Results, printed: Option<&Cells>, name: &str) -> Split {
    let columns = results.present().map(|column| Column {
        name: column.name.clone(),
        n_examples: if name == "dev" { column.n_dev } else { column.n_test }.unwrap_or(0),
    });
    let mut rows = Vec::with_capacity(results.rows.len());
    let mut group = "";
    for row in &results.rows {
        let is_new = row.group != group;
        group = &row.group;
        let cells = results.present();
        let cells = cells.map(|column| shown(results, printed, &row.name, &column.name, name));
        rows.push(TableRow {
            group: is_new.then(|| group.to_string()),
            name: row.name.clone(),
            cells: cells.collect(),
        });
    }
    Split { name: name.to_string(), columns: columns.collect(), rows }
}

/// For each task, the best f so far of every method that searches, a line for each seed.
fn charts(results: &Results) -> Vec<String> {
    let rows: Vec<&Row> = results.rows.iter().filter(|row| row.method.is_search()).collect();
    let colours = colours(&rows);
    let chart = |column: &str| {
        let mut lines = Vec::new();
        for (row, &colour) in rows.iter().zip(&colours) {
            let is_equal = row.method.budget() == Some(Budget::Equal);
            let stroke = if is_equal { Stroke::Dashed } else { Stroke::Solid };
            for cell in results.computed() {
                if (cell.row.as_str(), cell.column.as_str()) != (row.name.as_str(), column) {
                    continue;
                }
                let rises: Vec<_> = cell.curve.iter().map(|(n, f)| (*n as f64, *f)).collect();
                let points = Line::steps(&rises, cell.calls as f64);
                lines.push(Line { name: row.name.clone(), colour, stroke, points });
            }
        }
        Chart { title: column, x: "evaluations of f", y: "best f on dev so far", lines }.svg()
    };
    results.present().filter_map(|column| chart(&column.name)).collect()
}

/// A colour for each row: one method with two budgets has one.
fn colours(rows: &[&Row]) -> Vec<usize> {
    let mut known = Vec::new();
    let mut colours = Vec::new();
    for (idx, row) in rows.iter().enumerate() {
        let is_like = |other: &&&Row| {
            discriminant(&other.method) == discriminant(&row.method)
                && other.method.budget() == row.method.budget()
        };
        let key = (discriminant(&row.method), rows[..idx].iter().filter(is_like).count());
        let colour = known.iter().position(|other| *other == key);
        colours.push(colour.unwrap_or(known.len()));
        if colour.is_none() {
            known.push(key);
        }
    }
    colours
}

fn settings(results: &Results) -> Vec<Entry> {
    let entry = |name: &str, value: String| Entry { name: name.to_string(), value };
    let mut settings = vec![entry("mode", results.search.mode.name().to_string())];
    settings.extend(results.search.set.iter().map(|(name, value)| entry(name, value.clone())));
    let sizes = serde_json::to_value(&results.sizes).unwrap_or_default();
    settings.extend(entries(&sizes).into_iter().filter(|size| size.name != "seeds"));
    for (name, values) in results.grid.lists() {
        let values: Vec<String> = values.iter().map(f64::to_string).collect();
        settings.push(entry(name, format!("one of {}", values.join(", "))));
    }
    settings
}

fn star(star: &StarReport) -> Star {
    let [ours, other] = star.sides();
    Star {
        verdict: star.verdict_text(),
        column: star.column.clone(),
        ours,
        other,
        n: star.n,
        z: star.z.text(),
        paired: star.paired.map(|paired| paired.text()),
        printed: star.printed_text(),
    }
}

fn method(row: &Row) -> Method {
    let parameters = serde_json::to_value(&row.method).unwrap_or_default();
    Method { row: row.name.clone(), parameters: entries(&parameters) }
}

/// The runs of a swarm's cell, with what each drew from the grid's lists.
fn runs(cell: &CellRecord, lists: &[(&str, &[f64])]) -> Vec<Run> {
    let runs = cell.job["runs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let run = |(run_idx, run): (usize, &Value)| Run {
        row: cell.row.clone(),
        column: cell.column.clone(),
        seed: cell.seed,
        run: run_idx + 1,
        calls: cell.calls,
        drawn: lists.iter().map(|(name, _)| plain(&run["settings"][name])).collect(),
    };
    runs.iter().enumerate().map(run).collect()
}
