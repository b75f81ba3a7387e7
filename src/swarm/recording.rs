//! A journal as it is read: what was asked for, and every iteration that was completed.
//!
//! Format 1 is JSON lines: a [`Header`], then one [`IterationRecord`] per iteration from 0 on. A
//! last line without its line feed was cut by a kill and does not count. Replaying means running
//! the search anew with the recorded utilities and holding it to what was written, bit for bit.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::IterationRecord;
use super::search::Search;
use super::settings::Settings;
use super::space::Space;
use crate::error::{Error, Result};
use crate::mode::Mode;

const FORMAT: u32 = 1;

/// What a run is a run of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    format: u32,
    /// The seed of the run's draws.
    pub seed: u64,
    /// Whose defaults the settings started from.
    pub mode: Mode,
    /// All choices of the search.
    pub settings: Settings,
    /// The experts in the order of the coefficients.
    pub experts: Vec<String>,
    /// Whatever else makes two runs the same to the caller: hashes of inputs, versions.
    pub fingerprint: Value,
}

impl Header {
    /// The header of a run about to start.
    pub fn new(
        seed: u64,
        mode: Mode,
        settings: Settings,
        experts: Vec<String>,
        fingerprint: Value,
    ) -> Self {
        Self { format: FORMAT, seed, mode, settings, experts, fingerprint }
    }
}

/// The completed lines of a journal.
#[derive(Debug, Clone)]
pub struct Recording {
    path: PathBuf,
    header: Header,
    lines: Vec<String>, // (n_iterations + 1), without line feeds
}

impl Recording {
    /// Reads the journal at `path` and changes nothing.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io(path, "read"))?;
        let recording = Self::parse(path, &bytes)?;
        recording.ok_or_else(|| Error::input(path, "line 1 is not complete; wanted a header"))
    }

    /// The complete lines among `bytes`; none where not even the header is complete.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Option<Self>> {
        let wrong = |line: usize, what: String| Error::input(path, format!("line {line}: {what}"));
        let mut header = None;
        let mut lines = Vec::new();
        for (i, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let Some((b'\n', line)) = line.split_last() else { break };
            let line =
                str::from_utf8(line).map_err(|_| wrong(i + 1, "wanted UTF-8 text".into()))?;
            if i == 0 {
                header = Some(parse_header(line).map_err(|what| wrong(1, what))?);
                continue;
            }
            let record: IterationRecord =
                serde_json::from_str(line).map_err(|error| wrong(i + 1, error.to_string()))?;
            if record.iteration as usize != i - 1 {
                let found = record.iteration;
                return Err(wrong(i + 1, format!("iteration is {found}, wanted {}", i - 1)));
            }
            lines.push(line.to_owned());
        }
        Ok(header.map(|header| Self { path: path.into(), header, lines }))
    }

    /// What the run is a run of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How many iterations were completed, iteration 0 included.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether not even iteration 0 was completed.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Iteration `iteration` as it was written.
    pub fn record(&self, iteration: u32) -> Result<IterationRecord> {
        let Some(line) = self.lines.get(iteration as usize) else {
            let what = format!("iteration {iteration} is not recorded; there are {}", self.len());
            return Err(Error::input(&self.path, what));
        };
        serde_json::from_str(line).map_err(|error| self.wrong(iteration, error.to_string()))
    }

    /// Runs `search`, which must be new and made from the header, up to and including `iteration`
    /// with the recorded utilities. Its space then holds every particle as it was evaluated.
    pub fn replay_to<S: Space>(
        &self,
        search: &mut Search<S>,
        iteration: u32,
    ) -> Result<IterationRecord> {
        let wanted = self.record(iteration)?;
        while search.next_iteration() <= iteration {
            self.replay_one(search)?;
        }
        Ok(wanted)
    }

    /// Runs the next iteration of `search` with the recorded utilities, and holds everything that
    /// it computes to the recorded line.
    pub(super) fn replay_one<S: Space>(&self, search: &mut Search<S>) -> Result<IterationRecord> {
        let k = search.next_iteration();
        let recorded = self.record(k)?;
        let computed = search.advance(|_, particles| {
            let f: Option<Vec<f64>> =
                particles.iter().map(|&i| recorded.f.get(i).copied()).collect();
            f.ok_or_else(|| self.wrong(k, "f has too few values".into()))
        })?;
        let Some(computed) = computed else {
            return Err(self.wrong(k, "the search was over before this iteration".into()));
        };
        let (line, again) = (&self.lines[k as usize], to_line(&computed));
        if *line == again {
            return Ok(computed);
        }
        let what = match (serde_json::from_str(line), serde_json::from_str(&again)) {
            (Ok(line), Ok(again)) => first_difference("", &line, &again),
            _ => None,
        };
        Err(self.wrong(
            k,
            match what {
                Some(Difference { field, left, right }) => {
                    format!("{field} is {left}, but replaying the run gives {right}")
                }
                None => "not written as this program writes it".into(),
            },
        ))
    }

    /// Refuses a recording that is of another run than `wanted`.
    pub(super) fn check_header(&self, wanted: &Header) -> Result<()> {
        let [found, wanted] = [&self.header, wanted].map(to_line);
        if found == wanted {
            return Ok(());
        }
        let what = match (serde_json::from_str(&found), serde_json::from_str(&wanted)) {
            (Ok(found), Ok(wanted)) => first_difference("", &found, &wanted),
            _ => None,
        };
        let what = match what {
            Some(Difference { field, left, right }) => {
                format!("line 1: {field} is {left}, but this run asks for {right}")
            }
            None => "line 1: the header's fields are in another order".into(),
        };
        Err(Error::input(&self.path, what))
    }

    fn wrong(&self, iteration: u32, what: String) -> Error {
        Error::input(&self.path, format!("line {}: {what}", u64::from(iteration) + 2))
    }
}

/// One line of a journal, without the line feed.
pub(super) fn to_line(value: &impl Serialize) -> String {
    match serde_json::to_string(value) {
        Ok(line) => line,
        Err(error) => unreachable!("headers and records are plain data: {error}"),
    }
}

fn parse_header(line: &str) -> std::result::Result<Header, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let format = &value["format"];
    if *format != FORMAT {
        return Err(format!("format is {format}, wanted {FORMAT}"));
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// A field in which two JSON values differ, with both values as text.
struct Difference {
    field: String,
    left: String,
    right: String,
}

/// The first field, in the order of `left`, in which two values differ.
fn first_difference(field: &str, left: &Value, right: &Value) -> Option<Difference> {
    if left == right {
        return None;
    }
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|&key| !a.contains_key(key)));
            let dot = if field.is_empty() { "" } else { "." };
            keys.filter_map(|key| {
                let (a, b) = (a.get(key), b.get(key));
                let name = format!("{field}{dot}{key}");
                first_difference(&name, a.unwrap_or(&Value::Null), b.unwrap_or(&Value::Null))
            })
            .next()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => (a.iter().zip(b).enumerate())
            .find_map(|(i, (a, b))| first_difference(&format!("{field}[{i}]"), a, b)),
        _ => Some(Difference {
            field: field.to_owned(),
            left: left.to_string(),
            right: right.to_string(),
        }),
    }
}
