//! The plan: suite x testbed x scale becomes cells, each with everything that it is computed from,
//! or with the reason why it cannot be. Nothing is computed here, and nothing is left implicit: a
//! cell's job is all that its number depends on, besides the input files.

mod seeds;
mod swarm;

use std::collections::BTreeSet;

use serde::Serialize;

pub use seeds::seed_at;
pub use swarm::SwarmRun;

use crate::error::{Error, Result};
use crate::mode::Mode;
use crate::suite::{Budget, Column, Method, Row, Scale, Space, Suite};
use crate::task::{Kind, Task};
use crate::testbed::Inventory;

/// The cells of a table, column by column, then row by row, then seed by seed.
#[derive(Debug)]
pub struct Plan {
    /// One for each column of the suite.
    pub columns: Vec<ColumnPlan>,
}

/// The cells of one column.
#[derive(Debug)]
pub struct ColumnPlan {
    /// The column's name.
    pub name: String,
    /// The task's name in the testbed.
    pub task: String,
    /// One or more for each row.
    pub cells: Vec<CellPlan>,
}

/// One cell.
#[derive(Debug)]
pub struct CellPlan {
    /// The row's name.
    pub row: String,
    /// The suite's seed.
    pub seed: u64,
    /// What is to be done.
    pub work: Work,
}

/// What is to be done for a cell.
#[derive(Debug)]
pub enum Work {
    /// It is computed.
    Compute(Box<Job>),
    /// The method does not apply to the task: "/" in the printed table.
    NotFor,
    /// It cannot be computed, and why.
    NotAvailable(String),
}

/// Everything that a cell's number depends on, besides the input files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Job {
    /// The row's name, which is part of the seed's address.
    pub row: String,
    /// The column's name.
    pub column: String,
    /// Whose parsing is followed.
    pub mode: Mode,
    /// The method with its parameters.
    #[serde(flatten)]
    pub method: Method,
    /// The seed of all draws of the cell; none where nothing is drawn.
    pub seed: Option<u64>,
    /// At most so many calls of f.
    pub calls: u64,
    /// The runs of a swarm; none for other methods.
    pub runs: Vec<SwarmRun>,
    /// At most so many validation examples.
    pub dev: usize,
    /// At most so many test examples.
    pub test: usize,
}

impl Plan {
    /// The plan of `suite` at `scale` on what was found of a testbed: `found.tasks` are those of
    /// the suite's columns, in that order. `seeds` stand in the place of the suite's.
    pub fn new(suite: &Suite, scale: Scale, found: &Inventory, seeds: &[u64]) -> Result<Self> {
        assert_eq!(found.tasks.len(), suite.columns.len(), "one task for each column");
        let mut columns = Vec::with_capacity(suite.columns.len());
        for (column, task) in suite.columns.iter().zip(&found.tasks) {
            let mut cells = Vec::new();
            for row in &suite.rows {
                let n_seeds = if row.method.is_random() { seeds.len() } else { 1 };
                for &seed in &seeds[..n_seeds] {
                    let work = if row.not_for.contains(&column.name) {
                        Work::NotFor
                    } else if let Some(lacking) = lacking(row, task.as_ref(), found) {
                        Work::NotAvailable(lacking)
                    } else {
                        Work::Compute(Box::new(job(suite, scale, row, column, seed)?))
                    };
                    cells.push(CellPlan { row: row.name.clone(), seed, work });
                }
            }
            let (name, task) = (column.name.clone(), column.task.clone());
            columns.push(ColumnPlan { name, task, cells });
        }
        let plan = Self { columns };
        plan.check_names()?;
        Ok(plan)
    }

    /// Cells are kept in files: no two may have the same name.
    fn check_names(&self) -> Result<()> {
        let mut taken = BTreeSet::new();
        for column in &self.columns {
            for cell in &column.cells {
                let name = file_name(&column.name, &cell.row, cell.seed);
                if !taken.insert(name.clone()) {
                    return Err(Error::Usage(format!("two cells would be kept as {name}")));
                }
            }
        }
        Ok(())
    }
}

/// The name of the file that keeps a cell: "gsm8k--best-single--1.json".
pub fn file_name(column: &str, row: &str, seed: u64) -> String {
    format!("{}--{}--{seed}.json", slug(column), slug(row))
}

/// A name as a file's: its letters and digits in lower case, with "-" between words.
pub fn slug(name: &str) -> String {
    let letters = name.to_lowercase();
    let words = letters.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

fn job(suite: &Suite, scale: Scale, row: &Row, column: &Column, seed: u64) -> Result<Job> {
    let (dev, test) = suite.n_examples(column, scale);
    let seed = row.method.is_random().then(|| seed_at(seed, &[&row.name, &column.name]));
    let runs = match (&row.method, seed) {
        (Method::ModelSwarms { set, budget }, Some(seed)) => {
            swarm::runs(suite, scale, set, *budget, seed)?
        }
        _ => Vec::new(),
    };
    let sizes = suite.sizes(scale);
    let calls = match &row.method {
        Method::EvolMerge { budget, .. } | Method::LoraHub { budget, .. } => match budget {
            Budget::Own => sizes.cap as u64,
            Budget::Equal => sizes.budget as u64,
        },
        method => method.n_evaluations(suite.experts, sizes),
    };
    Ok(Job {
        row: row.name.clone(),
        column: column.name.clone(),
        mode: suite.search.mode,
        method: row.method.clone(),
        seed,
        calls,
        runs,
        dev,
        test,
    })
}

/// Why the row cannot be computed on the task, if so.
fn lacking(row: &Row, task: Option<&Task>, found: &Inventory) -> Option<String> {
    let Some(task) = task else { return Some("the task's files are missing".into()) };
    if task.parts.iter().any(|part| part.kind == Kind::Command) {
        return Some("a command gives one number, wanted one for each split".into());
    }
    let answers_in_words = |kind: Kind| !matches!(kind, Kind::Perplexity | Kind::Command);
    let reason = match &row.method {
        Method::DataMerge if found.data_merge.is_none() => {
            "the testbed has no adapter that was trained on all data"
        }
        Method::PredictionMerge { .. } => {
            let [part] = task.parts.as_slice() else {
                return Some("the task's two parts have no common answers to vote on".into());
            };
            match part.kind {
                Kind::MultipleChoice | Kind::ExactMatch => return None,
                _ => "the task has no answers that are right or wrong to vote on",
            }
        }
        Method::PackOfLlms { .. } if !task.parts.iter().all(|part| answers_in_words(part.kind)) => {
            "the task has no prompts to take a perplexity of"
        }
        Method::EvolMerge { space: Space::Delta | Space::Full, .. } => {
            "experts are interpolated layer by layer in factor space alone"
        }
        Method::Cbtm { .. } if found.nearness.is_none() => {
            "the testbed has neither training texts nor embeddings to tell which experts are near"
        }
        _ => return None,
    };
    Some(reason.into())
}
