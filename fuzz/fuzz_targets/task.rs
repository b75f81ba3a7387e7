//! No bytes in a task file, in the files it names, or in a model's answers may end in a panic.
//!
//! The input is texts with a zero byte between them: the model's answers, one a line; the task
//! file; then the files that it names, in the order in which they are asked for. What opens must be
//! answerable in both modes and splits, and its score must be a number of its kind's range.

#![no_main]

use std::collections::BTreeMap;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use model_swarms::error::{Error, Result};
use model_swarms::task::{Answers, Kind, LogLikelihood, Mode, Part, Score, Split, Task, Work};

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let mut texts = text.split('\0');
    let answers: Vec<&str> = texts.next().unwrap_or("").split('\n').collect();
    let files: Vec<&str> = texts.collect();
    for mode in [Mode::Paper, Mode::Code] {
        match open(&files, mode) {
            Err(error) => assert!(error.to_string().contains(": "), "no file or no cause: {error}"),
            Ok(task) => [Split::Dev, Split::Test].iter().for_each(|s| check(&task, *s, &answers)),
        }
    }
});

fn open(files: &[&str], mode: Mode) -> Result<Task> {
    let mut known: BTreeMap<_, usize> = BTreeMap::new();
    Task::open_with(Path::new("task.toml"), mode, |path| {
        let next = known.len();
        let text = files.get(*known.entry(path.to_path_buf()).or_insert(next));
        text.map(|text| text.to_string()).ok_or_else(|| Error::input(path, "no such file"))
    })
}

fn check(task: &Task, split: Split, answers: &[&str]) {
    let mut given = answers.iter().cycle();
    let mut next = || given.next().expect("a split text has at least one piece").to_string();
    let scored = task.evaluate(split, |work| {
        Ok(match work {
            Work::Generate { prompts, .. } => {
                Answers::Texts(prompts.iter().map(|_| next()).collect())
            }
            Work::Command { .. } => Answers::Texts(vec![next()]),
            Work::LogLikelihood(texts) => {
                Answers::LogLikelihoods(texts.iter().map(|_| likelihood(&next())).collect())
            }
        })
    });
    let may_fail = |part: &Part| part.n_examples(split) == 0 || part.kind == Kind::Command;
    match scored {
        Err(error) => assert!(task.parts.iter().any(may_fail), "{error}"),
        Ok(score) => check_range(task, split, &score),
    }
}

/// A log-likelihood as a model may give it: a sum of few moderate terms, or nothing sensible.
fn likelihood(text: &str) -> LogLikelihood {
    let sum: f64 = text.parse().unwrap_or(f64::NAN);
    LogLikelihood { sum: if sum.abs() < 1e9 { sum } else { f64::NAN }, n_tokens: text.len() % 7 }
}

fn check_range(task: &Task, split: Split, score: &Score) {
    let kind = task.parts[0].kind;
    let (least, most) = match kind {
        Kind::MultipleChoice | Kind::ExactMatch => (0.0, 1.0),
        Kind::Abstain => (-1.0, 1.0),
        Kind::Perplexity | Kind::Command => (f64::MIN, f64::MAX),
    };
    assert!((least..=most).contains(&score.utility), "{kind:?}: {}", score.utility);
    if kind != Kind::Command {
        assert_eq!(score.predictions.len(), task.n_examples(split), "one prediction an example");
    }
    assert!(score.n_unparsed <= score.predictions.len());
    serde_json::to_string(score).expect("a score is plain data");
}
