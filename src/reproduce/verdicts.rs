//! The paper's sentences, judged by the cells that were computed.
//!
//! A sentence is judged if all tasks that it speaks of were computed; methods without a number are
//! left out of the comparison, as "/" is in the printed table. A number is known up to its sample
//! of examples: where the verdict depends on that, the sentence is undecided.

use serde::{Deserialize, Serialize};

use super::results::Results;
use crate::claims::{Cell, Cells, Claims, Judgement, Range, Tables, Unit};
use crate::error::Result;
use crate::stats::wilson;
use crate::suite::Row;

/// One sentence.
#[derive(Debug, Clone, Serialize, Deserialize)]
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

impl VerdictReport {
    /// The number as printed, with its unit.
    pub fn printed_text(&self) -> String {
        format!("{}{}", self.printed, self.percent())
    }

    /// Ours, with as many digits.
    pub fn measured_text(&self) -> Option<String> {
        let digits = self.printed.split_once('.').map_or(0, |(_, digits)| digits.len());
        self.measured.map(|value| format!("{value:.digits$}{}", self.percent()))
    }

    fn percent(&self) -> &'static str {
        match self.unit {
            Unit::Percent => " %",
            Unit::Share | Unit::Count => "",
        }
    }
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

/// The computed cells, with a column for each task and split that there are: "MMLU dev".
fn measured(results: &Results) -> Cells {
    let mut places: Vec<(&str, &str, usize)> = Vec::new();
    for column in results.present() {
        for split in &results.splits {
            let n = if split == "dev" { column.n_dev } else { column.n_test };
            places.extend(n.filter(|n| *n > 0).map(|n| (column.name.as_str(), &split[..], n)));
        }
    }
    let row = |row: &Row| {
        let cell = |(column, split, n): &(&str, &str, usize)| {
            let value = results.value(&row.name, column, split)?;
            Some(Cell { text: format!("{value:.3}"), range: up_to_its_sample(value, *n) })
        };
        places.iter().map(cell).collect()
    };
    Cells::new(
        results.rows.iter().map(|row| row.name.clone()).collect(),
        places.iter().map(|(column, split, _)| format!("{column} {split}")).collect(),
        results.rows.iter().map(row).collect(),
    )
}

/// A share of `n` examples with its 95 % interval. Effective reliability, from -1 to 1, is taken as
/// a share with a sign, as the paper does in its tests; what is no share is taken as exact.
fn up_to_its_sample(value: f64, n: usize) -> Range {
    if value.abs() > 1.0 {
        return Range::exact(value);
    }
    let (low, high) = wilson((value.abs() * n as f64).round() as u64, n as u64);
    let (low, high) = if value < 0.0 { (-high, -low) } else { (low, high) };
    Range { low: low.min(value), value, high: high.max(value) }
}

/// A verdict in words.
pub fn verdict_text(verdict: Option<Judgement>) -> &'static str {
    match verdict {
        Some(Judgement::Holds) => "holds",
        Some(Judgement::DoesNotHold) => "does not hold",
        Some(Judgement::Undecided) => "undecided",
        None => "not judged",
    }
}
