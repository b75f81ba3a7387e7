//! A text as one vector: the mean of the base's last hidden states over its tokens.
//!
//! The hidden states are those that the output matrix would be multiplied with: behind the last
//! norm, as transformers gives them. What is near to what is not known here.

use super::decode::in_batches;
use super::decoder::Decoder;
use super::forward::{Segment, State, Want};
use super::lora::Adapted;
use crate::backend::{Backend, Phase, Workers};
use crate::error::Result;

/// A text of which some tokens count.
#[derive(Debug, Clone, Copy)]
pub struct EmbedJob<'a> {
    /// The text; at least one token.
    pub tokens: &'a [u32],
    /// For each token whether it counts; all do where none does.
    pub counts: &'a [bool],
}

/// For every text the mean hidden state of its tokens that count, `(n_texts, dim)`, summed in f64
/// in their order. `batch` changes the speed only.
pub fn mean_hidden<B: Backend>(
    decoder: &Decoder<B>,
    jobs: &[EmbedJob],
    batch: Option<usize>,
) -> Result<Vec<Vec<f64>>> {
    let batch = batch.unwrap_or(decoder.backend.limits().batch);
    in_batches(
        decoder,
        jobs,
        |_| 0,
        batch,
        |jobs, workers, state| jobs.iter().map(|job| embed(decoder, job, workers, state)).collect(),
    )
}

fn embed<B: Backend>(
    decoder: &Decoder<B>,
    job: &EmbedJob,
    workers: Workers,
    state: &mut State<B>,
) -> Result<Vec<f64>> {
    let EmbedJob { tokens, counts } = *job;
    assert_eq!(tokens.len(), counts.len(), "one mark for each token");
    assert!(!tokens.is_empty(), "a text has at least one token");
    let all_count = !counts.contains(&true);
    state.prepare(decoder, workers, 1, tokens.len());
    let mut mean = vec![0.0; decoder.config.dim];
    let mut n_summed = 0.0;
    let n_rows = decoder.backend.limits().prefill_rows;
    for (piece_idx, piece) in tokens.chunks(n_rows).enumerate() {
        let first = piece_idx * n_rows;
        let segment = Segment { slot: 0, adapter_idx: 0, first, tokens: piece, want: Want::All };
        state.forward(decoder, &Adapted::Base, &[segment], Phase::Prompt);
        let mut hidden = state.hidden(decoder, &Adapted::Base);
        hidden.each_row(decoder, decoder.config.dim, &mut |i, row| {
            if all_count || counts[first + i] {
                n_summed += 1.0;
                mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
            }
        })?;
    }
    mean.iter_mut().for_each(|sum| *sum /= n_summed);
    Ok(mean)
}
