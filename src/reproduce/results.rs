//! A reproduced table as data: cells beside the printed ones, and the paper's sentences judged.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cells::CellRecord;
use super::verdicts::VerdictReport;
use crate::suite::{Item, Row, Scale, Suite};
use crate::testbed::Missing;

/// A reproduced table.
#[derive(Debug, Clone, Serialize)]
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
    /// The program's version.
    pub version: &'static str,
    /// The splits that are reported.
    pub splits: Vec<String>,
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
}

/// A column.
#[derive(Debug, Clone, Serialize)]
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
#[derive(Debug, Clone, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
        let mut values = Vec::new();
        for cell in &self.cells {
            let CellReport::Computed(cell) = cell else { continue };
            if cell.row == row && cell.column == column {
                values.push(if split == "dev" { Some(cell.dev) } else { cell.test }?);
            }
        }
        let n_values = values.len();
        (n_values > 0).then(|| values.iter().sum::<f64>() / n_values as f64)
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
pub fn table_name(suite: &Suite) -> String {
    match suite.item {
        Item::Table(number) => format!("table{number:02}"),
        Item::Figure(number) => format!("figure{number:02}"),
    }
}
