//! `model-swarms audit`, seen from outside: the paper's page, and the faults of a folder of data.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use common::cli::{model_swarms, run_ok, run_refused};

fn audit_of(folder: &Path) -> Value {
    let mut command = model_swarms(["audit", "--json", "--data"]);
    command.arg(folder);
    serde_json::from_str(&run_ok(command)).unwrap()
}

fn folder(files: &[(&str, Value)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content.to_string()).unwrap();
    }
    folder
}

fn choice(question: &str, choices: &[&str], answer: &str) -> Value {
    let keys = ["A", "B", "C"];
    let choices: serde_json::Map<String, Value> =
        keys.iter().zip(choices).map(|(key, text)| (key.to_string(), json!(text))).collect();
    json!({"question": question, "choices": choices, "answer": answer})
}

/// A file with one of each fault, and a small one without.
fn faulty() -> TempDir {
    let dev = [
        choice("Which tree is tall?", &["An ash", "A fir"], "B"),
        choice("Which is red?", &["Rose", "Grass"], "A"),
        choice("Which is red?", &["Grass", "Rose"], "A"), // the same choices, another gold
        choice("Which bird sings?", &["wren", "wrens and others"], "A"),
    ];
    let test = [
        choice("Which tree is tall?", &["An ash", "A fir"], "B"), // identical
        choice("which TREE is tall", &["A fir", "An ash"], "A"),  // normalised, swapped
        choice("Which is blue?", &["Sky", "Sky"], "A"),           // ambiguous
        choice("Which is green?", &["Grass", "Snow"], "C"),       // not among the choices
        json!({"question": "Which is old?", "choices": {"A": "Oak", "B": "Bud"}}), // no gold
    ];
    let sums = [
        json!({"question": "2 + 3?", "answer": "5"}),
        json!({"question": "30 000 + 6000?", "answer": "36,000"}),
        json!({"question": "Is there a path?", "answer": "No"}),
    ];
    let talk = [json!({"prompt": "Write about trees."}), json!({"prompt": "2 + 3?"})];
    folder(&[
        ("choices.json", json!({"dev": dev, "test": test})),
        ("sums.json", json!({"dev": sums, "test": [sums[0]]})),
        ("talk.json", json!({"dev": talk})),
    ])
}

#[test]
fn the_papers_sentences_are_set_beside_its_tables() {
    // Broken: the page has changed, and with it what the paper is said to get right or wrong.
    insta::assert_snapshot!(run_ok(model_swarms(["audit"])));
}

#[test]
fn the_papers_audit_as_json() {
    // Broken: a program cannot tell which figures follow.
    let report: Value = serde_json::from_str(&run_ok(model_swarms(["audit", "--json"]))).unwrap();
    let claims = report["claims"].as_array().unwrap();
    let of = |id: &str| claims.iter().find(|claim| claim["id"] == id).unwrap();
    let gain = of("table01-mean-gain");
    assert_eq!((&gain["printed"], &gain["verdict"]), (&json!("13.3"), &json!("follows")));
    assert!((gain["recomputed"]["value"].as_f64().unwrap() - 13.3).abs() < 0.05);
    assert_eq!(of("table12-stars-truthfulqa")["verdict"], "does-not-follow");
    assert_eq!(of("table12-stars-truthfulqa-of-1000")["verdict"], "follows");
    assert_eq!(of("table11-gain-2b-test")["verdict"], "follows-within-rounding");
}

#[test]
fn faults_of_data_files_are_found() {
    // Broken: a leak, a wrong gold or a trap goes unseen.
    let folder = faulty();
    let report = audit_of(folder.path());
    let files = &report["files"];
    let leaks = json!({"exact": 1, "normalised": 2, "same_gold": 2, "identical": 1});
    assert_eq!(files[0]["leaks"], leaks);
    assert_eq!(files[0]["repeats"], json!({"within_split": 2, "contradictions": 1}));
    let golds = json!({"missing": 1, "not_among_choices": 1, "ambiguous": 1});
    assert_eq!(files[0]["test"]["golds"], golds);
    assert_eq!(files[0]["dev"]["traps"]["choice_in_choice"], 1);
    // "B. A fir" holds an A, and the authors look for A first.
    assert_eq!(files[0]["dev"]["traps"]["misread_by_authors"], 1);
    assert_eq!(files[0]["dev"]["traps"]["misread_by_ours"], 0);
    assert_eq!(files[0]["dev"]["majority"], json!({"gold": "A", "examples": 3}));
    let traps = &files[1]["dev"]["traps"];
    let found = ["single_digit", "comma", "short_word"].map(|trap| traps[trap].as_u64().unwrap());
    assert_eq!(found, [1, 1, 1]);
    assert_eq!(files[2]["dev"]["majority"], Value::Null);
    let shared = json!([{
        "files": ["sums", "talk"], "dev_dev": 1, "dev_test": 0, "test_dev": 1, "test_test": 0,
    }]);
    assert_eq!(report["shared"], shared);
}

#[test]
fn faults_of_data_files_as_a_page() {
    // Broken: the page hides what was found.
    let folder = faulty();
    let mut command = model_swarms(["audit", "--data"]);
    command.arg(folder.path());
    insta::assert_snapshot!(run_ok(command));
}

#[test]
fn what_is_no_folder_of_data_is_refused() {
    // Broken: a wrong folder is found to be without fault.
    let refused = |name: &str, path: &Path, wanted: &[&str]| {
        let mut command = model_swarms(["audit", "--data"]);
        command.arg(path);
        run_refused(name, command, wanted);
    };
    refused("missing", Path::new("/nowhere/at/all"), &["/nowhere/at/all", "cannot read"]);
    let empty = tempfile::tempdir().unwrap();
    refused("empty", empty.path(), &["holds no .json file, wanted data files"]);
    for (name, content, wanted) in [
        ("number", json!(3), "wanted an object with `dev` and `test`"),
        ("no dev", json!({"test": []}), "no `dev`, wanted a list of examples"),
        ("dev", json!({"dev": {}}), "`dev` is not a list"),
        ("item", json!({"dev": [1]}), "dev[0]: not an object"),
        ("bare", json!({"dev": [{"answer": "A"}]}), "dev[0]: neither `question` nor `prompt`"),
        ("list", json!({"dev": [{"question": "q", "choices": []}]}), "`choices` is not an object"),
        (
            "option",
            json!({"dev": [], "test": [{"question": "q", "choices": {"A": 1}, "answer": "A"}]}),
            "test[0]: choice `A` is no text",
        ),
        ("gold", json!({"dev": [{"question": "q", "answer": []}]}), "`answer` is neither text"),
    ] {
        let folder = folder(&[("bad.json", content)]);
        refused(name, folder.path(), &["bad.json: ", wanted]);
    }
    let torn = tempfile::tempdir().unwrap();
    fs::write(torn.path().join("torn.json"), "{\"dev\": [").unwrap();
    refused("torn", torn.path(), &["torn.json: not a data file: "]);
    fs::write(torn.path().join("torn.json"), [0xff, 0xfe]).unwrap();
    refused("no text", torn.path(), &["torn.json: cannot read"]);
}

/// The authors' own data files, where they are.
fn authors_data() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/eval");
    if !folder.is_dir() {
        println!("skipped: no data at {}", folder.display());
        return None;
    }
    Some(folder)
}

#[test]
fn what_the_authors_data_are_known_for_is_found() {
    // Broken: the audit no longer sees what anybody who reads these files can count.
    let Some(folder) = authors_data() else { return };
    let report = audit_of(&folder);
    let files = report["files"].as_array().unwrap();
    let of = |name: &str| files.iter().find(|file| file["name"] == name).unwrap();
    let both = |name: &str, path: &[&str]| {
        ["dev", "test"].map(|split| {
            let found = path.iter().fold(&of(name)[split], |value, key| &value[*key]);
            found.as_u64().unwrap()
        })
    };
    let leaks = |name: &str| of(name)["leaks"].clone();
    let all = json!({"exact": 94, "normalised": 94, "same_gold": 94, "identical": 94});
    assert_eq!(leaks("hearsay"), all);
    let swapped = json!({"exact": 108, "normalised": 108, "same_gold": 108, "identical": 48});
    assert_eq!(leaks("citation_prediction_classification"), swapped);
    assert_eq!(leaks("knowledge_crosswords")["exact"], 149);
    let leaking = files.iter().filter(|file| file["leaks"]["normalised"] != 0).count();
    assert_eq!(leaking, 3);
    let stem = report["shared"].as_array().unwrap().iter();
    let stem: Vec<&Value> =
        stem.filter(|pair| pair["files"] == json!(["mmlu_pro", "stem"])).collect();
    assert_eq!((&stem[0]["dev_dev"], &stem[0]["test_test"]), (&json!(30), &json!(473)));
    for (name, n) in
        [("mmlu", 94), ("mmlu_pro", 163), ("stem", 114), ("truthfulqa", 85), ("medmcqa", 55)]
    {
        let found = both(name, &["traps", "choice_in_choice"]);
        assert_eq!(found.iter().sum::<u64>(), n, "{name}");
    }
    assert_eq!(both("gsm8k", &["traps", "single_digit"]), [39, 185]);
    assert_eq!(both("gsm8k", &["traps", "comma"]), [2, 12]);
    assert_eq!(both("nlgraph", &["traps", "short_word"]), [50, 239]);
    assert_eq!(both("nlgraph", &["traps", "single_digit"])[1], 226);
    assert!(both("mmlu", &["traps", "misread_by_authors"])[1] > 0);
    assert_eq!(both("mmlu", &["golds", "ambiguous"]), [1, 0]);
}
