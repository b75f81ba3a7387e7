//! The paper's sentences, recomputed from its own printed tables.

use serde::Serialize;

use crate::claims::{self, Claims, Range, Unit, Unprinted, Verdict};
use crate::error::{Error, Result};

/// Every sentence that can be computed, with its verdict, and those that cannot.
#[derive(Clone, Debug, Serialize)]
pub struct PaperReport {
    /// In the order of the paper's tables.
    pub claims: Vec<ClaimReport>,
    /// Sentences about numbers that no table prints.
    pub unprinted: Vec<Unprinted>,
}

/// One sentence.
#[derive(Clone, Debug, Serialize)]
pub struct ClaimReport {
    /// The claim's name.
    pub id: String,
    /// The table that it is computed from: "table01".
    pub table: String,
    /// The claim whose sentence this reads in another way.
    pub reading_of: Option<String>,
    /// Where the paper says so.
    pub place: String,
    /// What it says.
    pub says: String,
    /// As printed.
    pub printed: String,
    /// Of the numbers.
    pub unit: Unit,
    /// From the cells as printed, with the least and the largest that cells so rounded could give.
    pub recomputed: Range,
    /// The arithmetic.
    pub steps: Vec<String>,
    /// Whether the one follows from the other.
    pub verdict: Verdict,
    /// What else there is to know.
    pub note: Option<String>,
}

impl ClaimReport {
    /// Digits after the point, as printed.
    pub fn digits(&self) -> usize {
        self.printed.split_once('.').map_or(0, |(_, digits)| digits.len())
    }
}

/// Audits the paper.
pub fn audit() -> Result<PaperReport> {
    let (tables, claims) = (claims::printed()?, Claims::of_the_paper()?);
    let report = |claim: &claims::Claim| {
        let outcome = claims.evaluate(claim, &tables);
        let outcome = outcome.map_err(|what| {
            Error::input("expected/paper/claims.toml", format!("{}: {what}", claim.id))
        })?;
        Ok(ClaimReport {
            id: claim.id.clone(),
            table: claim.table.clone(),
            reading_of: claim.reading_of.clone(),
            place: claim.place.clone(),
            says: claim.says.clone(),
            printed: claim.printed.clone(),
            unit: claim.unit,
            recomputed: outcome.range,
            steps: outcome.steps,
            verdict: claim.verdict(outcome.range),
            note: claim.note.clone(),
        })
    };
    let reports: Result<Vec<ClaimReport>> = claims.claims.iter().map(report).collect();
    Ok(PaperReport { claims: reports?, unprinted: claims.unprinted })
}
