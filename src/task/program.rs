//! A program of the user's, as a task file names it. It is run elsewhere.

use std::path::{Path, PathBuf};

use super::beside;
use crate::error::{Error, Result};

/// A program and where it runs.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program and its arguments; one named by a path is absolute.
    pub words: Vec<String>,
    /// The task file's folder, absolute.
    pub directory: PathBuf,
}

impl Program {
    /// The program that the task file at `path` gives in `words`, of which there is one at least.
    pub fn resolve(path: &Path, mut words: Vec<String>) -> Result<Self> {
        let absolute = std::path::absolute(path).map_err(Error::io(path, "find the folder of"))?;
        let directory = beside(&absolute, Path::new(""));
        if Path::new(&words[0]).components().count() > 1 {
            words[0] = directory.join(&words[0]).to_string_lossy().into_owned();
        }
        Ok(Self { words, directory })
    }

    /// The program itself, where it is named by a path at which nothing is.
    pub fn lacking(&self) -> Option<&Path> {
        let path = Path::new(&self.words[0]);
        (path.is_absolute() && !path.exists()).then_some(path)
    }

    /// The files below its folder that its words name: a script is as much an input as data is.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        let files = self.words.iter().map(|word| self.directory.join(word));
        files.filter(|path| path.starts_with(&self.directory) && path.is_file())
    }
}
