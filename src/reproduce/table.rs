//! A reproduced table as a person reads it: ours, and the paper's number beside it.

use super::results::{ColumnReport, Results, Without};
use crate::claims::{Cells, Judgement, Unit};

/// Columns of the table beside each other, so that a line keeps below a hundred letters.
const PER_BLOCK: usize = 4;

/// How the best and the second best of a column are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// `*` and `_` behind the number.
    Plain,
    /// Bold and underlined, by the terminal's own means.
    Terminal,
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
        for block in columns.chunks(PER_BLOCK) {
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
    page.push_str(&reasons(results));
    page.push_str(&verdicts(results));
    page
}

fn block_text(
    results: &Results,
    printed: Option<&Cells>,
    marks: Marks,
    split: &str,
    block: &[&ColumnReport],
) -> String {
    let width = results.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let mut text = format!("\n{:width$}", format!("on {split}"));
    for column in block {
        text.push_str(&format!("  {:>15}", column.name));
    }
    text.push_str(&format!("\n{:width$}", "examples"));
    for column in block {
        let n = if split == "dev" { column.n_dev } else { column.n_test };
        text.push_str(&format!("  {:>15}", n.unwrap_or(0)));
    }
    text.push('\n');
    let of_paper = |row: &str, column: &str| {
        let cell = printed?.get(row, &format!("{column} {split}")).ok()?;
        Some(cell.map_or("/".to_string(), |cell| cell.text.clone()))
    };
    let mut group = "";
    for row in &results.rows {
        if row.group != group {
            group = &row.group;
            text.push_str(&format!("{group}\n"));
        }
        text.push_str(&format!("{:width$}", row.name));
        for column in block {
            let paper = of_paper(&row.name, &column.name);
            let place = paper.as_ref().and_then(|_| {
                let has = |other: &str| of_paper(other, &column.name).is_some();
                place(results, &row.name, &column.name, split, has)
            });
            let ours = match results.value(&row.name, &column.name, split) {
                Some(value) => format!("{value:.3}"),
                None if results.without(&row.name, &column.name) == Some(&Without::NotFor) => {
                    "/".to_string()
                }
                None => "-".to_string(),
            };
            let paper = paper.map_or(String::new(), |paper| format!("({paper})"));
            text.push_str(&format!("  {}{paper:>8}", marked(&ours, place, marks)));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// A number on seven columns.
fn marked(ours: &str, place: Option<usize>, marks: Marks) -> String {
    match (marks, place) {
        (Marks::Plain, Some(1)) => format!("{ours:>6}*"),
        (Marks::Plain, Some(2)) => format!("{ours:>6}_"),
        (Marks::Terminal, Some(1)) => format!("{:>n$}\x1b[1m{ours}\x1b[0m ", "", n = gap(ours)),
        (Marks::Terminal, Some(2)) => format!("{:>n$}\x1b[4m{ours}\x1b[0m ", "", n = gap(ours)),
        _ => format!("{ours:>6} "),
    }
}

fn gap(ours: &str) -> usize {
    6usize.saturating_sub(ours.len())
}

/// 1 for a cell that no other of the column exceeds, 2 for the highest below those, among the rows
/// that count.
fn place(
    results: &Results,
    row: &str,
    column: &str,
    split: &str,
    counts: impl Fn(&str) -> bool,
) -> Option<usize> {
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
    (above.len() < 2).then_some(1 + above.len())
}

/// What is missing, and rows that could not be computed, each reason once.
fn reasons(results: &Results) -> String {
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
    lines.into_iter().map(|line| line + "\n").collect()
}

fn verdicts(results: &Results) -> String {
    let mut text = String::from(
        "\nThe paper's sentences, by the numbers above up to their samples (95 %),\n\
         against the rows that were computed:\n",
    );
    for report in &results.claims {
        let percent = match report.unit {
            Unit::Percent => " %",
            Unit::Share | Unit::Count => "",
        };
        let verdict = match report.verdict {
            Some(Judgement::Holds) => "holds",
            Some(Judgement::DoesNotHold) => "does not hold",
            Some(Judgement::Undecided) => "undecided",
            None => "not judged",
        };
        let says = &report.says;
        text.push_str(&format!("{verdict:<14} {says}: printed {}{percent}", report.printed));
        let digits = report.printed.split_once('.').map_or(0, |(_, digits)| digits.len());
        match (report.measured, &report.not_judged) {
            (Some(value), _) => text.push_str(&format!(", here {value:.digits$}{percent}\n")),
            (None, Some(why)) => text.push_str(&format!(" ({why})\n")),
            (None, None) => text.push('\n'),
        }
    }
    text
}
