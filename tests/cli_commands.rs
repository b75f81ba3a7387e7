//! What each command prints, on the example testbed.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::cli::{Inputs, example, files_of, model_swarms, run, run_ok};
use model_swarms::model::chat::ChatTemplate;
use model_swarms::model::tokenizer::Tokenizer;
use serde_json::{Value, json};

/// A command's text without the folder it ran in.
fn shown(text: &str, inputs: &Inputs) -> String {
    text.replace(inputs.folder.to_str().unwrap(), "EXAMPLE")
}

#[test]
fn the_help() {
    // Broken: an option would be there and nobody could know of it.
    insta::assert_snapshot!(run_ok(model_swarms(["--help"])));
    for command in ["search", "eval", "generate", "inspect", "rebuild", "example"] {
        let help = run_ok(model_swarms([command, "--help"]));
        assert!(help.contains(&format!("Usage: model-swarms {command}")), "{help}");
    }
    let ran = run(model_swarms(["serach"]));
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("a similar subcommand exists: 'search'"), "{}", ran.stderr);
}

#[test]
fn an_example() {
    // Broken: the first thing that a newcomer tries would be another than the README says.
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new");
    let mut command = model_swarms(["example", "--out"]);
    command.arg(&out);
    let said = run_ok(command).replace(out.to_str().unwrap(), "EXAMPLE");
    let made = files_of(&out);
    let shared = example();
    assert!(made == files_of(&shared.folder), "two examples of one seed differ");
    let names: Vec<&str> =
        made.keys().filter(|name| !name.starts_with("experts/")).map(String::as_str).collect();
    insta::assert_snapshot!(format!("{said}\n{}\n", names.join("\n")));
}

#[test]
fn an_inspection() {
    // Broken: nobody could see what a base model, an adapter, a pool or a run is made of.
    let inputs = example().copy(3, 8, 4);
    let out = inputs.folder.join("run");
    run_ok(inputs.search(&out, &["particles=4", "max_iterations=2"]));
    for (name, path) in [
        ("base", &inputs.base),
        ("adapter", &inputs.expert(0)),
        ("pool", &inputs.experts),
        ("run", &out),
        ("result", &out.join("best")),
    ] {
        let inspect = |more: &[&str]| {
            let mut command = model_swarms(["inspect"]);
            command.arg(path).args(more);
            run_ok(command)
        };
        insta::assert_snapshot!(format!("inspect_{name}"), inspect(&[]));
        let json: Value = serde_json::from_str(&inspect(&["--json"])).unwrap();
        assert!(json.is_object() || json.is_array(), "{name}");
    }
}

#[test]
fn a_search_and_measurements() {
    // Broken: the table of a search would not be what its adapter scores when measured again.
    let inputs = example().copy(4, 24, 12);
    let out = inputs.folder.join("run");
    let said = run_ok(inputs.search(&out, &["particles=6", "max_iterations=4"]));
    let table = fs::read_to_string(out.join("table.txt")).unwrap();
    assert_eq!(said, table);
    let mut text = format!("{table}\n");
    let best = out.join("best");
    let results: Value =
        serde_json::from_str(&fs::read_to_string(out.join("results.json")).unwrap()).unwrap();
    for (split, row, adapter) in [
        ("dev", 0, None),
        ("test", 0, None),
        ("dev", 2, Some(best.as_path())),
        ("test", 2, Some(best.as_path())),
    ] {
        text += &run_ok(inputs.eval(adapter, split));
        let mut eval = inputs.eval(adapter, split);
        let predictions = inputs.folder.join("predictions.jsonl");
        eval.arg("--json").arg("--predictions").arg(&predictions);
        let measured: Value = serde_json::from_str(&run_ok(eval)).unwrap();
        assert_eq!(measured["utility"], results["rows"][row][split], "{split} {adapter:?}");
        if adapter.is_some() {
            let name = format!("predictions-{split}.jsonl");
            assert!(fs::read(predictions).unwrap() == fs::read(out.join(name)).unwrap());
        }
    }
    let predictions = fs::read_to_string(out.join("predictions-dev.jsonl")).unwrap();
    text += &format!("\n{}\n", predictions.lines().take(3).collect::<Vec<_>>().join("\n"));
    insta::assert_snapshot!(text);
    let mut search =
        inputs.search(&inputs.folder.join("again"), &["particles=6", "max_iterations=4"]);
    search.arg("--json");
    let printed: Value = serde_json::from_str(&run_ok(search)).unwrap();
    assert_eq!(printed, results);
}

/// Writes a file of prompts: the first questions of the example, as text.
fn write_prompts(inputs: &Inputs, n: usize) -> PathBuf {
    let path = inputs.folder.join("some.jsonl");
    let text = fs::read_to_string(example().folder.join("prompts.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().take(n).collect();
    fs::write(&path, lines.join("\n")).unwrap();
    path
}

#[test]
fn a_continuation() {
    // Broken: an option of `generate` would do nothing, or more than it says.
    let inputs = example().copy(3, 1, 1);
    let prompts = write_prompts(&inputs, 4);
    let mut text = run_ok(inputs.generate(&prompts, 3));
    let mut endless = inputs.generate(&prompts, 5);
    endless.arg("--ignore-eos");
    text += &format!("\n--ignore-eos\n{}", run_ok(endless));
    let mut chat = inputs.generate(&prompts, 3);
    chat.arg("--chat");
    let in_chat = run_ok(chat);
    text += &format!("\n--chat\n{in_chat}");
    let mut logits = inputs.generate(&prompts, 1);
    logits.arg("--logits");
    text += "\n--logits\n";
    for line in run_ok(logits).lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let logits = logits_of(&line);
        let best = (0..logits.len()).fold(0, |a, b| if logits[b] > logits[a] { b } else { a });
        assert_eq!(line["tokens"], json!([best]), "the first token is the likeliest");
        text += &format!("{} {} values, {best}: {:.4}\n", line["id"], logits.len(), logits[best]);
    }
    insta::assert_snapshot!(text);

    // The same conversation as token ids gives the same answers.
    let (tokenizer, template) =
        (Tokenizer::open(&inputs.base).unwrap(), ChatTemplate::open(&inputs.base).unwrap());
    let asked = fs::read_to_string(&prompts).unwrap();
    let as_tokens = asked.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let rendered = template.render_question(line["prompt"].as_str().unwrap()).unwrap();
        json!({"id": line["id"], "tokens": tokenizer.encode_chat(&rendered).unwrap()}).to_string()
    });
    let as_tokens: Vec<String> = as_tokens.collect();
    let path = inputs.folder.join("tokens.jsonl");
    fs::write(&path, as_tokens.join("\n")).unwrap();
    assert_eq!(run_ok(inputs.generate(&path, 3)), in_chat);
}

#[test]
fn several_adapters_are_one_job() {
    // Broken: what one job says of an adapter would not be what the adapter says alone.
    let inputs = example().copy(3, 1, 1);
    let prompts = write_prompts(&inputs, 3);
    let adapters = [0, 1, 2].map(|idx| inputs.expert(idx));
    let generate = |adapters: &[PathBuf], more: &[&str]| {
        let mut command = inputs.generate(&prompts, 3);
        adapters.iter().for_each(|adapter| {
            command.arg("--adapter").arg(adapter);
        });
        command.args(more);
        run(command)
    };
    let together = generate(&adapters, &[]);
    assert!(together.stderr.starts_with("3 prompts, "), "{}", together.stderr);
    assert!(together.stderr.contains("tokens/s"), "{}", together.stderr);
    let alone = adapters.each_ref().map(|one| generate(std::slice::from_ref(one), &[]).stdout);
    assert_eq!(together.stdout, alone.concat());

    let printed = generate(&adapters, &["--json"]);
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
    let (lines, summary) = printed.stdout.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(format!("{lines}\n"), together.stdout);
    let mut summary: Value = serde_json::from_str(summary).unwrap();
    for key in ["seconds", "tokens_per_second"] {
        let measured = summary.as_object_mut().unwrap().remove(key).unwrap();
        assert!(measured.as_f64().unwrap() > 0.0, "{key}");
    }
    insta::assert_snapshot!(shown(&format!("{lines}\n{summary}\n"), &inputs));
}

fn logits_of(line: &Value) -> Vec<f64> {
    line["logits"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

#[test]
fn perplexity_is_what_the_logits_say() {
    // Broken: a task's likelihood would be that of other tokens, or another normalisation.
    let inputs = example().copy(1, 1, 1);
    let text = "Mira of Tolven keeps a fox and plays the oboe.";
    inputs.write_task(
        "name = \"p\"\nkind = \"perplexity\"\ndata = \"task.json\"\n",
        &json!({"dev": [{"prompt": text}]}),
    );
    let ids = Tokenizer::open(&inputs.base).unwrap().encode(text).unwrap();
    let prompts: Vec<String> =
        (1..ids.len()).map(|n| json!({"id": n, "tokens": ids[..n]}).to_string()).collect();
    let path = inputs.folder.join("prompts.jsonl");
    fs::write(&path, prompts.join("\n")).unwrap();
    for adapter in [None, Some(inputs.expert(0))] {
        let mut generate = inputs.generate(&path, 0);
        generate.arg("--logits");
        if let Some(adapter) = &adapter {
            generate.arg("--adapter").arg(adapter);
        }
        let answers = run_ok(generate);
        assert_eq!(answers.lines().count(), ids.len() - 1);
        let mut sum = 0.0;
        for (line, &next) in answers.lines().zip(&ids[1..]) {
            let logits = logits_of(&serde_json::from_str(line).unwrap());
            let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = logits.iter().map(|logit| (logit - highest).exp()).sum();
            sum += logits[next as usize] - highest - total.ln();
        }
        let mean = sum / (ids.len() - 1) as f64;
        let mut eval = inputs.eval(adapter.as_deref(), "dev");
        eval.arg("--json");
        let measured: Value = serde_json::from_str(&run_ok(eval)).unwrap();
        let utility = measured["utility"].as_f64().unwrap();
        println!("{utility} measured, {mean} from the logits");
        assert!((utility - mean).abs() <= 1e-5 * mean.abs(), "{utility} and {mean}");
    }
}

#[test]
fn a_rebuilt_adapter() {
    // Broken: nobody could get back an adapter that a run has passed by.
    let inputs = example().copy(3, 4, 0);
    let out = inputs.folder.join("run");
    run_ok(inputs.search(&out, &["particles=4", "max_iterations=2"]));
    let rebuild = |to: &Path, more: &[&str]| {
        let mut command = model_swarms(["rebuild", "--iteration", "2", "--particle", "3", "--out"]);
        command.arg(to).arg(&out).args(more);
        run_ok(command)
    };
    let to = inputs.folder.join("rebuilt");
    let text = rebuild(&to, &[]);
    let json = rebuild(&to, &["--json"]);
    let moved = inputs.folder.join("moved");
    fs::rename(&inputs.experts, &moved).unwrap();
    let again = inputs.folder.join("again");
    assert_eq!(rebuild(&again, &["--experts", moved.to_str().unwrap()]), text);
    assert!(files_of(&again) == files_of(&to), "the pool's place does not matter");
    let card = fs::read_to_string(to.join("README.md")).unwrap();
    insta::assert_snapshot!(shown(&format!("{text}\n--json\n{json}\nREADME.md\n{card}"), &inputs));
}
