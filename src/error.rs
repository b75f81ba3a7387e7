//! The one error type of the program.
//!
//! The world can be wrong: a file, a flag, a full disk. Each variant says what was found, where,
//! and what was wanted, in lower case without a full stop. Our own mistakes are `assert!`s instead.

use std::io;
use std::path::{Path, PathBuf};

/// Everything that can go wrong for reasons outside the program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory whose content cannot be used.
    #[error("{}: {what}", path.display())]
    Input {
        /// The file or directory at fault.
        path: PathBuf,
        /// What was found and what was wanted.
        what: String,
    },
    /// The operating system refused an operation on a file.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Io {
        /// The file or directory concerned.
        path: PathBuf,
        /// The operation, as an infinitive: "read", "create", "sync".
        doing: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The command line or a setting asks for something impossible.
    #[error("{0}")]
    Usage(String),
    /// A check ran and did not hold.
    #[error("{0}")]
    Check(String),
}

/// The result type used everywhere.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The file at `path` cannot be used, because `what`.
    pub fn input(path: impl AsRef<Path>, what: impl Into<String>) -> Self {
        Self::Input { path: path.as_ref().to_path_buf(), what: what.into() }
    }

    /// For `map_err`: the operating system refused to `doing` (an infinitive) the file at `path`.
    pub fn io(path: impl AsRef<Path>, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, doing, source }
    }

    /// "line 3, column 1: ", for the place of byte `offset` in `text`.
    pub fn place(text: &str, offset: usize) -> String {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        format!("line {line}, column {column}: ")
    }

    /// The process exit code: 1 for a check that did not hold, 2 for bad input or usage.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Check(_) => 1,
            _ => 2,
        }
    }
}
