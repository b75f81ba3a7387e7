//! The training loop: batches in, weights out, with progress and the way back in after a stop.
//!
//! A batch is drawn by its step's number alone, so a training that was stopped goes on as if it had
//! not been. Each batch is cut into two shares that are differentiated side by side and added in
//! order: the result does not depend on how many threads there are.

use std::path::Path;
use std::time::Instant;

use rayon::prelude::*;

use super::backward::Score;
use super::checkpoint;
use super::decoder::{Decoder, Sizes, State};
use super::linear::Lora;
use super::optimizer::{AdamW, Flat, Schedule};
use crate::backend::cpu::Isa;
use crate::error::{Error, Result};

/// Rows of tokens, and how much each counts.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// (n_rows, n_tokens): what is read.
    pub rows: Vec<Vec<u32>>,
    /// (n_rows, n_tokens): the share of each token in the loss; a row's first is never predicted.
    pub shares: Vec<Vec<f32>>,
}

/// What is trained.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// All weights of a model.
    Base,
    /// Factor B of an adapter of a model whose weights and factors A stay.
    Adapter {
        /// The base model's weights.
        base: &'a Flat,
        /// Factor A of each linear layer, (rank, n_in), by the layer's name.
        a: &'a Flat,
        /// Its rank.
        rank: usize,
    },
}

/// One training: what, how, and where its state is kept.
pub struct Fit<'a> {
    /// Its name in messages.
    pub name: &'a str,
    /// The model's sizes.
    pub sizes: Sizes,
    /// What is trained.
    pub target: Target<'a>,
    /// The steps.
    pub schedule: Schedule,
    /// The batch of a step.
    pub batch: &'a (dyn Fn(usize) -> Batch + Sync),
    /// The factor on an adapter's update at a step.
    pub scale: &'a (dyn Fn(usize) -> f64 + Sync),
    /// The checkpoint file.
    pub checkpoint: &'a Path,
}

/// Steps from one checkpoint to the next.
const STEPS_PER_CHECKPOINT: usize = 200;

/// Shares of a batch that are worked on side by side.
const N_SHARES: usize = 2;

impl Fit<'_> {
    /// Trains from the checkpoint, or from `start` where there is none; `report` is told of
    /// (step, loss, seconds) now and then.
    ///
    /// # Errors
    /// Where the checkpoint cannot be read or written, or the loss is no longer a number.
    pub fn run(&self, start: Flat, report: &mut dyn FnMut(usize, f64, f64)) -> Result<Flat> {
        let mut adam = match checkpoint::read(self.checkpoint, &start)? {
            Some(adam) => adam,
            None => AdamW::new(start),
        };
        let (clock, mut smooth) = (Instant::now(), f64::NAN);
        let mut states: Vec<State> = (0..N_SHARES).map(|_| State::default()).collect();
        while adam.step < self.schedule.n_steps {
            let (loss, gradients) = self.differentiate(&adam, &mut states);
            if !loss.is_finite() {
                let what = format!("{}: the loss of step {} is {loss}", self.name, adam.step + 1);
                return Err(Error::Check(what));
            }
            smooth = if smooth.is_nan() { loss } else { 0.98 * smooth + 0.02 * loss };
            adam.update(&gradients, &self.schedule);
            let is_last = adam.step == self.schedule.n_steps;
            if adam.step % STEPS_PER_CHECKPOINT == 0 || is_last {
                checkpoint::write(self.checkpoint, &adam)?;
                report(adam.step, smooth, clock.elapsed().as_secs_f64());
            }
        }
        Ok(adam.weights)
    }

    /// The loss of a step's batch, and its gradients.
    fn differentiate(&self, adam: &AdamW, states: &mut [State]) -> (f64, Flat) {
        let batch = (self.batch)(adam.step);
        let total: f64 = batch.shares.iter().flat_map(|row| &row[1..]).map(|s| f64::from(*s)).sum();
        let decoder = self.decoder(&adam.weights, (self.scale)(adam.step) as f32);
        let n_each = batch.rows.len().div_ceil(N_SHARES).max(1);
        let rows = batch.rows.par_chunks(n_each).zip(batch.shares.par_chunks(n_each));
        let parts: Vec<(f64, Flat)> = rows
            .zip(states)
            .map(|((rows, shares), state)| {
                let (mut loss, mut gradients) = (0.0, Flat::new());
                for (row, shares) in rows.iter().zip(shares) {
                    let scores = scores(row, shares, total);
                    loss += decoder.learn(state, row, &scores, &mut gradients);
                }
                (loss, gradients)
            })
            .collect();
        let mut loss = 0.0;
        let zeros = |(name, values): (&String, &Vec<f32>)| (name.clone(), vec![0.0; values.len()]);
        let mut gradients: Flat = adam.weights.iter().map(zeros).collect();
        for (part_loss, part) in &parts {
            loss += part_loss;
            for (sums, values) in gradients.iter_mut().filter_map(|(n, s)| Some((s, part.get(n)?)))
            {
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
        (loss, gradients)
    }

    /// The decoder at a step.
    fn decoder<'d>(&'d self, weights: &'d Flat, scale: f32) -> Decoder<'d> {
        let isa = Isa::detect();
        match self.target {
            Target::Base => Decoder::new(isa, self.sizes, weights),
            Target::Adapter { base, a, rank } => {
                Decoder::with_lora(isa, self.sizes, base, Lora { a, b: weights, rank, scale })
            }
        }
    }
}

/// The positions of a row whose next token has a share in the loss.
fn scores(row: &[u32], shares: &[f32], total: f64) -> Vec<Score> {
    let next = row.iter().zip(shares).enumerate().skip(1);
    next.filter(|(_, (_, share))| **share != 0.0)
        .map(|(i, (target, share))| {
            let weight = (f64::from(*share) / total) as f32;
            Score { position: i - 1, target: *target, weight }
        })
        .collect()
}
