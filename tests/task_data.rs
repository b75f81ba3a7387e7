//! The authors' 33 data files: all open, with the counts of the paper's Table 12, and answering
//! with the gold answer is right everywhere. Without the files these tests say so and pass.

use std::path::{Path, PathBuf};

use model_swarms::task::data::{Body, Item};
use model_swarms::task::{Answers, Dataset, Mode, Score, Split, Task, Work};

fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/eval");
    let is_there = folder.is_dir();
    if !is_there {
        println!("skipped: no data files at {}", folder.display());
    }
    is_there.then_some(folder)
}

/// File, dev and test examples: Table 12, with AlpacaFarm and Koala in one file.
const TABLE_12: [(&str, usize, usize); 17] = [
    ("mmlu", 200, 1000),
    ("mmlu_pro", 70, 1000),
    ("knowledge_crosswords", 200, 1000),
    ("hellaswag", 200, 1000),
    ("nlgraph", 200, 1000),
    ("gsm8k", 200, 1000),
    ("truthfulqa", 200, 617),
    ("realtoxicityprompts", 200, 1000),
    ("medqa", 200, 1000),
    ("medmcqa", 200, 1000),
    ("hearsay", 94, 94),
    ("citation_prediction_classification", 108, 108),
    ("scifact", 200, 532),
    ("stem", 30, 473),
    ("normad_country", 500, 2000),
    ("normad_value", 500, 2000),
    ("rm", 200, 400 + 150),
];

#[test]
fn every_data_file_has_the_counts_of_table_12() {
    // Broken: a published data file is refused, or examples of it are lost.
    let Some(folder) = folder() else { return };
    let mut n_files = 0;
    for (stem, dev, test) in TABLE_12 {
        let data = Dataset::open(&folder.join(stem).with_extension("json")).unwrap();
        assert_eq!((data.dev.len(), data.test.len()), (dev, test), "{stem}");
        n_files += 1;
    }
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("human_") {
            let data = Dataset::open(&path).unwrap();
            assert_eq!((data.dev.len(), data.test.len()), (25, 25), "{}", path.display());
            n_files += 1;
        }
    }
    assert_eq!(n_files, 33);
}

/// The score of answering every example of `stem` with what `answer` makes of it.
fn worth(stem: &str, mode: Mode, split: Split, answer: impl Fn(&Item) -> String) -> Score {
    let path = folder().unwrap().join(stem).with_extension("json");
    let kind = match stem {
        "gsm8k" | "nlgraph" => "exact-match",
        _ => "multiple-choice",
    };
    let task = Task::open_with(&path.with_extension("toml"), mode, |file| {
        Ok(match file == path {
            true => std::fs::read_to_string(file).unwrap(),
            false => format!("name = '{stem}'\nkind = '{kind}'\ndata = '{stem}.json'"),
        })
    });
    let data = Dataset::open(&path).unwrap();
    let run = |work| match work {
        Work::Generate { prompts, .. } => {
            assert_eq!(prompts.len(), data.items(split).len());
            Ok(Answers::Texts(data.items(split).iter().map(&answer).collect()))
        }
        other => panic!("{other:?}"),
    };
    task.unwrap().evaluate(split, run).unwrap()
}

fn is_graded(stem: &str) -> bool {
    !matches!(stem, "rm" | "realtoxicityprompts")
}

#[test]
fn the_gold_answer_is_right_in_both_modes() {
    // Broken: a right answer of the plainest form is not recognised.
    if folder().is_none() {
        return;
    }
    for (stem, _, _) in TABLE_12.into_iter().filter(|(stem, ..)| is_graded(stem)) {
        let gold = |item: &Item| match &item.body {
            Body::Choice { answer, .. } | Body::Exact { answer, .. } => format!(" {answer}\n"),
            Body::Prompt(_) => panic!("{stem} has a prompt alone"),
        };
        for mode in [Mode::Paper, Mode::Code] {
            for split in [Split::Dev, Split::Test] {
                let score = worth(stem, mode, split, gold);
                assert_eq!((score.utility, score.n_unparsed), (1.0, 0), "{stem} {mode:?}");
                let none = worth(stem, mode, split, |_| "0~".to_string());
                assert!(none.utility < 0.1, "{stem} {mode:?} {}", none.utility);
            }
        }
    }
}

#[test]
fn the_sound_parser_reads_every_common_form_of_a_choice() {
    // Broken: the paper's parser misses a form of answer that language models give.
    if folder().is_none() {
        return;
    }
    for (stem, _, _) in TABLE_12.into_iter().filter(|(stem, ..)| is_graded(stem)) {
        if matches!(stem, "gsm8k" | "nlgraph") {
            continue;
        }
        let mut line = format!("{stem:<35}");
        for form in ["{key}: {text}", "({key}) {text}", "The answer is {key}. {text}", "{text}"] {
            let answer = |item: &Item| match &item.body {
                Body::Choice { choices, answer, .. } => {
                    let gold = choices.iter().find(|(key, _)| key == answer).unwrap();
                    form.replace("{key}", &gold.0).replace("{text}", &gold.1)
                }
                _ => panic!("{stem} has a question without choices"),
            };
            let paper = worth(stem, Mode::Paper, Split::Test, answer).utility;
            let code = worth(stem, Mode::Code, Split::Test, answer).utility;
            line += &format!(" {paper:.3}/{code:.3}");
            assert!(paper >= if form == "{text}" { 0.999 } else { 1.0 }, "{stem} {form} {paper}");
        }
        println!("{line}");
    }
}
