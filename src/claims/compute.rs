//! The few computations that the paper's sentences come to.
//!
//! Each takes the cells of named methods on named items (tasks, topics) and gives a range, with the
//! steps in words. How the cells are found and compared stands in `source`.

use serde::Deserialize;

use super::Outcome;
use super::range::Range;
use super::source::{Found, Gain, Source, rank};
use crate::stats::Transitions;

/// How a number comes from a table. Where several methods are named, the best of them counts on
/// each item.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs)] // fields: the methods `of`, those they are compared with, and the items
pub enum Computation {
    /// How many percent `of` lies above `over`: item by item, then the mean or an extreme.
    Gain { of: Vec<String>, over: Vec<String>, items: Vec<String>, take: Take },
    /// How many percent the mean of all cells of `of` lies above the mean of all cells of `over`.
    GainOfMeans { of: Vec<String>, over: Vec<String>, items: Vec<String> },
    /// The number of items on which `of` is as good as `over` or better.
    Firsts { of: Vec<String>, over: Vec<String>, items: Vec<String> },
    /// The number of items on which the gain of `of` over `over` is from `from` to `to` percent.
    GainsWithin { of: Vec<String>, over: Vec<String>, items: Vec<String>, from: f64, to: f64 },
    /// The place, 1 for the largest, of the mean gain on `items` among those on other items.
    RankOfGain { of: Vec<String>, over: Vec<String>, items: Vec<String>, others: Vec<Vec<String>> },
    /// The place, 1 for the largest, of the mean loss of `of` from `from` among those of `others`.
    RankOfLoss { of: String, others: Vec<String>, from: String, items: Vec<String> },
    /// The stars of a one-tailed z-test between `of` and `over` on `item`, of `n` questions.
    Stars { of: Vec<String>, over: Vec<String>, item: String, n: Size },
    /// C-surge, from Figure 2's matrices.
    Surge { matrices: Vec<String>, take: Take },
    /// C-emerge, from Figure 2's matrices.
    Emerge { matrices: Vec<String>, take: Take },
    /// The number of methods in the table, other than `but`.
    Methods { but: Vec<String> },
    /// The sum of the cells of `of` on `items`.
    Sum { of: Vec<String>, items: Vec<String> },
    /// The number of items on which `of` is as good as `over` of another table or better.
    FirstsOverTable {
        of: Vec<String>,
        items: Vec<String>,
        table: String,
        over: Vec<String>,
        as_items: Vec<String>,
    },
    /// The number of cells that are the same in another table, row for row and item for item.
    Same {
        of: Vec<String>,
        items: Vec<String>,
        table: String,
        as_of: Vec<String>,
        as_items: Vec<String>,
    },
}

/// Which of several numbers is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Take {
    /// Their mean.
    Mean,
    /// The largest.
    Largest,
    /// The smallest.
    Smallest,
}

/// How many questions a proportion is of.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Size {
    /// So many.
    Number(u64),
    /// As many as a cell says.
    Cell {
        /// The table, for instance "table12".
        table: String,
        /// Its row.
        row: String,
        /// Its column.
        column: String,
    },
}

impl Computation {
    /// Whether the result is a share, from 0 to 1, rather than percent or a count.
    pub(super) fn gives_shares(&self) -> bool {
        matches!(self, Self::Surge { .. } | Self::Emerge { .. })
    }

    pub(super) fn run(&self, source: &Source) -> Found<Outcome> {
        match self {
            Self::Gain { of, over, items, take } => {
                let gains = source.gains(of, over, items)?;
                let steps = gains.iter().map(Gain::step).collect();
                let ranges: Vec<Range> = gains.iter().map(|gain| gain.range).collect();
                Ok(Outcome { range: take.of(&ranges)?, steps })
            }
            Self::GainOfMeans { of, over, items } => source.gain_of_means(of, over, items),
            Self::Firsts { of, over, items } => source.firsts((of, items), source, (over, items)),
            Self::FirstsOverTable { of, items, table, over, as_items } => {
                source.firsts((of, items), &source.other(table)?, (over, as_items))
            }
            Self::GainsWithin { of, over, items, from, to } => {
                let gains = source.gains(of, over, items)?;
                let (from, to) = (Range::exact(*from), Range::exact(*to));
                let is_within =
                    |gain: &Gain| gain.range.at_least(from).and(to.at_least(gain.range));
                let range = Range::count(gains.iter().map(is_within));
                Ok(Outcome { range, steps: gains.iter().map(Gain::step).collect() })
            }
            Self::RankOfGain { of, over, items, others } => {
                let mean_gain = |items: &[String]| source.mean_gain(of, over, items);
                let mut ranked = vec![mean_gain(items)?];
                for items in others {
                    ranked.push(mean_gain(items)?);
                }
                Ok(rank(ranked))
            }
            Self::RankOfLoss { of, others, from, items } => {
                let from = std::slice::from_ref(from);
                let mut ranked = Vec::new();
                for row in std::iter::once(of).chain(others) {
                    let (_, gain) = source.mean_gain(std::slice::from_ref(row), from, items)?;
                    let loss = Range { low: -gain.high, value: -gain.value, high: -gain.low };
                    ranked.push((row.clone(), loss));
                }
                Ok(rank(ranked))
            }
            Self::Stars { of, over, item, n } => source.stars(of, over, item, n),
            Self::Surge { matrices, take } => source.levels(matrices, *take, Transitions::surge),
            Self::Emerge { matrices, take } => source.levels(matrices, *take, Transitions::emerge),
            Self::Methods { but } => {
                let but = source.claims.expand(but)?;
                let rows = source.cells.rows().iter().filter(|row| !but.contains(&row.as_str()));
                let rows: Vec<&str> = rows.map(String::as_str).collect();
                Ok(Outcome { range: Range::exact(rows.len() as f64), steps: vec![rows.join(", ")] })
            }
            Self::Sum { of, items } => {
                let cells = source.all(of, items)?;
                let ranges = cells.iter().map(|cell| cell.range);
                let sum = ranges.reduce(Range::plus).ok_or("no cells to sum")?;
                let texts: Vec<&str> = cells.iter().map(|cell| cell.text.as_str()).collect();
                Ok(Outcome { range: sum, steps: vec![texts.join(" + ")] })
            }
            Self::Same { of, items, table, as_of, as_items } => {
                let other = source.other(table)?;
                source.same((of, items), &other, (as_of, as_items))
            }
        }
    }
}

impl Take {
    pub(super) fn of(self, ranges: &[Range]) -> Found<Range> {
        let taken = match self {
            Self::Mean => Range::mean(ranges),
            Self::Largest => ranges.iter().copied().reduce(Range::max),
            Self::Smallest => ranges.iter().copied().reduce(Range::min),
        };
        taken.ok_or_else(|| "no items to compute from".to_string())
    }
}
