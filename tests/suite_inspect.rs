//! `model-swarms inspect SUITE.toml`, seen from outside.

use std::path::Path;
use std::process::{Command, Output};

fn inspect(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_model-swarms"))
        .arg("inspect")
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .unwrap()
}

#[test]
fn a_suite_is_shown_as_a_page() {
    // Broken: nobody sees what a suite asks for before its days of work begin.
    let output = inspect(&["suites/table01.toml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap());
}

#[test]
fn a_suite_is_shown_as_json() {
    // Broken: a program cannot plan a table's work.
    let output = inspect(&["--json", "suites/table01.toml"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["suite"]["item"], serde_json::json!({"table": 1}));
    let slerp = &report["suite"]["rows"][4];
    assert_eq!((&slerp["method"], &slerp["t"]), (&"slerp".into(), &0.5.into()));
    assert_eq!(report["scales"][1]["scale"], "full");
    assert_eq!(report["scales"][1]["cells"], 17 * 9 + 2 * 7);
}

#[test]
fn a_file_that_is_no_suite_is_refused() {
    // Broken: the message does not say which file and line are at fault.
    let output = inspect(&["expected/paper/table01.toml"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(said.contains("expected/paper/table01.toml: line "), "{said}");
    assert!(said.contains(": not a suite: unknown field `claim`"), "{said}");
    let output = inspect(&["LICENSE"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("LICENSE: is not a folder; wanted a base model"), "{said}");
}
