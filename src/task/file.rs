//! The task file: a few lines of TOML that say what is asked of a model.
//!
//! ```toml
//! name = "nlgraph"
//! kind = "exact-match"                 # or multiple-choice, abstain, perplexity
//! data = "nlgraph.json"                # relative to this file
//! max_new_tokens = 10                  # default: the authors' number
//! chat = false                         # put prompts by the model's chat template
//! limit = { dev = 8, test = 16 }       # at most so many examples, the first ones
//! [quirks]                             # overrides of the mode's switches
//! exact_match = "substring"
//! ```
//!
//! `kind = "multi"` takes `tasks` (two task files) and `quirks.multi_zero`; `kind = "command"`
//! takes `program`, a list that gets the adapter's folder appended and prints one number.
//!
//! A misspelt key, or one that the kind does not take, is refused: it would otherwise change a
//! result in silence. The files that a task file names are not opened here.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::quirks::Overrides;
use super::{Kind, PromptForm};
use crate::error::{Error, Result};

/// A checked task file; paths are as written, relative to the file's folder.
pub struct TaskFile {
    /// The task's name.
    pub name: String,
    /// What the file describes.
    pub ask: FileAsk,
    /// The file's `[quirks]`.
    pub quirks: Overrides,
}

/// What a task file describes.
pub enum FileAsk {
    /// One task on a data file.
    Data {
        /// The kind, other than `Kind::Command`.
        kind: Kind,
        /// The data file.
        data: PathBuf,
        /// New tokens per answer, if the file says so.
        max_new_tokens: Option<usize>,
        /// How prompts are put.
        form: PromptForm,
        /// At most so many examples.
        limit: Limit,
    },
    /// A program that scores an adapter; its first word is not empty.
    Command(Vec<String>),
    /// Two task files, one score.
    Multi([PathBuf; 2]),
}

/// At most so many examples of each split, from the start of the file.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Of the validation examples.
    pub dev: Option<NonZeroUsize>,
    /// Of the test examples.
    pub test: Option<NonZeroUsize>,
}

impl TaskFile {
    /// Parses and checks a task file's text; `path` names it in errors.
    pub fn from_text(path: &Path, text: &str) -> Result<Self> {
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let place = error.span().map(|span| Error::place(text, span.start)).unwrap_or_default();
            Error::input(path, format!("{place}{}", error.message().replace('\n', ", ")))
        })?;
        raw.check().map_err(|what| Error::input(path, what))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    kind: RawKind,
    data: Option<PathBuf>,
    max_new_tokens: Option<NonZeroUsize>,
    chat: Option<bool>,
    limit: Option<Limit>,
    tasks: Option<Vec<PathBuf>>,
    program: Option<Vec<String>>,
    quirks: Option<Overrides>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
enum RawKind {
    One(Kind),
    Multi,
}

const KINDS: &str = "multiple-choice, exact-match, abstain, perplexity, command, multi";

impl TryFrom<String> for RawKind {
    type Error = String;

    fn try_from(kind: String) -> std::result::Result<Self, String> {
        if let Some(kind) = Kind::ALL.iter().find(|known| known.name() == kind) {
            return Ok(Self::One(*kind));
        }
        match kind.as_str() {
            "multi" => Ok(Self::Multi),
            "toxicity" | "reward" | "judge" => {
                Err(format!("tasks of kind {kind:?} are not supported yet, only {KINDS}"))
            }
            _ => Err(format!("unknown kind {kind:?}, wanted one of {KINDS}")),
        }
    }
}

impl Raw {
    fn check(self) -> std::result::Result<TaskFile, String> {
        if self.name.trim().is_empty() {
            return Err("`name` is empty".to_string());
        }
        self.refuse_foreign_keys()?;
        let quirks = self.quirks.unwrap_or_default();
        let ask = match self.kind {
            RawKind::Multi => {
                let tasks = self.tasks.ok_or("a multi task without `tasks`")?;
                let n_tasks = tasks.len();
                let tasks = <[PathBuf; 2]>::try_from(tasks)
                    .map_err(|_| format!("`tasks` names {n_tasks} files, wanted 2"))?;
                if quirks.touches_answers() {
                    return Err(
                        "a multi task's [quirks] take only `multi_zero`; the others belong \
                                into its tasks' own files"
                            .to_string(),
                    );
                }
                FileAsk::Multi(tasks)
            }
            RawKind::One(Kind::Command) => {
                let program = self.program.ok_or("a command task without `program`")?;
                if program.first().is_none_or(String::is_empty) {
                    return Err("`program` is empty, wanted a program and its arguments".into());
                }
                FileAsk::Command(program)
            }
            RawKind::One(kind) => {
                if quirks.multi_zero.is_some() {
                    return Err("`multi_zero` belongs into a multi task's [quirks]".to_string());
                }
                FileAsk::Data {
                    kind,
                    data: self
                        .data
                        .ok_or_else(|| format!("a {} task without `data`", kind.name()))?,
                    max_new_tokens: self.max_new_tokens.map(NonZeroUsize::get),
                    form: if self.chat == Some(true) { PromptForm::Chat } else { PromptForm::Raw },
                    limit: self.limit.unwrap_or_default(),
                }
            }
        };
        Ok(TaskFile { name: self.name, ask, quirks })
    }

    /// Refuses keys that the kind does not take.
    fn refuse_foreign_keys(&self) -> std::result::Result<(), String> {
        let (kind, taken): (&str, &[&str]) = match self.kind {
            RawKind::Multi => ("multi", &["tasks", "quirks"]),
            RawKind::One(Kind::Command) => ("command", &["program"]),
            RawKind::One(Kind::Perplexity) => ("perplexity", &["data", "limit"]),
            RawKind::One(kind) => {
                (kind.name(), &["data", "max_new_tokens", "chat", "limit", "quirks"])
            }
        };
        let given = [
            ("data", self.data.is_some()),
            ("max_new_tokens", self.max_new_tokens.is_some()),
            ("chat", self.chat.is_some()),
            ("limit", self.limit.is_some()),
            ("tasks", self.tasks.is_some()),
            ("program", self.program.is_some()),
            ("quirks", self.quirks.is_some()),
        ];
        match given.iter().find(|(key, is_given)| *is_given && !taken.contains(key)) {
            Some((key, _)) => Err(format!("a {kind} task takes no `{key}`")),
            None => Ok(()),
        }
    }
}
