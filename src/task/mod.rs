//! Tasks: what is asked of a model, and the utility f that its answers are worth (paper section 3).
//!
//! A task file names a data file; together they become prompts (`Part::work`), and the answers to
//! those a score (`Part::score`). Everything between is a pure function of texts: no model, device
//! or adapter is known here, somebody else does the work. The paper's text and the authors' program
//! grade differently; every difference is a switch of `Quirks`.

pub mod authors;
pub mod choice;
pub mod data;
pub mod exact;
mod file;
mod json;
mod part;
mod program;
mod prompt;
mod quirks;
mod score;
mod toxicity;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use crate::mode::Mode;
pub use authors::pad_as_authors;
pub use data::Dataset;
pub use part::{Part, PromptForm, Work};
pub use prompt::{ScoredText, prompt};
pub use quirks::{
    AbstainCue, ChoiceParser, ExactMatch, MultiZero, PerSplit, Quirks, RatedText, ShortText, Split,
};
pub use score::{Answers, LogLikelihood, PartScore, Prediction, Score, WORST_LOG_LIKELIHOOD};
pub use toxicity::Lexicon;

use crate::error::{Error, Result};
use file::{FileAsk, TaskFile};

/// What one task asks for and how it scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Accuracy over questions with options.
    MultipleChoice,
    /// Share of answers that state the gold answer.
    ExactMatch,
    /// Effective reliability: (right - wrong) / all, where the model may withdraw its choice when
    /// asked whether it is true.
    Abstain,
    /// Mean of 1 - toxicity over continuations of prompts.
    Toxicity,
    /// Mean log-likelihood per token, that is, minus the logarithm of the perplexity.
    Perplexity,
    /// The number that a program prints about an adapter.
    Command,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::MultipleChoice,
        Self::ExactMatch,
        Self::Abstain,
        Self::Toxicity,
        Self::Perplexity,
        Self::Command,
    ];

    /// The name in task files.
    pub fn name(self) -> &'static str {
        match self {
            Self::MultipleChoice => "multiple-choice",
            Self::ExactMatch => "exact-match",
            Self::Abstain => "abstain",
            Self::Toxicity => "toxicity",
            Self::Perplexity => "perplexity",
            Self::Command => "command",
        }
    }
}

/// A task: one part, or the two of a multi task, and how their scores become one.
#[derive(Clone, Debug)]
pub struct Task {
    /// The task's name.
    pub name: String,
    /// The parts, each with its own prompts: one, or a multi task's two.
    pub parts: Vec<Part>,
    /// What a multi task is worth when both parts score 0.
    pub multi_zero: MultiZero,
    /// Every file that was read, and those that a program's words name, once each, in that order:
    /// for hashing.
    pub inputs: Vec<PathBuf>,
}

impl Task {
    /// Opens the task file at `path`, and the files that it names relative to its folder.
    pub fn open(path: &Path, mode: Mode) -> Result<Self> {
        Self::open_with(path, mode, |path| {
            std::fs::read_to_string(path).map_err(Error::io(path, "read"))
        })
    }

    /// Opens a task whose files `read` gives, for files that are not on a disk.
    pub fn open_with(
        path: &Path,
        mode: Mode,
        mut read: impl FnMut(&Path) -> Result<String>,
    ) -> Result<Self> {
        let mut inputs = Vec::new();
        let mut read = |path: &Path| {
            if !inputs.iter().any(|known| known == path) {
                inputs.push(path.to_path_buf());
            }
            read(path)
        };
        let file = TaskFile::from_text(path, &read(path)?)?;
        let multi_zero = match (file.quirks.multi_zero, mode) {
            (Some(multi_zero), _) => multi_zero,
            (None, Mode::Paper) => MultiZero::Zero,
            (None, Mode::Code) => MultiZero::Cent,
        };
        let name = file.name.clone();
        let parts = match &file.ask {
            FileAsk::Multi(pair) => open_pair(path, pair, mode, &mut read)?,
            _ => vec![Part::build(path, file, mode, &mut read)?],
        };
        for file in parts.iter().flat_map(Part::program_files) {
            if !inputs.contains(&file) {
                inputs.push(file);
            }
        }
        Ok(Self { name, parts, multi_zero, inputs })
    }

    /// Keeps at most so many examples of each split and part, the first ones.
    pub fn truncate(&mut self, n_dev: usize, n_test: usize) {
        self.parts.iter_mut().for_each(|part| part.truncate(n_dev, n_test));
    }

    /// How many examples `split` has, over all parts.
    pub fn n_examples(&self, split: Split) -> usize {
        self.parts.iter().map(|part| part.n_examples(split)).sum()
    }

    /// One score from the parts' scores, which are in the order of `parts`.
    pub fn combine(&self, scores: Vec<Score>) -> Score {
        assert_eq!(scores.len(), self.parts.len(), "one score per part");
        let combine = |a, b| score::harmonic_mean(a, b, self.multi_zero);
        scores.into_iter().reduce(combine).expect("a task has at least one part")
    }

    /// Scores one candidate on `split`; `run` does the work.
    pub fn evaluate(
        &self,
        split: Split,
        mut run: impl FnMut(Work) -> Result<Answers>,
    ) -> Result<Score> {
        let mut scores = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let first = run(part.work(split)?)?;
            let second = part.follow_up(split, &first).map(&mut run).transpose()?;
            scores.push(part.score(split, &first, second.as_ref())?);
        }
        Ok(self.combine(scores))
    }
}

/// Opens the two tasks of the multi task at `path`.
fn open_pair(path: &Path, pair: &[PathBuf; 2], mode: Mode, read: &mut Read) -> Result<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::with_capacity(2);
    for part_path in pair.iter().map(|name| beside(path, name)) {
        let file = TaskFile::from_text(&part_path, &read(&part_path)?)?;
        let part = match &file.ask {
            FileAsk::Data { kind: Kind::MultipleChoice | Kind::ExactMatch, .. } => {
                Part::build(&part_path, file, mode, read)?
            }
            _ => {
                let what = "not an accuracy, but part of a multi task: wanted kind \
                            multiple-choice or exact-match";
                return Err(Error::input(part_path, what));
            }
        };
        if parts.iter().any(|other| other.name == part.name) {
            let what = format!("both tasks are named {:?}, wanted two names", part.name);
            return Err(Error::input(path, what));
        }
        parts.push(part);
    }
    Ok(parts)
}

/// Gives the text of a file.
type Read<'a> = dyn FnMut(&Path) -> Result<String> + 'a;

/// `name`, which the file at `path` names, relative to that file's folder.
fn beside(path: &Path, name: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(name)
}
