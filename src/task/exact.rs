//! Exact match: does an answer state the gold answer?
//!
//! Mode `paper` wants the gold as a whole word or as a number of the same value; mode `code` takes
//! any substring, so that "13" states 3 and "Node" states No.
//! Numbers are compared as decimal texts: no float is parsed, so no value is ever rounded.

use super::quirks::ExactMatch;

/// What exact match found in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The answer that was read: a number for `LastNumber`, else the text that was looked at.
    /// `None` if there was nothing to read.
    pub parsed: Option<String>,
    /// Whether it states the gold answer.
    pub is_match: bool,
}

/// Looks for `gold` (not empty) in `text`, the graded end of an answer, by `rule`.
pub fn look_for(rule: ExactMatch, gold: &str, text: &str) -> Found {
    let whole = || (!text.trim().is_empty()).then(|| text.to_string());
    match rule {
        ExactMatch::Substring => Found { parsed: whole(), is_match: text.contains(gold) },
        ExactMatch::Words => {
            let is_match = match number_value(gold) {
                Some(gold) => numbers(text).any(|number| number == gold),
                None => states_words(text, gold),
            };
            Found { parsed: whole(), is_match }
        }
        ExactMatch::LastNumber => {
            let parsed = numbers(text).last();
            let is_match = parsed.is_some() && parsed == number_value(gold);
            Found { parsed, is_match }
        }
    }
}

/// The value of a text that is one number and nothing else, in the form `numbers` gives.
pub fn number_value(text: &str) -> Option<String> {
    let (text, sign) = match text.trim().strip_prefix(MINUS) {
        Some(rest) => (rest, "-"),
        None => (text.trim(), ""),
    };
    text.starts_with(|c: char| c.is_ascii_digit()).then(|| canonical(sign, text)).flatten()
}

/// The numbers that stand alone in `text`, from left to right, as decimal texts of one form: no
/// thousands commas, no zeros that do not count, a minus only before a value other than 0.
///
/// A number touches no letter, digit or underscore on either side: "13" holds no 3, and neither
/// "Node3" nor "3rd" holds a number. A minus counts where it does not follow a word, so "3-1" is 3
/// and 1. A comma belongs to a number if groups of three digits follow; "2,5" is 2 and 5.
pub fn numbers(text: &str) -> impl Iterator<Item = String> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(found) = text[at..].find(|c: char| c.is_ascii_digit()) {
            let (before, run) = text.split_at(at + found);
            let end = run.find(|c: char| !c.is_ascii_digit() && c != ',' && c != '.');
            let run = run[..end.unwrap_or(run.len())].trim_end_matches([',', '.']);
            let (before, n_bytes, value) = match before.strip_suffix('.') {
                Some(front) if !front.ends_with(|c| is_word(c) || c == '.') => {
                    (front, run.len(), canonical(sign_before(front), &format!("0.{run}")))
                }
                _ => {
                    let (n_bytes, value) = first_number(run, sign_before(before));
                    (before, n_bytes, value)
                }
            };
            at += found + n_bytes;
            if before.ends_with(is_word) || text[at..].starts_with(is_word) {
                at += text[at..].find(|c| !is_word(c)).unwrap_or(text.len() - at);
            } else if value.is_some() {
                return value;
            }
        }
        None
    })
}

const MINUS: [char; 2] = ['-', '\u{2212}'];

/// Splits the first number off a run of digits, commas and points that begins and ends with a
/// digit: how many bytes it takes, and its value. A run such as "1.2.3" is taken whole and is none.
fn first_number(run: &str, sign: &str) -> (usize, Option<String>) {
    if let Some(value) = canonical(sign, run) {
        return (run.len(), Some(value));
    }
    match run.split_once(',') {
        Some((first, _)) => (first.len(), canonical(sign, first)),
        None => (run.len(), None),
    }
}

/// The one form of an unsigned decimal text such as "36,000.50", or `None` if it is no number.
fn canonical(sign: &str, digits: &str) -> Option<String> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let mut groups = whole.split(',');
    let first = groups.next().unwrap_or("");
    let has_groups = whole.contains(',');
    if first.is_empty() || (has_groups && first.len() > 3) || fraction.is_empty() {
        return None;
    }
    if groups.any(|group| group.len() != 3) {
        return None;
    }
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = whole.replace(',', "");
    if !all_digits(&whole) || !all_digits(fraction) {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let sign = if whole == "0" && fraction.is_empty() { "" } else { sign };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{whole}{point}{fraction}"))
}

/// "-" if `before` ends with a minus that is not a hyphen (one that follows a word), else "".
fn sign_before(before: &str) -> &'static str {
    match before.strip_suffix(MINUS) {
        Some(front) if !front.ends_with(is_word) => "-",
        _ => "",
    }
}

/// Whether `words` (not empty) occur in `text` with no word character touching one of theirs, and
/// without regard to case.
fn states_words(text: &str, words: &str) -> bool {
    let (text, words) = (text.to_lowercase(), words.to_lowercase());
    let (opens, closes) = (words.starts_with(is_word), words.ends_with(is_word));
    text.char_indices().any(|(at, _)| {
        let (before, here) = text.split_at(at);
        here.strip_prefix(words.as_str()).is_some_and(|after| {
            let touched_before = opens && before.ends_with(is_word);
            let touched_after = closes && after.starts_with(is_word);
            !touched_before && !touched_after
        })
    })
}

/// Letters, digits and the underscore make words; "No_reply" does not state "No".
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
