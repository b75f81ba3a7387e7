//! The paper's audit as a page: a line for each claim, what it says below it, and its arithmetic.

use crate::audit::paper::{ClaimReport, PaperReport};
use crate::claims::{Unit, Verdict};

const COLUMNS: usize = 100;

/// The page.
pub fn text(report: &PaperReport) -> String {
    let mut page = String::from(
        "What the paper's sentences say, recomputed from its own printed tables. \"Could be\" is \
         what\nother cells could give that are printed as these: a figure outside of it does not \
         follow.\nA count may stand for words, such as best everywhere, or 1 for the \
         first place.\n\n",
    );
    page.push_str(&format!(
        "{:<49} {:>7} {:>10} {:>15}  verdict\n",
        "claim", "printed", "recomputed", "could be"
    ));
    let mut table = "";
    for claim in &report.claims {
        if claim.table != table {
            page.push('\n');
            table = &claim.table;
        }
        page.push_str(&line(claim));
        let reading = claim.reading_of.as_ref().map(|of| format!("another reading of {of}: "));
        let reading = reading.unwrap_or_default();
        page.push_str(&wrapped(&[format!("{reading}{} ({})", claim.says, claim.place)], " "));
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
        "{:<49} {:>7} {:>10} {could_be:>15}  {}\n",
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
    let (sentences, readings): (Vec<_>, Vec<_>) =
        claims.iter().partition(|claim| claim.reading_of.is_none());
    let count = |verdict| sentences.iter().filter(|claim| claim.verdict == verdict).count();
    let is_saved = |claim: &&&ClaimReport| {
        let mut others = readings.iter().filter(|of| of.reading_of.as_ref() == Some(&claim.id));
        claim.verdict == Verdict::DoesNotFollow
            && others.any(|other| other.verdict != Verdict::DoesNotFollow)
    };
    format!(
        "{} sentences: {} follow, {} only within the rounding of the cells, {} do not follow\n\
         ({} of these would in another reading)",
        sentences.len(),
        count(Verdict::Follows),
        count(Verdict::FollowsWithinRounding),
        count(Verdict::DoesNotFollow),
        sentences.iter().filter(is_saved).count()
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
