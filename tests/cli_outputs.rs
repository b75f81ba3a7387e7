//! Where results go: nothing that was there before is lost, and a result that cannot be kept is
//! refused before it is computed.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use common::cli::{
    ADAPTER_CONFIG, Inputs, assert_same_files, example, files_of, model_swarms, run_ok, run_refused,
};
use common::read_json;
use common::spoil::edit_json;
use serde_json::json;

const SETTINGS: [&str; 2] = ["particles=4", "max_iterations=2"];

fn merge(inputs: &Inputs, out: &Path) -> Command {
    let mut command = model_swarms(["merge", "linear", "--experts"]);
    command.arg(&inputs.experts).arg("--out").arg(out);
    command
}

fn rebuild(run: &Path, out: &Path) -> Command {
    let mut command = model_swarms(["rebuild", "--iteration", "1", "--particle", "0", "--out"]);
    command.arg(out).arg(run);
    command
}

#[test]
fn adapters_take_no_other_folder() {
    // Broken: `--out .` removes the folder above, `--out` a folder with more than an adapter in it
    // removes a training run.
    let inputs = example().copy(3, 4, 4);
    let folder = &inputs.folder;
    let run = folder.join("run");
    run_ok(inputs.search(&run, &SETTINGS));
    let kept = folder.join("kept");
    run_ok(merge(&inputs, &kept.join("plain")));
    run_ok(merge(&inputs, &kept.join("plain"))); // an adapter alone may be replaced
    run_ok(merge(&inputs, &kept.join("trained")));
    fs::write(kept.join("trained/optimizer.pt"), "state").unwrap();
    symlink(kept.join("plain"), folder.join("link")).unwrap();

    let before = files_of(folder);
    let unnamed = "ends without a name";
    for (from, out, wanted) in [
        (kept.clone(), ".", unnamed),
        (kept.join("plain"), ".", unnamed),
        (kept.join("plain"), "..", unnamed),
        (kept.clone(), "new/..", unnamed),
        (kept.clone(), "trained", "holds \"optimizer.pt\""),
        (kept.clone(), "trained/optimizer.pt", "is no folder"),
        (kept.clone(), "../experts/birch", "is one of the experts"),
        (kept.clone(), "../experts", "holds "),
    ] {
        for mut command in [merge(&inputs, Path::new(out)), rebuild(&run, Path::new(out))] {
            command.current_dir(&from);
            run_refused(out, command, &[wanted]);
            assert_same_files(out, &files_of(folder), &before);
        }
    }
    let wanted = &["best", "is the run's result"];
    run_refused("a run's best", rebuild(&run, &run.join("best")), wanted);
    assert_same_files("a run's best", &files_of(folder), &before);

    // A link stays one, and what it leads to is replaced.
    run_ok(rebuild(&run, &folder.join("link")));
    assert!(fs::symlink_metadata(folder.join("link")).unwrap().is_symlink());
    assert_ne!(files_of(&kept.join("plain")), {
        run_ok(merge(&inputs, &folder.join("again")));
        files_of(&folder.join("again"))
    });
}

#[test]
fn predictions_replace_no_input_and_no_device() {
    // Broken: a task's data, a device or a pipe becomes a file of predictions.
    let inputs = example().copy(2, 4, 4);
    let to = |path: &Path| {
        let mut eval = inputs.eval(None, "dev");
        eval.arg("--predictions").arg(path);
        eval
    };
    let before = files_of(&inputs.folder);
    let link = tempfile::tempdir().unwrap();
    symlink(&inputs.data, link.path().join("data")).unwrap();
    for path in [&inputs.data, &inputs.task, &link.path().join("data")] {
        run_refused("an input", to(path), &["is a file of the task, wanted another"]);
    }
    run_refused("a folder", to(&inputs.experts), &["is a folder, wanted a file"]);
    assert_same_files("inputs", &files_of(&inputs.folder), &before);

    let plain = inputs.folder.join("predictions.jsonl");
    run_ok(to(&plain));
    let wanted = fs::read_to_string(&plain).unwrap();
    assert_eq!(wanted.lines().count(), 4);
    let pipe = inputs.folder.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = Command::new("cat").arg(&pipe).stdout(Stdio::piped()).spawn().unwrap();
    run_ok(to(&pipe));
    let read = reader.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(read.stdout).unwrap(), wanted, "through a pipe");
    symlink(&plain, inputs.folder.join("link")).unwrap();
    fs::write(&plain, "").unwrap();
    run_ok(to(&inputs.folder.join("link")));
    assert_eq!(fs::read_to_string(&plain).unwrap(), wanted, "through a link");
}

#[test]
fn what_cannot_be_kept_is_not_computed() {
    // Broken: an hour's evaluation ends in "cannot create", and its utility is never printed.
    let inputs = example().copy(2, 4, 4);
    let mut eval = inputs.eval(None, "dev");
    // The task is broken too, which would be found later.
    edit_json(&inputs.data, |data| data["dev"][0]["question"] = "x ".repeat(9000).into());
    eval.arg("--predictions").arg(inputs.folder.join("no/file"));
    run_refused("predictions", eval, &["no/file", "cannot create"]);
    let mut reproduce = model_swarms(["reproduce", "--table", "1", "--scale", "smoke"]);
    reproduce
        .args(["--testbed", "mini", "--commit", "abc", "--write-expected"])
        .arg(inputs.folder.join("no/file"));
    reproduce.arg("--out").arg(inputs.folder.join("table"));
    run_refused("expected results", reproduce, &["no/file", "cannot create"]);
    assert!(!inputs.folder.join("table").exists());
}

#[test]
fn names_of_any_bytes() {
    // Broken: a folder whose name is no UTF-8 ends a finished command in a panic.
    let inputs = example().copy(2, 4, 4);
    let out = inputs.folder.join(OsStr::from_bytes(b"n\xff8"));
    run_ok(merge(&inputs, &out));
    assert!(out.join(ADAPTER_CONFIG).exists());
    let mut report = model_swarms(["report"]);
    let run = inputs.folder.join("run");
    run_ok(inputs.search(&run, &["particles=3", "max_iterations=1"]));
    report.arg(&run).arg("--out").arg(&out);
    run_ok(report);
    run_ok(rebuild(&run, &inputs.folder.join(OsStr::from_bytes(b"r\xff"))));
}

#[test]
fn a_mistake_in_a_program_blocks_no_folder() {
    // Broken: a run that measured nothing must be deleted by hand before the next.
    let inputs = example().copy(2, 1, 0);
    let out = inputs.folder.join("run");
    let write = |program: &str| {
        let task = format!("name = \"c\"\nkind = \"command\"\nprogram = {program}\n");
        inputs.write_task(&task, &json!({}));
    };
    const SETTINGS: [&str; 2] = ["particles=3", "max_iterations=1"];
    write(r#"["./typo"]"#);
    run_refused("a typo", inputs.search(&out, &SETTINGS), &["typo", "cannot run"]);
    write(r#"["false"]"#);
    let wanted = &["ended with exit status: 1: without a word"];
    run_refused("no word", inputs.search(&out, &SETTINGS), wanted);
    write(r#"["sh", "-c", "echo 1"]"#);
    run_ok(inputs.search(&out, &SETTINGS));
    assert_eq!(read_json(&out.join("results.json"))["iterations"], 1);
}
