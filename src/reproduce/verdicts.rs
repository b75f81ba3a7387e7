//! The paper's sentences, judged by the cells that were computed.
//!
//! A sentence is judged where the computation finds all items that it speaks of; methods without a
//! number on an item are left out of the comparison there, as "/" is in the printed table.

use serde::Serialize;

use super::results::Results;
use crate::claims::{Cell, Cells, Claims, Judgement, Range, Tables, Unit};
use crate::error::Result;

/// One sentence.
#[derive(Debug, Clone, Serialize)]
pub struct VerdictReport {
    /// The claim's name.
    pub id: String,
    /// What the paper says.
    pub says: String,
    /// The number as printed.
    pub printed: String,
    /// What kind of number that is.
    pub unit: Unit,
    /// The same from the cells that were computed.
    pub measured: Option<f64>,
    /// Whether the sentence is true of them.
    pub verdict: Option<Judgement>,
    /// Why it is not judged, if so.
    pub not_judged: Option<String>,
}

/// Judges every sentence about `table` that can be true or false of measured cells.
pub fn judge(results: &Results, table: &str) -> Result<Vec<VerdictReport>> {
    let claims = Claims::of_the_paper()?;
    let tables = Tables::from([(table.to_string(), measured(results))]);
    let mut reports = Vec::new();
    for claim in claims.claims.iter().filter(|claim| claim.table == table) {
        if claim.holds.is_none() {
            continue; // about the print alone
        }
        let outcome = claims.evaluate(claim, &tables);
        let range = outcome.as_ref().ok().map(|outcome| outcome.range);
        reports.push(VerdictReport {
            id: claim.id.clone(),
            says: claim.says.clone(),
            printed: claim.printed.clone(),
            unit: claim.unit,
            measured: range.map(|range| range.value),
            verdict: range.and_then(|range| claim.judge(range)),
            not_judged: outcome.err(),
        });
    }
    Ok(reports)
}

/// The computed cells, with a column for each task and split: "MMLU dev".
fn measured(results: &Results) -> Cells {
    let places: Vec<(&str, &str)> = results
        .columns
        .iter()
        .flat_map(|column| results.splits.iter().map(|split| (column.name.as_str(), &split[..])))
        .collect();
    let cell = |value: f64| Cell { text: format!("{value:.3}"), range: Range::exact(value) };
    let row = |row: &crate::suite::Row| {
        let value = |(column, split): &(&str, &str)| results.value(&row.name, column, split);
        places.iter().map(|place| value(place).map(cell)).collect()
    };
    Cells::new(
        results.rows.iter().map(|row| row.name.clone()).collect(),
        places.iter().map(|(column, split)| format!("{column} {split}")).collect(),
        results.rows.iter().map(row).collect(),
    )
}
