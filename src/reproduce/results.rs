//! A reproduced table as data: cells beside the printed ones, and the paper's sentences judged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cells::CellRecord;
use super::stars::StarReport;
use super::verdicts::VerdictReport;
use crate::backend::Precision;
use crate::stats::{Summary, summarize};
use crate::suite::{Grid, Item, Row, Scale, SearchDefaults, Sizes};
use crate::testbed::Missing;

/// A reproduced table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// Which one.
    pub item: Item,
    /// What it shows.
    pub title: String,
    /// The testbed's name.
    pub testbed: String,
    /// At which sizes.
    pub scale: Scale,
    /// The suite's seeds, or those in their place.
    pub seeds: Vec<u64>,
    /// How exact the device computed.
    pub precision: Precision,
    /// The program's version.
    pub version: String,
    /// The splits that are reported.
    pub splits: Vec<String>,
    /// The sizes of the scale.
    pub sizes: Sizes,
    /// What all searches have in common.
    pub search: SearchDefaults,
    /// The hyperparameters that a run of a swarm draws from.
    pub grid: Grid,
    /// The experts, in the order of a candidate's coefficients.
    pub experts: Vec<String>,
    /// SHA-256 of every input file, by its role and name.
    pub sha256: BTreeMap<String, String>,
    /// The inputs that were not there.
    pub missing: Vec<Missing>,
    /// The methods.
    pub rows: Vec<Row>,
    /// The tasks.
    pub columns: Vec<ColumnReport>,
    /// Column by column, then row by row, then seed by seed.
    pub cells: Vec<CellReport>,
    /// The paper's sentences about the table.
    pub claims: Vec<VerdictReport>,
    /// Where the paper has stars: whether ours is significantly better, task by task.
    pub stars: Vec<StarReport>,
}

/// A column.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ColumnReport {
    /// Its name.
    pub name: String,
    /// The task's name in the testbed.
    pub task: String,
    /// Validation examples; none if the task is missing.
    pub n_dev: Option<usize>,
    /// Test examples; none if the task is missing.
    pub n_test: Option<usize>,
}

/// A cell, or why there is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CellReport {
    /// It was computed.
    Computed(Box<CellRecord>),
    /// It was not.
    Without {
        /// The row's name.
        row: String,
        /// The column's name.
        column: String,
        /// Why.
        without: Without,
    },
}

/// Why a cell has no number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Without {
    /// The method does not apply to the task.
    NotFor,
    /// It could not be computed, and why.
    NotAvailable(String),
}

impl Results {
    /// The mean over seeds on `split`, "dev" or "test"; none where there is no number.
    pub fn value(&self, row: &str, column: &str, split: &str) -> Option<f64> {
        self.summary(row, column, split).map(|summary| summary.mean)
    }

    /// Mean and spread over seeds on `split`, "dev" or "test"; none where there is no number.
    pub fn summary(&self, row: &str, column: &str, split: &str) -> Option<Summary> {
        let cells = self.computed().filter(|cell| cell.row == row && cell.column == column);
        let of_split = |cell: &CellRecord| if split == "dev" { Some(cell.dev) } else { cell.test };
        summarize(&cells.map(of_split).collect::<Option<Vec<f64>>>()?)
    }

    /// The cells that have a number.
    pub fn computed(&self) -> impl Iterator<Item = &CellRecord> {
        self.cells.iter().filter_map(|cell| match cell {
            CellReport::Computed(cell) => Some(&**cell),
            CellReport::Without { .. } => None,
        })
    }

    /// Why a cell has no number, if it has none.
    pub fn without(&self, row: &str, column: &str) -> Option<&Without> {
        self.cells.iter().find_map(|cell| match cell {
            CellReport::Without { row: r, column: c, without } if r == row && c == column => {
                Some(without)
            }
            _ => None,
        })
    }

    /// The columns that were computed.
    pub fn present(&self) -> impl Iterator<Item = &ColumnReport> {
        self.columns.iter().filter(|column| column.n_dev.is_some())
    }
}

/// The name of the item's table among the paper's: "table01".
pub fn table_name(item: Item) -> String {
    match item {
        Item::Table(number) => format!("table{number:02}"),
        Item::Figure(number) => format!("figure{number:02}"),
    }
}
