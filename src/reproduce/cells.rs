//! A finished cell is one file: written in one piece, and taken up by the next run if it was made
//! of the same inputs by the same job.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::backend::Precision;
use crate::error::{Error, Result};
use crate::files::{read_text, sha256_of, take, write_atomic};
use crate::plan::Job;

/// A cell's number, and how it came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellRecord {
    /// The row's name.
    pub row: String,
    /// The column's name.
    pub column: String,
    /// The suite's seed.
    pub seed: u64,
    /// f on the validation examples, which guided the method.
    pub dev: f64,
    /// The same on the test examples, where there are some.
    pub test: Option<f64>,
    /// What each test example was worth, in file order, where f is their mean; else none.
    #[serde(with = "on_one_line")]
    pub test_scores: Vec<f64>,
    /// Validation examples.
    pub n_dev: usize,
    /// Test examples.
    pub n_test: usize,
    /// How often f was asked for.
    pub calls: u64,
    /// Of a method that searches: how often f had been asked for whenever the best f so far rose,
    /// and that f. It may end above `dev`, as a merge is reported even if a lone expert is better.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<(u64, f64)>,
    /// What won.
    pub winner: Value,
    /// Everything that the number depends on, besides the input files.
    pub job: Value,
    /// SHA-256 of the job and of the SHA-256 of every input file.
    pub fingerprint: String,
}

/// Numbers as one text, "1 0 0.5": a thousand of them are one line of a cell's file.
mod on_one_line {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(numbers: &[f64], to: S) -> Result<S::Ok, S::Error> {
        let texts: Vec<String> = numbers.iter().map(f64::to_string).collect();
        to.serialize_str(&texts.join(" "))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let text = String::deserialize(from)?;
        let number = |part: &str| part.parse().map_err(|_| format!("{part:?} is no number"));
        text.split_whitespace().map(number).collect::<Result<_, _>>().map_err(Error::custom)
    }
}

/// What a cell is made of, in 64 hexadecimal digits: the program's version, the experts in their
/// order, the input files by role and SHA-256, the job, and how exact the device computes.
pub fn fingerprint(
    job: &Job,
    experts: &[String],
    files: &BTreeMap<&str, &str>,
    precision: Precision,
) -> String {
    let made_of = json!({
        "version": env!("CARGO_PKG_VERSION"), "experts": experts, "sha256": files, "job": job,
        "precision": precision,
    });
    sha256_of(made_of.to_string().as_bytes())
}

/// The cell that is kept at `path`; none if there is no such file.
///
/// # Errors
/// A file that is no cell, or one made of other inputs or by another job.
pub fn read(path: &Path, fingerprint: &str) -> Result<Option<CellRecord>> {
    if !path.exists() {
        return Ok(None);
    }
    let cell: CellRecord = serde_json::from_str(&read_text(path)?)
        .map_err(|error| Error::input(path, format!("not a cell: {error}")))?;
    if cell.fingerprint != fingerprint {
        let what = "was made with other inputs or settings; choose another folder, or remove this \
                    file to have the cell computed again";
        return Err(Error::input(path, what));
    }
    Ok(Some(cell))
}

/// The best so far of utilities in the order of their calls: (calls, f) wherever it rises.
pub fn curve(utilities: &[f64]) -> Vec<(u64, f64)> {
    let mut curve: Vec<(u64, f64)> = Vec::new();
    for (call_idx, &utility) in utilities.iter().enumerate() {
        if curve.last().is_none_or(|(_, best)| utility > *best) {
            curve.push((call_idx as u64 + 1, utility));
        }
    }
    curve
}

/// Takes the folder of the cells for this process: two would compute everything twice.
pub fn hold(folder: &Path) -> Result<File> {
    let file = File::open(folder).map_err(Error::io(folder, "open"))?;
    take(&file, folder, "another process is computing cells here")?;
    Ok(file)
}

/// Keeps a cell.
pub fn write(path: &Path, cell: &CellRecord) -> Result<()> {
    let json = serde_json::to_string_pretty(cell).expect("plain data");
    write_atomic(path, |file| writeln!(file, "{json}"))
}

/// The folder of the cells in `out`, which must be a folder of cells, empty, or not there; makes
/// nothing.
pub fn folder(out: &Path) -> Result<PathBuf> {
    let cells = out.join("cells");
    let is_used = out.exists()
        && !cells.is_dir()
        && std::fs::read_dir(out).map_err(Error::io(out, "list"))?.next().is_some();
    if is_used {
        let what = "holds files but no cells, wanted an empty folder or one that is not there";
        return Err(Error::input(out, what));
    }
    Ok(cells)
}
