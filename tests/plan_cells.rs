//! The plan of Table 1: what each cell is computed from, and which cells cannot be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use model_swarms::mode::Mode;
use model_swarms::plan::{Job, Plan, Work, file_name, seed_at};
use model_swarms::suite::{Method, Scale, Suite};
use model_swarms::task::Task;
use model_swarms::testbed::{Inventory, Missing, Purpose};

fn suite() -> Suite {
    Suite::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/table01.toml")).unwrap()
}

/// A task of this kind that needs no files.
fn task(kind: &str) -> Task {
    let file = format!("name = \"t\"\nkind = \"{kind}\"\ndata = \"t.json\"\n");
    let item = match kind {
        "exact-match" => r#"{"question": "q", "answer": "3"}"#,
        _ => r#"{"question": "q", "choices": {"A": "a", "B": "b"}, "answer": "A"}"#,
    };
    let data = format!("{{\"dev\": [{item}], \"test\": [{item}]}}");
    Task::open_with(Path::new("t.toml"), Mode::Paper, |path| {
        Ok(if path.ends_with("t.json") { data.clone() } else { file.clone() })
    })
    .unwrap()
}

/// A testbed that has all columns but the fifth.
fn found(suite: &Suite) -> Inventory {
    let tasks = suite.columns.iter().map(|column| match column.task.as_str() {
        "gsm8k" => None,
        "nlgraph" => Some(task("exact-match")),
        "abstainqa" => Some(task("abstain")),
        _ => Some(task("multiple-choice")),
    });
    let path = "tasks/gsm8k.toml".into();
    let missing = vec![Missing { purpose: Purpose::Task("gsm8k".into()), path }];
    Inventory {
        base: None,
        experts: Vec::new(),
        data_merge: None,
        nearness: None,
        tasks: tasks.collect(),
        missing,
    }
}

/// The jobs of a plan by column and row.
fn jobs(suite: &Suite, scale: Scale) -> BTreeMap<(String, String), Job> {
    let plan = Plan::new(suite, scale, &found(suite), &[1]).unwrap();
    let mut jobs = BTreeMap::new();
    for column in plan.columns {
        for cell in column.cells {
            if let Work::Compute(job) = cell.work {
                jobs.insert((column.name.clone(), cell.row), *job);
            }
        }
    }
    jobs
}

#[test]
fn cells_that_cannot_be_computed_say_why() {
    // Broken: a cell would be missing without a reason, or stand there with a number of its own.
    let suite = suite();
    let plan = Plan::new(&suite, Scale::Smoke, &found(&suite), &[1]).unwrap();
    for (column, planned) in suite.columns.iter().zip(&plan.columns) {
        assert_eq!((&planned.name, &planned.task), (&column.name, &column.task));
        assert_eq!(planned.cells.len(), suite.rows.len());
        for (row, cell) in suite.rows.iter().zip(&planned.cells) {
            let is_not_for = row.not_for.contains(&column.name);
            let wanted = match &row.method {
                _ if is_not_for => None,
                _ if column.name == "GSM8k" => Some("files are missing"),
                Method::DataMerge => Some("no adapter"),
                Method::Cbtm { .. } => Some("training texts"),
                _ => None,
            };
            match (&cell.work, wanted) {
                (Work::NotAvailable(why), Some(wanted)) => assert!(why.contains(wanted), "{why}"),
                (Work::NotFor, None) => assert!(is_not_for),
                (Work::Compute(_), None) => assert!(!is_not_for),
                (work, _) => panic!("{} on {}: {work:?}", row.name, column.name),
            }
        }
    }
}

#[test]
fn budgets_are_kept_and_runs_draw_from_the_grid() {
    // Broken: a swarm would search longer than its row may, or with other numbers than the paper's.
    let suite = suite();
    for scale in Scale::ALL {
        let sizes = suite.sizes(scale);
        for ((_, row), job) in jobs(&suite, scale) {
            let calls: usize = job
                .runs
                .iter()
                .map(|run| run.settings.particles * (1 + run.settings.max_iterations as usize))
                .sum();
            match row.as_str() {
                "Model Swarms" => {
                    assert_eq!((job.runs.len(), calls), (sizes.runs, sizes.cap), "{scale:?}");
                }
                "Model Swarms, equal budget" => {
                    assert_eq!((job.runs.len(), calls), (1, sizes.budget), "{scale:?}");
                }
                _ => assert!(job.runs.is_empty(), "{row}"),
            }
            for run in &job.runs {
                let of = &run.settings;
                assert!(suite.grid.inertia.contains(&of.inertia), "{of:?}");
                assert!(suite.grid.cognitive.contains(&of.cognitive), "{of:?}");
                assert!(suite.grid.social.contains(&of.social), "{of:?}");
                assert!(suite.grid.repel.contains(&of.repel), "{of:?}");
                assert!(suite.grid.step.contains(&of.step), "{of:?}");
                let patience = match row.as_str() {
                    "Model Swarms" => sizes.patience,
                    _ => of.max_iterations as usize,
                };
                assert_eq!(
                    (of.patience as usize, of.restart_after),
                    (patience, sizes.restart as f64)
                );
            }
            if row == "Model Swarms" && job.runs.len() > 1 {
                assert_ne!(job.runs[0].seed, job.runs[1].seed);
            }
        }
    }
    // A cap that covers a part of the second run cuts it short.
    let mut short = suite.clone();
    short.smoke.cap = 48 + 30;
    let job = &jobs(&short, Scale::Smoke)[&("MMLU".into(), "Model Swarms".into())];
    let iterations: Vec<u32> = job.runs.iter().map(|run| run.settings.max_iterations).collect();
    assert_eq!(iterations, [3, 1]);
}

#[test]
fn a_cell_does_not_depend_on_the_others() {
    // Broken: adding a row, or moving one, would change the numbers of the rest.
    let suite = suite();
    let all = jobs(&suite, Scale::Smoke);
    let mut other = suite.clone();
    other.rows.reverse();
    other.rows.remove(3);
    other.columns.swap(0, 5);
    let moved = jobs(&other, Scale::Smoke);
    assert!(moved.len() > 100);
    for (cell, job) in &moved {
        assert_eq!(job, &all[cell], "{cell:?}");
    }
    let seeds: Vec<u64> = all.values().filter_map(|job| job.seed).collect();
    let distinct: BTreeSet<u64> = seeds.iter().copied().collect();
    assert_eq!(distinct.len(), seeds.len(), "each random cell has its own draws");
    assert!(seeds.iter().all(|seed| *seed < 1 << 53));
}

#[test]
fn seeds_and_file_names_are_what_they_were() {
    // Broken: cells that were computed before could not be taken up, or not be computed again.
    assert_eq!(seed_at(1, &["a", "bc"]), seed_at(1, &["a", "bc"]));
    assert_ne!(seed_at(1, &["a", "bc"]), seed_at(1, &["ab", "c"]));
    assert_ne!(seed_at(1, &["a"]), seed_at(2, &["a"]));
    assert_eq!(file_name("GSM8k", "Pred. merge", 1), "gsm8k--pred-merge--1.json");
    let mut suite = suite();
    suite.rows[1].name = "Best-single".into();
    let error = Plan::new(&suite, Scale::Smoke, &found(&suite), &[1]).unwrap_err();
    assert!(error.to_string().contains("mmlu--best-single--1.json"), "{error}");
}

#[test]
fn scales_differ_by_their_sizes_alone() {
    // Broken: what the tests compute at smoke scale would be other code than the full table's.
    let mut suite = suite();
    assert_ne!(jobs(&suite, Scale::Smoke), jobs(&suite, Scale::Full));
    suite.full = suite.smoke.clone();
    let smoke = jobs(&suite, Scale::Smoke);
    assert!(smoke.len() > 80, "{}", smoke.len());
    assert_eq!(smoke, jobs(&suite, Scale::Full));
}
