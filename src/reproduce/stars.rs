//! The stars of the paper's Table 12, by the cells that were computed: whether a method is better
//! than the best of the others on a task's test examples, by more than chance.
//!
//! The paper's z-test takes two shares as if they came from different questions; the paired test
//! looks at the same ones. The best of several others has had several chances, which neither test
//! makes up for.

use serde::{Deserialize, Serialize};

use super::results::{ColumnReport, Results};
use super::verdicts::verdict_text;
use crate::claims::{Claim, Claims, Computation, Judgement};
use crate::error::Result;
use crate::stats::{one_tailed_z, paired, stars};

/// One task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StarReport {
    /// The claim's name.
    pub id: String,
    /// The task's column.
    pub column: String,
    /// Stars as printed, 0 where there are none.
    pub printed: u8,
    /// The row that is judged.
    pub row: String,
    /// Its f on the test examples.
    pub value: f64,
    /// The best of the others, the first of equals.
    pub other: String,
    /// Its f.
    pub other_value: f64,
    /// Test examples.
    pub n: usize,
    /// The paper's test.
    pub z: Significance,
    /// The paired test, where f is a mean over examples.
    pub paired: Option<Significance>,
    /// Whether the printed stars hold of ours, by the paired test; none where none is printed.
    pub verdict: Option<Judgement>,
}

impl StarReport {
    /// Both rows with their f.
    pub fn sides(&self) -> [String; 2] {
        [(&self.row, self.value), (&self.other, self.other_value)]
            .map(|(row, value)| format!("{row} {value:.3}"))
    }

    /// The stars as printed.
    pub fn printed_text(&self) -> String {
        "*".repeat(self.printed.into())
    }

    /// The verdict in words; none where no star is printed.
    pub fn verdict_text(&self) -> &'static str {
        self.verdict.map_or("", |verdict| verdict_text(Some(verdict)))
    }
}

/// The outcome of a one-tailed test of "better".
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Significance {
    /// The chance of such a lead or a larger one between equals.
    pub p_value: f64,
    /// As Table 12 gives them.
    pub stars: u8,
}

impl Significance {
    fn of(p_value: f64) -> Self {
        Self { p_value, stars: stars(p_value) }
    }

    /// The p-value, with its stars.
    pub fn text(self) -> String {
        let Self { p_value, stars } = self;
        let p = if p_value < 1e-4 { format!("{p_value:.0e}") } else { format!("{p_value:.4}") };
        format!("{p}{}", "*".repeat(stars.into()))
    }
}

/// The stars that the paper gives on `table`, judged where the task was computed.
pub fn judge(results: &Results, table: &str) -> Result<Vec<StarReport>> {
    let claims = Claims::of_the_paper()?;
    let report = |column: &ColumnReport| {
        let mut of_table = claims.claims.iter().filter(|claim| claim.table == table);
        of_table.find_map(|claim| report(results, &claims, claim, column))
    };
    Ok(results.present().filter_map(report).collect())
}

/// What the claim says of the column, if it does.
fn report(
    results: &Results,
    claims: &Claims,
    claim: &Claim,
    column: &ColumnReport,
) -> Option<StarReport> {
    let Computation::Stars { of, over, item, .. } = &claim.compute else { return None };
    if item.strip_suffix(" test")? != column.name {
        return None;
    }
    let (n, column) = (column.n_test?, &column.name[..]);
    let (row, value) = best(results, claims, of, column)?;
    let (other, other_value) = best(results, claims, over, column)?;
    let z = one_tailed_z(value, n as u64, other_value, n as u64);
    let pair = scores(results, &row, column).zip(scores(results, &other, column));
    let paired = |(first, second): &(Vec<f64>, Vec<f64>)| paired(first, second);
    let ahead = pair.as_ref().map(paired);
    let behind = pair.map(|(first, second)| paired(&(second, first)));
    let printed = claim.printed.parse().ok()?;
    let verdict = match (printed, ahead, behind) {
        (0, _, _) => None,
        (_, Some(ahead), _) if stars(ahead) > 0 => Some(Judgement::Holds),
        (_, _, Some(behind)) if stars(behind) > 0 => Some(Judgement::DoesNotHold),
        _ => Some(Judgement::Undecided),
    };
    Some(StarReport {
        id: claim.id.clone(),
        column: column.to_string(),
        printed,
        row,
        value,
        other,
        other_value,
        n,
        z: Significance::of(z.p_value),
        paired: ahead.map(Significance::of),
        verdict,
    })
}

/// The best of these rows on the test examples of a column, the first of equals.
fn best(
    results: &Results,
    claims: &Claims,
    rows: &[String],
    column: &str,
) -> Option<(String, f64)> {
    let rows = claims.expand(rows).ok()?;
    let values = rows.iter().filter_map(|row| Some((*row, results.value(row, column, "test")?)));
    let higher = |best: (_, f64), other: (_, f64)| if other.1 > best.1 { other } else { best };
    values.reduce(higher).map(|(row, value)| (row.to_string(), value))
}

/// What each test example was worth to a row, the mean over seeds.
fn scores(results: &Results, row: &str, column: &str) -> Option<Vec<f64>> {
    let cells = results.computed().filter(|cell| cell.row == row && cell.column == column);
    let of_seeds: Vec<&[f64]> = cells.map(|cell| &cell.test_scores[..]).collect();
    let n = of_seeds.first().map(|scores| scores.len()).filter(|n| *n > 0)?;
    if of_seeds.iter().any(|scores| scores.len() != n) {
        return None;
    }
    let mean = |example: usize| {
        of_seeds.iter().map(|scores| scores[example]).sum::<f64>() / of_seeds.len() as f64
    };
    Some((0..n).map(mean).collect())
}
