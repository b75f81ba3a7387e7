//! From prompts to answers: greedy decoding, and the likelihood of texts.
//!
//! Jobs are cut into batches of one adapter each; a batch is one thread's work from first to last,
//! so threads meet only at the end. Cutting otherwise changes no bit of any answer.

use rayon::prelude::*;

use super::Model;
use super::forward::{Segment, State, Want};
use super::lora::Adapted;
use crate::backend::cpu::gemm::Workers;
use crate::backend::cpu::math::{exp, ln_f64};
use crate::backend::cpu::ops::{argmax, row_max};

/// Tokens of prompts that run through the decoder at once.
pub(super) const PREFILL_ROWS: usize = 192;

/// Rows whose logits are held at once when every token's probability is asked for.
const LOGIT_ROWS: usize = 64;

/// A batch's key-value cache takes at most this much memory, unless it is of one sequence.
pub(super) const CACHE_BYTES: usize = 512 << 20;

/// Sequences of a batch where nobody says otherwise: three full tiles of a step's products. With
/// more, a step reads more keys and values than caches hold; with fewer, it reads the weights for
/// too few rows.
pub const DEFAULT_BATCH: usize = 36;

/// A prompt to be continued by one of the adapters.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Index of the adapter.
    pub adapter_idx: usize,
    /// The prompt; at least one token.
    pub tokens: &'a [u32],
    /// Tokens to generate at most.
    pub max_new_tokens: usize,
}

/// What is to be reported beside the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The new tokens only.
    Tokens,
    /// Also the logits at the prompt's last position.
    Logits,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Generated {
    /// The new tokens, up to and with an end token if one came.
    pub tokens: Vec<u32>,
    /// Logits at the prompt's last position, (vocab_size), where asked for.
    pub logits: Option<Vec<f32>>,
}

/// Continues every prompt greedily until an end token or its `max_new_tokens`; results in job
/// order.
///
/// `batch` is the number of sequences that share a batch; it changes the speed only.
pub fn generate(
    model: &Model,
    adapters: &[Adapted],
    jobs: &[Job],
    eos: &[u32],
    batch: usize,
    report: Report,
) -> Vec<Generated> {
    let longest = jobs.iter().map(|job| job.tokens.len() + job.max_new_tokens).max().unwrap_or(0);
    let batch = batch.min(CACHE_BYTES / model.cache_bytes(longest).max(1));
    in_batches(
        model,
        jobs,
        |job| job.adapter_idx,
        batch,
        |jobs, workers, state| {
            generate_batch(model, &adapters[jobs[0].adapter_idx], jobs, eos, workers, report, state)
        },
    )
}

/// A text of which some tokens are scored.
#[derive(Debug, Clone, Copy)]
pub struct TextJob<'a> {
    /// Index of the adapter.
    pub adapter_idx: usize,
    /// The text; at least one token.
    pub tokens: &'a [u32],
    /// For each token whether it is scored; the first, which nothing precedes, never is.
    pub scored: &'a [bool],
}

/// For every text: the sum of ln p(token | those before it) over its scored tokens.
pub fn log_likelihoods(
    model: &Model,
    adapters: &[Adapted],
    jobs: &[TextJob],
    batch: usize,
) -> Vec<f64> {
    in_batches(
        model,
        jobs,
        |job| job.adapter_idx,
        batch,
        |jobs, workers, state| {
            let adapted = &adapters[jobs[0].adapter_idx];
            jobs.iter().map(|job| log_likelihood(model, adapted, job, workers, state)).collect()
        },
    )
}

/// Runs `run` on batches of jobs of one adapter each, on all threads, and puts the results in
/// order.
pub(super) fn in_batches<J: Sync, T: Send>(
    model: &Model,
    jobs: &[J],
    adapter_idx: impl Fn(&J) -> usize,
    batch: usize,
    run: impl Fn(&[J], Workers, &mut State) -> Vec<T> + Sync,
) -> Vec<T> {
    // Batches of one size, or the last would read all weights for a few rows.
    let batches: Vec<&[J]> = jobs
        .chunk_by(|left, right| adapter_idx(left) == adapter_idx(right))
        .flat_map(|jobs| {
            let n_batches = jobs.len().div_ceil(batch.max(1));
            jobs.chunks(jobs.len().div_ceil(n_batches))
        })
        .collect();
    // With fewer batches than threads, the threads share each product instead.
    let workers =
        if batches.len() < rayon::current_num_threads() { Workers::All } else { Workers::One };
    let run = |jobs: &&[J]| {
        let mut state = model.states.take();
        let results = run(jobs, workers, &mut state);
        model.states.put_back(state);
        results
    };
    let results: Vec<Vec<T>> = match workers {
        Workers::All => batches.iter().map(run).collect(),
        Workers::One => batches.par_iter().with_max_len(1).map(run).collect(),
    };
    results.into_iter().flatten().collect()
}

fn generate_batch(
    model: &Model,
    adapted: &Adapted,
    jobs: &[Job],
    eos: &[u32],
    workers: Workers,
    report: Report,
    state: &mut State,
) -> Vec<Generated> {
    let longest = jobs.iter().map(|job| job.tokens.len() + job.max_new_tokens).max().unwrap_or(0);
    state.prepare(model, workers, jobs.len(), longest);
    let mut results = vec![Generated::default(); jobs.len()];
    let vocab_size = model.config.vocab_size;

    // Prefill: prompts in groups of about PREFILL_ROWS tokens; a long one in several pieces.
    for group in prefill_groups(jobs.iter().map(|job| job.tokens).enumerate()) {
        state.forward(model, adapted, &group);
    }
    let logits = state.logits(model, adapted);
    for (slot, result) in results.iter_mut().enumerate() {
        let row = &logits.row(slot)[..vocab_size];
        if jobs[slot].max_new_tokens > 0 {
            result.tokens.push(argmax(model.isa, row) as u32);
        }
        if report == Report::Logits {
            result.logits = Some(row.to_vec());
        }
    }

    // Decode: one row for each sequence that has not ended.
    loop {
        let going: Vec<usize> = (0..jobs.len())
            .filter(|slot| {
                let tokens = &results[*slot].tokens;
                tokens.len() < jobs[*slot].max_new_tokens
                    && tokens.last().is_some_and(|token| !eos.contains(token))
            })
            .collect();
        if going.is_empty() {
            return results;
        }
        let segments: Vec<Segment> = going
            .iter()
            .map(|&slot| {
                let tokens = &results[slot].tokens;
                Segment {
                    slot,
                    first: jobs[slot].tokens.len() + tokens.len() - 1,
                    tokens: &tokens[tokens.len() - 1..],
                    want: Want::Last,
                }
            })
            .collect();
        state.forward(model, adapted, &segments);
        let logits = state.logits(model, adapted);
        for (row_idx, slot) in going.into_iter().enumerate() {
            let row = &logits.row(row_idx)[..vocab_size];
            results[slot].tokens.push(argmax(model.isa, row) as u32);
        }
    }
}

/// Segments that cover all prompts, each with its slot, in groups of at most `PREFILL_ROWS` tokens.
pub(super) fn prefill_groups<'a>(
    prompts: impl Iterator<Item = (usize, &'a [u32])>,
) -> Vec<Vec<Segment<'a>>> {
    let mut groups = vec![Vec::new()];
    let mut n_rows = 0;
    for (slot, prompt) in prompts {
        assert!(!prompt.is_empty(), "a prompt has at least one token");
        for (piece_idx, tokens) in prompt.chunks(PREFILL_ROWS).enumerate() {
            let first = piece_idx * PREFILL_ROWS;
            let ends = first + tokens.len() == prompt.len();
            if n_rows + tokens.len() > PREFILL_ROWS {
                groups.push(Vec::new());
                n_rows = 0;
            }
            n_rows += tokens.len();
            let want = if ends { Want::Last } else { Want::Nothing };
            groups.last_mut().expect("never empty").push(Segment { slot, first, tokens, want });
        }
    }
    groups
}

fn log_likelihood(
    model: &Model,
    adapted: &Adapted,
    job: &TextJob,
    workers: Workers,
    state: &mut State,
) -> f64 {
    let mut total = 0.0;
    state.prepare(model, workers, 1, job.tokens.len());
    each_scored(model, adapted, job.tokens, job.scored, state, |row, token_idx| {
        total += ln_probability(row, row_max(model.isa, row), job.tokens[token_idx]);
    });
    total
}

/// Gives `visit` the logits, (vocab_size), from which each scored token follows, and the token's
/// index, in order. `state` has room for the text in its first slot.
pub(super) fn each_scored(
    model: &Model,
    adapted: &Adapted,
    tokens: &[u32],
    scored: &[bool],
    state: &mut State,
    mut visit: impl FnMut(&[f32], usize),
) {
    assert_eq!(tokens.len(), scored.len(), "one mark for each token");
    // What follows the last scored token has no influence.
    let n_predicting = scored.iter().rposition(|scored| *scored).unwrap_or(0);
    for first in (0..n_predicting).step_by(LOGIT_ROWS) {
        let piece = &tokens[first..(first + LOGIT_ROWS).min(n_predicting)];
        let segment = Segment { slot: 0, first, tokens: piece, want: Want::All };
        state.forward(model, adapted, &[segment]);
        let logits = state.logits(model, adapted);
        for i in (0..piece.len()).filter(|i| scored[first + i + 1]) {
            visit(&logits.row(i)[..model.config.vocab_size], first + i + 1);
        }
    }
}

/// `logit[token] - ln(sum of e^logit)`
fn ln_probability(logits: &[f32], max: f32, token: u32) -> f64 {
    let sum: f64 = logits.iter().map(|logit| f64::from(exp(logit - max))).sum();
    if !sum.is_normal() {
        return f64::NAN;
    }
    f64::from(logits[token as usize]) - f64::from(max) - ln_f64(sum)
}
