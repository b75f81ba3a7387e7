//! Table 1 on a testbed made of the example.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::cli::{Inputs, example, model_swarms};
use super::read_json;

/// Validation examples of a task at smoke scale.
pub const N_DEV: usize = 16;
/// Test examples of a task at smoke scale.
pub const N_TEST: usize = 32;

/// A copy of the example with a testbed of these columns' tasks.
pub fn testbed(tasks: &[&str]) -> (Inputs, PathBuf) {
    let inputs = example().copy(10, 2 * N_DEV, 2 * N_TEST);
    let data = read_json(&inputs.data);
    fs::create_dir(inputs.folder.join("tasks")).unwrap();
    for (idx, task) in tasks.iter().enumerate() {
        let of = |split: &str, n: usize| data[split].as_array().unwrap()[idx * n..][..n].to_vec();
        let data = json!({"dev": of("dev", N_DEV), "test": of("test", N_TEST)});
        fs::write(inputs.folder.join(format!("tasks/{task}.json")), data.to_string()).unwrap();
        let text = format!(
            "name = \"{task}\"\nkind = \"multiple-choice\"\ndata = \"{task}.json\"\n\
             max_new_tokens = 2\n"
        );
        fs::write(inputs.folder.join(format!("tasks/{task}.toml")), text).unwrap();
    }
    let path = inputs.folder.join("testbed.toml");
    let text = "name = \"example\"\nbase = \"base\"\nexperts = \"experts\"\ntasks = \"tasks\"\n";
    fs::write(&path, text).unwrap();
    (inputs, path)
}

/// A reproduction of Table 1 at smoke scale.
pub fn table_1(testbed: &Path, out: &Path) -> Command {
    let mut command = model_swarms(["reproduce", "--table", "1", "--scale", "smoke"]);
    command.arg("--testbed").arg(testbed).arg("--out").arg(out);
    command
}
