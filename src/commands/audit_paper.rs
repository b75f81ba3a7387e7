//! The paper's audit as a page: a line for each claim, what it says below it, and its arithmetic.

use crate::audit::paper::{ClaimReport, PaperReport};
use crate::claims::{Unit, Verdict};

const COLUMNS: usize = 100;

/// The page.
pub fn text(report: &PaperReport) -> String {
    let mut page = String::from(
        "What the paper's sentences say, recomputed from its own printed tables. \"Could be\" is what\n\
         other cells could give that are printed as these; a figure that lies outside does not follow.\n\n",
    );
    page.push_str(&format!(
        "{:<48} {:>8} {:>10} {:>15}  verdict\n",
        "claim", "printed", "recomputed", "could be"
    ));
    let mut table = "";
    for claim in &report.claims {
        if claim.table != table {
            page.push('\n');
            table = &claim.table;
        }
        page.push_str(&line(claim));
        page.push_str(&wrapped(&[format!("{} ({})", claim.says, claim.place)], " "));
        page.push_str(&wrapped(&claim.steps, ", "));
        if let Some(note) = &claim.note {
            page.push_str(&wrapped(&[format!("note: {note}")], " "));
        }
    }
    page.push_str(&format!("\n{}\n", summary(&report.claims)));
    page.push_str("\nNot checked, as no table prints the numbers:\n");
    for sentence in &report.unprinted {
        page.push_str(&wrapped(&[format!("{} ({})", sentence.says, sentence.place)], " "));
    }
    page
}

fn line(claim: &ClaimReport) -> String {
    let digits = claim.digits();
    let number = |value: f64| format!("{value:.digits$}");
    let (low, high) = (number(claim.recomputed.low), number(claim.recomputed.high));
    let could_be = if low == high { String::new() } else { format!("{low} to {high}") };
    let percent = match claim.unit {
        Unit::Percent => " %",
        Unit::Share | Unit::Count => "",
    };
    format!(
        "{:<48} {:>8} {:>10} {could_be:>15}  {}\n",
        claim.id,
        format!("{}{percent}", claim.printed),
        format!("{}{percent}", number(claim.recomputed.value)),
        name(claim.verdict)
    )
}

fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Follows => "follows",
        Verdict::FollowsWithinRounding => "within rounding",
        Verdict::DoesNotFollow => "DOES NOT FOLLOW",
    }
}

fn summary(claims: &[ClaimReport]) -> String {
    let count = |verdict| claims.iter().filter(|claim| claim.verdict == verdict).count();
    format!(
        "{} claims: {} follow, {} only within the rounding of the cells, {} do not follow",
        claims.len(),
        count(Verdict::Follows),
        count(Verdict::FollowsWithinRounding),
        count(Verdict::DoesNotFollow)
    )
}

/// The parts, joined by `joint`, indented and broken at blanks.
fn wrapped(parts: &[String], joint: &str) -> String {
    let mut page = String::new();
    let mut line = String::from("   ");
    for word in parts.join(joint).split(' ') {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            page.push_str(&line);
            page.push('\n');
            line = String::from("     ");
        }
        line.push(' ');
        line.push_str(word);
    }
    format!("{page}{line}\n")
}
