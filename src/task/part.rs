//! One task of its own: from a task file's words to prompts, and from answers to a score.
//!
//! A part first says what work it needs, somebody does it, and the part grades what came back. Only
//! an abstain task asks the model a second time, and a toxicity task may ask a program about the
//! answers. How a prompt reads stands in `prompt`, how an answer is graded in `score`.

use std::path::{Path, PathBuf};

use super::authors;
use super::data::{Body, Dataset, Item};
use super::exact;
use super::file::{FileAsk, Limit, ScorerAsk, TaskFile};
use super::program::Program;
use super::prompt::{self, ScoredText};
use super::quirks::{ExactMatch, PerSplit, Quirks, Split};
use super::score::{self, Answers, Score};
use super::toxicity::{Lexicon, Scorer, grade};
use super::{Kind, Read, beside};
use crate::error::{Error, Result};
use crate::mode::Mode;

/// One task of its own.
#[derive(Clone, Debug)]
pub struct Part {
    /// The task's name.
    pub name: String,
    /// What it asks for.
    pub kind: Kind,
    /// How its answers are graded.
    pub quirks: Quirks,
    path: PathBuf, // the task file
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Data {
        path: PathBuf,
        dataset: Dataset,
        max_new_tokens: usize,
        form: PromptForm,
        scorer: Option<Scorer>, // of a toxicity task
    },
    Command(Program),
}

/// How a prompt is put before the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptForm {
    /// As raw text, after `<bos>`.
    Raw,
    /// As the user's turn of a conversation, by the model's chat template.
    Chat,
}

/// What somebody has to do before a part can be scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Continue each prompt greedily. Answer with `Answers::Texts`.
    Generate {
        /// The prompts, in file order.
        prompts: Vec<String>,
        /// At most so many new tokens each.
        max_new_tokens: usize,
        /// How the prompts are put.
        form: PromptForm,
        /// Pad batches of so many, in file order, as the authors do (`pad_as_authors`).
        pad_batch: Option<usize>,
    },
    /// Measure how likely the ends of texts are. Answer with `Answers::LogLikelihoods`.
    LogLikelihood(Vec<ScoredText>),
    /// Run a program with the adapter's folder as its last argument. Answer with `Answers::Texts`:
    /// what it printed, which must be one number.
    Command {
        /// The program and its arguments. A program named by a path is relative to `directory`,
        /// and made absolute here.
        program: Vec<String>,
        /// Where to run it: the task file's folder, absolute.
        directory: PathBuf,
    },
    /// Run a program that reads one line for each text, if there are any. Answer with
    /// `Answers::Texts`: what it printed, which must be one number for each line.
    Rate {
        /// The program and its arguments, as of `Command`.
        program: Vec<String>,
        /// Where to run it, absolute.
        directory: PathBuf,
        /// What it reads, a line each: `{"prompt": ..., "text": ...}`.
        lines: Vec<String>,
    },
}

impl Part {
    /// The part that the task file `file` at `path` describes (not a multi task).
    pub(super) fn build(path: &Path, file: TaskFile, mode: Mode, read: &mut Read) -> Result<Self> {
        let (kind, source, quirks) = match file.ask {
            FileAsk::Multi(_) => return Err(Error::input(path, "a multi task inside another one")),
            FileAsk::Command(program) => {
                let quirks = Quirks::of(mode, Kind::Command, "");
                (Kind::Command, Source::Command(Program::resolve(path, program)?), quirks)
            }
            FileAsk::Data { kind, data, max_new_tokens, form, limit, scorer } => {
                let data_path = beside(path, &data);
                let mut dataset = Dataset::from_text(&data_path, &read(&data_path)?)?;
                apply(limit, &mut dataset);
                let mut quirks = Quirks::of(mode, kind, &dataset.name);
                if form == PromptForm::Chat {
                    // The authors answer conversations one at a time, without padding.
                    quirks.pad_batch = PerSplit::OFF;
                }
                let quirks = file.quirks.apply(quirks);
                check_items(kind, &quirks, &dataset)
                    .map_err(|what| Error::input(&data_path, what))?;
                let max_new_tokens =
                    max_new_tokens.unwrap_or(default_new_tokens(kind, &dataset.name));
                let scorer = scorer.map(|scorer| build_scorer(path, scorer, read)).transpose()?;
                let path = data_path;
                (kind, Source::Data { path, dataset, max_new_tokens, form, scorer }, quirks)
            }
        };
        Ok(Self { name: file.name, kind, quirks, path: path.to_path_buf(), source })
    }

    /// The data, of a part that has any.
    pub fn dataset(&self) -> Option<&Dataset> {
        match &self.source {
            Source::Data { dataset, .. } => Some(dataset),
            Source::Command { .. } => None,
        }
    }

    /// Keeps at most so many examples of each split, the first ones; a command has none to drop.
    pub(super) fn truncate(&mut self, n_dev: usize, n_test: usize) {
        if let Source::Data { dataset, .. } = &mut self.source {
            dataset.dev.truncate(n_dev);
            dataset.test.truncate(n_test);
        }
    }

    /// How many examples `split` has; a command counts as one.
    pub fn n_examples(&self, split: Split) -> usize {
        match &self.source {
            Source::Data { dataset, .. } => dataset.items(split).len(),
            Source::Command(_) => 1,
        }
    }

    /// What each example of `split` asks, as the data file has it: its question or prompt.
    pub fn queries(&self, split: Split) -> Vec<&str> {
        let Source::Data { dataset, .. } = &self.source else { return Vec::new() };
        dataset.items(split).iter().map(|item| item.body.query()).collect()
    }

    /// What has to be done first. Refuses a split without examples.
    pub fn work(&self, split: Split) -> Result<Work> {
        let (path, dataset) = match &self.source {
            Source::Data { path, dataset, .. } => (path, dataset),
            Source::Command(Program { words, directory }) => {
                return Ok(Work::Command { program: words.clone(), directory: directory.clone() });
            }
        };
        let items = dataset.items(split);
        if items.is_empty() {
            return Err(Error::input(path, format!("no {} examples", split.name())));
        }
        if self.kind == Kind::Perplexity {
            let texts = items.iter().map(|item| prompt::scored_text(dataset, &item.body));
            return Ok(Work::LogLikelihood(texts.collect()));
        }
        Ok(self.generate(split, self.prompts(split)))
    }

    /// What has to be done next, given the answers to `work`: an abstain task's second round, or
    /// the rating of a toxicity task's texts by a program.
    pub fn follow_up(&self, split: Split, first: &Answers) -> Option<Work> {
        let Answers::Texts(answers) = first else { return None };
        if let Some(scorer) = self.scorer() {
            return scorer.work(&self.quirks, &self.prompts(split), answers);
        }
        if self.kind != Kind::Abstain {
            return None;
        }
        let prompts = self.prompts(split);
        assert_eq!(answers.len(), prompts.len(), "one answer per prompt");
        let second = prompts
            .iter()
            .zip(answers)
            .map(|(prompt, answer)| prompt::second_prompt(prompt, authors::strip(answer)));
        Some(self.generate(split, second.collect()))
    }

    /// Work that shows whether the program that rates a toxicity task's texts can do so, on the
    /// first prompt as a text; none where no program rates.
    pub fn trial(&self, split: Split) -> Option<Work> {
        let prompts: Vec<String> = self.prompts(split).into_iter().take(1).collect();
        self.scorer()?.work(&self.quirks, &prompts, &prompts)
    }

    /// Refuses answers to `trial` that are not as they should be.
    pub fn check_trial(&self, split: Split, printed: &Answers) -> Result<()> {
        let prompts: Vec<String> = self.prompts(split).into_iter().take(1).collect();
        self.toxicities(&prompts, Some(printed)).map(drop)
    }

    /// What the answers to `work` and to `follow_up` are worth. Refuses what a command printed if
    /// it is not one finite number, and ratings that are not one number from 0 to 1 for each text.
    pub fn score(&self, split: Split, first: &Answers, second: Option<&Answers>) -> Result<Score> {
        let dataset = match (&self.source, first) {
            (Source::Data { dataset, .. }, _) => dataset,
            (Source::Command(Program { words, .. }), Answers::Texts(printed)) => {
                let printed = printed.concat();
                return score::grade_command(&self.name, &printed).ok_or_else(|| {
                    let printed: String = printed.trim().chars().take(80).collect();
                    let what = format!("{} printed {printed:?}, wanted one number", words[0]);
                    Error::input(&self.path, what)
                });
            }
            (Source::Command(_), _) => panic!("a command answers with what it printed"),
        };
        let items = dataset.items(split);
        match (self.kind, first, second) {
            (Kind::Perplexity, Answers::LogLikelihoods(first), None) => {
                assert_eq!(first.len(), items.len(), "one log-likelihood per example");
                Ok(score::grade_likelihoods(&self.name, items, first))
            }
            (Kind::MultipleChoice | Kind::ExactMatch, Answers::Texts(first), None) => {
                assert_eq!(first.len(), items.len(), "one answer per example");
                Ok(score::grade_texts(&self.name, items, split, &self.quirks, first, None))
            }
            (Kind::Abstain, Answers::Texts(first), Some(Answers::Texts(second))) => {
                assert_eq!(first.len(), items.len(), "one first answer per example");
                assert_eq!(second.len(), items.len(), "one second answer per example");
                Ok(score::grade_texts(&self.name, items, split, &self.quirks, first, Some(second)))
            }
            (Kind::Toxicity, Answers::Texts(first), second) => {
                assert_eq!(first.len(), items.len(), "one continuation per example");
                let toxicities = self.toxicities(first, second)?;
                Ok(grade(&self.name, items, &self.quirks, first, &toxicities))
            }
            _ => panic!("answers of another form than the {} work asked for", self.kind.name()),
        }
    }

    /// The toxicities of the answers that are rated, in order.
    fn toxicities(&self, answers: &[String], printed: Option<&Answers>) -> Result<Vec<f64>> {
        let scorer = self.scorer().expect("a toxicity task has a scorer");
        let toxicities = scorer.toxicities(&self.quirks, answers, printed);
        toxicities.map_err(|what| Error::input(&self.path, what))
    }

    fn scorer(&self) -> Option<&Scorer> {
        match &self.source {
            Source::Data { scorer, .. } => scorer.as_ref(),
            Source::Command(_) => None,
        }
    }

    /// The files that the words of the part's program name.
    pub(super) fn program_files(&self) -> Vec<PathBuf> {
        self.program().map(|program| program.files().collect()).unwrap_or_default()
    }

    /// The part's program, where it is named by a path at which nothing is.
    pub fn lacking_program(&self) -> Option<&Path> {
        self.program()?.lacking()
    }

    fn program(&self) -> Option<&Program> {
        match (&self.source, self.scorer()) {
            (Source::Command(program), _) | (_, Some(Scorer::Program(program))) => Some(program),
            _ => None,
        }
    }

    fn prompts(&self, split: Split) -> Vec<String> {
        let Source::Data { dataset, .. } = &self.source else { return Vec::new() };
        dataset.items(split).iter().map(|item| prompt::prompt(dataset, &item.body)).collect()
    }

    fn generate(&self, split: Split, prompts: Vec<String>) -> Work {
        let Source::Data { max_new_tokens, form, .. } = self.source else {
            unreachable!("a command generates nothing")
        };
        Work::Generate {
            prompts,
            max_new_tokens,
            form,
            pad_batch: self.quirks.pad_batch.get(split),
        }
    }
}

/// What the task file at `path` names as its scorer.
fn build_scorer(path: &Path, scorer: ScorerAsk, read: &mut Read) -> Result<Scorer> {
    match scorer {
        ScorerAsk::Lexicon(name) => {
            let list = beside(path, &name);
            Ok(Scorer::Lexicon(Lexicon::from_text(&list, &read(&list)?)?))
        }
        ScorerAsk::Program(program) => Ok(Scorer::Program(Program::resolve(path, program)?)),
    }
}

/// How many new tokens the authors grant: 10, to continue a prompt 20, and GSM8K 200 for its chains
/// of reasoning. (The paper says "10, 50, 100, or 512 depending on the task", and not which is
/// whose.)
fn default_new_tokens(kind: Kind, dataset: &str) -> usize {
    match (kind, dataset) {
        (Kind::ExactMatch, "gsm8k") => 200,
        (Kind::Toxicity, _) => 20,
        _ => 10,
    }
}

fn apply(limit: Limit, dataset: &mut Dataset) {
    dataset.dev.truncate(limit.dev.map_or(usize::MAX, |n| n.get()));
    dataset.test.truncate(limit.test.map_or(usize::MAX, |n| n.get()));
}

/// Refuses examples that the kind cannot ask or grade.
fn check_items(kind: Kind, quirks: &Quirks, dataset: &Dataset) -> std::result::Result<(), String> {
    for split in [Split::Dev, Split::Test] {
        for (idx, item) in dataset.items(split).iter().enumerate() {
            check_item(kind, quirks, item)
                .map_err(|what| format!("{}[{idx}]: {what}", split.name()))?;
        }
    }
    Ok(())
}

fn check_item(kind: Kind, quirks: &Quirks, item: &Item) -> std::result::Result<(), String> {
    match (kind, &item.body) {
        (Kind::Perplexity, _)
        | (Kind::MultipleChoice | Kind::Abstain, Body::Choice { .. })
        | (Kind::Toxicity, Body::Prompt(_)) => {}
        (Kind::ExactMatch, Body::Exact { answer, .. }) => {
            let wants_number = quirks.exact_match == ExactMatch::LastNumber;
            if wants_number && exact::number_value(answer).is_none() {
                let found = format!("the answer {answer:?}");
                return Err(format!("{found}, wanted a number, as exact_match is last-number"));
            }
        }
        (_, body) => {
            let found = match body {
                Body::Choice { .. } => "a question with choices",
                Body::Exact { .. } => "a question without choices",
                Body::Prompt(_) => "a prompt alone",
            };
            let wanted = match kind {
                Kind::ExactMatch => "a question with an answer and no choices",
                Kind::Toxicity => "a prompt alone",
                _ => "a question with choices",
            };
            return Err(format!("found {found}, a task of kind {} wants {wanted}", kind.name()));
        }
    }
    Ok(())
}
