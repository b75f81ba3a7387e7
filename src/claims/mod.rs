//! The paper's sentences as data: what each says, where, and how it is computed from a table.
//!
//! `expected/paper/claims.toml` names one of a few computations (`compute`) for each sentence; this
//! room does not know where the cells come from. From the paper's own tables a sentence *follows*
//! or does not; from measured ones it *holds*, does not, or is undecided.

mod cells;
mod compute;
mod range;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use cells::{Cell, Cells, Tables, printed};
pub use compute::{Computation, Size, Take};
pub use range::{Range, Truth};

use crate::error::{Error, Result};

const PATH: &str = "expected/paper/claims.toml";
const TEXT: &str = include_str!("../../expected/paper/claims.toml");

/// The claims, and the lists of names that they use.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Names that stand for several: "@tests" in a list means all of `list.tests`.
    #[serde(rename = "list")]
    pub lists: BTreeMap<String, Vec<String>>,
    /// The sentences that can be computed.
    #[serde(rename = "claim")]
    pub claims: Vec<Claim>,
    /// The sentences about numbers that no table prints.
    #[serde(default, rename = "unprinted")]
    pub unprinted: Vec<Unprinted>,
}

/// A number in a sentence of the paper.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// A name of its own: the table, and what is claimed of it.
    pub id: String,
    /// The table that it is computed from.
    pub table: String,
    /// The claim whose sentence this reads in another way.
    #[serde(rename = "reading-of")]
    pub reading_of: Option<String>,
    /// What the table's items (the things that are averaged or counted over) are.
    #[serde(default)]
    pub items: Items,
    /// Where the paper says so.
    pub place: String,
    /// What it says, in our words.
    pub says: String,
    /// The number as printed, with its digits.
    pub printed: String,
    /// What kind of number that is.
    pub unit: Unit,
    /// When the sentence holds of measured cells; absent where it is about the print alone.
    pub holds: Option<Bound>,
    /// How it is computed.
    pub compute: Computation,
    /// What a reader of the verdict should know.
    pub note: Option<String>,
}

/// A sentence about numbers that the paper shows in no table.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Unprinted {
    /// Where the paper says so.
    pub place: String,
    /// What it says, in our words.
    pub says: String,
}

/// Which side of a table lists the items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Items {
    /// Methods are rows, items columns: most tables.
    #[default]
    Columns,
    /// Methods are columns, items rows: Table 4.
    Rows,
}

/// What kind of number a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// In percent.
    Percent,
    /// From 0 to 1.
    Share,
    /// A whole number.
    Count,
}

/// What a measured number must be for a claim to hold.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Larger than this.
    Above(f64),
    /// This or larger.
    AtLeast(f64),
    /// This or smaller.
    AtMost(f64),
}

/// A claim, computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// In the claim's unit.
    pub range: Range,
    /// The arithmetic, in steps.
    pub steps: Vec<String>,
}

/// Whether a printed figure follows from printed cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Computed from the cells as printed and rounded, it is that figure.
    Follows,
    /// It is not, but cells that are printed as these could give it.
    FollowsWithinRounding,
    /// No cells that are printed as these give it.
    DoesNotFollow,
}

/// Whether a claim is true of measured cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// Wherever in their ranges the cells are.
    Holds,
    /// Wherever they are.
    DoesNotHold,
    /// That depends.
    Undecided,
}

impl Claims {
    /// The claims of the paper.
    pub fn of_the_paper() -> Result<Self> {
        Self::from_toml(Path::new(PATH), TEXT)
    }

    /// Reads and checks claims; `path` names them in errors.
    pub fn from_toml(path: &Path, text: &str) -> Result<Self> {
        let claims: Self = toml::from_str(text).map_err(|error| {
            let place = error.span().map(|span| Error::place(text, span.start));
            let what = error.message().replace('\n', ", ");
            Error::input(path, format!("{}not claims: {what}", place.unwrap_or_default()))
        })?;
        let mut ids = BTreeSet::new();
        for claim in &claims.claims {
            if !ids.insert(&claim.id) {
                return Err(Error::input(path, format!("claim {:?} occurs twice", claim.id)));
            }
            if let Some(other) = claim.reading_of.as_ref().filter(|other| !ids.contains(other)) {
                let what = format!("{}: no earlier claim {other:?} to read otherwise", claim.id);
                return Err(Error::input(path, what));
            }
            if claim.printed_range().is_none() {
                let what = format!("{}: printed {:?}, wanted a number", claim.id, claim.printed);
                return Err(Error::input(path, what));
            }
        }
        Ok(claims)
    }

    /// Computes `claim` from `tables`, or says what they lack.
    pub fn evaluate(&self, claim: &Claim, tables: &Tables) -> std::result::Result<Outcome, String> {
        let cells = tables.get(&claim.table).ok_or_else(|| format!("no {}", claim.table))?;
        let cells = match claim.items {
            Items::Columns => cells.clone(),
            Items::Rows => cells.transposed(),
        };
        let mut outcome = claim.compute.run(&source::Source { cells, tables, claims: self })?;
        if claim.unit == Unit::Percent && claim.compute.gives_shares() {
            outcome.range = outcome.range.map(|share| 100.0 * share);
        }
        Ok(outcome)
    }

    /// `names`, with each "@list" replaced by what it stands for.
    pub fn expand<'a>(&'a self, names: &'a [String]) -> std::result::Result<Vec<&'a str>, String> {
        let mut expanded = Vec::new();
        for name in names {
            match name.strip_prefix('@') {
                None => expanded.push(name.as_str()),
                Some(list) => {
                    let list = self.lists.get(list).ok_or_else(|| format!("no list {name:?}"))?;
                    expanded.extend(list.iter().map(String::as_str));
                }
            }
        }
        Ok(expanded)
    }
}

impl Claim {
    /// Digits after the point, as printed.
    pub fn digits(&self) -> usize {
        self.printed.split_once('.').map_or(0, |(_, digits)| digits.len())
    }

    /// The printed figure, up to its rounding; `None` if it is no number.
    pub fn printed_range(&self) -> Option<Range> {
        let value = self.printed.parse().ok().filter(|value: &f64| value.abs() < 1e9)?;
        Some(match self.unit {
            Unit::Count => Range::exact(value),
            Unit::Percent | Unit::Share => Range::printed(value, self.digits()),
        })
    }

    /// Whether the printed figure follows from what was computed from printed cells.
    pub fn verdict(&self, computed: Range) -> Verdict {
        let Some(printed) = self.printed_range() else { return Verdict::DoesNotFollow };
        let slack = 1e-9; // decimal fractions are not exact in binary
        if computed.low > printed.high + slack || computed.high < printed.low - slack {
            Verdict::DoesNotFollow
        } else if (printed.low - slack..=printed.high + slack).contains(&computed.value) {
            Verdict::Follows
        } else {
            Verdict::FollowsWithinRounding
        }
    }

    /// Whether the claim is true of what was computed from measured cells; `None` where it is about
    /// the print alone.
    pub fn judge(&self, computed: Range) -> Option<Judgement> {
        let is_so = |value: f64| match self.holds {
            Some(Bound::Above(bound)) => value > bound,
            Some(Bound::AtLeast(bound)) => value >= bound,
            Some(Bound::AtMost(bound)) => value <= bound,
            None => false,
        };
        self.holds?;
        Some(match (is_so(computed.low), is_so(computed.high)) {
            (true, true) => Judgement::Holds,
            (false, false) => Judgement::DoesNotHold,
            _ => Judgement::Undecided,
        })
    }
}
