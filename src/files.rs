//! Files that must never be half-written, and their fingerprints.
//!
//! Whatever may later be mapped or resumed is written to a temporary name beside its place, synced
//! and renamed. A directory is filled under a temporary name and renamed as a whole.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Reads a whole text file.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io(path, "read"))
}

/// The JSON objects of a text file, one a line.
pub fn json_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = read_text(path)?;
    let parse = |(line_idx, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|error| Error::input(path, format!("line {}: {error}", line_idx + 1)))
    };
    text.lines().enumerate().map(parse).collect()
}

/// Writes `path` in one piece: `fill` writes to a temporary file beside it, which is then synced
/// and renamed. When anything fails the temporary file is removed and `path` is as it was. What a
/// link leads to is replaced, not the link; a device or a pipe is written to.
pub fn write_atomic(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    if is_stream(path) {
        let mut file = File::options().write(true).open(path).map_err(Error::io(path, "open"))?;
        return fill(&mut file).map_err(Error::io(path, "write"));
    }
    let place = place_of(path);
    let temporary = beside(&place, "partial");
    let written = (|| {
        let mut file = File::create(&temporary).map_err(Error::io(path, "create"))?;
        let mut buffered = io::BufWriter::new(&mut file);
        fill(&mut buffered).and_then(|()| buffered.flush()).map_err(Error::io(path, "write"))?;
        drop(buffered);
        file.sync_all().map_err(Error::io(path, "sync"))?;
        fs::rename(&temporary, &place).map_err(Error::io(path, "rename"))
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
        return written;
    }
    sync_parent(&place)
}

/// Whether a file can be written at `path`: asked before a long computation whose result goes
/// there.
pub fn check_writable(path: &Path) -> Result<()> {
    if is_stream(path) {
        return Ok(());
    }
    if path.is_dir() {
        return Err(Error::input(path, "is a folder, wanted a file"));
    }
    let temporary = beside(&place_of(path), "partial");
    File::create(&temporary).map_err(Error::io(path, "create"))?;
    fs::remove_file(&temporary).map_err(Error::io(path, "create"))
}

/// Refuses a path without a name at its end, such as `.`: there is no place beside it.
pub fn check_named(path: &Path) -> Result<()> {
    match path.components().next_back() {
        Some(Component::Normal(_)) => Ok(()),
        _ => Err(Error::input(path, "ends without a name, wanted the folder's own")),
    }
}

/// Makes the directory `path` appear in one piece: `fill` fills a temporary directory beside it,
/// which then takes the place of whatever stood at `path`. Killed at any moment, `path` is the old
/// directory, the new one, or not there; what is left beside it goes the next time.
pub fn write_dir_atomic(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    check_named(path)?;
    let place = place_of(path);
    let (temporary, replaced) = (beside(&place, "partial"), beside(&place, "replaced"));
    let _ = fs::remove_dir_all(&temporary);
    let _ = fs::remove_dir_all(&replaced);
    let written = (|| {
        fs::create_dir_all(&temporary).map_err(Error::io(path, "create"))?;
        fill(&temporary)?;
        if place.exists() {
            fs::rename(&place, &replaced).map_err(Error::io(path, "replace"))?;
        }
        fs::rename(&temporary, &place).map_err(Error::io(path, "rename"))
    })();
    if written.is_err() {
        let _ = fs::remove_dir_all(&temporary);
        return written;
    }
    let _ = fs::remove_dir_all(&replaced);
    sync_parent(&place)
}

/// SHA-256 of a file, in lower-case hexadecimal.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n_read = file.read(&mut buffer).map_err(Error::io(path, "read"))?;
        if n_read == 0 {
            break;
        }
        hasher.update(&buffer[..n_read]);
    }
    Ok(hex(&hasher.finalize()))
}

/// SHA-256 of bytes in memory, in lower-case hexadecimal.
pub fn sha256_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Takes `file`, which was opened at `path`, for this process alone until it is closed; where
/// another one holds it, that is the error's `what`.
pub fn take(file: &File, path: &Path, what: &str) -> Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::input(path, what)),
        _ => Ok(()), // a file system that knows no locks is no fault of the user's
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether something is there that takes bytes and keeps no file.
fn is_stream(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir())
}

/// Where `path` leads: behind its links, where it is there.
fn place_of(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.components().collect())
}

fn beside(place: &Path, ending: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(place.file_name().unwrap_or_default());
    name.push(format!(".{ending}"));
    place.with_file_name(name)
}

fn sync_parent(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = File::open(parent).map_err(Error::io(parent, "open"))?;
    directory.sync_all().map_err(Error::io(parent, "sync"))
}
