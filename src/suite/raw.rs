//! From a suite's text to checked data: every fault is told with its line and column.
//!
//! A misspelt key, a parameter that a method does not take or lacks, a name given twice, a value
//! out of range: all are refused, as each would change a table in silence. How a row's parameters
//! become a method stands in `row`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::{Spanned, Value};

use super::check::{
    Found, Numbers, count, distinct, fault, list, names, numbers, once, settings, text,
};
use super::row::RawRow;
use super::{Column, Grid, Item, SearchDefaults, Sizes, Suite};
use crate::error::Error;
use crate::mode::Mode;

/// Settings that the scale gives; a suite that set them elsewhere would say two things.
const SIZE_SETTINGS: [&str; 4] = ["particles", "max_iterations", "patience", "restart_after"];

/// Parses and checks a suite.
pub fn parse(text: &str) -> std::result::Result<Suite, String> {
    let raw: Raw = toml::from_str(text).map_err(|error| {
        let place = error.span().map(|span| Error::place(text, span.start)).unwrap_or_default();
        format!("{place}not a suite: {}", error.message().replace('\n', ", "))
    })?;
    raw.check().map_err(|fault| format!("{}{}", Error::place(text, fault.at), fault.what))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    table: Option<Spanned<u32>>,
    figure: Option<Spanned<u32>>,
    title: Spanned<String>,
    source: Spanned<String>,
    experts: Spanned<u64>,
    splits: Spanned<Vec<Spanned<String>>>,
    search: RawSearch,
    grid: RawGrid,
    scale: RawScales,
    column: Spanned<Vec<RawColumn>>,
    row: Spanned<Vec<RawRow>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSearch {
    mode: Spanned<String>,
    set: BTreeMap<Spanned<String>, Spanned<Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGrid {
    inertia: Numbers,
    cognitive: Numbers,
    social: Numbers,
    repel: Numbers,
    step: Numbers,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScales {
    smoke: RawSizes,
    full: RawSizes,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSizes {
    particles: Spanned<u64>,
    iterations: Spanned<u64>,
    patience: Spanned<u64>,
    restart: Spanned<u64>,
    runs: Spanned<u64>,
    budget: Spanned<u64>,
    cap: Spanned<u64>,
    dev: Spanned<u64>,
    test: Spanned<u64>,
    seeds: Spanned<Vec<Spanned<u64>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawColumn {
    name: Spanned<String>,
    task: Spanned<String>,
    dev: Spanned<u64>,
    test: Spanned<u64>,
}

impl Raw {
    fn check(self) -> Found<Suite> {
        let item = match (&self.table, &self.figure) {
            (Some(number), None) => Item::Table(*number.get_ref()),
            (None, Some(number)) => Item::Figure(*number.get_ref()),
            (None, None) => return fault(0, "neither `table` nor `figure`, wanted one"),
            (Some(_), Some(figure)) => {
                return fault(figure.span().start, "`figure` beside `table`, wanted one of them");
            }
        };
        let experts = count("experts", &self.experts)?;
        if experts < 2 {
            return fault(self.experts.span().start, "`experts` is 1, wanted at least 2");
        }
        let splits = names("splits", &self.splits)?;
        for (split, raw) in splits.iter().zip(self.splits.get_ref()) {
            if !matches!(split.as_str(), "dev" | "test") {
                let what = format!("unknown split {split:?}, wanted \"dev\" or \"test\"");
                return fault(raw.span().start, what);
            }
        }
        let columns = columns(&self.column)?;
        let mut rows = Vec::new();
        let mut taken = BTreeSet::new();
        for raw in list("row", &self.row)? {
            once("row", &raw.name, &mut taken)?;
            rows.push(raw.check(experts, &columns)?);
        }
        Ok(Suite {
            item,
            title: text("title", &self.title)?,
            source: text("source", &self.source)?,
            experts,
            splits,
            search: self.search.check()?,
            grid: self.grid.check()?,
            smoke: self.scale.smoke.check(experts)?,
            full: self.scale.full.check(experts)?,
            rows,
            columns,
        })
    }
}

impl RawSearch {
    fn check(&self) -> Found<SearchDefaults> {
        let mode = text("mode", &self.mode)?;
        let Some(mode) = Mode::ALL.into_iter().find(|known| known.name() == mode) else {
            let what = format!("unknown mode {mode:?}, wanted \"paper\" or \"code\"");
            return fault(self.mode.span().start, what);
        };
        let of_grid = ["inertia", "cognitive", "social", "repel", "step"];
        if let Some(key) = self.set.keys().find(|key| of_grid.contains(&key.get_ref().as_str())) {
            let what = format!("setting `{}` is given by [grid]", key.get_ref());
            return fault(key.span().start, what);
        }
        Ok(SearchDefaults { mode, set: settings(&self.set, &SIZE_SETTINGS)? })
    }
}

impl RawGrid {
    fn check(&self) -> Found<Grid> {
        let share = |name, values| numbers(name, values, 0.0, 1.0);
        Ok(Grid {
            inertia: share("inertia", &self.inertia)?,
            cognitive: share("cognitive", &self.cognitive)?,
            social: share("social", &self.social)?,
            repel: share("repel", &self.repel)?,
            step: numbers("step", &self.step, f64::MIN_POSITIVE, 10.0)?,
        })
    }
}

impl RawSizes {
    fn check(&self, experts: usize) -> Found<Sizes> {
        let sizes = Sizes {
            particles: count("particles", &self.particles)?,
            iterations: count("iterations", &self.iterations)?,
            patience: count("patience", &self.patience)?,
            restart: count("restart", &self.restart)?,
            runs: count("runs", &self.runs)?,
            budget: count("budget", &self.budget)?,
            cap: count("cap", &self.cap)?,
            dev: count("dev", &self.dev)?,
            test: count("test", &self.test)?,
            seeds: distinct("seeds", &self.seeds)?,
        };
        if sizes.particles < experts {
            let what = format!("`particles` is {}, fewer than the", sizes.particles);
            return fault(self.particles.span().start, format!("{what} {experts} experts"));
        }
        if sizes.budget < sizes.particles {
            let what = format!("`budget` is {}, too little for the first", sizes.budget);
            let wanted = format!("evaluation of {} particles", sizes.particles);
            return fault(self.budget.span().start, format!("{what} {wanted}"));
        }
        if sizes.cap < sizes.budget {
            let what = format!("`cap` is {}, wanted at least the `budget`", sizes.cap);
            return fault(self.cap.span().start, format!("{what} of {}", sizes.budget));
        }
        Ok(sizes)
    }
}

fn columns(raw: &Spanned<Vec<RawColumn>>) -> Found<Vec<Column>> {
    let (mut taken, mut tasks) = (BTreeSet::new(), BTreeSet::new());
    let mut columns = Vec::new();
    for raw in list("column", raw)? {
        once("column", &raw.name, &mut taken)?;
        once("task", &raw.task, &mut tasks)?;
        columns.push(Column {
            name: text("name", &raw.name)?,
            task: text("task", &raw.task)?,
            dev: count("dev", &raw.dev)?,
            test: count("test", &raw.test)?,
        });
    }
    Ok(columns)
}
