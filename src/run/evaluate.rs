//! The utility f: a base model, a task, and the adapters to be measured on it.
//!
//! All adapters of a call run over all prompts as one list of jobs, so that threads are busy to the
//! end; a score depends on its own adapter and prompts alone.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::candidates::Candidates;
use super::program::{Input, run_program};
use crate::backend::cpu::Isa;
use crate::error::{Error, Result};
use crate::model::chat::ChatTemplate;
use crate::model::config::eos_ids;
use crate::model::decode::{Job, Report, TextJob};
use crate::model::memory::Held;
use crate::model::tokenizer::Tokenizer;
use crate::model::{Adapted, Application, Device, Model};
use crate::task::pad_as_authors;
use crate::task::{Answers, Kind, LogLikelihood, PromptForm, Score, ScoredText, Split, Task, Work};

/// A base model with its tokenizer, ready to answer.
pub struct Base {
    /// The decoder.
    pub model: Model,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The tokens that end an answer.
    pub eos: Vec<u32>,
    dir: PathBuf,
}

/// How a base is opened; none of it changes a result but the device's precision.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What runs models.
    pub device: Device,
    /// The processor's instruction set.
    pub isa: Isa,
    /// How adapters are applied; by the model's size where absent.
    pub application: Option<Application>,
    /// Sequences that share a batch; as suits the device where absent.
    pub batch: Option<usize>,
}

impl Base {
    /// Opens a directory in Hugging Face layout; a device's memory is planned for the adapters
    /// that are `held`.
    pub fn open(dir: &Path, options: Options, held: Held) -> Result<Self> {
        let tokenizer = Tokenizer::open(dir)?;
        let Options { device, isa, application, .. } = options;
        let model = Model::open(dir, device, isa, application, held)?;
        if let Some(concern) = model.concern() {
            eprintln!("{concern}");
        }
        let eos = eos_ids(dir, &model.config)?;
        Ok(Self { model, tokenizer, eos, dir: dir.to_path_buf() })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The token ids of prompts, checked against the model's vocabulary and length.
    pub fn tokens(
        &self,
        prompts: &[String],
        form: PromptForm,
        n_new: usize,
    ) -> Result<Vec<Vec<u32>>> {
        let chat = match form {
            PromptForm::Raw => None,
            PromptForm::Chat => Some(ChatTemplate::open(&self.dir)?),
        };
        let encode = |(idx, prompt): (usize, &String)| {
            let ids = match &chat {
                None => self.tokenizer.encode(prompt)?,
                Some(chat) => self.tokenizer.encode_chat(&chat.render_question(prompt)?)?,
            };
            self.check(&ids, &format!("prompt {idx}"), n_new)?;
            Ok(ids)
        };
        prompts.iter().enumerate().map(encode).collect()
    }

    /// Whether the model can run these ids and `n_new` more; `what` names them in the error.
    pub fn check(&self, ids: &[u32], what: &str, n_new: usize) -> Result<()> {
        let config = &self.model.config;
        let refuse = |why: String| Err(Error::input(&self.dir, format!("{what} {why}")));
        if ids.is_empty() {
            return refuse("has no tokens".into());
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= config.vocab_size) {
            return refuse(format!("has token {id}, the model knows {}", config.vocab_size));
        }
        if ids.len().saturating_add(n_new) > config.max_positions {
            let n_ids = ids.len();
            return refuse(format!(
                "has {n_ids} tokens, and {n_new} may follow; the model takes {}",
                config.max_positions
            ));
        }
        Ok(())
    }
}

/// A base model and a task.
pub struct Evaluator {
    /// Who answers.
    pub base: Base,
    /// What is asked.
    pub task: Task,
    batch: Option<usize>,
}

impl Evaluator {
    /// A task to be measured on a base model, `batch` sequences at a time.
    pub fn new(base: Base, task: Task, batch: Option<usize>) -> Self {
        Self { base, task, batch }
    }

    /// Sequences that share a batch.
    pub fn batch(&self) -> Option<usize> {
        self.batch
    }

    /// Whether every prompt of the split can be run; finds before a search what would stop it.
    pub fn check(&self, split: Split) -> Result<()> {
        let of_task = |error: Error| {
            Error::input(&self.task.inputs[0], format!("{} split: {error}", split.name()))
        };
        for part in &self.task.parts {
            match part.work(split)? {
                Work::Generate { prompts, max_new_tokens, form, .. } => {
                    self.base.tokens(&prompts, form, max_new_tokens).map_err(of_task)?;
                }
                Work::LogLikelihood(texts) => {
                    self.scored_tokens(&texts).map_err(of_task)?;
                }
                Work::Command { .. } | Work::Rate { .. } => {}
            }
            // Both splits are rated by the same program.
            if let (Split::Dev, Some(trial)) = (split, part.trial(split)) {
                part.check_trial(split, &rate(&trial)?)?;
            }
        }
        Ok(())
    }

    /// The score of every candidate, in order.
    pub fn scores(&self, candidates: &Candidates, split: Split) -> Result<Vec<Score>> {
        // A command is given folders, and does not ask the model.
        let asks = self.task.parts.iter().any(|part| part.kind != Kind::Command);
        let adapted = match asks {
            true => candidates.adapted(&self.base.model)?,
            false => Adapted::base(),
        };
        let mut scores: Vec<Vec<Score>> = vec![Vec::new(); candidates.n()];
        for part in &self.task.parts {
            let works = vec![part.work(split)?; candidates.n()];
            let first = self.answers(candidates, &adapted, works)?;
            let second = first.iter().map(|first| part.follow_up(split, first));
            let second: Option<Vec<Work>> = second.collect();
            let second =
                second.map(|works| self.answers(candidates, &adapted, works)).transpose()?;
            for (idx, (scores, first)) in scores.iter_mut().zip(&first).enumerate() {
                let second = second.as_ref().map(|second| &second[idx]);
                scores.push(part.score(split, first, second)?);
            }
        }
        Ok(scores.into_iter().map(|parts| self.task.combine(parts)).collect())
    }

    /// How unlikely each candidate finds the validation prompts: the mean over prompts of the mean
    /// negative log-likelihood per token, in nats. Of a task whose prompts are answered in words;
    /// prompts are taken as raw text.
    pub fn prompt_losses(&self, candidates: &Candidates) -> Result<Vec<f64>> {
        let mut texts = Vec::new();
        for part in &self.task.parts {
            if let Work::Generate { prompts, .. } = part.work(Split::Dev)? {
                let text = |scored| ScoredText { prompt: String::new(), scored };
                texts.extend(prompts.into_iter().map(text));
            }
        }
        assert!(!texts.is_empty(), "a task without prompts has no losses");
        let adapted = candidates.adapted(&self.base.model)?;
        let mean = |answers: Answers| {
            let Answers::LogLikelihoods(prompts) = answers else {
                unreachable!("texts were measured")
            };
            let losses = prompts.iter().map(|prompt| -prompt.sum / prompt.n_tokens.max(1) as f64);
            losses.sum::<f64>() / prompts.len() as f64
        };
        Ok(self.log_likelihoods(&adapted, &texts)?.into_iter().map(mean).collect())
    }

    /// What each candidate answers to its work; all works are of one form.
    fn answers(
        &self,
        candidates: &Candidates,
        adapted: &Adapted,
        works: Vec<Work>,
    ) -> Result<Vec<Answers>> {
        match works.first() {
            None => Ok(Vec::new()),
            Some(Work::Generate { .. }) => self.generate(adapted, &works),
            Some(Work::LogLikelihood(texts)) => self.log_likelihoods(adapted, texts),
            Some(Work::Command { program, directory }) => {
                let run = |dir: &Path| printed(program, directory, Input::Adapter(dir));
                (0..candidates.n()).map(|idx| candidates.with_saved(idx, run)).collect()
            }
            Some(Work::Rate { .. }) => works.iter().map(rate).collect(),
        }
    }

    fn generate(&self, adapted: &Adapted, works: &[Work]) -> Result<Vec<Answers>> {
        // A first round asks everyone the same.
        let same = works.iter().all(|work| *work == works[0]);
        let distinct = if same { &works[..1] } else { works };
        let encoded: Vec<_> =
            distinct.par_iter().map(|work| self.encoded(work)).collect::<Result<_>>()?;
        let mut jobs = Vec::new();
        for adapter_idx in 0..adapted.n_adapters() {
            let (tokens, max_new_tokens) = &encoded[if same { 0 } else { adapter_idx }];
            jobs.extend(tokens.iter().map(|tokens| Job {
                adapter_idx,
                tokens,
                max_new_tokens: *max_new_tokens,
            }));
        }
        let base = &self.base;
        let generated =
            base.model.generate(adapted, &jobs, &base.eos, self.batch, Report::Tokens)?;
        let texts: Vec<String> = generated
            .par_iter()
            .map(|answer| base.tokenizer.decode(&answer.tokens))
            .collect::<Result<_>>()?;
        let mut texts = texts.into_iter();
        let n_prompts = |idx: usize| encoded[if same { 0 } else { idx }].0.len();
        Ok((0..adapted.n_adapters())
            .map(|idx| Answers::Texts(texts.by_ref().take(n_prompts(idx)).collect()))
            .collect())
    }

    /// The prompts to be continued as tokens, and how many may follow.
    pub(super) fn encoded(&self, work: &Work) -> Result<(Vec<Vec<u32>>, usize)> {
        let Work::Generate { prompts, max_new_tokens, form, pad_batch } = work else {
            unreachable!("works are of one form")
        };
        let mut tokens = self.base.tokens(prompts, *form, *max_new_tokens)?;
        if let (Some(batch), Some(eos)) = (*pad_batch, self.base.model.config.eos.first()) {
            pad_as_authors(&mut tokens, batch, *eos);
            tokens.iter().try_for_each(|ids| self.base.check(ids, "padded", *max_new_tokens))?;
        }
        Ok((tokens, *max_new_tokens))
    }

    fn log_likelihoods(&self, adapted: &Adapted, texts: &[ScoredText]) -> Result<Vec<Answers>> {
        let encoded = self.scored_tokens(texts)?;
        let jobs: Vec<TextJob> = (0..adapted.n_adapters())
            .flat_map(|adapter_idx| {
                encoded.iter().map(move |(tokens, scored)| TextJob { adapter_idx, tokens, scored })
            })
            .collect();
        let sums = self.base.model.log_likelihoods(adapted, &jobs, self.batch)?;
        let n_tokens = encoded.iter().map(|(_, scored)| scored.iter().filter(|s| **s).count());
        let n_tokens: Vec<usize> = n_tokens.collect();
        Ok(sums
            .chunks(encoded.len())
            .map(|sums| {
                let each = sums.iter().zip(&n_tokens);
                let each = each.map(|(&sum, &n_tokens)| LogLikelihood { sum, n_tokens });
                Answers::LogLikelihoods(each.collect())
            })
            .collect())
    }

    /// Each text's tokens, and which of them are scored.
    pub(super) fn scored_tokens(&self, texts: &[ScoredText]) -> Result<Vec<(Vec<u32>, Vec<bool>)>> {
        let encode = |(idx, text): (usize, &ScoredText)| {
            let whole = format!("{}{}", text.prompt, text.scored);
            let (ids, mut scored) = self.base.tokenizer.encode_from(&whole, text.prompt.len())?;
            self.base.check(&ids, &format!("text {idx}"), 0)?;
            scored[0] = false;
            Ok((ids, scored))
        };
        texts.iter().enumerate().map(encode).collect()
    }
}

/// What a program prints about texts.
pub(super) fn rate(work: &Work) -> Result<Answers> {
    let Work::Rate { program, directory, lines } = work else {
        unreachable!("works are of one form")
    };
    if lines.is_empty() {
        return Ok(Answers::Texts(Vec::new()));
    }
    printed(program, directory, Input::Lines(lines))
}

fn printed(program: &[String], directory: &Path, input: Input) -> Result<Answers> {
    Ok(Answers::Texts(vec![run_program(program, directory, input)?]))
}
