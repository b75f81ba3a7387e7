//! What a reproduction is expected to come to: the numbers and verdicts of an earlier one, kept as
//! a small JSON file (`expected/`), and the comparison, which is exact.
//!
//! Numbers are equal on every machine, so any difference is a change of the program or its inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::results::Results;
use super::{CellRecord, Request};
use crate::claims::Judgement;
use crate::error::{Error, Result};
use crate::files::{read_text, write_atomic};
use crate::suite::{Item, Scale};

/// Those of the built-in testbed, by their path in the repository.
const EMBEDDED: &[(&str, &str)] = &[
    ("expected/mini/table01.json", include_str!("../../expected/mini/table01.json")),
    ("expected/smoke/table01.json", include_str!("../../expected/smoke/table01.json")),
];

/// The numbers and verdicts of one reproduction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Which table.
    pub item: Item,
    /// The testbed's name.
    pub testbed: String,
    /// At which sizes.
    pub scale: Scale,
    /// The suite's seeds, or those in their place.
    pub seeds: Vec<u64>,
    /// The program's version.
    pub version: String,
    /// The commit that made it.
    pub commit: String,
    /// Each claim's verdict; none where it was not judged.
    pub verdicts: BTreeMap<String, Option<Judgement>>,
    /// The cells that have a number.
    pub cells: Vec<CellValue>,
}

/// A cell's number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellValue {
    /// The row's name.
    pub row: String,
    /// The column's name.
    pub column: String,
    /// The suite's seed.
    pub seed: u64,
    /// f on the validation examples.
    pub dev: f64,
    /// f on the test examples, where there are some.
    pub test: Option<f64>,
}

/// What is expected of the built-in testbed for `request`, and under which path; none if there is
/// no such file.
pub fn embedded(request: &Request) -> Result<Option<(&'static Path, Expected)>> {
    for (path, text) in EMBEDDED {
        let path = Path::new(path);
        let expected = Expected::parse(path, text)?;
        if expected.is_for(request) {
            return Ok(Some((path, expected)));
        }
    }
    Ok(None)
}

impl Expected {
    /// What `results` came to, made by the program at `commit`.
    pub fn of(results: &Results, commit: &str) -> Self {
        let value = |cell: &CellRecord| CellValue {
            row: cell.row.clone(),
            column: cell.column.clone(),
            seed: cell.seed,
            dev: cell.dev,
            test: cell.test,
        };
        let claims = results.claims.iter().map(|claim| (claim.id.clone(), claim.verdict));
        let stars = results.stars.iter().filter(|star| star.printed > 0);
        let verdicts = claims.chain(stars.map(|star| (star.id.clone(), star.verdict)));
        Self {
            item: results.item,
            testbed: results.testbed.clone(),
            scale: results.scale,
            seeds: results.seeds.clone(),
            version: results.version.clone(),
            commit: commit.to_string(),
            verdicts: verdicts.collect(),
            cells: results.computed().map(value).collect(),
        }
    }

    /// Reads the file at `path`, which must be of what is asked for.
    pub fn open(path: &Path, request: &Request) -> Result<Self> {
        let expected = Self::parse(path, &read_text(path)?)?;
        if expected.is_for(request) {
            return Ok(expected);
        }
        let Self { item, testbed, scale, seeds, .. } = &expected;
        let described = |item: Item, testbed: &str, scale: Scale, seeds: &[u64]| {
            format!("{item} on testbed {testbed}, scale {}, seeds {seeds:?}", scale.name())
        };
        let found = described(*item, testbed, *scale, seeds);
        let Request { suite, testbed, scale, .. } = request;
        let wanted = described(suite.item, &testbed.name, *scale, &request.seeds());
        Err(Error::input(path, format!("is of {found}, wanted {wanted}")))
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map_err(|error| Error::input(path, format!("not expected values: {error}")))
    }

    /// Whether this is about the same table, testbed, scale and seeds.
    fn is_for(&self, request: &Request) -> bool {
        self.item == request.suite.item
            && self.testbed == request.testbed.name
            && self.scale == request.scale
            && self.seeds == request.seeds()
    }

    /// Writes the file: one line for each cell, so that a change of it can be read.
    pub fn write(&self, path: &Path) -> Result<()> {
        let head = serde_json::to_string_pretty(&Self { cells: Vec::new(), ..self.clone() });
        let head = head.expect("plain data");
        let cells = self.cells.iter().map(|cell| serde_json::to_string(cell).expect("plain data"));
        let cells: Vec<String> = cells.map(|cell| format!("    {cell}")).collect();
        let cells = match cells.is_empty() {
            true => "[]".to_string(),
            false => format!("[\n{}\n  ]", cells.join(",\n")),
        };
        let head = head.strip_suffix("[]\n}").unwrap_or(&head);
        write_atomic(path, |file| writeln!(file, "{head}{cells}\n}}"))
    }

    /// Every difference of `results` from this, a line each: cell by cell, then claim by claim.
    pub fn departures(&self, results: &Results) -> Vec<String> {
        let found = Self::of(results, &self.commit);
        let mut lines = Vec::new();
        let same = |a: &CellValue, b: &CellValue| {
            (&a.row, &a.column, a.seed) == (&b.row, &b.column, b.seed)
        };
        let mut compare = |place: &CellValue, old: Option<&CellValue>, new: Option<&CellValue>| {
            let CellValue { row, column, seed, .. } = place;
            for (split, of) in SPLITS {
                let [old, new] = [old, new].map(|value| value.and_then(of));
                if old != new {
                    let [old, new] = [old, new].map(|value| or_none(value, "no number"));
                    lines.push(format!(
                        "{row} on {column}, {split}, seed {seed}: expected {old}, found {new}"
                    ));
                }
            }
        };
        for old in &self.cells {
            compare(old, Some(old), found.cells.iter().find(|new| same(old, new)));
        }
        for new in &found.cells {
            if !self.cells.iter().any(|old| same(old, new)) {
                compare(new, None, Some(new));
            }
        }
        let claims: BTreeSet<&String> = self.verdicts.keys().chain(found.verdicts.keys()).collect();
        for claim in claims {
            let [old, new] = [self, &found].map(|of| of.verdicts.get(claim).copied());
            if old != new {
                let text = |verdict: Option<Option<Judgement>>| {
                    or_none(verdict.map(super::verdict_text), "no such claim")
                };
                let (old, new) = (text(old), text(new));
                lines.push(format!("claim {claim}: expected \"{old}\", found \"{new}\""));
            }
        }
        lines
    }
}

/// A split and a value's number on it.
type OfSplit = (&'static str, fn(&CellValue) -> Option<f64>);

const SPLITS: [OfSplit; 2] = [("dev", |value| Some(value.dev)), ("test", |value| value.test)];

fn or_none(value: Option<impl Display>, none: &str) -> String {
    value.map_or(none.to_string(), |value| value.to_string())
}
