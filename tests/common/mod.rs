//! What several tests share: where the goldens are.
#![allow(dead_code)] // each test uses its own part

pub mod cli;
pub mod spoil;
pub mod table;

use std::path::{Path, PathBuf};

/// The folders of goldens to hold ours to: the core in this repository, and the whole set where it is
/// (`$MODEL_SWARMS_GOLDEN`, or `../shared/golden`).
pub fn golden_roots() -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let full = match std::env::var_os("MODEL_SWARMS_GOLDEN") {
        Some(folder) => PathBuf::from(folder),
        None => here.join("../shared/golden"),
    };
    let mut roots = vec![here.join("tests/golden")];
    if full.is_dir() {
        roots.push(full);
    } else {
        println!("skipped: no goldens at {}", full.display());
    }
    roots
}

/// The sub-folders of a folder, sorted by name; none if there is no such folder.
pub fn sub_folders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// A JSON file.
pub fn read_json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
