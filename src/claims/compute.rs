//! The few computations that the paper's sentences come to.
//!
//! Each takes the cells of named methods on named items (tasks, topics) and gives a range, with the
//! steps in words. A cell that is "/" is left out. Every cell enters a gain once, so its range is
//! exact; ranks compare ranges that share cells and are a little too wide.

use serde::Deserialize;

use super::cells::{Cell, Cells, Tables};
use super::range::{Range, Truth};
use super::{Claims, Outcome};
use crate::stats::{Transitions, one_tailed_z, stars};

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

/// What a claim is computed from.
pub(super) struct Source<'a> {
    /// The claim's table, methods as rows.
    pub cells: Cells,
    /// All tables.
    pub tables: &'a Tables,
    /// For their lists.
    pub claims: &'a Claims,
}

/// The names of methods, and of items.
type Named<'a> = (&'a [String], &'a [String]);

type Found<T> = std::result::Result<T, String>;

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
    fn of(self, ranges: &[Range]) -> Found<Range> {
        let taken = match self {
            Self::Mean => Range::mean(ranges),
            Self::Largest => ranges.iter().copied().reduce(Range::max),
            Self::Smallest => ranges.iter().copied().reduce(Range::min),
        };
        taken.ok_or_else(|| "no items to compute from".to_string())
    }
}

/// A gain on one item, with its arithmetic.
struct Gain {
    item: String,
    texts: [String; 2],
    range: Range,
}

impl Gain {
    fn step(&self) -> String {
        let [of, over] = &self.texts;
        format!("{} {of}/{over} {:+.1}", self.item, self.range.value)
    }
}

impl Source<'_> {
    /// The source, with another table's cells.
    fn other(&self, table: &str) -> Found<Source<'_>> {
        let cells = self.tables.get(table).ok_or_else(|| format!("no {table}"))?.clone();
        Ok(Source { cells, tables: self.tables, claims: self.claims })
    }

    /// The best cell of some rows on an item: the first of those with the largest value, with the
    /// range that the best of all could be in.
    fn best(&self, rows: &[String], item: &str) -> Found<Cell> {
        let mut best: Option<Cell> = None;
        for row in self.claims.expand(rows)? {
            let Some(cell) = self.cells.get(row, item)? else { continue };
            best = Some(match best {
                None => cell.clone(),
                Some(best) => {
                    let is_better = cell.range.value > best.range.value;
                    let text = if is_better { cell.text.clone() } else { best.text };
                    Cell { text, range: best.range.max(cell.range) }
                }
            });
        }
        best.ok_or_else(|| format!("no method has a value on {item:?}"))
    }

    fn gains(&self, of: &[String], over: &[String], items: &[String]) -> Found<Vec<Gain>> {
        let gain = |item: &str| {
            let (of, over) = (self.best(of, item)?, self.best(over, item)?);
            let range = of.range.gain_over(over.range).ok_or_else(|| {
                format!("no gain on {item:?} over {}: it could be 0 or less", over.text)
            })?;
            Ok(Gain { item: item.to_string(), texts: [of.text, over.text], range })
        };
        self.claims.expand(items)?.into_iter().map(gain).collect()
    }

    fn mean_gain(
        &self,
        of: &[String],
        over: &[String],
        items: &[String],
    ) -> Found<(String, Range)> {
        let gains: Vec<Range> =
            self.gains(of, over, items)?.iter().map(|gain| gain.range).collect();
        Ok((self.claims.expand(items)?.join(" and "), Take::Mean.of(&gains)?))
    }

    /// Every cell there is of some rows on some items.
    fn all(&self, rows: &[String], items: &[String]) -> Found<Vec<&Cell>> {
        let mut cells = Vec::new();
        for row in self.claims.expand(rows)? {
            for item in self.claims.expand(items)? {
                cells.extend(self.cells.get(row, item)?);
            }
        }
        Ok(cells)
    }

    fn gain_of_means(&self, of: &[String], over: &[String], items: &[String]) -> Found<Outcome> {
        let mean = |rows: &[String]| {
            let cells = self.all(rows, items)?;
            let ranges: Vec<Range> = cells.iter().map(|cell| cell.range).collect();
            let mean = Take::Mean.of(&ranges)?;
            Ok::<_, String>((mean, format!("mean of {} cells {:.4}", cells.len(), mean.value)))
        };
        let ((of, of_step), (over, over_step)) = (mean(of)?, mean(over)?);
        let range = of.gain_over(over).ok_or("no gain over a mean that could be 0 or less")?;
        Ok(Outcome { range, steps: vec![of_step, over_step] })
    }

    fn firsts(&self, of: Named, other: &Source, over: Named) -> Found<Outcome> {
        let (items, other_items) = (self.claims.expand(of.1)?, self.claims.expand(over.1)?);
        let (mut truths, mut steps) = (Vec::new(), vec![format!("of {}", items.len())]);
        for (item, other_item) in items.into_iter().zip(other_items) {
            let (of, over) = (self.best(of.0, item)?, other.best(over.0, other_item)?);
            let truth = of.range.at_least(over.range);
            if !truth.taken {
                steps.push(format!("not {item} ({} below {})", of.text, over.text));
            }
            truths.push(truth);
        }
        Ok(Outcome { range: Range::count(truths), steps })
    }

    fn stars(&self, of: &[String], over: &[String], item: &str, n: &Size) -> Found<Outcome> {
        let n = match n {
            Size::Number(n) => *n,
            Size::Cell { table, row, column } => {
                let other = self.other(table)?;
                let cell = other.cells.get(row, column)?;
                cell.ok_or("no number of questions")?.range.value as u64
            }
        };
        let (of, over) = (self.best(of, item)?, self.best(over, item)?);
        // p falls as `of` rises and as `over` falls.
        let p = |of: f64, over: f64| one_tailed_z(of, n, over, n).p_value;
        let (least, most) = (p(of.range.high, over.range.low), p(of.range.low, over.range.high));
        let taken = p(of.range.value, over.range.value);
        let count = |p: f64| f64::from(stars(p));
        let step = format!("{} against {}, n = {n}: p = {}", of.text, over.text, p_text(taken));
        let range = Range { low: count(most), value: count(taken), high: count(least) };
        Ok(Outcome { range, steps: vec![step] })
    }

    fn levels(
        &self,
        matrices: &[String],
        take: Take,
        metric: impl Fn(&Transitions) -> Option<f64>,
    ) -> Found<Outcome> {
        const LEVELS: [&str; 4] = ["all", ">half", "<half", "none"];
        let (mut ranges, mut steps) = (Vec::new(), Vec::new());
        for matrix in self.claims.expand(matrices)? {
            let mut counts = [[0; 4]; 4];
            for (row, pre) in counts.iter_mut().zip(LEVELS) {
                for (count, post) in row.iter_mut().zip(LEVELS) {
                    let cell = self.cells.get(&format!("{matrix}: {pre}"), post)?;
                    *count = cell.ok_or("a count is missing")?.range.value as u64;
                }
            }
            let share = metric(&Transitions { counts, n_half: 0 });
            let share = share.ok_or_else(|| format!("{matrix} has no such questions"))?;
            steps.push(format!("{matrix} {share:.4}"));
            ranges.push(Range::exact(share));
        }
        Ok(Outcome { range: take.of(&ranges)?, steps })
    }

    fn same(&self, of: Named, other: &Source, as_of: Named) -> Found<Outcome> {
        let (cells, others) = (self.all(of.0, of.1)?, other.all(as_of.0, as_of.1)?);
        if cells.len() != others.len() {
            return Err(format!("{} cells beside {}", cells.len(), others.len()));
        }
        let pairs = cells.iter().zip(&others);
        let n_same = pairs.filter(|(a, b)| a.range.value == b.range.value).count();
        let range = Range::exact(n_same as f64);
        Ok(Outcome { range, steps: vec![format!("of {} cells", cells.len())] })
    }
}

/// The place of the first of `ranked`, 1 for the largest.
fn rank(ranked: Vec<(String, Range)>) -> Outcome {
    let first = ranked[0].1;
    let above = ranked[1..].iter().map(|(_, other)| Truth {
        certain: other.low > first.high,
        taken: other.value > first.value,
        possible: other.high > first.low,
    });
    let range = Range::count(above).map(|n_above| n_above + 1.0);
    let steps = ranked.iter().map(|(name, range)| format!("{name} {:.1}", range.value));
    Outcome { range, steps: steps.collect() }
}

/// A p-value with two or three digits that count.
fn p_text(p: f64) -> String {
    if p < 1e-4 { format!("{p:.1e}") } else { format!("{p:.4}") }
}
