//! A table of the paper, computed again: the cells of the plan, column after column, each kept in a
//! file as soon as it is finished; then the table and the verdicts.
//!
//! A cell's result depends on its job and the input files alone: not on other rows, their order,
//! threads, or how often the run was killed.

mod cells;
mod inputs;
mod methods;
mod results;
mod table;
mod utility;
mod verdicts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use cells::CellRecord;
pub use results::{CellReport, ColumnReport, Results, Without};
pub use table::{Marks, text};
pub use verdicts::VerdictReport;

use crate::claims::{Cells, printed};
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::plan::{Job, Plan, Work, file_name};
use crate::run::evaluate::{Evaluator, Options};
use crate::suite::{self, Method, Scale, Suite};
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

/// A column on its way: its task, the hashes of the task's files, and a record of each cell that
/// is to be computed, as far as they are known.
struct Column {
    name: String,
    task: Task,
    sha256: BTreeMap<String, String>,
    cells: Vec<Pending>,
}

struct Pending {
    job: Job,
    seed: u64,
    path: PathBuf,
    fingerprint: String,
    record: Option<CellRecord>,
}

/// Computes the cells that are not there yet and writes `cells/`, `results.json` and `table.txt`.
/// Everything is opened and checked before anything is written; `say` is told what is missing and
/// how it goes, a line at a time.
pub fn reproduce(request: &Request, say: &mut dyn FnMut(&str)) -> Result<Results> {
    let Request { suite, testbed, scale, .. } = request;
    let found = find(request, say)?;
    let seeds = match request.seed {
        Some(seed) => vec![seed],
        None => suite.sizes(*scale).seeds.clone(),
    };
    let plan = Plan::new(suite, *scale, &found, &seeds)?;
    let folder = cells::folder(&request.out)?;
    let (inputs, base) = Inputs::open(testbed, suite, &found, request.options)?;
    let mut columns = pending(&plan, &found, &inputs, &folder)?;

    let Some(first) = columns.first() else { panic!("a testbed without tasks was not refused") };
    let mut evaluator = Evaluator::new(base, first.task.clone(), request.options.batch);
    for column in &columns {
        evaluator.task = column.task.clone();
        evaluator.check(Split::Dev)?;
        if evaluator.task.n_examples(Split::Test) > 0 {
            evaluator.check(Split::Test)?;
        }
    }
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
    for column in &mut columns {
        evaluator.task = column.task.clone();
        compute(&inputs, &evaluator, column, say)?;
    }
    finish(request, seeds, &plan, found, &inputs, columns)
}

/// What the testbed has, with tasks cut to the scale's sizes; an error if nothing can be computed.
fn find(request: &Request, say: &mut dyn FnMut(&str)) -> Result<Inventory> {
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
    let is_enough = found.base.is_some()
        && !found.experts.is_empty()
        && found.tasks.iter().any(Option::is_some);
    if is_enough {
        return Ok(found);
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

/// The columns that can be computed, with the cells that are there already.
fn pending(plan: &Plan, found: &Inventory, inputs: &Inputs, folder: &Path) -> Result<Vec<Column>> {
    let experts: Vec<String> = inputs.pool.names().into_iter().map(String::from).collect();
    let mut columns = Vec::new();
    for (column, task) in plan.columns.iter().zip(&found.tasks) {
        let Some(task) = task else { continue };
        let sha256 = inputs::task_hashes(&column.task, task)?;
        let mut cells = Vec::new();
        for cell in &column.cells {
            let Work::Compute(job) = &cell.work else { continue };
            let of_data_merge = match job.method {
                Method::DataMerge => Some(&inputs.data_merge_sha256),
                _ => None,
            };
            let files = [&inputs.sha256, &sha256].into_iter().chain(of_data_merge).flatten();
            let files = files.map(|(role, hash)| (role.as_str(), hash.as_str())).collect();
            let fingerprint = cells::fingerprint(job, &experts, &files);
            let path = folder.join(file_name(&column.name, &cell.row, cell.seed));
            let record = cells::read(&path, &fingerprint)?;
            let job = (**job).clone();
            cells.push(Pending { job, seed: cell.seed, path, fingerprint, record });
        }
        columns.push(Column { name: column.name.clone(), task: task.clone(), sha256, cells });
    }
    Ok(columns)
}

/// Computes what a column lacks; the utilities of one row serve the others.
fn compute(
    inputs: &Inputs,
    evaluator: &Evaluator,
    column: &mut Column,
    say: &mut dyn FnMut(&str),
) -> Result<()> {
    let mut judge = Judge::new(inputs, evaluator);
    for cell in &mut column.cells {
        let (row, name) = (&cell.job.row, &column.name);
        if cell.record.is_some() {
            say(&format!("{name}: {row}: already computed"));
            continue;
        }
        let done = methods::compute(&cell.job, inputs.pool.layout(), &mut judge)?;
        let test = done.test.map_or(String::new(), |test| format!(", test {test:.3}"));
        say(&format!("{name}: {row}: dev {:.3}{test}, {} calls of f", done.dev, done.calls));
        let record = CellRecord {
            row: row.clone(),
            column: name.clone(),
            seed: cell.seed,
            dev: done.dev,
            test: done.test,
            n_dev: judge.n_examples(Split::Dev),
            n_test: judge.n_examples(Split::Test),
            calls: done.calls,
            winner: done.winner,
            job: serde_json::to_value(&cell.job).expect("plain data"),
            fingerprint: cell.fingerprint.clone(),
        };
        cells::write(&cell.path, &record)?;
        cell.record = Some(record);
    }
    Ok(())
}

/// The table of all cells, and the files that hold it.
fn finish(
    request: &Request,
    seeds: Vec<u64>,
    plan: &Plan,
    found: Inventory,
    inputs: &Inputs,
    columns: Vec<Column>,
) -> Result<Results> {
    let suite = &request.suite;
    let mut sha256 = inputs.sha256.clone();
    sha256.extend(inputs.data_merge_sha256.clone());
    let mut records = BTreeMap::new();
    for column in columns {
        sha256.extend(column.sha256);
        for cell in column.cells {
            let key = (column.name.clone(), cell.job.row, cell.seed);
            records.insert(key, cell.record.expect("every cell was computed"));
        }
    }
    let mut cells = Vec::new();
    for column in &plan.columns {
        for cell in &column.cells {
            let (row, column) = (cell.row.clone(), column.name.clone());
            cells.push(match &cell.work {
                Work::Compute(_) => {
                    let record = records.remove(&(column, row, cell.seed));
                    CellReport::Computed(Box::new(record.expect("one record for each job")))
                }
                Work::NotFor => CellReport::Without { row, column, without: Without::NotFor },
                Work::NotAvailable(why) => {
                    let without = Without::NotAvailable(why.clone());
                    CellReport::Without { row, column, without }
                }
            });
        }
    }
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
        seeds,
        version: env!("CARGO_PKG_VERSION"),
        splits: suite.splits.clone(),
        experts: inputs.pool.names().into_iter().map(String::from).collect(),
        sha256,
        missing: found.missing,
        rows: suite.rows.clone(),
        columns: suite.columns.iter().zip(&found.tasks).map(report).collect(),
        cells,
        claims: Vec::new(),
    };
    results.claims = verdicts::judge(&results, &results::table_name(suite))?;
    let json = serde_json::to_string_pretty(&results).expect("plain data");
    write_atomic(&request.out.join("results.json"), |file| writeln!(file, "{json}"))?;
    let page = text(&results, in_print(suite)?.as_ref(), Marks::Plain);
    write_atomic(&request.out.join("table.txt"), |file| file.write_all(page.as_bytes()))?;
    Ok(results)
}

/// The suite's table as the paper prints it.
pub fn in_print(suite: &Suite) -> Result<Option<Cells>> {
    Ok(printed()?.remove(&results::table_name(suite)))
}
