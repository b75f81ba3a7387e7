//! The example's multiple-choice questions, about people who do not exist.
//!
//! A question's options are four values of one kind of fact; which of them is gold is not settled
//! here by any truth: it starts balanced over the letters and is for the caller to overwrite.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::hash::Hash;
use super::words::{FACTS, PEOPLE, TOWNS};
use crate::error::Result;
use crate::files::write_atomic;

/// The letters of the options.
pub const LETTERS: [char; 4] = ['A', 'B', 'C', 'D'];

/// One question with four options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// "q0017": unique, and in the order of generation.
    pub id: String,
    /// "Which animal does Mira of Tolven keep?"
    pub text: String,
    /// The options A to D, all different.
    pub choices: [&'static str; 4],
    /// Index of the gold option.
    pub answer: usize,
}

/// All subjects and facts there are: `questions` cannot make more.
pub const MAX_QUESTIONS: usize = PEOPLE.len() * TOWNS.len() * FACTS.len();

/// `n` different questions; the first ones do not depend on `n`. Any four in a row, from the
/// start, have their gold answers on four different letters.
pub fn questions(seed: u64, n: usize) -> Vec<Question> {
    assert!(n <= MAX_QUESTIONS, "{n} questions are more than the {MAX_QUESTIONS} there are");
    let subjects = Hash::new(seed, "questions/subjects").permutation(MAX_QUESTIONS);
    let mut letters = Vec::new();
    (0..n)
        .map(|idx| {
            let (fact_idx, subject) = (subjects[idx] % FACTS.len(), subjects[idx] / FACTS.len());
            let fact = &FACTS[fact_idx];
            let person = PEOPLE[subject % PEOPLE.len()];
            let town = TOWNS[subject / PEOPLE.len()];
            let values = Hash::new(seed, &format!("questions/values/{idx}")).permutation(24);
            if idx % 4 == 0 {
                letters = Hash::new(seed, &format!("questions/letters/{idx}")).permutation(4);
            }
            Question {
                id: format!("q{idx:04}"),
                text: fact.question.replace("{}", &format!("{person} of {town}")),
                choices: [0, 1, 2, 3].map(|choice_idx| fact.values[values[choice_idx]]),
                answer: letters[idx % 4],
            }
        })
        .collect()
}

/// The first `n / 4` questions of each gold letter, in their order; fewer where a letter has fewer.
pub fn balanced(questions: &[Question], n: usize) -> Vec<Question> {
    let mut left = [n / 4; 4];
    let mut chosen = Vec::with_capacity(n);
    for question in questions {
        let of_letter = &mut left[question.answer];
        if *of_letter > 0 {
            *of_letter -= 1;
            chosen.push(question.clone());
        }
    }
    chosen
}

/// Writes `task.toml` and its data `task.json` into `dir`.
pub fn write_task(dir: &Path, dev: &[Question], test: &[Question]) -> Result<()> {
    let list = |questions: &[Question]| questions.iter().map(item).collect::<Vec<Value>>();
    let data = json!({"dev": list(dev), "test": list(test)});
    let data = serde_json::to_string_pretty(&data).unwrap_or_default();
    let task = "name = \"example\"\nkind = \"multiple-choice\"\ndata = \"task.json\"\n\
                max_new_tokens = 2\n";
    write_atomic(&dir.join("task.json"), |out| writeln!(out, "{data}"))?;
    write_atomic(&dir.join("task.toml"), |out| out.write_all(task.as_bytes()))
}

/// Writes `prompts.jsonl`: each question as the task asks it.
pub fn write_prompts(path: &Path, questions: &[Question]) -> Result<()> {
    write_atomic(path, |out| {
        questions.iter().try_for_each(|question| {
            writeln!(out, "{}", json!({"id": question.id, "prompt": prompt(question)}))
        })
    })
}

fn item(question: &Question) -> Value {
    let choices: Map<String, Value> = LETTERS
        .iter()
        .zip(question.choices)
        .map(|(letter, choice)| (letter.to_string(), choice.into()))
        .collect();
    json!({
        "id": question.id, "question": question.text, "choices": choices,
        "answer": LETTERS[question.answer].to_string()
    })
}

/// The prompt of a multiple-choice task, as `task` will make it of the same question.
pub fn prompt(question: &Question) -> String {
    let lead = "Please choose an option that best answers the question.";
    let mut prompt = format!("{lead}\nQuestion: {}\n", question.text);
    for (letter, choice) in LETTERS.iter().zip(question.choices) {
        prompt.push_str(&format!("{letter}: {choice}\n"));
    }
    prompt + "The answer is"
}
