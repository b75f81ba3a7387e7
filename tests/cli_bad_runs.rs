//! Commands that must be refused: settings, prompts, runs that cannot be taken up and folders that
//! are not ours. Exit code 2, one message that names the cause, no panic, and nothing written.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::cli::{ADAPTER_CONFIG, Inputs, assert_same_files, copy_folder, example, files_of};
use common::cli::{model_swarms, run_ok, run_refused};
use common::spoil::{BIRCH, Q_A, adapter, base, clear, edit_json, edit_task, set_value, write_at};
use serde_json::json;

#[test]
fn settings_that_make_no_search() {
    // Broken: a misspelt setting would leave its default in place, unseen.
    let inputs = example().copy(3, 4, 4);
    let before = files_of(&inputs.folder);
    for (setting, wanted) in [
        ("stpe=1", "no setting is called \"stpe\"; there are populate, particles"),
        ("step=fast", "setting step: \"fast\" is not a finite number"),
        ("step=NaN", "setting step: \"NaN\" is not a finite number"),
        ("step=-1", "setting step is -1; it must lie between"),
        ("particles=2.5", "setting particles: "),
        ("particles=-3", "setting particles: "),
        ("particles=2", "setting particles is 2; with 3 experts it must lie between 3 and"),
        ("particles=1000000000000", "setting particles is 1000000000000"),
        ("patience=0", "setting patience is 0"),
        ("velocity=rnadom", "setting velocity: unknown variant `rnadom`"),
        ("drop_particles=1.5", "setting drop_particles is 1.5"),
        ("step", "--set step: wanted KEY=VALUE"),
    ] {
        let search = inputs.search(&inputs.folder.join("run"), &[setting]);
        run_refused(setting, search, &[wanted]);
    }
    let far = ["particles=3", "step=1e6", "step_factor=1e6", "max_iterations=60", "patience=100"];
    let search = inputs.search(&inputs.folder.join("far"), &far);
    run_refused("steps out of all numbers", search, &["has left the finite numbers; smaller"]);
    fs::remove_dir_all(inputs.folder.join("far")).unwrap();
    let mut search = inputs.search(&inputs.folder.join("run"), &[]);
    search.env("MODEL_SWARMS_ISA", "avx1024");
    run_refused("an unknown instruction set", search, &["MODEL_SWARMS_ISA=avx1024", "avx2"]);
    assert_same_files("settings", &files_of(&inputs.folder), &before);
}

#[test]
fn prompts_that_cannot_be_continued() {
    // Broken: one bad line among thousands could not be found.
    let inputs = example().copy(1, 1, 1);
    let prompts = inputs.folder.join("prompts.jsonl");
    let long = json!({"id": 2, "prompt": "x ".repeat(9000)}).to_string();
    for (name, line, wanted) in [
        ("not JSON", "{\"id\": 2,", "EOF"),
        ("an unknown key", r#"{"id": 2, "promt": "x"}"#, "unknown field `promt`"),
        ("no id", r#"{"prompt": "x"}"#, "missing field `id`"),
        ("no prompt", r#"{"id": 2}"#, "wanted either \"prompt\" or \"tokens\""),
        ("two prompts", r#"{"id": 2, "prompt": "x", "tokens": [2]}"#, "wanted either"),
        ("no tokens", r#"{"id": 2, "tokens": []}"#, "has no tokens"),
        ("a token too many", r#"{"id": 2, "tokens": [2, 1024]}"#, "token 1024"),
        ("a negative token", r#"{"id": 2, "tokens": [-1]}"#, "-1"),
        ("a prompt too long", &long, "the model takes 8192"),
    ] {
        fs::write(&prompts, format!("{{\"id\": 1, \"prompt\": \"x\"}}\n{line}\n")).unwrap();
        run_refused(name, inputs.generate(&prompts, 4), &["prompts.jsonl: line 2: ", wanted]);
    }
    fs::write(&prompts, "\n").unwrap();
    run_refused("no prompts", inputs.generate(&prompts, 4), &["prompts.jsonl", "holds no prompt"]);
    fs::write(&prompts, "{\"id\": 1, \"prompt\": \"x\"}\n").unwrap();
    let command = inputs.generate(&prompts, usize::MAX);
    run_refused("an endless answer", command, &["line 1", "the model takes 8192"]);
    edit_json(&inputs.data, |data| data["test"][0]["question"] = "x ".repeat(9000).into());
    let search = inputs.search(&inputs.folder.join("run"), &["populate=off"]);
    let wanted = &["task.toml: test split: ", "prompt 0 has 18035 tokens"];
    run_refused("a question too long", search, wanted);
}

#[test]
fn commands_that_cannot_be_done() {
    // Broken: what is refused by `search` could pass by another door, or write half a result.
    let inputs = example().copy(2, 2, 0);
    let folder = &inputs.folder;
    run_refused("no test split", inputs.eval(None, "test"), &["task.json", "no test examples"]);
    let mut command = inputs.eval(None, "dev");
    command.arg("--predictions").arg(folder.join("no/such/folder"));
    run_refused("no folder for predictions", command, &["no/such/folder", "cannot create"]);
    run_refused("no adapter", inputs.eval(Some(folder), "dev"), &[ADAPTER_CONFIG, "No such file"]);
    let mut command = model_swarms(["inspect"]);
    command.arg(folder.join("nothing"));
    run_refused("nothing to inspect", command, &["nothing", "is not a folder"]);
    let mut command = model_swarms(["example", "--out"]);
    command.arg(folder);
    run_refused("an example over something", command, &["exists already"]);

    inputs
        .write_task("name = \"c\"\nkind = \"command\"\nprogram = [\"./no-program\"]\n", &json!({}));
    let aster = inputs.expert(0);
    run_refused("no program", inputs.eval(Some(&aster), "dev"), &["no-program", "cannot run"]);
    run_refused("a command on the base", inputs.eval(None, "dev"), &["measures adapters"]);
    for (program, wanted) in [
        (r#"["sh", "-c", "echo broken >&2; exit 3"]"#, "exit status: 3: broken"),
        (r#"["sh", "-c", "echo much"]"#, "sh printed \"much\", wanted one number"),
        (r#"["sh", "-c", "echo nan"]"#, "sh printed \"nan\", wanted one number"),
        (r#"["sh", "-c", "kill -9 $$"]"#, "signal: 9"),
    ] {
        let task = format!("name = \"c\"\nkind = \"command\"\nprogram = {program}\n");
        inputs.write_task(&task, &json!({}));
        run_refused(program, inputs.eval(Some(&aster), "dev"), &[wanted]);
    }
}

#[test]
fn runs_that_cannot_be_taken_up() {
    // Broken: a run could go on as another one, and its journal no longer say how it came about.
    let inputs = example().copy(3, 4, 4);
    let out = inputs.folder.join("run");
    const SETTINGS: [&str; 2] = ["particles=4", "max_iterations=2"];
    run_ok(inputs.search(&out, &SETTINGS));
    let kept = tempfile::tempdir().unwrap();
    copy_folder(&inputs.folder, kept.path());

    let check = |name: &str, spoil: &dyn Fn(&Inputs, &Path), more: &[&str], wanted: &[&str]| {
        clear(&inputs.folder);
        copy_folder(kept.path(), &inputs.folder);
        spoil(&inputs, &out);
        let before = files_of(&inputs.folder);
        let mut search = inputs.search(&out, &SETTINGS);
        search.args(more);
        run_refused(name, search, wanted);
        assert_same_files(name, &files_of(&inputs.folder), &before);
    };
    const RESUME: &[&str] = &["--resume"];
    let as_it_is = |_: &Inputs, _: &Path| {};
    check("a run that is there", &as_it_is, &[], &["run/journal.jsonl", "a run is recorded here"]);
    check(
        "another seed",
        &as_it_is,
        &["--resume", "--seed", "2"],
        &["run/journal.jsonl", "line 1: seed is 1, but this run asks for 2"],
    );
    check(
        "another setting",
        &as_it_is,
        &["--resume", "--set", "step=0.5"],
        &["run/journal.jsonl", "line 1: settings.step is 0.8, but this run asks for 0.5"],
    );
    check(
        "another mode",
        &as_it_is,
        &["--resume", "--mode", "code"],
        &["run/journal.jsonl", "line 1: mode is \"paper\", but this run asks for \"code\""],
    );
    let task = |i: &Inputs, _: &Path| edit_task(i, "max_new_tokens = 2", "max_new_tokens = 3");
    check("another task", &task, RESUME, &["line 1: fingerprint.sha256.task/0/task.toml is"]);
    let data = |i: &Inputs, _: &Path| {
        edit_json(&i.data, |data| data["test"][0]["question"] = json!("Why?"));
    };
    check("other data", &data, RESUME, &["line 1: fingerprint.sha256.task/1/task.json is"]);
    let adapter = |i: &Inputs, _: &Path| set_value(&adapter(i), Q_A, 0.5);
    check("another adapter", &adapter, RESUME, &["line 1: fingerprint.sha256.experts/birch/"]);
    let base = |i: &Inputs, _: &Path| set_value(&base(i), "model.norm.weight", 0.5);
    check("another base", &base, RESUME, &["line 1: fingerprint.sha256.base/model.safetensors"]);
    let chat = |i: &Inputs, _: &Path| {
        edit_json(&i.base.join("tokenizer_config.json"), |file| file["chat_template"] = "".into());
    };
    check("another template", &chat, RESUME, &["sha256.base/tokenizer_config.json"]);
    let missing = |i: &Inputs, _: &Path| fs::remove_dir_all(i.expert(2)).unwrap();
    check("a missing expert", &missing, RESUME, &["line 1: experts"]);

    let journal = |edit: fn(&mut Vec<String>)| {
        move |_: &Inputs, out: &Path| {
            let path = out.join("journal.jsonl");
            let text = fs::read_to_string(&path).unwrap();
            let mut lines = text.lines().map(String::from).collect();
            edit(&mut lines);
            fs::write(&path, lines.join("\n") + "\n").unwrap();
        }
    };
    let name = "run/journal.jsonl: line ";
    let cut = journal(|lines| lines[2].truncate(100));
    check("a cut line", &cut, RESUME, &[name, "line 3: EOF"]);
    let foreign = journal(|lines| lines[1] = "something else".into());
    check("a foreign line", &foreign, RESUME, &[name, "line 2: expected value"]);
    let fast = journal(|lines| lines[0] = lines[0].replace("\"exact\"", "\"fast\""));
    let wanted = "line 1: fingerprint.precision is \"fast\", but this run asks for \"exact\"";
    check("another precision", &fast, RESUME, &["run/journal.jsonl", wanted]);
    let lost = journal(|lines| drop(lines.remove(2)));
    check("a lost line", &lost, RESUME, &[name, "line 3: iteration is 2, wanted 1"]);
    let header = journal(|lines| drop(lines.remove(0)));
    check("no header", &header, RESUME, &[name, "line 1: format is null"]);
    let changed = journal(|lines| lines[3] = lines[3].replace("\"step\":0.76", "\"step\":0.75"));
    let wanted = "line 4: step is 0.75, but replaying the run gives 0.76";
    check("a changed number", &changed, RESUME, &[name, wanted]);
    let bytes = |_: &Inputs, out: &Path| write_at(&out.join("journal.jsonl"), 3000, &[0xff; 4]);
    check("not text", &bytes, RESUME, &[name, "wanted UTF-8"]);
}

#[test]
fn folders_that_are_not_ours() {
    // Broken: a slip in `--out` would mix a run with somebody's files, or delete them.
    let inputs = example().copy(3, 4, 4);
    let holiday = inputs.folder.join("holiday");
    fs::create_dir(&holiday).unwrap();
    fs::write(holiday.join("photo.jpg"), "sunset").unwrap();
    let there = files_of(&holiday);
    let wanted = &["holiday", "holds files but no run"];
    run_refused("search", inputs.search(&holiday, &["particles=4"]), wanted);
    assert_eq!(files_of(&holiday), there);
    let photo = holiday.join("photo.jpg");
    run_refused("a file", inputs.search(&photo, &["particles=4"]), &["photo.jpg"]);
    assert_eq!(files_of(&holiday), there);

    let out = inputs.folder.join("run");
    run_ok(inputs.search(&out, &["particles=4", "max_iterations=1"]));
    let rebuild = |iteration: &str, particle: &str, out_to: &Path| {
        let mut command = model_swarms(["rebuild", "--iteration", iteration]);
        command.args(["--particle", particle, "--out"]).arg(out_to).arg(&out);
        command
    };
    let wanted = &["holiday", "holds \"photo.jpg\", wanted a folder of nothing but an adapter"];
    run_refused("rebuild", rebuild("1", "0", &holiday), wanted);
    assert_eq!(files_of(&holiday), there);
    let fresh = inputs.folder.join("rebuilt");
    let wanted = &["journal.jsonl", "iteration 9 is not recorded; there are 2"];
    run_refused("no such iteration", rebuild("9", "0", &fresh), wanted);
    run_refused("no such particle", rebuild("1", "4", &fresh), &["there is no particle 4"]);
    set_value(&adapter(&inputs), Q_A, 0.5);
    let wanted = &[BIRCH, "is not the file that the run was made with"];
    run_refused("rebuild from another pool", rebuild("1", "0", &fresh), wanted);
    assert!(!fresh.exists());
}

#[test]
fn one_process_at_a_time() {
    // Broken: two processes would write the journal of one run.
    let inputs = example().copy(2, 1, 0);
    let wait = "while [ ! -e go ]; do sleep 0.02; done; echo 1";
    let task =
        format!("name = \"c\"\nkind = \"command\"\nprogram = [\"sh\", \"-c\", \"{wait}\"]\n");
    inputs.write_task(&task, &json!({}));
    let out = inputs.folder.join("run");
    const SETTINGS: [&str; 2] = ["particles=3", "max_iterations=1"];
    let mut first = inputs.search(&out, &SETTINGS);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !out.join("run.toml").exists() {
        assert!(first.try_wait().unwrap().is_none(), "the first process has ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    let before = files_of(&out);
    let mut second = inputs.search(&out, &SETTINGS);
    second.arg("--resume");
    run_refused("second", second, &["run/journal.jsonl", "another process is running this search"]);
    let wanted = &["run/journal.jsonl", "another process is running this search"];
    run_refused("third", inputs.search(&out, &SETTINGS), wanted);
    assert_same_files("second", &files_of(&out), &before);
    fs::write(inputs.folder.join("go"), "").unwrap();
    assert!(first.wait().unwrap().success());
    assert!(out.join("table.txt").exists());
}

#[test]
fn a_full_disk() {
    // Broken: a full disk would end in a panic, half a file, or a run that cannot be taken up.
    let Some(disk) = Disk::mount("1m") else { return };
    let inputs = example().copy(3, 4, 4);
    let out = disk.folder.path().join("run");
    for state in ["coefficients", "weights"] {
        let state = format!("state={state}");
        let settings = ["particles=4", "max_iterations=2", &state];
        let wanted = inputs.folder.join("run");
        let _ = fs::remove_dir_all(&wanted);
        run_ok(inputs.search(&wanted, &settings));
        for free_kib in [0, 4, 8, 12, 16, 20, 100] {
            disk.fill(free_kib);
            let name = format!("{state}, {free_kib} KiB");
            let wanted_in = &[out.to_str().unwrap(), "No space left on device"];
            run_refused(&name, inputs.search(&out, &settings), wanted_in);
            let left = if out.exists() { files_of(&out) } else { Default::default() };
            let odd: Vec<_> =
                left.keys().filter(|name| name.contains(".partial") || *name == "state/").collect();
            assert!(odd.is_empty(), "{name}: {odd:?} left behind");
            fs::remove_file(disk.filler()).unwrap();
            // Two megabytes of weights do not fit on this disk, the rest does.
            if state == "state=coefficients" {
                let mut resume = inputs.search(&out, &settings);
                resume.arg("--resume");
                run_ok(resume);
                let mut found = files_of(&out);
                let mut wanted = files_of(&wanted);
                for files in [&mut found, &mut wanted] {
                    assert!(files.remove("run.toml").is_some(), "it names its own paths");
                }
                assert_same_files(&name, &found, &wanted);
            }
            let _ = fs::remove_dir_all(&out);
        }
    }
}

#[test]
fn a_disk_that_cannot_be_written() {
    // Broken: whoever may not write would be shown a panic instead of the reason.
    let Some(disk) = Disk::mount("1m") else { return };
    let inputs = example().copy(3, 4, 4);
    let out = disk.folder.path().join("run");
    run_ok(inputs.search(&out, &["particles=4", "max_iterations=1"]));
    assert!(disk.make_read_only());
    let before = files_of(&out);
    let wanted = &["Read-only file system"];
    let other = disk.folder.path().join("other");
    run_refused("a new run", inputs.search(&other, &["particles=4"]), wanted);
    let mut resume = inputs.search(&out, &["particles=4", "max_iterations=1"]);
    resume.arg("--resume");
    run_refused("a run", resume, &["run/journal.jsonl", wanted[0]]);
    let mut rebuild = model_swarms(["rebuild", "--iteration", "1", "--particle", "0"]);
    rebuild.arg("--out").arg(&other).arg(&out);
    run_refused("an adapter", rebuild, wanted);
    let mut example = model_swarms(["example", "--out"]);
    example.arg(&other);
    run_refused("an example", example, wanted);
    assert_same_files("a read-only disk", &files_of(&out), &before);
}

/// A small disk of its own, for those who may mount one.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder.path());
        if !mount.output().is_ok_and(|output| output.status.success()) {
            println!("skipped: cannot mount");
            return None;
        }
        Some(Self { folder })
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }

    /// Leaves so much free, of what is free now.
    fn fill(&self, free_kib: usize) {
        let mut file = fs::File::create(self.filler()).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        let full = file.metadata().unwrap().len();
        file.set_len(full - free_kib as u64 * 1024).unwrap();
    }

    fn make_read_only(&self) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,ro"]).arg(self.folder.path());
        mount.status().unwrap().success()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}
