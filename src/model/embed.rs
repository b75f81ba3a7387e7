//! A text as one vector: the mean of the base's last hidden states over its tokens.
//!
//! The hidden states are those that the output matrix would be multiplied with: behind the last
//! norm, as transformers gives them. What is near to what is not known here.

use super::Model;
use super::decode::{PREFILL_ROWS, in_batches};
use super::forward::{Segment, State, Want};
use super::lora::Adapted;
use crate::backend::cpu::gemm::Workers;

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
pub fn mean_hidden(model: &Model, jobs: &[EmbedJob], batch: usize) -> Vec<Vec<f64>> {
    in_batches(
        model,
        jobs,
        |_| 0,
        batch,
        |jobs, workers, state| jobs.iter().map(|job| embed(model, job, workers, state)).collect(),
    )
}

fn embed(model: &Model, job: &EmbedJob, workers: Workers, state: &mut State) -> Vec<f64> {
    let EmbedJob { tokens, counts } = *job;
    assert_eq!(tokens.len(), counts.len(), "one mark for each token");
    assert!(!tokens.is_empty(), "a text has at least one token");
    let all_count = !counts.contains(&true);
    state.prepare(model, workers, 1, tokens.len());
    let mut mean = vec![0.0; model.config.dim];
    let mut n_summed = 0.0;
    for (piece_idx, piece) in tokens.chunks(PREFILL_ROWS).enumerate() {
        let first = piece_idx * PREFILL_ROWS;
        let segment = Segment { slot: 0, first, tokens: piece, want: Want::All };
        state.forward(model, &Adapted::Base, &[segment]);
        let hidden = state.hidden(model, &Adapted::Base);
        for i in (0..piece.len()).filter(|i| all_count || counts[first + i]) {
            n_summed += 1.0;
            for (sum, x) in mean.iter_mut().zip(hidden.row(i)) {
                *sum += f64::from(*x);
            }
        }
    }
    mean.iter_mut().for_each(|sum| *sum /= n_summed);
    mean
}
