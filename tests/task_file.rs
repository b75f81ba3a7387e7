//! What is wrong with a task or data file is said with the file, the place and what was wanted.

use std::path::Path;

use model_swarms::error::Error;
use model_swarms::task::{Dataset, Mode, Task};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// What opening a task says; `data.json` and the tasks of a multi task come from `files`.
fn open(toml: &str, files: &[(&str, &str)]) -> String {
    let opened = Task::open_with(Path::new("main.toml"), Mode::Paper, |path| {
        if path == Path::new("main.toml") {
            return Ok(toml.to_string());
        }
        let found = files.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, text)| text.to_string()).ok_or_else(|| Error::input(path, "no such file"))
    });
    opened.map_or_else(|error| error.to_string(), |task| format!("opens {}", task.name))
}

fn data(text: &str) -> String {
    Dataset::from_text(Path::new("d.json"), text)
        .map_or_else(|error| error.to_string(), |data| format!("opens {}", data.name))
}

#[test]
fn a_task_file_is_taken_at_its_word() {
    // Broken: a misspelt or misplaced key is ignored, and changes a result in silence.
    let head = "name = 'x'\nkind = ";
    let said = [
        "".to_string(),
        "name = 'x".to_string(),
        format!("{head}'multiple-choice'\ndta = 'data.json'"),
        format!("{head}'multiple-choice'"),
        format!("{head}'reward'\ndata = 'data.json'"),
        format!("{head}'judge'"),
        format!("{head}'multiplechoice'"),
        format!("{head}'multiple-choice'\ndata = 'data.json'\nprogram = ['x']"),
        format!("{head}'multiple-choice'\ndata = 'data.json'\nmax_new_tokens = 0"),
        format!("{head}'multiple-choice'\ndata = 'data.json'\nmax_new_tokens = -5"),
        format!("{head}'multiple-choice'\ndata = 'data.json'\nlimit = {{ dev = 0 }}"),
        format!("{head}'multiple-choice'\ndata = 'data.json'\nlimit = {{ val = 3 }}"),
        format!("{head}'multiple-choice'\ndata = 'data.json'\n[quirks]\nchoice_parser = 'A'"),
        format!("{head}'multiple-choice'\ndata = 'data.json'\n[quirks]\nchoise = 'letters'"),
        format!("{head}'multiple-choice'\ndata = 'data.json'\n[quirks]\nmulti_zero = 'zero'"),
        format!("{head}'multiple-choice'\ndata = 'data.json'"),
        "name = ''\nkind = 'command'\nprogram = ['x']".to_string(),
        format!("{head}'command'"),
        format!("{head}'command'\nprogram = []"),
        format!("{head}'command'\nprogram = ['score']\nchat = true"),
        format!("{head}'perplexity'\ndata = 'data.json'\n[quirks]"),
        format!("{head}'multi'\ntasks = ['a.toml']"),
        format!("{head}'multi'\ntasks = ['a.toml', 'b.toml']\n[quirks]\nexact_match = 'words'"),
        format!("{head}'multi'\ntasks = ['a.toml', 'b.toml']"),
    ]
    .map(|toml| open(&toml, &[]));
    insta::assert_snapshot!(said.join(
        "
"
    ));
}

#[test]
fn a_task_and_its_data_belong_together() {
    // Broken: examples that a kind cannot grade are met in the middle of a search.
    let choice = r#"{"dev": [{"question": "q", "choices": {"A": "a", "B": "b"}, "answer": "A"}],
                     "test": [{"prompt": "p"}]}"#;
    let exact = r#"{"dataset": "GSM8K", "dev": [{"question": "q", "answer": "1"},
                    {"question": "q", "answer": "one"}]}"#;
    let kind = |kind, data| {
        open(&format!("name = 'x'\nkind = '{kind}'\ndata = 'data.json'"), &[("data.json", data)])
    };
    let multi = "name = 'x'\nkind = 'multi'\ntasks = ['a.toml', 'b.toml']";
    let part = |name, kind| format!("name = '{name}'\nkind = '{kind}'\ndata = 'data.json'");
    let pair = |a: String, b: String| {
        let plain = exact.replace("\"one\"", "\"1\"");
        open(multi, &[("a.toml", a.as_str()), ("b.toml", b.as_str()), ("data.json", &plain)])
    };
    let said = [
        kind("multiple-choice", choice),
        kind("abstain", exact),
        kind("exact-match", choice),
        kind("exact-match", exact),
        kind("perplexity", choice),
        pair(part("a", "exact-match"), part("b", "exact-match")),
        pair(part("a", "exact-match"), part("a", "exact-match")),
        pair(part("a", "exact-match"), part("b", "perplexity")),
        pair(part("a", "exact-match"), multi.to_string()),
    ];
    insta::assert_snapshot!(said.join(
        "
"
    ));
}

#[test]
fn a_data_file_is_checked_example_by_example() {
    // Broken: a gold answer that nobody can give, or a field of the wrong form, is accepted.
    let dev = |item: &str| data(&format!(r#"{{"dev": [{{"prompt": "p"}}, {item}], "test": []}}"#));
    let choices = |choices: &str, answer: &str| {
        dev(&format!(r#"{{"question": "q", "choices": {choices}, "answer": {answer}}}"#))
    };
    let said = [
        data(""),
        data("{\"dev\": [}"),
        data("[1]"),
        data("{}"),
        data(r#"{"dev": 3}"#),
        data(r#"{"dev": []}"#),
        data(r#"{"dev": [], "dev": []}"#),
        data(r#"{"dev": [{"prompt": "p"}], "icl_prompt": null}"#),
        data(r#"{"dev": [{"prompt": "p"}], "test": [7]}"#),
        data(r#"{"dev": [{"prompt": "p"}]}"#),
        dev("{}"),
        dev(r#"{"question": "q"}"#),
        dev(r#"{"answer": "a"}"#),
        dev(r#"{"prompt": "p", "answer": "a"}"#),
        dev(r#"{"prompt": "p", "prompt": "p"}"#),
        dev(r#"{"question": "q", "answer": 3}"#),
        dev(r#"{"question": "q", "answer": ""}"#),
        dev(r#"{"prompt": "p", "id": true}"#),
        choices(r#"["a", "b"]"#, r#""A""#),
        choices(r#"{"A": "a"}"#, r#""A""#),
        choices(r#"{"A": "a", "A": "b"}"#, r#""A""#),
        choices(r#"{"A": "a", "": "b"}"#, r#""A""#),
        choices(r#"{"A": "a", "B": 3}"#, r#""A""#),
        choices(r#"{"A": "a", "B": "b"}"#, r#""a""#),
    ];
    insta::assert_snapshot!(said.join(
        "
"
    ));
}

#[test]
fn a_deep_or_missing_file_is_an_error() {
    // Broken: nested brackets overflow the stack, or a missing file stops without its name.
    let deep = data(&"[".repeat(100_000));
    assert!(deep.starts_with("d.json: not a data file: recursion limit exceeded"), "{deep}");
    let missing = Task::open(Path::new("no/such/task.toml"), Mode::Paper).unwrap_err();
    assert!(missing.to_string().starts_with("no/such/task.toml: cannot read: "), "{missing}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_file_stops_the_program(toml in "(\\PC|\n){0,80}", json in "[\\[\\]{}\",:0-9a-z ]{0,60}") {
        // Broken: some bytes of a file lead to a panic instead of an error.
        open(&toml, &[]);
        open("name = 'x'\nkind = 'exact-match'\ndata = 'data.json'", &[("data.json", &json)]);
    }
}
