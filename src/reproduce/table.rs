//! A reproduced table as a person reads it: ours, and the paper's number beside it.

use serde::Serialize;

use super::results::{ColumnReport, Results, Without};
use super::stars::{Significance, StarReport};
use super::verdicts::verdict_text;
use crate::claims::Cells;
use crate::suite::{Budget, Row};

/// How the best and the second best of a column are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// `*` and `_` behind the number.
    Plain,
    /// Bold and underlined, by the terminal's own means.
    Terminal,
}

/// The rank of a number in its column, among the rows that the paper has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// No other exceeds it.
    Best,
    /// The highest below the best.
    Second,
}

/// A cell as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The mean over seeds; "-" if not computed, "/" if not applicable.
    pub ours: String,
    /// The standard deviation over seeds, where there are several.
    pub spread: Option<String>,
    /// As the paper prints it, where it has the row.
    pub paper: Option<String>,
    /// Whether it is marked.
    pub place: Option<Place>,
}

/// What is shown in the cell of a row and a column on a split, beside `printed`, the paper's table.
pub fn shown(
    results: &Results,
    printed: Option<&Cells>,
    row: &str,
    column: &str,
    split: &str,
) -> Shown {
    let of_paper = |row: &str| {
        let cell = printed?.get(row, &format!("{column} {split}")).ok()?;
        Some(cell.map_or("/".to_string(), |cell| cell.text.clone()))
    };
    let paper = of_paper(row);
    let place = paper
        .as_ref()
        .and_then(|_| place(results, row, column, split, |other: &str| of_paper(other).is_some()));
    let (ours, spread) = match results.summary(row, column, split) {
        Some(summary) => (format!("{:.3}", summary.mean), summary.sd.map(spread)),
        None if results.without(row, column) == Some(&Without::NotFor) => ("/".into(), None),
        None => ("-".into(), None),
    };
    Shown { ours, spread, paper, place }
}

/// The table, the reasons of what is not in it, and the verdicts. `printed` is the paper's table.
pub fn text(results: &Results, printed: Option<&Cells>, marks: Marks) -> String {
    let scale = results.scale.name();
    let mut page = format!(
        "{}: {}\ntestbed {}, scale {scale}, seeds {:?}\n",
        results.item, results.title, results.testbed, results.seeds
    );
    let columns: Vec<&ColumnReport> = results.present().collect();
    for split in &results.splits {
        for block in columns.chunks(Widths::of(results).per_block) {
            page.push_str(&block_text(results, printed, marks, split, block));
        }
    }
    let (best, second) = match marks {
        Marks::Plain => ("*", "_"),
        Marks::Terminal => ("bold", "underlined"),
    };
    page.push_str(&format!(
        "\nIn parentheses the paper's. Of the rows that the paper has, {best} is the best of a \
         column,\n{second} the second; - not computed, / not applicable.\n"
    ));
    if results.seeds.len() > 1 {
        page.push_str("Of rows that draw: the mean over the seeds, ± the standard deviation.\n");
    }
    reasons(results).iter().for_each(|reason| page.push_str(&format!("{reason}\n")));
    page.push_str(&budgets(results));
    page.push_str(&verdicts(results));
    page.push_str(&stars(results));
    page
}

/// How wide things are, so that a line keeps below a hundred letters.
struct Widths {
    name: usize,
    spread: usize, // 0 where there is one seed
    per_block: usize,
}

impl Widths {
    fn of(results: &Results) -> Self {
        let name = results.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        match results.seeds.len() {
            0 | 1 => Self { name, spread: 0, per_block: 4 },
            _ => Self { name, spread: 6, per_block: 3 },
        }
    }

    fn cell(&self) -> usize {
        15 + self.spread
    }
}

fn block_text(
    results: &Results,
    printed: Option<&Cells>,
    marks: Marks,
    split: &str,
    block: &[&ColumnReport],
) -> String {
    let widths = Widths::of(results);
    let (width, of_cell, of_spread) = (widths.name, widths.cell(), widths.spread);
    let mut text = format!("\n{:width$}", format!("on {split}"));
    for column in block {
        text.push_str(&format!("  {:>of_cell$}", column.name));
    }
    text.push_str(&format!("\n{:width$}", "examples"));
    for column in block {
        let n = if split == "dev" { column.n_dev } else { column.n_test };
        text.push_str(&format!("  {:>of_cell$}", n.unwrap_or(0)));
    }
    text.push('\n');
    let mut group = "";
    for row in &results.rows {
        if row.group != group {
            group = &row.group;
            text.push_str(&format!("{group}\n"));
        }
        text.push_str(&format!("{:width$}", row.name));
        for column in block {
            let Shown { ours, spread, paper, place } =
                shown(results, printed, &row.name, &column.name, split);
            let paper = paper.map_or(String::new(), |paper| format!("({paper})"));
            let spread = spread.map_or(String::new(), |spread| format!("±{spread}"));
            let ours = marked(&ours, place, marks);
            text.push_str(&format!("  {ours}{spread:of_spread$}{paper:>8}"));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// A number on seven columns.
fn marked(ours: &str, place: Option<Place>, marks: Marks) -> String {
    let gap = 6usize.saturating_sub(ours.len());
    match (marks, place) {
        (Marks::Plain, Some(Place::Best)) => format!("{ours:>6}*"),
        (Marks::Plain, Some(Place::Second)) => format!("{ours:>6}_"),
        (Marks::Terminal, Some(Place::Best)) => format!("{:gap$}\x1b[1m{ours}\x1b[0m ", ""),
        (Marks::Terminal, Some(Place::Second)) => format!("{:gap$}\x1b[4m{ours}\x1b[0m ", ""),
        (_, None) => format!("{ours:>6} "),
    }
}

/// A standard deviation on four columns: ".013", "1.24".
fn spread(sd: f64) -> String {
    match format!("{sd:.3}").strip_prefix('0') {
        Some(below_one) => below_one.to_string(),
        None => format!("{sd:.2}"),
    }
}

/// The rank of a cell's mean among the rows that count.
fn place(
    results: &Results,
    row: &str,
    column: &str,
    split: &str,
    counts: impl Fn(&str) -> bool,
) -> Option<Place> {
    let own = results.value(row, column, split)?;
    let mut above: Vec<f64> = Vec::new();
    for other in results.rows.iter().filter(|other| counts(&other.name)) {
        let value = results.value(&other.name, column, split);
        if let Some(value) = value.filter(|value| *value > own)
            && !above.contains(&value)
        {
            above.push(value);
        }
    }
    match above.len() {
        0 => Some(Place::Best),
        1 => Some(Place::Second),
        _ => None,
    }
}

/// What the rows of equal budget really spent: the fewest and the most evaluations of f of any
/// cell, in the table's order.
pub fn spent(results: &Results) -> Vec<Spent> {
    let rows = results.rows.iter().filter(|row| row.method.budget() == Some(Budget::Equal));
    let of_row = |row: &Row| {
        let calls = || results.computed().filter(|cell| cell.row == row.name).map(|c| c.calls);
        Some(Spent { row: row.name.clone(), least: calls().min()?, most: calls().max()? })
    };
    rows.filter_map(of_row).collect()
}

/// Evaluations of f that a row spent, over its cells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// The row's name.
    pub row: String,
    /// In the cell that spent least.
    pub least: u64,
    /// In the cell that spent most.
    pub most: u64,
}

fn budgets(results: &Results) -> String {
    let spent = spent(results);
    if spent.is_empty() {
        return String::new();
    }
    let width = Widths::of(results).name;
    let budget = results.sizes.budget;
    let mut text =
        format!("\nEvaluations of f in a cell of the rows of equal budget, of {budget} each:\n");
    for Spent { row, least, most } in spent {
        let range = if least == most { format!("{most}") } else { format!("{least} to {most}") };
        text.push_str(&format!("{row:width$}  {range}\n"));
    }
    text
}

/// What is missing, and rows that could not be computed, each reason once.
pub fn reasons(results: &Results) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for missing in &results.missing {
        lines.push(format!("missing: {missing}"));
    }
    for column in results.present() {
        for row in &results.rows {
            if let Some(Without::NotAvailable(why)) = results.without(&row.name, &column.name) {
                let line = format!("not computed: {}: {why}", row.name);
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
    }
    lines
}

fn verdicts(results: &Results) -> String {
    let mut text = String::from(
        "\nThe paper's sentences, by the numbers above up to their samples (95 %),\n\
         against the rows that were computed:\n",
    );
    for report in &results.claims {
        let (printed, here) = (report.printed_text(), report.measured_text());
        let verdict = verdict_text(report.verdict);
        text.push_str(&format!("{verdict:<14} {}: printed {printed}", report.says));
        match (here, &report.not_judged) {
            (Some(here), _) => text.push_str(&format!(", here {here}\n")),
            (None, Some(why)) => text.push_str(&format!(" ({why})\n")),
            (None, None) => text.push('\n'),
        }
    }
    text
}

/// What the tests are, for whoever reads their p-values: lines.
pub const ABOUT_STARS: [&str; 4] = [
    "One-tailed p; * below 0.1, ** below 0.05, *** below 0.01. The z-test is the paper's: as if",
    "the two had answered different questions. The paired test, by which the printed stars are",
    "judged, is McNemar's, or flips signs where answers are worth more than right and wrong.",
    "Neither makes up for choosing the best of several baselines.",
];

fn stars(results: &Results) -> String {
    if results.stars.is_empty() {
        return String::new();
    }
    let mut text = String::from("\nIs it better than the best baseline on the test examples?\n");
    text.push_str(&format!(
        "{:<12} {:>20} {:>20} {:>5}  {:<10}  {:<10}  {:<5}\n",
        "", "", "best baseline", "n", "z-test", "paired", "paper"
    ));
    for star in &results.stars {
        let (StarReport { column, n, .. }, [ours, other]) = (star, star.sides());
        let line = format!(
            "{column:<12} {ours:>20} {other:>20} {n:>5}  {:<10}  {:<10}  {:<5}  {}",
            star.z.text(),
            star.paired.map_or("-".to_string(), Significance::text),
            star.printed_text(),
            star.verdict_text(),
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    ABOUT_STARS.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    text
}
