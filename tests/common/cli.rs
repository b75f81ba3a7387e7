//! The built program as a user runs it, on copies of the example testbed that it makes itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use serde_json::Value;
use tempfile::TempDir;

use super::read_json;

/// A file of an adapter's folder.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// A file of an adapter's folder.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// What a finished process left behind.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; -1 where a signal ended it.
    pub code: i32,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

/// The program with these arguments, and nothing of the caller's environment that changes it.
pub fn model_swarms<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_model-swarms"));
    command.args(args).env_remove("MODEL_SWARMS_ISA").env_remove("RAYON_NUM_THREADS");
    command.env("HF_HUB_CACHE", "/nowhere");
    command
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// Runs a command that must succeed, and returns what it printed.
#[track_caller]
pub fn run_ok(command: Command) -> String {
    let ran = run(command);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout
}

/// Runs a command that must be refused: exit code 2, a last line of standard error that is one
/// message with all of `wanted`, no panic and nothing on standard output.
#[track_caller]
pub fn run_refused(name: &str, command: Command, wanted: &[&str]) {
    let ran = run(command);
    let message = ran.stderr.lines().last().unwrap_or_default();
    println!("{name}: {message}");
    assert_eq!(ran.code, 2, "{name}: {}", ran.stderr);
    assert!(message.starts_with("error: "), "{name}: {}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{name}: {}", ran.stderr);
    assert_eq!(ran.stdout, "", "{name}");
    for part in wanted {
        assert!(message.contains(part), "{name}: no {part:?} in: {message}");
    }
}

/// The testbed of `model-swarms example`; its folder goes when the last test that holds it ends.
pub fn example() -> Arc<Inputs> {
    static SHARED: Mutex<Weak<Inputs>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(made) = shared.upgrade() {
        return made;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("example");
    run_ok(model_swarms(["example", "--out", out.to_str().unwrap()]));
    let made = Arc::new(Inputs::at(out, folder));
    *shared = Arc::downgrade(&made);
    made
}

/// What a search reads.
pub struct Inputs {
    /// The base model's folder.
    pub base: PathBuf,
    /// The pool's folder.
    pub experts: PathBuf,
    /// The task file.
    pub task: PathBuf,
    /// The task's data file.
    pub data: PathBuf,
    /// The folder that a run can be made in.
    pub folder: PathBuf,
    _guard: TempDir,
}

impl Inputs {
    fn at(folder: PathBuf, guard: TempDir) -> Self {
        Self {
            base: folder.join("base"),
            experts: folder.join("experts"),
            task: folder.join("task.toml"),
            data: folder.join("task.json"),
            folder,
            _guard: guard,
        }
    }

    /// A copy with the first `n_experts` experts, and the first questions of each split: small, and
    /// free to be spoilt.
    pub fn copy(&self, n_experts: usize, n_dev: usize, n_test: usize) -> Self {
        let guard = tempfile::tempdir().unwrap();
        let copy = Self::at(guard.path().to_path_buf(), guard);
        copy_folder(&self.base, &copy.base);
        for expert in super::sub_folders(&self.experts).iter().take(n_experts) {
            copy_folder(expert, &copy.experts.join(expert.file_name().unwrap()));
        }
        let mut data = read_json(&self.data);
        for (split, n_left) in [("dev", n_dev), ("test", n_test)] {
            data[split].as_array_mut().unwrap().truncate(n_left);
        }
        fs::write(&copy.data, data.to_string()).unwrap();
        fs::copy(&self.task, &copy.task).unwrap();
        copy
    }

    /// The folder of expert `expert_idx`, in the order of their names.
    pub fn expert(&self, expert_idx: usize) -> PathBuf {
        super::sub_folders(&self.experts)[expert_idx].clone()
    }

    /// A search with these settings, into `out`.
    pub fn search(&self, out: &Path, settings: &[&str]) -> Command {
        let mut command = model_swarms(["search"]);
        command.arg("--base").arg(&self.base).arg("--experts").arg(&self.experts);
        command.arg("--task").arg(&self.task).arg("--out").arg(out);
        for setting in settings {
            command.args(["--set", setting]);
        }
        command
    }

    /// A measurement of `adapter`, or of the bare base, on one split of the task.
    pub fn eval(&self, adapter: Option<&Path>, split: &str) -> Command {
        let mut command = model_swarms(["eval", "--split", split]);
        command.arg("--base").arg(&self.base).arg("--task").arg(&self.task);
        if let Some(adapter) = adapter {
            command.arg("--adapter").arg(adapter);
        }
        command
    }

    /// A continuation of the prompts in a file.
    pub fn generate(&self, prompts: &Path, max_new_tokens: usize) -> Command {
        let mut command = model_swarms(["generate", "--max-new-tokens"]);
        command.arg(max_new_tokens.to_string());
        command.arg("--base").arg(&self.base).arg("--prompts").arg(prompts);
        command
    }

    /// Puts another task in the place of the copy's own: the task file's text, and its data.
    pub fn write_task(&self, toml: &str, data: &Value) {
        fs::write(&self.task, toml).unwrap();
        fs::write(&self.data, data.to_string()).unwrap();
    }
}

/// Copies a folder and all that is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// Every file below a folder, by its path in it; folders are there with a slash and no bytes.
pub fn files_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                files.insert(format!("{name}/"), Vec::new());
                left.push(path);
            } else {
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

/// Holds two results of [`files_of`] equal; the message names the files in which they differ.
#[track_caller]
pub fn assert_same_files(
    what: &str,
    found: &BTreeMap<String, Vec<u8>>,
    wanted: &BTreeMap<String, Vec<u8>>,
) {
    let names = found.keys().chain(wanted.keys());
    let differ: Vec<_> = names.filter(|name| found.get(*name) != wanted.get(*name)).collect();
    assert!(differ.is_empty(), "{what}: {differ:?} differ");
}
