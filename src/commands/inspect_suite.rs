//! `model-swarms inspect SUITE.toml`: what a suite asks for, and how much work that is.

use std::path::Path;

use serde::Serialize;

use super::{Format, print_as};
use crate::error::Result;
use crate::suite::{Scale, Suite};

#[derive(Serialize)]
struct SuiteReport {
    suite: Suite,
    grid_choices: u64,
    scales: Vec<ScaleReport>,
}

#[derive(Serialize)]
struct ScaleReport {
    scale: Scale,
    cells: u64,
    evaluations: u64,         // of f, at most
    evaluated_examples: u64,  // validation examples answered for them, at most
    largest_cell: CellReport, // the cell with the most evaluations, the first of them
}

#[derive(Serialize)]
struct CellReport {
    row: String,
    column: String,
    evaluations: u64,
}

/// Prints the suite at `path`.
pub fn run(path: &Path, format: Format) -> Result<()> {
    let suite = Suite::open(path)?;
    let scales = Scale::ALL.map(|scale| measure(&suite, scale)).into();
    let grid_choices = suite.grid.n_choices();
    print_as(format, &SuiteReport { suite, grid_choices, scales }, text)
}

fn measure(suite: &Suite, scale: Scale) -> ScaleReport {
    let largest_cell = CellReport { row: String::new(), column: String::new(), evaluations: 0 };
    let mut report =
        ScaleReport { scale, cells: 0, evaluations: 0, evaluated_examples: 0, largest_cell };
    for cell in suite.cells(scale) {
        let n_evaluations = suite.n_evaluations(&cell, scale);
        let (n_dev, _) = suite.n_examples(cell.column, scale);
        report.cells += 1;
        report.evaluations = report.evaluations.saturating_add(n_evaluations);
        let examples = n_evaluations.saturating_mul(n_dev as u64);
        report.evaluated_examples = report.evaluated_examples.saturating_add(examples);
        if n_evaluations > report.largest_cell.evaluations {
            let (row, column) = (cell.row.name.clone(), cell.column.name.clone());
            report.largest_cell = CellReport { row, column, evaluations: n_evaluations };
        }
    }
    report
}

fn text(report: &SuiteReport) -> String {
    let suite = &report.suite;
    let mut text = format!("{}: {}\n", suite.item, suite.title);
    text.push_str(&format!("from {}; splits {}\n\n", suite.source, suite.splits.join(" and ")));

    text.push_str(&format!("{:<30} {:<16} evaluations of f at most\n", "row", "group"));
    text.push_str(&format!("{:<30} {:<16} {:>9} {:>9}\n", "", "", "smoke", "full"));
    for row in &suite.rows {
        let of = |sizes| row.method.n_evaluations(suite.experts, sizes);
        let (smoke, full) = (of(&suite.smoke), of(&suite.full));
        text.push_str(&format!("{:<30} {:<16} {smoke:>9} {full:>9}\n", row.name, row.group));
    }

    text.push_str(&format!("\n{:<30} {:<24} {:>6} {:>6}\n", "column", "task", "dev", "test"));
    for column in &suite.columns {
        let (name, task) = (&column.name, &column.task);
        text.push_str(&format!("{name:<30} {task:<24} {:>6} {:>6}\n", column.dev, column.test));
    }

    text.push_str("\ngrid\n");
    for (name, values) in suite.grid.lists() {
        let values: Vec<String> = values.iter().map(f64::to_string).collect();
        text.push_str(&format!("  {name:<12} {}\n", values.join(" ")));
    }
    text.push_str(&format!("  {} choices\n", report.grid_choices));

    for of in &report.scales {
        let sizes = suite.sizes(of.scale);
        text.push_str(&format!(
            "\nscale {}: N {}, K {}, patience {}, restart {}, {}, budget {}, cap {}\n  {} dev \
             and {} test examples of each task, seeds {}\n",
            of.scale.name(),
            sizes.particles,
            sizes.iterations,
            sizes.patience,
            sizes.restart,
            match sizes.runs {
                1 => "1 run".to_string(),
                n => format!("{n} runs"),
            },
            sizes.budget,
            sizes.cap,
            sizes.dev,
            sizes.test,
            sizes.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(" "),
        ));
        text.push_str(&format!(
            "  {} cells, at most {} evaluations of f, {} examples answered for them\n",
            of.cells, of.evaluations, of.evaluated_examples
        ));
        let largest = &of.largest_cell;
        text.push_str(&format!(
            "  the largest cell: {} on {}, {} evaluations\n",
            largest.row, largest.column, largest.evaluations
        ));
    }
    text
}
