//! A table of the paper, computed again: the cells of the plan, column after column, each kept in a
//! file as soon as it is finished; then the table and the verdicts.
//!
//! A cell's result depends on its job and the input files alone: not on other rows, their order,
//! threads, or how often the run was killed.

mod cells;
mod expected;
mod inputs;
mod methods;
mod nearness;
mod results;
mod stars;
mod table;
mod utility;
mod verdicts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use cells::CellRecord;
pub use expected::{Expected, embedded};
pub use results::{CellReport, ColumnReport, Results, Without, table_name};
pub use stars::StarReport;
pub use table::{ABOUT_STARS, Marks, Place, Shown, Spent, reasons, shown, spent, text};
pub use verdicts::{VerdictReport, verdict_text};

use crate::backend::Precision;
use crate::claims::{Cells, printed};
use crate::error::{Error, Result};
use crate::files::{read_text, write_atomic};
use crate::plan::{CellPlan, Job, Plan, Work, file_name};
use crate::run::evaluate::{Evaluator, Options};
use crate::suite::{self, Item, Scale, Suite};
use crate::task::{Split, Task};
use crate::testbed::{Inventory, Testbed};
use inputs::Inputs;
use utility::Judge;

/// What the user asked for.
pub struct Request {
    /// The table.
    pub suite: Suite,
    /// What it is computed with.
    pub testbed: Testbed,
    /// The sizes.
    pub scale: Scale,
    /// A seed in the place of the suite's.
    pub seed: Option<u64>,
    /// The folder of the results.
    pub out: PathBuf,
    /// How the base is opened.
    pub options: Options,
}

/// A testbed that has enough to compute something.
struct Ready {
    found: Inventory,
    base: PathBuf,
    first_task: Task,
}

/// A column on its way.
struct Column {
    task: Option<Task>,
    sha256: BTreeMap<String, String>,
    cells: Vec<Slot>,
}

/// A cell on its way.
enum Slot {
    Known(CellReport),
    Pending(Box<Pending>),
}

/// A cell that is to be computed.
struct Pending {
    job: Job,
    seed: u64,
    path: PathBuf,
    fingerprint: String,
}

impl Request {
    /// The seeds: the suite's, or the one in their place.
    pub fn seeds(&self) -> Vec<u64> {
        match self.seed {
            Some(seed) => vec![seed],
            None => self.suite.sizes(self.scale).seeds.clone(),
        }
    }
}

/// Computes the cells that are not there yet and writes `cells/`, `results.json` and `table.txt`.
/// Everything is opened and checked before anything is written; `say` is told what is missing and
/// how it goes, a line at a time.
pub fn reproduce(request: &Request, say: &mut dyn FnMut(&str)) -> Result<Results> {
    let Request { suite, testbed, scale, .. } = request;
    let ready = find(request, say)?;
    let plan = Plan::new(suite, *scale, &ready.found, &request.seeds())?;
    let folder = cells::folder(&request.out)?;
    refuse_other_seeds(request)?;
    let (found, options) = (&ready.found, request.options);
    let (inputs, base) = Inputs::open(testbed, suite, found, &ready.base, *scale, options)?;
    let precision = options.device.precision();
    let columns = columns(plan, &ready.found, &inputs, precision, &folder)?;

    let mut evaluator = Evaluator::new(base, ready.first_task, request.options.batch);
    for task in columns.iter().filter_map(|column| column.task.as_ref()) {
        evaluator.task = task.clone();
        evaluator.check(Split::Dev)?;
        inputs.check_nearness(suite, task)?;
        if evaluator.task.n_examples(Split::Test) > 0 {
            evaluator.check(Split::Test)?;
        }
    }
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
    let _held = cells::hold(&folder)?;
    let mut sha256 = inputs.sha256.clone();
    sha256.extend(inputs.data_merge_sha256.clone());
    sha256.extend(inputs.nearness_sha256.clone());
    let mut reports = Vec::new();
    for column in columns {
        if let Some(task) = column.task {
            evaluator.task = task;
        }
        sha256.extend(column.sha256);
        reports.extend(compute(&inputs, &evaluator, column.cells, say)?);
    }
    finish(request, ready.found, &inputs, sha256, reports)
}

/// A folder holds one table: that of other seeds is not written over.
fn refuse_other_seeds(request: &Request) -> Result<()> {
    #[derive(Deserialize)]
    struct There {
        seeds: Vec<u64>,
    }
    let path = request.out.join("results.json");
    if !path.exists() {
        return Ok(());
    }
    let there: There = serde_json::from_str(&read_text(&path)?)
        .map_err(|error| Error::input(&path, error.to_string()))?;
    if there.seeds != request.seeds() {
        let what = format!("is of seed {:?}, wanted another folder", there.seeds);
        return Err(Error::input(&path, what));
    }
    Ok(())
}

/// What the testbed has, with tasks cut to the scale's sizes; an error if nothing can be computed.
fn find(request: &Request, say: &mut dyn FnMut(&str)) -> Result<Ready> {
    let Request { suite, testbed, scale, .. } = request;
    let tasks: Vec<&str> = suite.columns.iter().map(|column| column.task.as_str()).collect();
    let mut found = testbed.find(&tasks, suite.search.mode)?;
    for (column, task) in suite.columns.iter().zip(&mut found.tasks) {
        if let Some(task) = task {
            let (n_dev, n_test) = suite.n_examples(column, *scale);
            task.truncate(n_dev, n_test);
        }
    }
    found.missing.iter().for_each(|missing| say(&format!("missing: {missing}")));
    let first_task = found.tasks.iter().flatten().next().cloned();
    if let (Some(base), Some(first_task), false) =
        (found.base.clone(), first_task, found.experts.is_empty())
    {
        return Ok(Ready { found, base, first_task });
    }
    let n_missing = match found.missing.len() {
        1 => "an input is missing".to_string(),
        n => format!("{n} inputs are missing"),
    };
    let what = format!(
        "{n_missing} (listed above), wanted a base model, experts and at least one task of {}",
        suite.item
    );
    Err(Error::input(testbed.path(), what))
}

/// The columns of the plan, with the cells that are known already.
fn columns(
    plan: Plan,
    found: &Inventory,
    inputs: &Inputs,
    precision: Precision,
    folder: &Path,
) -> Result<Vec<Column>> {
    let experts: Vec<String> = inputs.pool().names().into_iter().map(String::from).collect();
    let mut columns = Vec::new();
    for (column, task) in plan.columns.into_iter().zip(&found.tasks) {
        let sha256 = task.as_ref().map(|task| inputs::task_hashes(&column.task, task));
        let sha256 = sha256.transpose()?.unwrap_or_default();
        let mut cells = Vec::new();
        for CellPlan { row, seed, work } in column.cells {
            let job = match work {
                Work::Compute(job) => *job,
                Work::NotFor => {
                    cells.push(without(row, &column.name, Without::NotFor));
                    continue;
                }
                Work::NotAvailable(why) => {
                    cells.push(without(row, &column.name, Without::NotAvailable(why)));
                    continue;
                }
            };
            let own = inputs.own_sha256(&job.method);
            let files = [&inputs.sha256, &sha256].into_iter().chain(own).flatten();
            let files = files.map(|(role, hash)| (role.as_str(), hash.as_str())).collect();
            let fingerprint = cells::fingerprint(&job, &experts, &files, precision);
            let path = folder.join(file_name(&column.name, &row, seed));
            cells.push(match cells::read(&path, &fingerprint)? {
                Some(record) => Slot::Known(CellReport::Computed(Box::new(record))),
                None => Slot::Pending(Box::new(Pending { job, seed, path, fingerprint })),
            });
        }
        columns.push(Column { task: task.clone(), sha256, cells });
    }
    Ok(columns)
}

fn without(row: String, column: &str, without: Without) -> Slot {
    Slot::Known(CellReport::Without { row, column: column.to_string(), without })
}

/// Computes what a column lacks; the utilities of one row serve the others.
fn compute(
    inputs: &Inputs,
    evaluator: &Evaluator,
    cells: Vec<Slot>,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<CellReport>> {
    let mut judge = Judge::new(inputs, evaluator);
    let mut reports = Vec::with_capacity(cells.len());
    for slot in cells {
        let Pending { job, seed, path, fingerprint } = match slot {
            Slot::Pending(pending) => *pending,
            Slot::Known(report) => {
                if let CellReport::Computed(cell) = &report {
                    say(&format!("{}: {}: already computed", cell.column, cell.row));
                }
                reports.push(report);
                continue;
            }
        };
        let done = methods::compute(&job, inputs.pool().layout(), &mut judge)?;
        let calls = done.utilities.len() as u64;
        let (test, test_scores) = match done.test {
            Some(measured) => (Some(measured.utility), measured.scores),
            None => (None, Vec::new()),
        };
        let said = test.map_or(String::new(), |test| format!(", test {test:.3}"));
        let (row, column) = (job.row.clone(), job.column.clone());
        say(&format!("{column}: {row}: dev {:.3}{said}, {calls} calls of f", done.dev));
        let is_search = job.method.is_search();
        let record = CellRecord {
            row,
            column,
            seed,
            dev: done.dev,
            test,
            test_scores,
            n_dev: judge.n_examples(Split::Dev),
            n_test: judge.n_examples(Split::Test),
            calls,
            curve: if is_search { cells::curve(&done.utilities) } else { Vec::new() },
            winner: done.winner,
            job: serde_json::to_value(&job).expect("plain data"),
            fingerprint,
        };
        cells::write(&path, &record)?;
        reports.push(CellReport::Computed(Box::new(record)));
    }
    Ok(reports)
}

/// The table of all cells, and the files that hold it.
fn finish(
    request: &Request,
    found: Inventory,
    inputs: &Inputs,
    sha256: BTreeMap<String, String>,
    cells: Vec<CellReport>,
) -> Result<Results> {
    let suite = &request.suite;
    let report = |(column, task): (&suite::Column, &Option<Task>)| ColumnReport {
        name: column.name.clone(),
        task: column.task.clone(),
        n_dev: task.as_ref().map(|task| task.n_examples(Split::Dev)),
        n_test: task.as_ref().map(|task| task.n_examples(Split::Test)),
    };
    let mut results = Results {
        item: suite.item,
        title: suite.title.clone(),
        testbed: request.testbed.name.clone(),
        scale: request.scale,
        seeds: request.seeds(),
        precision: request.options.device.precision(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        splits: suite.splits.clone(),
        sizes: suite.sizes(request.scale).clone(),
        search: suite.search.clone(),
        grid: suite.grid.clone(),
        experts: inputs.pool().names().into_iter().map(String::from).collect(),
        sha256,
        missing: found.missing,
        rows: suite.rows.clone(),
        columns: suite.columns.iter().zip(&found.tasks).map(report).collect(),
        cells,
        claims: Vec::new(),
        stars: Vec::new(),
    };
    results.claims = verdicts::judge(&results, &table_name(suite.item))?;
    results.stars = stars::judge(&results, &table_name(suite.item))?;
    let json = serde_json::to_string_pretty(&results).expect("plain data");
    write_atomic(&request.out.join("results.json"), |file| writeln!(file, "{json}"))?;
    let page = text(&results, in_print(suite.item)?.as_ref(), Marks::Plain);
    write_atomic(&request.out.join("table.txt"), |file| file.write_all(page.as_bytes()))?;
    Ok(results)
}

/// An item of the paper as it is printed.
pub fn in_print(item: Item) -> Result<Option<Cells>> {
    Ok(printed()?.remove(&table_name(item)))
}
