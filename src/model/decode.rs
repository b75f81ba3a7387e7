//! From prompts to answers: greedy decoding, and the likelihood of texts.
//!
//! Jobs are cut into batches of one adapter each; a batch is one thread's work from first to last,
//! so threads meet only at the end. Cutting otherwise changes no bit of any answer.

use std::ops::Range;

use super::decoder::Decoder;
use super::forward::{Segment, State, Want};
use super::lora::Adapted;
use crate::backend::{Backend, Phase, Workers};
use crate::error::Result;

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
pub fn generate<B: Backend>(
    decoder: &Decoder<B>,
    adapted: &Adapted<B>,
    jobs: &[Job],
    eos: &[u32],
    batch: Option<usize>,
    report: Report,
) -> Result<Vec<Generated>> {
    let limits = decoder.backend.limits();
    let longest = jobs.iter().map(|job| job.tokens.len() + job.max_new_tokens).max().unwrap_or(0);
    let most = limits.cache_bytes / decoder.cache_bytes(longest).max(1);
    let batch = batch.unwrap_or(limits.batch).min(limits.max_batch).min(most);
    let alone = !(limits.mixes_adapters && adapted.mixes());
    in_batches(
        decoder,
        jobs,
        |job| if alone { job.adapter_idx } else { 0 },
        batch,
        |jobs, workers, state| generate_batch(decoder, adapted, jobs, eos, workers, report, state),
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
pub fn log_likelihoods<B: Backend>(
    decoder: &Decoder<B>,
    adapted: &Adapted<B>,
    jobs: &[TextJob],
    batch: Option<usize>,
) -> Result<Vec<f64>> {
    let batch = batch.unwrap_or(decoder.backend.limits().batch);
    in_batches(
        decoder,
        jobs,
        |job| job.adapter_idx,
        batch,
        |jobs, workers, state| {
            let score = |job| log_likelihood(decoder, adapted, job, workers, state);
            jobs.iter().map(score).collect()
        },
    )
}

/// Runs `run` on batches of jobs of one kind each, with all workers, and puts the results in
/// order.
pub(super) fn in_batches<B: Backend, J: Sync, T: Send>(
    decoder: &Decoder<B>,
    jobs: &[J],
    kind: impl Fn(&J) -> usize,
    batch: usize,
    run: impl Fn(&[J], Workers, &mut State<B>) -> Result<Vec<T>> + Sync,
) -> Result<Vec<T>> {
    // Batches of one size, or the last would read all weights for a few rows.
    let batches: Vec<&[J]> = jobs
        .chunk_by(|left, right| kind(left) == kind(right))
        .flat_map(|jobs| {
            let n_batches = jobs.len().div_ceil(batch.max(1));
            jobs.chunks(jobs.len().div_ceil(n_batches))
        })
        .collect();
    let run = |batch_idx: usize, workers: Workers| {
        decoder.with_state(|state| run(batches[batch_idx], workers, state))
    };
    let results: Result<Vec<Vec<T>>> =
        decoder.backend.in_parallel(batches.len(), run).into_iter().collect();
    Ok(results?.into_iter().flatten().collect())
}

fn generate_batch<B: Backend>(
    decoder: &Decoder<B>,
    adapted: &Adapted<B>,
    jobs: &[Job],
    eos: &[u32],
    workers: Workers,
    report: Report,
    state: &mut State<B>,
) -> Result<Vec<Generated>> {
    let longest = jobs.iter().map(|job| job.tokens.len() + job.max_new_tokens).max().unwrap_or(0);
    state.prepare(decoder, workers, jobs.len(), longest);
    let mut results = vec![Generated::default(); jobs.len()];
    let vocab_size = decoder.config.vocab_size;

    // Prefill: prompts in groups of tokens; a long one in several pieces.
    let prompts = jobs.iter().enumerate().map(|(slot, job)| Prompt {
        slot,
        adapter_idx: job.adapter_idx,
        tokens: job.tokens,
    });
    for group in prefill_groups(prompts, decoder.backend.limits().prefill_rows) {
        state.forward(decoder, adapted, &group, Phase::Prompt);
    }
    let mut logits = state.logits(decoder, adapted);
    if report == Report::Logits {
        logits.each_row(decoder, vocab_size, &mut |slot, row| {
            results[slot].logits = Some(row.to_vec());
        })?;
    }
    let first = logits.largest(decoder)?;
    for ((result, job), token) in results.iter_mut().zip(jobs).zip(first) {
        if job.max_new_tokens > 0 {
            result.tokens.push(token);
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
            return Ok(results);
        }
        let segments: Vec<Segment> = going
            .iter()
            .map(|&slot| {
                let tokens = &results[slot].tokens;
                Segment {
                    slot,
                    adapter_idx: jobs[slot].adapter_idx,
                    first: jobs[slot].tokens.len() + tokens.len() - 1,
                    tokens: &tokens[tokens.len() - 1..],
                    want: Want::Last,
                }
            })
            .collect();
        state.forward(decoder, adapted, &segments, Phase::Step);
        let tokens = state.logits(decoder, adapted).largest(decoder)?;
        for (slot, token) in going.into_iter().zip(tokens) {
            results[slot].tokens.push(token);
        }
    }
}

/// A prompt in its slot of the cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prompt<'a> {
    pub slot: usize,
    pub adapter_idx: usize,
    pub tokens: &'a [u32],
}

/// Segments that cover all prompts, in groups of at most `n_rows` tokens.
pub(super) fn prefill_groups<'a>(
    prompts: impl Iterator<Item = Prompt<'a>>,
    n_rows: usize,
) -> Vec<Vec<Segment<'a>>> {
    let mut groups = vec![Vec::new()];
    let mut n_taken = 0;
    for Prompt { slot, adapter_idx, tokens: prompt } in prompts {
        assert!(!prompt.is_empty(), "a prompt has at least one token");
        for (piece_idx, tokens) in prompt.chunks(n_rows).enumerate() {
            let first = piece_idx * n_rows;
            let ends = first + tokens.len() == prompt.len();
            if n_taken + tokens.len() > n_rows {
                groups.push(Vec::new());
                n_taken = 0;
            }
            n_taken += tokens.len();
            let want = if ends { Want::Last } else { Want::Nothing };
            let segment = Segment { slot, adapter_idx, first, tokens, want };
            groups.last_mut().expect("never empty").push(segment);
        }
    }
    groups
}

fn log_likelihood<B: Backend>(
    decoder: &Decoder<B>,
    adapted: &Adapted<B>,
    job: &TextJob,
    workers: Workers,
    state: &mut State<B>,
) -> Result<f64> {
    let mut total = 0.0;
    state.prepare(decoder, workers, 1, job.tokens.len());
    for piece in scored_pieces(decoder, job.tokens, job.scored) {
        let segment = piece.segment(job.tokens, job.adapter_idx);
        state.forward(decoder, adapted, &[segment], Phase::Prompt);
        let wanted: Vec<(usize, u32)> =
            piece.scored.iter().map(|&(row_idx, idx)| (row_idx, job.tokens[idx])).collect();
        let each = state.logits(decoder, adapted).log_probabilities(decoder, &wanted)?;
        each.iter().for_each(|ln_p| total += ln_p);
    }
    Ok(total)
}

/// A piece of a text whose tokens are scored.
pub(super) struct Piece {
    tokens: Range<usize>,
    /// Each scored token: the row from whose logits it follows, and its index in the text.
    pub scored: Vec<(usize, usize)>,
}

impl Piece {
    /// The piece of `tokens` to be run; the text stands in the first slot.
    pub fn segment<'a>(&self, tokens: &'a [u32], adapter_idx: usize) -> Segment<'a> {
        let (first, tokens) = (self.tokens.start, &tokens[self.tokens.clone()]);
        Segment { slot: 0, adapter_idx, first, tokens, want: Want::All }
    }
}

/// The pieces of a text up to its last scored token: what follows has no influence.
pub(super) fn scored_pieces<B: Backend>(
    decoder: &Decoder<B>,
    tokens: &[u32],
    scored: &[bool],
) -> Vec<Piece> {
    assert_eq!(tokens.len(), scored.len(), "one mark for each token");
    let n_rows = decoder.backend.limits().logit_rows;
    let n_predicting = scored.iter().rposition(|scored| *scored).unwrap_or(0);
    let piece = |first: usize| {
        let end = (first + n_rows).min(n_predicting);
        let rows = (0..end - first).filter(|row_idx| scored[first + row_idx + 1]);
        let scored = rows.map(|row_idx| (row_idx, first + row_idx + 1)).collect();
        Piece { tokens: first..end, scored }
    };
    (0..n_predicting).step_by(n_rows).map(piece).collect()
}
