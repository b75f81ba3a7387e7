//! The journal of a run: the truth of it, append-only, so that a killed run goes on as if nothing
//! had happened.
//!
//! Each line is on disk before the next iteration starts. To resume is to replay: the search runs
//! from its seed, is given the recorded utilities in place of evaluations, and must come to the
//! recorded locations bit for bit ([`Recording`]); then it goes on, and every later byte is the
//! same as without the interruption.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::record::{IterationRecord, Outcome};
use super::recording::{Header, Recording, to_line};
use super::search::Search;
use super::space::Space;
use crate::error::{Error, Result};
use crate::files::take;

/// How a run takes up its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// There must be none yet.
    Fresh,
    /// Goes on where it ends, wherever that is; where there is none, starts one.
    Resume,
}

/// A journal open for writing. No two processes can hold the same one.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    recording: Option<Recording>,
}

impl Journal {
    /// Opens the journal at `path` for a run of `header`. Resuming cuts off a last line that was
    /// not completed, and refuses a journal of another run, naming the first field that differs. A
    /// run that ended before it had measured anything is none.
    pub fn open(path: &Path, header: &Header, start: Start) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(Error::io(path, "open"))?;
        take(&file, path, "another process is running this search")?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
        // Where nothing was measured, it was a mistake in the inputs, say, that is mended by now.
        let measured = |found: Option<Recording>| found.filter(|recording| !recording.is_empty());
        let recording = match (Recording::parse(path, &bytes).map(measured), start) {
            (Ok(Some(_)) | Err(_), Start::Fresh) => {
                let what = "a run is recorded here; resume it or choose another";
                return Err(Error::input(path, what));
            }
            (recording, _) => recording?,
        };
        if let Some(recording) = &recording {
            recording.check_header(header)?;
        }
        let last = recording.as_ref().and_then(|_| bytes.iter().rposition(|&byte| byte == b'\n'));
        let kept = last.map_or(0, |end| end + 1);
        file.set_len(kept as u64).map_err(Error::io(path, "shorten"))?;
        file.seek(SeekFrom::End(0)).map_err(Error::io(path, "seek in"))?;
        let is_new = recording.is_none();
        let mut journal = Self { path: path.into(), file, recording };
        if is_new {
            journal.append(&to_line(header))?;
            sync_directory(path)?;
        }
        Ok(journal)
    }

    /// Runs `search`, which must be new and made from the header, to its end. Recorded iterations
    /// are replayed, later ones evaluated and written down; `observe` sees all of them.
    pub fn run<S: Space>(
        &mut self,
        search: &mut Search<S>,
        mut evaluate: impl FnMut(&S, &[usize]) -> Result<Vec<f64>>,
        mut observe: impl FnMut(&IterationRecord) -> Result<()>,
    ) -> Result<Outcome> {
        while let Some(record) = self.advance(search, &mut evaluate)? {
            observe(&record)?;
        }
        Ok(search.outcome())
    }

    /// Runs one iteration of `search`: replays it where it is recorded, otherwise evaluates it and
    /// writes it down. None once the search is over. A caller that injects experts between
    /// iterations must do so at the same places when it resumes.
    pub fn advance<S: Space>(
        &mut self,
        search: &mut Search<S>,
        evaluate: impl FnOnce(&S, &[usize]) -> Result<Vec<f64>>,
    ) -> Result<Option<IterationRecord>> {
        if let Some(recording) = &self.recording
            && (search.next_iteration() as usize) < recording.len()
        {
            return recording.replay_one(search).map(Some);
        }
        let record = search.advance(evaluate)?;
        if let Some(record) = &record {
            self.append(&to_line(record))?;
        }
        Ok(record)
    }

    fn append(&mut self, line: &str) -> Result<()> {
        let line = format!("{line}\n");
        self.file.write_all(line.as_bytes()).map_err(Error::io(&self.path, "write"))?;
        self.file.sync_data().map_err(Error::io(&self.path, "sync"))
    }
}

/// Makes the name of a new file as durable as its content.
fn sync_directory(path: &Path) -> Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let opened = File::open(directory).map_err(Error::io(directory, "open"))?;
    opened.sync_all().map_err(Error::io(directory, "sync"))
}
