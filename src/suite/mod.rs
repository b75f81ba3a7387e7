//! Suites: one table or figure of the paper as data (`suites/table01.toml`).
//!
//! A suite holds the rows (methods and their parameters), the columns (tasks), the sizes of both
//! scales, the seeds and the hyperparameter grid; nothing of it is repeated in code, and nothing
//! has a default that the file does not show. Tasks, settings and splits are names here: what
//! they mean, and how a cell is computed, other rooms know.

mod check;
mod method;
mod raw;
mod row;

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use method::{Accept, Budget, Method, Mutation, Rescale, Space, Vote, Weights};

use crate::error::{Error, Result};
use crate::mode::Mode;

/// One table or figure of the paper.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Suite {
    /// Which one it is.
    pub item: Item,
    /// What it shows, in one line.
    pub title: String,
    /// Where the paper describes it: sections and, for its printed form, the table or figure.
    pub source: String,
    /// n, the number of experts in the pool.
    pub experts: usize,
    /// The splits that are reported: `dev`, `test`, or both. The search sees `dev` alone.
    pub splits: Vec<String>,
    /// What every search of the suite has in common.
    pub search: SearchDefaults,
    /// The hyperparameters from which each run of a search draws.
    pub grid: Grid,
    /// The sizes of a run that takes seconds.
    pub smoke: Sizes,
    /// The paper's sizes.
    pub full: Sizes,
    /// The methods, in the order of the table; names are unique.
    pub rows: Vec<Row>,
    /// The tasks, in the order of the table; names are unique.
    pub columns: Vec<Column>,
}

/// The number of a table or figure of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// A table.
    Table(u32),
    /// A figure.
    Figure(u32),
}

/// How large a reproduction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Seconds: for the tests.
    Smoke,
    /// As in the paper.
    Full,
}

/// Settings that all searches of a suite share, as `--set KEY=VALUE` takes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchDefaults {
    /// Whose defaults the settings start from, and whose parsing is followed.
    pub mode: Mode,
    /// Setting and value, sorted by setting.
    pub set: Vec<(String, String)>,
}

/// The values of the hyperparameters that the paper searches over (appendix C). A run takes one
/// value of each list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// phi_v, in 0 to 1.
    pub inertia: Vec<f64>,
    /// phi_p, in 0 to 1.
    pub cognitive: Vec<f64>,
    /// phi_g, in 0 to 1.
    pub social: Vec<f64>,
    /// phi_w, in 0 to 1.
    pub repel: Vec<f64>,
    /// lambda of the first iteration, above 0.
    pub step: Vec<f64>,
}

/// The sizes of one scale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// N, at least the number of experts.
    pub particles: usize,
    /// K.
    pub iterations: usize,
    /// c, in iterations.
    pub patience: usize,
    /// c_r, in iterations.
    pub restart: usize,
    /// How often a search is run, each time with another choice from the grid; the best f counts.
    pub runs: usize,
    /// The evaluations of f that a row of equal budget may spend in all.
    pub budget: usize,
    /// The evaluations of f that any other row that searches may spend in all.
    pub cap: usize,
    /// At most so many validation examples of each task.
    pub dev: usize,
    /// At most so many test examples of each task.
    pub test: usize,
    /// The seeds; every random cell is computed once for each.
    pub seeds: Vec<u64>,
}

/// A row: one method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The row's name in the table; that of the printed table where it has the row.
    pub name: String,
    /// The paper's kind of method: trivial, static, dynamic.
    pub group: String,
    /// What is done.
    #[serde(flatten)]
    pub method: Method,
    /// The names of the columns that the method does not apply to ("/" in the printed table).
    pub not_for: Vec<String>,
}

/// A column: one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    /// The column's name in the table; that of the printed table where it has the column.
    pub name: String,
    /// The task's name in the testbed.
    pub task: String,
    /// How many validation examples the paper has (Table 12).
    pub dev: usize,
    /// How many test examples the paper has (Table 12).
    pub test: usize,
}

/// One number of the table for each reported split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell<'a> {
    /// The method.
    pub row: &'a Row,
    /// The task.
    pub column: &'a Column,
    /// The seed of every draw.
    pub seed: u64,
}

impl Suite {
    /// Reads and checks the suite at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        Self::from_text(path, &text)
    }

    /// Parses and checks a suite's text; `path` names it in errors, which give line and column.
    pub fn from_text(path: &Path, text: &str) -> Result<Self> {
        raw::parse(text).map_err(|what| Error::input(path, what))
    }

    /// The sizes of `scale`.
    pub fn sizes(&self, scale: Scale) -> &Sizes {
        match scale {
            Scale::Smoke => &self.smoke,
            Scale::Full => &self.full,
        }
    }

    /// Every cell of the table at `scale`: row by row, then column by column, then seed by seed.
    /// A method that draws nothing has one cell, with the first seed.
    pub fn cells(&self, scale: Scale) -> impl Iterator<Item = Cell<'_>> {
        let seeds = &self.sizes(scale).seeds;
        self.rows.iter().flat_map(move |row| {
            let n_seeds = if row.method.is_random() { seeds.len() } else { 1 };
            let columns = self.columns.iter().filter(|column| !row.not_for.contains(&column.name));
            columns.flat_map(move |column| {
                seeds[..n_seeds].iter().map(move |&seed| Cell { row, column, seed })
            })
        })
    }

    /// How many evaluations of f on the validation examples `cell` takes at most; the ranking of
    /// the experts counts for each cell that needs it, though one ranking serves a whole column.
    pub fn n_evaluations(&self, cell: &Cell, scale: Scale) -> u64 {
        cell.row.method.n_evaluations(self.experts, self.sizes(scale))
    }

    /// How many (validation, test) examples `column` has at `scale`.
    pub fn n_examples(&self, column: &Column, scale: Scale) -> (usize, usize) {
        let sizes = self.sizes(scale);
        (column.dev.min(sizes.dev), column.test.min(sizes.test))
    }
}

impl Scale {
    /// Both scales.
    pub const ALL: [Self; 2] = [Self::Smoke, Self::Full];

    /// The name on the command line and in suites.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Full => "full",
        }
    }
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Table(number) => write!(f, "Table {number}"),
            Self::Figure(number) => write!(f, "Figure {number}"),
        }
    }
}

impl Grid {
    /// Each hyperparameter's setting and values.
    pub fn lists(&self) -> [(&'static str, &[f64]); 5] {
        [
            ("inertia", &self.inertia),
            ("cognitive", &self.cognitive),
            ("social", &self.social),
            ("repel", &self.repel),
            ("step", &self.step),
        ]
    }

    /// How many different choices the grid offers.
    pub fn n_choices(&self) -> u64 {
        self.lists().iter().fold(1, |n, (_, values)| n.saturating_mul(values.len() as u64))
    }
}
