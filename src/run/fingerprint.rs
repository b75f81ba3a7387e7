//! What a run is a run of: every choice resolved, and the SHA-256 of every input.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use crate::adapter::Pool;
use crate::backend::Precision;
use crate::error::{Error, Result};
use crate::files::{sha256, write_atomic};
use crate::mode::Mode;
use crate::swarm::Header;
use crate::swarm::settings::Settings;

/// What is read of a base besides its weights.
const BASE_FILES: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];

/// `run.toml`: enough to repeat the run, and to know whether it is the same.
#[derive(Debug, Clone, Serialize)]
pub struct RunFile {
    /// The program's version.
    pub version: &'static str,
    /// The seed of all draws.
    pub seed: u64,
    /// Whose defaults the settings started from.
    pub mode: Mode,
    /// How exact the device computed.
    pub precision: Precision,
    /// The base model, as given.
    pub base: String,
    /// The pool's folder, as given.
    pub experts: String,
    /// The task file, as given.
    pub task: String,
    /// All choices of the search.
    pub settings: Settings,
    /// SHA-256 of every input file, by its role and name.
    pub sha256: BTreeMap<String, String>,
}

impl RunFile {
    /// Writes the file in one piece.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).expect("strings and numbers make TOML");
        write_atomic(path, |out| out.write_all(text.as_bytes()))
    }
}

/// The hashes of a base's files, a pool's and a task's, computed side by side.
pub fn hashes(
    base_dir: &Path,
    weight_files: &[PathBuf],
    pool: &Pool,
    task_files: &[PathBuf],
) -> Result<BTreeMap<String, String>> {
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for name in BASE_FILES {
        if base_dir.join(name).exists() {
            files.push((format!("base/{name}"), base_dir.join(name)));
        }
    }
    for path in weight_files {
        files.push((format!("base/{}", file_name(path)), path.clone()));
    }
    files.extend(expert_files(pool));
    for (idx, path) in task_files.iter().enumerate() {
        files.push((format!("task/{idx}/{}", file_name(path)), path.clone()));
    }
    files.into_par_iter().map(|(role, path)| Ok((role, sha256(&path)?))).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Creates a run's directory, or takes one that is empty or holds a run.
pub fn prepare_directory(out: &Path) -> Result<()> {
    if out.is_dir() {
        let mut entries = std::fs::read_dir(out).map_err(Error::io(out, "list"))?;
        let is_run = out.join("journal.jsonl").exists();
        if !is_run && entries.next().is_some() {
            let what = "holds files but no run, wanted an empty folder or one that is not there";
            return Err(Error::input(out, what));
        }
        return Ok(());
    }
    std::fs::create_dir_all(out).map_err(Error::io(out, "create"))
}

/// Whether the pool is the one that a run was made with: names, order and files.
pub fn check_experts(pool: &Pool, folder: &Path, header: &Header) -> Result<()> {
    let names = pool.names();
    if names != header.experts {
        let what = format!("holds {names:?}, the run was made with {:?}", header.experts);
        return Err(Error::input(folder, what));
    }
    for (role, path) in expert_files(pool) {
        let recorded = &header.fingerprint["sha256"][&role];
        if recorded.as_str() != Some(&sha256(&path)?) {
            return Err(Error::input(&path, "is not the file that the run was made with"));
        }
    }
    Ok(())
}

fn expert_files(pool: &Pool) -> impl Iterator<Item = (String, PathBuf)> {
    pool.experts.iter().flat_map(|expert| {
        ["adapter_config.json", "adapter_model.safetensors"]
            .map(|name| (format!("experts/{}/{name}", expert.name), expert.dir().join(name)))
    })
}
