//! What can be wrong with data files: leaks, contradictions, golds that are none, parser traps.
//!
//! Two questions are the same if they agree in letters and digits, whatever their case, punctuation
//! and spaces. Nothing of a question's text leaves this file: a report has counts only.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::data::{File, Form, Question};
use crate::task::{authors, choice};

/// What was found in a folder.
#[derive(Clone, Debug, Serialize)]
pub struct DataReport {
    /// Each file, in the order of their names.
    pub files: Vec<FileReport>,
    /// Pairs of files that have questions in common.
    pub shared: Vec<Shared>,
}

/// What was found in a file.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// The file's name without ".json".
    pub name: String,
    /// The validation examples.
    pub dev: SplitReport,
    /// The test examples.
    pub test: SplitReport,
    /// Test questions that a search has already seen.
    pub leaks: Leaks,
    /// Questions that occur more than once.
    pub repeats: Repeats,
}

/// What was found in one split.
#[derive(Clone, Debug, Serialize)]
pub struct SplitReport {
    /// The number of examples.
    pub examples: usize,
    /// The gold that most examples have; absent where there are no golds.
    pub majority: Option<Majority>,
    /// Golds that are none, or not the only one.
    pub golds: Golds,
    /// Examples that a careless parser gets wrong.
    pub traps: Traps,
}

/// The most frequent gold: what a model that always says the same is worth.
#[derive(Clone, Debug, Serialize)]
pub struct Majority {
    /// The key or answer, the first in the alphabet of several.
    pub gold: String,
    /// How many examples have it.
    pub examples: usize,
}

/// Test questions that stand in dev too.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Leaks {
    /// To the letter.
    pub exact: usize,
    /// But for case, punctuation and spaces.
    pub normalised: usize,
    /// Of the normalised: with a gold that says the same.
    pub same_gold: usize,
    /// Of the exact: with the same choices in the same order and the same gold.
    pub identical: usize,
}

/// Questions that occur more than once in a file.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Repeats {
    /// Examples whose question stands earlier in the same split.
    pub within_split: usize,
    /// Questions that occur with the same choices, in any order, but with golds that say different
    /// things.
    pub contradictions: usize,
}

/// Golds that are none, or not the only one.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Golds {
    /// A question without a gold.
    pub missing: usize,
    /// A gold that is not among the choices.
    pub not_among_choices: usize,
    /// Another choice has the gold's very text.
    pub ambiguous: usize,
}

/// Examples that a careless parser gets wrong.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Traps {
    /// A choice's text is part of another's, without regard to case.
    pub choice_in_choice: usize,
    /// The authors' parser misreads the right answer written "B. An", "B: An" or "(B) An".
    pub misread_by_authors: usize,
    /// The parser of mode `paper` misreads it.
    pub misread_by_ours: usize,
    /// The gold is one digit, which most wrong numbers contain.
    pub single_digit: usize,
    /// The gold has a comma, as in "36,000": a number written without it does not contain it.
    pub comma: usize,
    /// The gold is a word of at most two letters: "No" stands in "Node".
    pub short_word: usize,
}

/// The number of questions that two files have in common.
#[derive(Clone, Debug, Serialize)]
pub struct Shared {
    /// Their names.
    pub files: [String; 2],
    /// Different questions in both dev splits.
    pub dev_dev: usize,
    /// Different questions in the first's dev and the second's test.
    pub dev_test: usize,
    /// Different questions in the first's test and the second's dev.
    pub test_dev: usize,
    /// Different questions in both test splits.
    pub test_test: usize,
}

/// Everything that can be found in `files`.
pub(super) fn report(files: &[File]) -> DataReport {
    let sets: Vec<[BTreeSet<String>; 2]> = files
        .iter()
        .map(|file| [&file.dev, &file.test].map(|split| split.iter().map(key).collect()))
        .collect();
    let mut shared = Vec::new();
    for (first, of_first) in sets.iter().enumerate() {
        for (second, of_second) in sets.iter().enumerate().skip(first + 1) {
            let common = |a: usize, b: usize| of_first[a].intersection(&of_second[b]).count();
            let counts = [common(0, 0), common(0, 1), common(1, 0), common(1, 1)];
            let [dev_dev, dev_test, test_dev, test_test] = counts;
            if counts.iter().any(|count| *count > 0) {
                let files = [first, second].map(|idx| files[idx].name.clone());
                shared.push(Shared { files, dev_dev, dev_test, test_dev, test_test });
            }
        }
    }
    DataReport { files: files.iter().map(file_report).collect(), shared }
}

fn file_report(file: &File) -> FileReport {
    FileReport {
        name: file.name.clone(),
        dev: split_report(&file.dev),
        test: split_report(&file.test),
        leaks: leaks(&file.dev, &file.test),
        repeats: repeats(&file.dev, &file.test),
    }
}

/// A question's letters and digits in lower case, words separated by one blank.
pub fn normalised(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

fn key(question: &Question) -> String {
    let words = normalised(&question.text);
    if words.is_empty() { question.text.clone() } else { words }
}

fn leaks(dev: &[Question], test: &[Question]) -> Leaks {
    let mut seen: BTreeMap<String, Vec<&Question>> = BTreeMap::new();
    for question in dev {
        seen.entry(key(question)).or_default().push(question);
    }
    let mut leaks = Leaks::default();
    for question in test {
        let Some(twins) = seen.get(&key(question)) else { continue };
        let any =
            |is_so: &dyn Fn(&Question) -> bool| usize::from(twins.iter().any(|twin| is_so(twin)));
        leaks.normalised += 1;
        leaks.exact += any(&|twin| twin.text == question.text);
        leaks.same_gold +=
            any(&|twin| question.gold_text().is_some() && twin.gold_text() == question.gold_text());
        leaks.identical += any(&|twin| twin == question);
    }
    leaks
}

fn repeats(dev: &[Question], test: &[Question]) -> Repeats {
    let mut repeats = Repeats::default();
    let mut golds: BTreeMap<(String, Vec<&str>), BTreeSet<&str>> = BTreeMap::new();
    for split in [dev, test] {
        let mut seen = BTreeSet::new();
        for question in split {
            repeats.within_split += usize::from(!seen.insert(key(question)));
            let mut choices: Vec<&str> =
                question.choices.iter().map(|(_, text)| text.as_str()).collect();
            choices.sort_unstable();
            golds.entry((key(question), choices)).or_default().extend(question.gold_text());
        }
    }
    repeats.contradictions = golds.values().filter(|golds| golds.len() > 1).count();
    repeats
}

fn split_report(split: &[Question]) -> SplitReport {
    let (mut golds, mut traps) = (Golds::default(), Traps::default());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for question in split {
        if question.form == Form::Prompt {
            continue;
        }
        let Some(gold) = question.gold.as_deref() else {
            golds.missing += 1;
            continue;
        };
        *counts.entry(gold).or_default() += 1;
        match question.form {
            Form::Choice => look_at_choices(question, gold, &mut golds, &mut traps),
            Form::Exact | Form::Prompt => look_at_gold(gold, &mut traps),
        }
    }
    let most = counts.values().max().copied();
    let majority = counts.iter().find(|(_, count)| Some(**count) == most);
    let majority =
        majority.map(|(gold, examples)| Majority { gold: gold.to_string(), examples: *examples });
    SplitReport { examples: split.len(), majority, golds, traps }
}

fn look_at_choices(question: &Question, gold: &str, golds: &mut Golds, traps: &mut Traps) {
    let lower: Vec<String> = question.choices.iter().map(|(_, text)| text.to_lowercase()).collect();
    let is_inside = |a: usize| (0..lower.len()).any(|b| a != b && lower[b].contains(&lower[a]));
    traps.choice_in_choice += usize::from((0..lower.len()).any(is_inside));
    let Some(text) = question.gold_text() else {
        golds.not_among_choices += 1;
        return;
    };
    let is_twin = |(key, other): &(String, String)| key != gold && other.trim() == text.trim();
    golds.ambiguous += usize::from(question.choices.iter().any(is_twin));
    let written =
        [format!("{gold}. {text}"), format!("{gold}: {text}"), format!("({gold}) {text}")];
    let choices = &question.choices;
    let misread = |parse: &dyn Fn(&str) -> Option<String>| {
        usize::from(written.iter().any(|answer| parse(answer).as_deref() != Some(gold)))
    };
    let by_authors = |answer: &str| authors::parse_choice(choices, answer).map(str::to_string);
    let by_ours = |answer: &str| choice::parse_choice(choices, answer).map(str::to_string);
    traps.misread_by_authors += misread(&by_authors);
    traps.misread_by_ours += misread(&by_ours);
}

fn look_at_gold(gold: &str, traps: &mut Traps) {
    let is_digit = |c: char| c.is_ascii_digit();
    let is_short = gold.chars().all(char::is_alphabetic) && gold.chars().count() <= 2;
    traps.single_digit += usize::from(gold.len() == 1 && gold.chars().all(is_digit));
    traps.comma += usize::from(gold.contains(','));
    traps.short_word += usize::from(is_short && !gold.is_empty());
}
