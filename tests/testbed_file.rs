//! Testbeds: what is read, and what is said to be missing.

use std::fs;
use std::path::{Path, PathBuf};

use model_swarms::mode::Mode;
use model_swarms::testbed::{Purpose, Testbed};

/// A testbed's file with this text, in a folder of its own.
fn write(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("testbed.toml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

/// What opening a testbed of this text says.
fn refusal(text: &str) -> String {
    let (_guard, path) = write(text);
    Testbed::open(&path).unwrap_err().to_string()
}

const GOOD: &str = "name = \"t\"\nbase = \"b\"\nexperts = \"e\"\ntasks = \"t\"\n";

#[test]
fn everything_that_is_missing_is_listed_at_once() {
    // Broken: a user would learn of one missing file in each attempt.
    let text = "name = \"t\"\nbase = \"base\"\nexperts = \"e\"\nexpert-names = [\"b\", \"a\"]\n\
                data-merge = \"d\"\n[tasks]\nmmlu = \"m.toml\"\nnlgraph = \"n.toml\"\n";
    let (folder, path) = write(text);
    let task = "name = \"m\"\nkind = \"multiple-choice\"\ndata = \"m.json\"\n";
    fs::write(folder.path().join("m.toml"), task).unwrap();
    let testbed = Testbed::open(&path).unwrap();
    let found = testbed.find(&["mmlu", "nlgraph", "gsm8k"], Mode::Paper).unwrap();
    let missing: Vec<(Purpose, String)> = found
        .missing
        .iter()
        .map(|missing| {
            let path = missing.path.strip_prefix(folder.path()).unwrap_or(&missing.path);
            (missing.purpose.clone(), path.to_string_lossy().into_owned())
        })
        .collect();
    let task = |name: &str| Purpose::Task(name.into());
    let wanted = [
        (Purpose::Base, "base"),
        (Purpose::Experts, "e/a"),
        (Purpose::Experts, "e/b"),
        (Purpose::DataMerge, "d"),
        (task("mmlu"), "m.json"),
        (task("nlgraph"), "n.toml"),
        (task("gsm8k"), "tasks.gsm8k"),
    ];
    assert_eq!(missing, wanted.map(|(purpose, path)| (purpose, path.to_string())));
    assert!(found.base.is_none() && found.experts.is_empty() && found.data_merge.is_none());
    assert!(found.tasks.iter().all(Option::is_none));
    assert_eq!(found.missing[6].to_string(), "tasks.gsm8k (the task gsm8k)");
}

#[test]
fn what_is_there_and_wrong_is_an_error() {
    // Broken: a spoilt task file would be passed over as if it were not there.
    let (folder, path) = write(GOOD);
    fs::create_dir(folder.path().join("t")).unwrap();
    fs::write(folder.path().join("t/mmlu.toml"), "kind = 7").unwrap();
    let testbed = Testbed::open(&path).unwrap();
    let error = testbed.find(&["mmlu"], Mode::Paper).unwrap_err().to_string();
    assert!(error.contains("mmlu.toml"), "{error}");
    assert!(testbed.find(&[], Mode::Paper).unwrap().tasks.is_empty());
}

#[test]
fn a_testbed_is_taken_at_its_word() {
    // Broken: a misspelt key would change a table in silence.
    let cases = [
        (GOOD.replace("base", "bas"), "unknown field `bas`"),
        (GOOD.replace("tasks = \"t\"", "tasks = 3"), "`tasks` must be a folder"),
        (GOOD.replace("name = \"t\"", "name = \" \""), "`name`"),
        (GOOD.replace("name = \"t\"\n", ""), "missing field `name`"),
        (format!("expert-names = [\"a\", \"a\"]\n{GOOD}"), "different folders' names"),
        (format!("expert-names = [\"a/b\"]\n{GOOD}"), "different folders' names"),
        ("\u{0}".to_string(), "line 1"),
    ];
    for (text, wanted) in cases {
        let error = refusal(&text);
        println!("{error}");
        assert!(error.contains(wanted) && error.contains("testbed.toml"), "{error}");
    }
    assert!(Testbed::open(Path::new("/nowhere/t.toml")).is_err());
}

#[test]
fn the_papers_template_names_what_the_paper_had() {
    // Broken: a user who fills the template in would be asked for something else.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/paper.toml");
    let testbed = Testbed::open(&path).unwrap();
    let tasks = [
        "mmlu",
        "mmlu_pro",
        "hellaswag",
        "knowledge_crosswords",
        "gsm8k",
        "nlgraph",
        "truthfulqa",
        "realtoxicityprompts",
        "abstainqa",
    ];
    let found = testbed.find(&tasks, Mode::Paper).unwrap();
    let of = |wanted: fn(&Purpose) -> bool| {
        found.missing.iter().filter(|missing| wanted(&missing.purpose)).collect::<Vec<_>>()
    };
    assert_eq!(of(|purpose| *purpose == Purpose::Experts).len(), 10);
    assert_eq!(of(|purpose| *purpose == Purpose::DataMerge).len(), 1);
    let of_tasks = of(|purpose| matches!(purpose, Purpose::Task(_)));
    assert_eq!(of_tasks.len(), tasks.len());
    for missing in of_tasks {
        // The task files are there; the data is the user's to bring.
        assert!(missing.path.extension().is_some_and(|ext| ext == "json"), "{missing}");
    }
}
