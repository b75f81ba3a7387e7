//! Cells by the names of methods and items, and the arithmetic on them.
//!
//! A cell that is "/" is left out. Every cell enters a gain once, so its range is exact; ranks
//! compare ranges that share cells and are a little too wide.

use super::cells::{Cell, Cells, Tables};
use super::compute::{Size, Take};
use super::range::{Range, Truth};
use super::{Claims, Outcome};
use crate::stats::{Transitions, one_tailed_z, stars};

/// A value, or what the tables lack for it.
pub(super) type Found<T> = std::result::Result<T, String>;

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

/// A gain on one item, with its arithmetic.
pub(super) struct Gain {
    item: String,
    texts: [String; 2],
    pub range: Range,
}

impl Gain {
    /// "MMLU test 0.583/0.568 +2.6"
    pub(super) fn step(&self) -> String {
        let [of, over] = &self.texts;
        format!("{} {of}/{over} {:+.1}", self.item, self.range.value)
    }
}

impl Source<'_> {
    /// The source, with another table's cells.
    pub(super) fn other(&self, table: &str) -> Found<Source<'_>> {
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

    /// The gain in percent of the best of `of` over the best of `over`, item by item.
    pub(super) fn gains(
        &self,
        of: &[String],
        over: &[String],
        items: &[String],
    ) -> Found<Vec<Gain>> {
        let gain = |item: &str| {
            let (of, over) = (self.best(of, item)?, self.best(over, item)?);
            let range = of.range.gain_over(over.range).ok_or_else(|| {
                format!("no gain on {item:?} over {}: it could be 0 or less", over.text)
            })?;
            Ok(Gain { item: item.to_string(), texts: [of.text, over.text], range })
        };
        self.claims.expand(items)?.into_iter().map(gain).collect()
    }

    /// The mean of those gains, with the names of the items.
    pub(super) fn mean_gain(
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
    pub(super) fn all(&self, rows: &[String], items: &[String]) -> Found<Vec<&Cell>> {
        let mut cells = Vec::new();
        for row in self.claims.expand(rows)? {
            for item in self.claims.expand(items)? {
                cells.extend(self.cells.get(row, item)?);
            }
        }
        Ok(cells)
    }

    /// See `Computation::GainOfMeans`.
    pub(super) fn gain_of_means(
        &self,
        of: &[String],
        over: &[String],
        items: &[String],
    ) -> Found<Outcome> {
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

    /// See `Computation::Firsts`; `over` stands in `other`, item for item.
    pub(super) fn firsts(&self, of: Named, other: &Source, over: Named) -> Found<Outcome> {
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

    /// See `Computation::Stars`.
    pub(super) fn stars(
        &self,
        of: &[String],
        over: &[String],
        item: &str,
        n: &Size,
    ) -> Found<Outcome> {
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

    /// A metric of the named matrices of Figure 2.
    pub(super) fn levels(
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

    /// See `Computation::Same`.
    pub(super) fn same(&self, of: Named, other: &Source, as_of: Named) -> Found<Outcome> {
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
pub(super) fn rank(ranked: Vec<(String, Range)>) -> Outcome {
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
