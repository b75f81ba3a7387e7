//! The task file: a few lines of TOML that say what is asked of a model.
//!
//! ```toml
//! name = "nlgraph"
//! kind = "exact-match"                 # or multiple-choice, abstain, toxicity, perplexity
//! data = "nlgraph.json"                # relative to this file
//! max_new_tokens = 10                  # default: the authors' number
//! chat = false                         # put prompts by the model's chat template
//! limit = { dev = 8, test = 16 }       # at most so many examples, the first ones
//! [quirks]                             # overrides of the mode's switches
//! exact_match = "substring"
//! ```
//!
//! `kind = "multi"` takes `tasks` (two task files) and `quirks.multi_zero`; `kind = "command"`
//! takes `program`, a list that gets the adapter's folder appended and prints one number;
//! `kind = "toxicity"` takes `scorer`, which is one of
//!
//! ```toml
//! scorer = { lexicon = "toxicity.json" }                # {"words": {"word": 0.8, ...}}
//! scorer = { program = ["python3", "perspective.py"] }
//! ```
//!
//! where the program reads a line `{"prompt": ..., "text": ...}` for each text on its standard
//! input and prints a number from 0 to 1 for each, a line each. It runs in the task file's folder.
//!
//! A misspelt key, or one that the kind does not take, is refused: it would otherwise change a
//! result in silence. The files that a task file names are not opened here.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

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
        /// Who rates texts, in a task of kind `Kind::Toxicity`.
        scorer: Option<ScorerAsk>,
    },
    /// A program that scores an adapter; its first word is not empty.
    Command(Vec<String>),
    /// Two task files, one score.
    Multi([PathBuf; 2]),
}

/// Who rates the toxicity of texts.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawScorer")]
pub enum ScorerAsk {
    /// The word list in this file.
    Lexicon(PathBuf),
    /// This program; its first word is not empty.
    Program(Vec<String>),
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
        let refuse = |at: Option<Range<usize>>, what: &str| {
            let place = at.map(|at| Error::place(text, at.start)).unwrap_or_default();
            Error::input(path, format!("{place}{}", what.replace('\n', ", ")))
        };
        let raw: Raw =
            toml::from_str(text).map_err(|error| refuse(error.span(), error.message()))?;
        raw.check().map_err(|(at, what)| refuse(Some(at), &what))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: Spanned<String>,
    kind: Spanned<RawKind>,
    data: Option<Spanned<PathBuf>>,
    max_new_tokens: Option<Spanned<NonZeroUsize>>,
    chat: Option<Spanned<bool>>,
    limit: Option<Spanned<Limit>>,
    scorer: Option<Spanned<ScorerAsk>>,
    tasks: Option<Spanned<Vec<PathBuf>>>,
    program: Option<Spanned<Vec<String>>>,
    quirks: Option<Spanned<Overrides>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScorer {
    lexicon: Option<PathBuf>,
    program: Option<Vec<String>>,
}

impl TryFrom<RawScorer> for ScorerAsk {
    type Error = String;

    fn try_from(raw: RawScorer) -> std::result::Result<Self, String> {
        match (raw.lexicon, raw.program) {
            (Some(lexicon), None) => Ok(Self::Lexicon(lexicon)),
            (None, Some(program)) if program.first().is_none_or(String::is_empty) => {
                Err("the scorer's `program` is empty, wanted a program and its arguments".into())
            }
            (None, Some(program)) => Ok(Self::Program(program)),
            (Some(_), Some(_)) => {
                Err("`scorer` has both `lexicon` and `program`, wanted one".into())
            }
            (None, None) => Err("`scorer` has neither `lexicon` nor `program`, wanted one".into()),
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
enum RawKind {
    One(Kind),
    Multi,
}

const KINDS: &str = "multiple-choice, exact-match, abstain, toxicity, perplexity, command, multi";

impl TryFrom<String> for RawKind {
    type Error = String;

    fn try_from(kind: String) -> std::result::Result<Self, String> {
        if let Some(kind) = Kind::ALL.iter().find(|known| known.name() == kind) {
            return Ok(Self::One(*kind));
        }
        match kind.as_str() {
            "multi" => Ok(Self::Multi),
            "reward" | "judge" => {
                Err(format!("tasks of kind {kind:?} are not supported yet, only {KINDS}"))
            }
            _ => Err(format!("unknown kind {kind:?}, wanted one of {KINDS}")),
        }
    }
}

/// What is wrong, and at which bytes of the file.
type Fault = (Range<usize>, String);

impl Raw {
    fn check(self) -> std::result::Result<TaskFile, Fault> {
        if self.name.get_ref().trim().is_empty() {
            return Err((self.name.span(), "`name` is empty".to_string()));
        }
        self.refuse_foreign_keys()?;
        let kind_at = self.kind.span();
        let without = |what: String| (kind_at, what);
        let ask = match *self.kind.get_ref() {
            RawKind::Multi => {
                let tasks = self
                    .tasks
                    .ok_or_else(|| without("a multi task without `tasks`".to_string()))?;
                let (at, n_tasks) = (tasks.span(), tasks.get_ref().len());
                let tasks = <[PathBuf; 2]>::try_from(tasks.into_inner())
                    .map_err(|_| (at, format!("`tasks` names {n_tasks} files, wanted 2")))?;
                FileAsk::Multi(tasks)
            }
            RawKind::One(Kind::Command) => {
                let program = self
                    .program
                    .ok_or_else(|| without("a command task without `program`".to_string()))?;
                if program.get_ref().first().is_none_or(String::is_empty) {
                    let what = "`program` is empty, wanted a program and its arguments";
                    return Err((program.span(), what.to_string()));
                }
                FileAsk::Command(program.into_inner())
            }
            RawKind::One(kind) => {
                let data = self.data.map(Spanned::into_inner);
                let scorer = self.scorer.map(Spanned::into_inner);
                if data.is_none() || (kind == Kind::Toxicity && scorer.is_none()) {
                    let lacking = if data.is_none() { "data" } else { "scorer" };
                    return Err(without(format!("a {} task without `{lacking}`", kind.name())));
                }
                FileAsk::Data {
                    kind,
                    data: data.unwrap_or_default(),
                    max_new_tokens: self.max_new_tokens.map(|n| n.into_inner().get()),
                    form: match self.chat.map(Spanned::into_inner) {
                        Some(true) => PromptForm::Chat,
                        _ => PromptForm::Raw,
                    },
                    limit: self.limit.map(Spanned::into_inner).unwrap_or_default(),
                    scorer,
                }
            }
        };
        let quirks = self.quirks.map(Spanned::into_inner).unwrap_or_default();
        Ok(TaskFile { name: self.name.into_inner(), ask, quirks })
    }

    /// Refuses keys and quirks that the kind does not take.
    fn refuse_foreign_keys(&self) -> std::result::Result<(), Fault> {
        let (kind, taken): (&str, &[&str]) = match *self.kind.get_ref() {
            RawKind::Multi => ("multi", &["tasks", "quirks"]),
            RawKind::One(Kind::Command) => ("command", &["program"]),
            RawKind::One(Kind::Perplexity) => ("perplexity", &["data", "limit"]),
            RawKind::One(Kind::Toxicity) => {
                ("toxicity", &["data", "max_new_tokens", "chat", "limit", "quirks", "scorer"])
            }
            RawKind::One(kind) => {
                (kind.name(), &["data", "max_new_tokens", "chat", "limit", "quirks"])
            }
        };
        let given = [
            ("data", self.data.as_ref().map(Spanned::span)),
            ("max_new_tokens", self.max_new_tokens.as_ref().map(Spanned::span)),
            ("chat", self.chat.as_ref().map(Spanned::span)),
            ("limit", self.limit.as_ref().map(Spanned::span)),
            ("scorer", self.scorer.as_ref().map(Spanned::span)),
            ("tasks", self.tasks.as_ref().map(Spanned::span)),
            ("program", self.program.as_ref().map(Spanned::span)),
            ("quirks", self.quirks.as_ref().map(Spanned::span)),
        ];
        for (key, at) in given {
            if let Some(at) = at
                && !taken.contains(&key)
            {
                return Err((at, format!("a {kind} task takes no `{key}`")));
            }
        }
        let Some(quirks) = &self.quirks else { return Ok(()) };
        self.refuse_foreign_quirks(quirks.get_ref()).map_err(|what| (quirks.span(), what))
    }

    fn refuse_foreign_quirks(&self, quirks: &Overrides) -> std::result::Result<(), String> {
        let kind = *self.kind.get_ref();
        if matches!(kind, RawKind::Multi) {
            let what = "a multi task's [quirks] take only `multi_zero`; the others belong into its \
                        tasks' own files";
            return if quirks.touches_answers() { Err(what.to_string()) } else { Ok(()) };
        }
        if quirks.multi_zero.is_some() {
            return Err("`multi_zero` belongs into a multi task's [quirks]".to_string());
        }
        match (kind, quirks.of_gold(), quirks.of_toxicity()) {
            (RawKind::One(Kind::Toxicity), Some(name), _) => {
                Err(format!("`{name}` belongs into the [quirks] of a task with gold answers"))
            }
            (RawKind::One(Kind::Toxicity), None, _) | (_, _, None) => Ok(()),
            (_, _, Some(name)) => Err(format!("`{name}` belongs into a toxicity task's [quirks]")),
        }
    }
}
