//! The training loop: batches in, weights out, with progress and the way back in after a stop.
//!
//! A batch is drawn by its step's number alone, so a training that was stopped goes on as if it had
//! not been. Each batch is cut into two shares that are differentiated side by side and added in
//! order: the result does not depend on how many threads there are.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Result as CandleResult, Tensor, Var};

use super::checkpoint;
use super::decoder::{Decoder, Lora, Sizes, Weights};
use super::optimizer::{AdamW, Flat, Schedule};
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
        while adam.step < self.schedule.n_steps {
            let (loss, gradients) = self.differentiate(&adam)?;
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
    fn differentiate(&self, adam: &AdamW) -> Result<(f64, Flat)> {
        let batch = (self.batch)(adam.step);
        let scale = (self.scale)(adam.step);
        let total: f64 = batch.shares.iter().flat_map(|row| &row[1..]).map(|s| f64::from(*s)).sum();
        let n_each = batch.rows.len().div_ceil(N_SHARES);
        let shares: Vec<CandleResult<(f64, Flat)>> = std::thread::scope(|scope| {
            let threads: Vec<_> = batch
                .rows
                .chunks(n_each)
                .zip(batch.shares.chunks(n_each))
                .map(|(rows, shares)| {
                    scope.spawn(move || self.share(&adam.weights, rows, shares, total, scale))
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<_>| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            threads.into_iter().map(join).collect()
        });
        let (mut loss, mut gradients) = (0.0, Flat::new());
        for share in shares {
            let (share_loss, share_gradients) = share.map_err(|error| {
                Error::Check(format!("{}: candle cannot differentiate: {error}", self.name))
            })?;
            loss += share_loss;
            for (name, values) in share_gradients {
                let sum = gradients.entry(name).or_insert_with(|| vec![0.0; values.len()]);
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
        Ok((loss, gradients))
    }

    /// Loss and gradients of some rows; the whole batch's loss is `1 / total` of the weighted sum.
    fn share(
        &self,
        weights: &Flat,
        rows: &[Vec<u32>],
        shares: &[Vec<f32>],
        total: f64,
        scale: f64,
    ) -> CandleResult<(f64, Flat)> {
        let device = &Device::Cpu;
        let (n_rows, n_tokens) = (rows.len(), rows[0].len());
        let flat = |skip: usize, keep: usize| -> Vec<u32> {
            rows.iter().flat_map(|row| row[skip..skip + keep].iter().copied()).collect()
        };
        let inputs = Tensor::from_vec(flat(0, n_tokens - 1), (n_rows, n_tokens - 1), device)?;
        let targets =
            Tensor::from_vec(flat(1, n_tokens - 1), (n_rows * (n_tokens - 1), 1), device)?;
        let shares: Vec<f32> = shares.iter().flat_map(|row| row[1..].iter().copied()).collect();
        let shares = Tensor::from_vec(shares, (n_rows * (n_tokens - 1), 1), device)?;

        let mut variables: BTreeMap<String, Var> = BTreeMap::new();
        let mut fixed = Weights::new();
        let mut factors = BTreeMap::new();
        for (name, values) in weights {
            let shape = self.shape(name);
            let variable = Var::from_tensor(&Tensor::from_slice(values, shape, device)?)?;
            match &self.target {
                Target::Base => {
                    fixed.insert(name.clone(), variable.as_tensor().clone());
                }
                Target::Adapter { a, rank, .. } => {
                    let (_, n_in) = self.sizes.linear(linear_of(name));
                    let a = Tensor::from_slice(&a[name], (*rank, n_in), device)?;
                    factors.insert(name.clone(), (a, variable.as_tensor().clone()));
                }
            }
            variables.insert(name.clone(), variable);
        }
        let mut lora = None;
        if let Target::Adapter { base, .. } = &self.target {
            for (name, shape) in self.sizes.tensors() {
                fixed.insert(name.clone(), Tensor::from_slice(&base[&name], shape, device)?);
            }
            lora = Some(Lora { factors: &factors, scale });
        }
        let decoder = Decoder { sizes: self.sizes, weights: &fixed, lora };
        let logits = decoder.forward(&inputs)?;
        let max = logits.max_keepdim(1)?.detach();
        let ln_sum = logits.broadcast_sub(&max)?.exp()?.sum_keepdim(1)?.log()?;
        let losses = ((ln_sum + max)? - logits.gather(&targets, 1)?)?;
        let loss = ((losses * shares)?.sum_all()? / total)?;
        let store = loss.backward()?;
        let mut gradients = Flat::new();
        for (name, variable) in &variables {
            let gradient = match store.get(variable) {
                Some(gradient) => gradient.flatten_all()?.to_vec1::<f32>()?,
                None => vec![0.0; variable.elem_count()],
            };
            gradients.insert(name.clone(), gradient);
        }
        Ok((f64::from(loss.to_scalar::<f32>()?), gradients))
    }

    /// The shape of what is trained under a name.
    fn shape(&self, name: &str) -> Vec<usize> {
        match &self.target {
            Target::Base => {
                let of_name = self.sizes.tensors().into_iter().find(|(known, _)| known == name);
                of_name.map(|(_, shape)| shape).unwrap_or_default()
            }
            Target::Adapter { rank, .. } => vec![self.sizes.linear(linear_of(name)).0, *rank],
        }
    }
}

/// `self_attn.q_proj` of `model.layers.0.self_attn.q_proj`.
fn linear_of(name: &str) -> &str {
    name.splitn(4, '.').nth(3).unwrap_or(name)
}
