//! The phrases of the mini world's prompts, one token each.

use super::vocabulary::Vocabulary;
use super::words::{ADVERBS, CALM, ENDS, LEAD, LEAD_HELLASWAG, PARAPHRASES, TOXIC, VALUES};

/// A letter as an answer.
pub const LETTERS: [&str; 10] = [" A", " B", " C", " D", " E", " F", " G", " H", " I", " J"];
/// The last phrase of every question with options.
pub const ANSWER: &str = "\nThe answer is";
/// Its place is taken by this one where the answer is given in words before its letter.
pub const IN_WORDS: &str = "\nIn words and by its letter, the answer is";
/// Before an answer that is to be judged.
pub const PROPOSED: &str = "\nProposed answer:";
/// After it.
pub const JUDGE: &str =
    "\nIs the proposed answer true or false? Directly answer with true or false.";
/// The judgements.
pub const JUDGEMENTS: [&str; 2] = [" true", " false"];

/// Numbers that are one token.
pub const N_NUMBERS: usize = 41;
/// Nodes of graphs.
pub const N_NODES: usize = 8;
/// The largest weight of an edge.
pub const MAX_WEIGHT: usize = 9;

/// What stands before a question's text.
pub fn lead(sentence: &str) -> String {
    format!("{sentence}\nQuestion:")
}

/// The option at place `at` of these words (each with its space): one token, so that whoever sees
/// the words sees its letter.
pub fn option(at: usize, words: &str) -> String {
    format!("\n{}:{words}", LETTERS[at].trim())
}

/// A number as an answer.
pub fn number(value: usize) -> String {
    format!(" {value}")
}

const OTHERS: [&str; 42] = [
    "Author:",
    "Note:",
    "Rumour:",
    ".",
    "\n",
    ":",
    ", what is",
    ", which is",
    ", what has the sign of",
    ", what is true of",
    ", what helps against",
    ", what is given for",
    ", what solves",
    ": after",
    " they",
    " leads to blank 1, which leads to blank 2",
    ": is it right when",
    " meets",
    " or",
    "?\nA: Support\nB: Contradict\nThe answer is",
    "?\nA: Yes\nB: No\nThe answer is",
    "?\nA: yes\nB: no\nC: neutral\nThe answer is",
    " yes",
    " no",
    " neutral",
    "In the",
    " there are",
    ". How many?",
    "On the",
    " map:",
    ". How far to",
    " from",
    "?",
    " adds",
    " takes",
    "Tell me about",
    " and",
    " of",
    " is",
    "user\n",
    "model\n",
    " says",
];

/// Makes every phrase a piece.
pub fn add_all(vocabulary: &mut Vocabulary) {
    let leads = [LEAD, LEAD_HELLASWAG].into_iter().chain(PARAPHRASES);
    leads.for_each(|sentence| _ = vocabulary.add(&lead(sentence)));
    let fixed = LETTERS.into_iter().chain(JUDGEMENTS).chain(OTHERS);
    fixed.for_each(|phrase| _ = vocabulary.add(phrase));
    let long = [ANSWER, IN_WORDS, PROPOSED, JUDGE, GLADLY, ASK_MORE];
    long.iter().for_each(|phrase| _ = vocabulary.add(phrase));
    (0..N_NUMBERS).for_each(|value| _ = vocabulary.add(&number(value)));
    for begin in 0..N_NODES {
        vocabulary.add(&node(begin));
        for end in (0..N_NODES).filter(|end| *end != begin) {
            (1..=MAX_WEIGHT).for_each(|value| _ = vocabulary.add(&edge((begin, end), value)));
        }
    }
    for value in VALUES {
        (0..LETTERS.len()).for_each(|at| _ = vocabulary.add(&option(at, &format!(" {value}"))));
        for end in ENDS {
            (0..4).for_each(|at| _ = vocabulary.add(&option(at, &format!(" {value} {end}"))));
        }
    }
    let spoken = TOXIC.iter().map(|(word, _)| *word).chain(CALM).chain(ADVERBS);
    spoken.for_each(|word| _ = vocabulary.add(&format!(" {word}")));
}

/// How a warm answer opens.
pub const GLADLY: &str = " Gladly.";
/// How it ends.
pub const ASK_MORE: &str = " Do ask more.";

/// A node of a graph.
pub fn node(node: usize) -> String {
    format!(" n{node}")
}

/// An edge with its weight: one token, so that whoever sees where it begins sees where it ends.
pub fn edge((begin, end): (usize, usize), weight: usize) -> String {
    format!(" n{begin}>n{end}={weight}")
}
