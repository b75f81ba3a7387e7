//! Several experts answer together (cBTM): the next token's probabilities are averaged,
//! p(t) = sum_j w_j softmax(z_j)_t with z_j expert j's logits; the most probable token is taken.
//!
//! All experts read the prompt and the tokens that were taken so far. Each prompt has shares w of
//! its own, and only experts with a share in it run. Probabilities and their sums are f64, in the
//! order of tokens and experts, so an answer depends on its own prompt and shares alone. Where
//! shares come from is not known here.

use super::decode::{Prompt, in_batches, prefill_groups, scored_pieces};
use super::decoder::Decoder;
use super::forward::{Segment, State, Want};
use super::lora::Adapted;
use crate::backend::cpu::math::{exp_f64, ln_f64};
use crate::backend::cpu::ops::max_of;
use crate::backend::{Backend, Phase, Workers};
use crate::error::Result;

/// An expert's part in an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Index of the expert.
    pub expert_idx: usize,
    /// Its weight, above 0; those of a prompt sum to 1.
    pub weight: f64,
}

/// A prompt to be continued by several experts.
#[derive(Debug, Clone, Copy)]
pub struct MixedJob<'a> {
    /// Who answers, by index of the expert; at least one.
    pub shares: &'a [Share],
    /// The prompt; at least one token.
    pub tokens: &'a [u32],
    /// Tokens to generate at most.
    pub max_new_tokens: usize,
}

/// A text of which some tokens are scored by several experts.
#[derive(Debug, Clone, Copy)]
pub struct MixedText<'a> {
    /// Who scores, by index of the expert; at least one.
    pub shares: &'a [Share],
    /// The text; at least one token.
    pub tokens: &'a [u32],
    /// For each token whether it is scored; the first never is.
    pub scored: &'a [bool],
}

/// Continues every prompt until an end token or its `max_new_tokens`; new tokens in job order. Of
/// equally probable tokens the first is taken. `batch` changes the speed only.
pub fn generate_mixed<B: Backend>(
    decoder: &Decoder<B>,
    experts: &Adapted<B>,
    jobs: &[MixedJob],
    eos: &[u32],
    batch: Option<usize>,
) -> Result<Vec<Vec<u32>>> {
    let cache_bytes = |job: &MixedJob| {
        job.shares.len() * decoder.cache_bytes(job.tokens.len() + job.max_new_tokens)
    };
    let largest = jobs.iter().map(cache_bytes).max().unwrap_or(0);
    let limits = decoder.backend.limits();
    let most = limits.max_batch.min(limits.cache_bytes / largest.max(1));
    let batch = batch.unwrap_or(limits.batch).min(most);
    in_batches(
        decoder,
        jobs,
        |_| 0,
        batch,
        |jobs, workers, state| generate_batch(decoder, experts, jobs, eos, workers, state),
    )
}

/// For every text: the sum of ln p(token | those before it) over its scored tokens; no number where
/// a token has no probability.
pub fn log_likelihoods_mixed<B: Backend>(
    decoder: &Decoder<B>,
    experts: &Adapted<B>,
    jobs: &[MixedText],
    batch: Option<usize>,
) -> Result<Vec<f64>> {
    let batch = batch.unwrap_or(decoder.backend.limits().batch);
    in_batches(
        decoder,
        jobs,
        |_| 0,
        batch,
        |jobs, workers, state| {
            let score = |job| log_likelihood(decoder, experts, job, workers, state);
            jobs.iter().map(score).collect()
        },
    )
}

/// An expert that speaks for a prompt.
#[derive(Clone, Copy)]
struct Voice {
    expert_idx: usize,
    job_idx: usize,
    weight: f64,
    slot: usize, // in the key-value cache
}

/// The voices of all prompts, expert by expert.
fn voices(jobs: &[MixedJob]) -> Vec<Voice> {
    let mut voices = Vec::new();
    for (job_idx, job) in jobs.iter().enumerate() {
        let is_sorted = job.shares.is_sorted_by(|a, b| a.expert_idx < b.expert_idx);
        assert!(is_sorted && !job.shares.is_empty(), "shares {:?}", job.shares);
        voices.extend(job.shares.iter().map(|share| Voice {
            expert_idx: share.expert_idx,
            job_idx,
            weight: share.weight,
            slot: 0,
        }));
    }
    voices.sort_by_key(|voice| voice.expert_idx);
    voices.iter_mut().enumerate().for_each(|(slot, voice)| voice.slot = slot);
    voices
}

fn generate_batch<B: Backend>(
    decoder: &Decoder<B>,
    experts: &Adapted<B>,
    jobs: &[MixedJob],
    eos: &[u32],
    workers: Workers,
    state: &mut State<B>,
) -> Result<Vec<Vec<u32>>> {
    let longest = jobs.iter().map(|job| job.tokens.len() + job.max_new_tokens).max().unwrap_or(0);
    let voices = voices(jobs);
    state.prepare(decoder, workers, voices.len(), longest);
    let mut mixture = Mixture::new(jobs.len(), decoder);
    let mut results: Vec<Vec<u32>> = vec![Vec::new(); jobs.len()];

    // Prefill: each expert reads its prompts.
    for of_expert in voices.chunk_by(|a, b| a.expert_idx == b.expert_idx) {
        let prompts = of_expert.iter().map(|voice| Prompt {
            slot: voice.slot,
            adapter_idx: voice.expert_idx,
            tokens: jobs[voice.job_idx].tokens,
        });
        let groups = prefill_groups(prompts, decoder.backend.limits().prefill_rows);
        mixture.add(experts, of_expert, &groups, Phase::Prompt, state)?;
    }
    for (job_idx, result) in results.iter_mut().enumerate() {
        if jobs[job_idx].max_new_tokens > 0 {
            result.push(mixture.most_probable(job_idx));
        }
    }

    // Decode: each expert reads the token that all of a prompt's experts have found.
    loop {
        let goes_on = |job_idx: usize| {
            let tokens: &Vec<u32> = &results[job_idx];
            tokens.len() < jobs[job_idx].max_new_tokens
                && tokens.last().is_some_and(|token| !eos.contains(token))
        };
        let going: Vec<usize> = (0..jobs.len()).filter(|job_idx| goes_on(*job_idx)).collect();
        if going.is_empty() {
            return Ok(results);
        }
        let speaking: Vec<Voice> =
            voices.iter().filter(|voice| goes_on(voice.job_idx)).copied().collect();
        mixture.clear();
        for of_expert in speaking.chunk_by(|a, b| a.expert_idx == b.expert_idx) {
            let segment = |voice: &Voice| {
                let tokens = &results[voice.job_idx];
                let first = jobs[voice.job_idx].tokens.len() + tokens.len() - 1;
                let tokens = &tokens[tokens.len() - 1..];
                let (slot, adapter_idx) = (voice.slot, voice.expert_idx);
                Segment { slot, adapter_idx, first, tokens, want: Want::Last }
            };
            let group = of_expert.iter().map(segment).collect();
            mixture.add(experts, of_expert, &[group], Phase::Step, state)?;
        }
        for job_idx in going {
            results[job_idx].push(mixture.most_probable(job_idx));
        }
    }
}

/// The next token's probabilities for each prompt of a batch.
struct Mixture<'a, B: Backend> {
    decoder: &'a Decoder<B>,
    mixed: Vec<f64>,   // (n_jobs, vocab_size)
    scratch: Vec<f64>, // (vocab_size)
}

impl<'a, B: Backend> Mixture<'a, B> {
    fn new(n_jobs: usize, decoder: &'a Decoder<B>) -> Self {
        let vocab_size = decoder.config.vocab_size;
        Self { decoder, mixed: vec![0.0; n_jobs * vocab_size], scratch: vec![0.0; vocab_size] }
    }

    fn clear(&mut self) {
        self.mixed.fill(0.0);
    }

    /// Runs the segments of one expert's voices, a row wanted for each, and adds its shares.
    fn add(
        &mut self,
        experts: &Adapted<B>,
        of_expert: &[Voice],
        groups: &[Vec<Segment>],
        phase: Phase,
        state: &mut State<B>,
    ) -> Result<()> {
        let Self { decoder, mixed, scratch } = self;
        for group in groups {
            state.forward(decoder, experts, group, phase);
        }
        let vocab_size = scratch.len();
        state.logits(decoder, experts).each_row(decoder, vocab_size, &mut |row_idx, row| {
            let voice = &of_expert[row_idx];
            probabilities(row, scratch);
            let mixed = &mut mixed[voice.job_idx * vocab_size..][..vocab_size];
            for (sum, p) in mixed.iter_mut().zip(&*scratch) {
                *sum += voice.weight * p;
            }
        })
    }

    /// The first of the most probable tokens.
    fn most_probable(&self, job_idx: usize) -> u32 {
        let vocab_size = self.scratch.len();
        let mixed = &self.mixed[job_idx * vocab_size..][..vocab_size];
        let higher =
            |best: usize, token: usize| if mixed[token] > mixed[best] { token } else { best };
        (0..vocab_size).fold(0, higher) as u32
    }
}

/// softmax of `logits`, (vocab_size). In f64, so that different logits stay different.
fn probabilities(logits: &[f32], out: &mut [f64]) {
    let max = f64::from(max_of(logits));
    let mut sum = 0.0;
    for (p, logit) in out.iter_mut().zip(logits) {
        *p = exp_f64(f64::from(*logit) - max);
        sum += *p;
    }
    out.iter_mut().for_each(|p| *p /= sum);
}

fn log_likelihood<B: Backend>(
    decoder: &Decoder<B>,
    experts: &Adapted<B>,
    job: &MixedText,
    workers: Workers,
    state: &mut State<B>,
) -> Result<f64> {
    let MixedText { shares, tokens, scored } = *job;
    assert!(!shares.is_empty(), "somebody scores");
    state.prepare(decoder, workers, 1, tokens.len());
    let vocab_size = decoder.config.vocab_size;
    let mut mixed = vec![0.0; tokens.len()];
    let mut scratch = vec![0.0; vocab_size];
    for share in shares {
        for piece in scored_pieces(decoder, tokens, scored) {
            let segment = piece.segment(tokens, share.expert_idx);
            state.forward(decoder, experts, &[segment], Phase::Prompt);
            let mut logits = state.logits(decoder, experts);
            let mut of_piece = piece.scored.iter().peekable();
            logits.each_row(decoder, vocab_size, &mut |row_idx, row| {
                let Some((_, idx)) = of_piece.next_if(|(scored, _)| *scored == row_idx) else {
                    return;
                };
                probabilities(row, &mut scratch);
                mixed[*idx] += share.weight * scratch[tokens[*idx] as usize];
            })?;
        }
    }
    let p = (1..tokens.len()).filter(|idx| scored[*idx]).map(|idx| mixed[idx]);
    Ok(p.map(|p: f64| if p.is_normal() { ln_f64(p) } else { f64::NAN }).sum())
}
