//! Toxicity from files to tables: the built program on the example's testbed, whose experts are made
//! to write on to the limit.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::cli::{Inputs, example, model_swarms, run, run_ok, run_refused};
use common::read_json;
use serde_json::{Value, json};

const WORDS: &str = r#"{"words": {"a": 0.05, "B": 0.2, "d": 0.1}}"#;

/// A toxicity task on the example's questions, and a base without an end token.
fn inputs(n_experts: usize, scorer: &str) -> Inputs {
    let inputs = example().copy(n_experts, 6, 4);
    let data = read_json(&inputs.data);
    let prompts = |split: &str| -> Vec<Value> {
        let items = data[split].as_array().unwrap().iter();
        items.map(|item| json!({"prompt": item["question"], "id": item["id"]})).collect()
    };
    let data = json!({"dev": prompts("dev"), "test": prompts("test")});
    let toml =
        format!("name = \"rtp\"\nkind = \"toxicity\"\ndata = \"task.json\"\nscorer = {scorer}\n");
    inputs.write_task(&toml, &data);
    fs::write(inputs.folder.join("words.json"), WORDS).unwrap();
    fs::write(inputs.base.join("generation_config.json"), "{\"eos_token_id\": 0}").unwrap();
    inputs
}

fn lexicon() -> &'static str {
    "{ lexicon = \"words.json\" }"
}

/// A rater in sh, with this for each line.
fn with_program(inputs: &Inputs, each: &str) {
    let script = format!("while read -r line; do\n{each}\ndone\n");
    fs::write(inputs.folder.join("rate.sh"), script).unwrap();
}

const PROGRAM: &str = "{ program = [\"sh\", \"rate.sh\"] }";

/// Each text by its first letter.
const BY_LETTER: &str =
    "case \"$line\" in *'\"text\":\"C'*) echo 0.75;; *'\"text\":\"B'*) echo 0;; *) echo 0.5;; esac";

/// The predictions and utility of an expert on dev.
fn measured(inputs: &Inputs, expert_idx: usize, args: &[&str]) -> (Vec<Value>, f64) {
    let predictions = inputs.folder.join("predictions.jsonl");
    let mut eval = inputs.eval(Some(&inputs.expert(expert_idx)), "dev");
    eval.args(args).arg("--json").arg("--predictions").arg(&predictions);
    let report: Value = serde_json::from_str(&run_ok(eval)).unwrap();
    let text = fs::read_to_string(predictions).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (lines, report["utility"].as_f64().unwrap())
}

fn score(line: &Value) -> f64 {
    line["score"].as_f64().unwrap()
}

#[test]
fn words_are_weighed_one_by_one() {
    // Broken: a table would hold another number than anyone can get from the predictions.
    let inputs = inputs(2, lexicon());
    let (lines, utility) = measured(&inputs, 0, &[]);
    for line in &lines {
        let text = line["output"].as_str().unwrap();
        assert_eq!(text.split(' ').count(), 10, "{text}");
        let weight = |word: &str| match word {
            "A" => 0.05,
            "B" => 0.2,
            "D" => 0.1,
            _ => 0.0,
        };
        let harmless: f64 = text.split(' ').map(|word| 1.0 - weight(word)).product();
        assert_eq!(score(line), 1.0 - (1.0 - harmless), "{text}");
    }
    assert_eq!(utility, lines.iter().map(score).sum::<f64>() / lines.len() as f64);
    let different = lines.iter().any(|line| score(line) != score(&lines[0]));
    assert!(different, "{lines:?}");
    for args in [&["--batch", "1"][..], &["--batch", "5", "--adapters", "unmerged"]] {
        assert_eq!(measured(&inputs, 0, args).1, utility, "{args:?}");
    }
}

#[test]
fn a_program_rates_in_its_folder() {
    // Broken: a rater would get no lines, or its numbers go astray.
    let inputs = inputs(1, PROGRAM);
    with_program(&inputs, BY_LETTER);
    for mode in ["paper", "code"] {
        let (lines, _) = measured(&inputs, 0, &["--mode", mode]);
        for line in &lines {
            let wanted = match &line["parsed"].as_str().unwrap()[..1] {
                "C" => 0.25,
                "B" => 1.0,
                _ => 0.5,
            };
            assert_eq!(score(line), wanted, "{line}");
        }
    }
    // A rater that prints everything before it reads, and one that reads nothing.
    let script = "yes 0.5 | head -n 6; cat > /dev/null\n";
    fs::write(inputs.folder.join("rate.sh"), script).unwrap();
    assert_eq!(measured(&inputs, 0, &[]).1, 0.5);
    fs::write(inputs.folder.join("rate.sh"), "yes 0.25 | head -n 6\n").unwrap();
    assert_eq!(measured(&inputs, 0, &[]).1, 0.75);
}

#[test]
fn a_bad_rater_is_an_error() {
    // Broken: a rater's failure would be a utility, a panic, or a search that waits for ever.
    let inputs = inputs(2, PROGRAM);
    let eval = || inputs.eval(Some(&inputs.expert(0)), "dev");
    run_refused("no script", eval(), &["sh", "ended with"]);
    for (each, wanted) in [
        ("", &["task.toml", "printed 0 lines about 6 texts"][..]),
        ("echo 0.5; echo 0.5", &["task.toml", "printed 12 lines about 6 texts"]),
        ("echo nan", &["task.toml", "\"nan\" in line 1", "from 0 to 1"]),
        ("echo 1.5", &["task.toml", "\"1.5\" in line 1"]),
        ("echo 0.5; echo no quota >&2; exit 3", &["sh", "exit status: 3", "no quota"]),
        ("kill -9 $$", &["sh", "ended with signal: 9"]),
    ] {
        with_program(&inputs, if each.is_empty() { ":" } else { each });
        run_refused(each, eval(), wanted);
    }
    let out = inputs.folder.join("out");
    run_refused("search", inputs.search(&out, &[]), &["sh", "ended with signal: 9"]);
    assert!(!out.exists(), "a trial comes before anything is written");
    let toml = fs::read_to_string(&inputs.task).unwrap();
    fs::write(&inputs.task, toml.replace("\"sh\"", "\"./none\"")).unwrap();
    run_refused("no program", inputs.search(&out, &[]), &["none", "cannot run"]);
    fs::write(&inputs.task, toml.replace("program", "lexicon")).unwrap();
    run_refused("a list", inputs.search(&out, &[]), &["task.toml", "line 4"]);
}

#[test]
fn a_search_finds_less_toxic_experts_and_knows_its_list() {
    // Broken: f would not guide a search, or a run go on with another word list or rater.
    let inputs = inputs(4, lexicon());
    let settings = ["particles=6", "max_iterations=2"];
    let out = inputs.folder.join("out");
    run_ok(inputs.search(&out, &settings));
    let results = read_json(&out.join("results.json"));
    let rows = results["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows[2]["dev"].as_f64() >= rows[1]["dev"].as_f64());
    assert!(rows[2]["dev"].as_f64() < Some(1.0));
    let text = fs::read_to_string(out.join("predictions-dev.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mean = lines.iter().map(score).sum::<f64>() / lines.len() as f64;
    assert_eq!(rows[2]["dev"], json!(mean));
    let run_toml = fs::read_to_string(out.join("run.toml")).unwrap();
    assert!(run_toml.contains("task/2/words.json"), "{run_toml}");
    let inspected = run_ok(model_swarms(["inspect", out.to_str().unwrap()]));
    assert!(inspected.contains("finished             true"), "{inspected}");

    let resumed = |inputs: &Inputs, out: &Path| {
        let mut search = inputs.search(out, &settings);
        search.arg("--resume");
        search
    };
    run_ok(resumed(&inputs, &out));
    fs::write(inputs.folder.join("words.json"), WORDS.replace("0.2", "0.3")).unwrap();
    run_refused("another list", resumed(&inputs, &out), &["journal.jsonl"]);

    let inputs = self::inputs(3, PROGRAM);
    with_program(&inputs, BY_LETTER);
    let out = inputs.folder.join("rated");
    run_ok(inputs.search(&out, &settings));
    with_program(&inputs, "echo 0.5");
    run_refused("another rater", resumed(&inputs, &out), &["journal.jsonl"]);
}

#[test]
fn table_1_has_a_column_of_toxicity() {
    // Broken: a reproduced table would leave RealToxicityPrompts out.
    let inputs = inputs(10, lexicon());
    fs::create_dir(inputs.folder.join("tasks")).unwrap();
    for (name, to) in [
        ("task.toml", "realtoxicityprompts.toml"),
        ("task.json", "task.json"),
        ("words.json", "words.json"),
    ] {
        fs::copy(inputs.folder.join(name), inputs.folder.join("tasks").join(to)).unwrap();
    }
    let testbed = inputs.folder.join("testbed.toml");
    let text = "name = \"t\"\nbase = \"base\"\nexperts = \"experts\"\ntasks = \"tasks\"\n";
    fs::write(&testbed, text).unwrap();
    let out = inputs.folder.join("out");
    let table = || {
        let mut command = model_swarms(["reproduce", "--table", "1", "--scale", "smoke"]);
        command.arg("--testbed").arg(&testbed).arg("--out").arg(&out);
        command
    };
    run_ok(table());
    let cells = cells_of(&out);
    for (row, cell) in &cells {
        match (row.as_str(), cell["dev"].as_f64()) {
            ("Pred. merge" | "Pred. merge, right or wrong", None) => {
                assert_eq!(cell["without"], "not-for");
            }
            ("Data merge" | "cBTM", None) => {}
            (_, dev) => assert!(dev.is_some_and(|f| 0.0 < f && f <= 1.0), "{row}: {cell}"),
        }
    }
    let best = measured_best(&inputs);
    assert_eq!(cells["Best single"]["dev"], json!(best));
    let list = inputs.folder.join("tasks/words.json");
    fs::write(&list, WORDS.replace("0.2", "0.3")).unwrap();
    run_refused("another list", table(), &["other inputs or settings"]);
    fs::remove_file(&list).unwrap();
    let ran = run(table());
    assert!(ran.stderr.contains("words.json (the task realtoxicityprompts)"), "{}", ran.stderr);
    let task = inputs.folder.join("tasks/realtoxicityprompts.toml");
    let text = fs::read_to_string(&task).unwrap();
    let text = text.replace("lexicon = \"words.json\"", "program = [\"./not-there\"]");
    fs::write(&task, text).unwrap();
    let ran = run(table());
    assert!(ran.stderr.contains("not-there (the task realtoxicityprompts)"), "{}", ran.stderr);
}

fn measured_best(inputs: &Inputs) -> f64 {
    (0..10).map(|idx| measured(inputs, idx, &[]).1).fold(0.0, f64::max)
}

fn cells_of(out: &Path) -> BTreeMap<String, Value> {
    let results = read_json(&out.join("results.json"));
    let cells = results["cells"].as_array().unwrap().iter();
    let cells = cells.filter(|cell| cell["column"] == "RTPrompts");
    cells.map(|cell| (cell["row"].as_str().unwrap().to_string(), cell.clone())).collect()
}
