//! The way back through the decoder: the loss at scored positions, and what it owes each weight.

use super::attention::{self, Gradients, Inputs, attend_back};
use super::decoder::{
    DOWN, Decoder, EMBEDDING, GATE, K, Kept, Layer, Learns, NORM_EPS, O, Q, State, UP, V, room,
};
use super::linear::Linear;
use super::ops::{gelu_tanh_times_back, rms_norm_back};
use super::optimizer::Flat;
use super::product::{Left, Order, Panels, Start, product};
use crate::backend::cpu::math::ln_f64;
use crate::backend::cpu::ops::{row_max, scale, softmax_numerators};

/// A position whose next token counts.
#[derive(Debug, Clone, Copy)]
pub struct Score {
    /// The position that predicts.
    pub position: usize,
    /// The token that follows it.
    pub target: u32,
    /// Its factor in the loss.
    pub weight: f32,
}

/// Room for gradients of activations, each shaped as what it is the gradient of.
#[derive(Default)]
pub struct Scratch {
    d_x: Vec<f32>,
    d_normed: Vec<f32>,
    d_q: Vec<f32>,
    d_k: Vec<f32>,
    d_v: Vec<f32>,
    d_attended: Vec<f32>,
    d_inner: Vec<f32>,
    minus_sin: Vec<f32>,
    d_norm: Vec<f32>, // where no norm learns
    spare: Spare,
}

/// Room for the right sides of weights' gradients.
#[derive(Default)]
struct Spare {
    shrunk: Vec<f32>, // (n_rows, rank): scale A x
    inputs: Panels,   // (n_rows, n_in)
}

impl Decoder<'_> {
    /// The weighted loss of a sequence, `sum weight * -ln p(target)`; adds its gradients.
    ///
    /// Scores stand in the order of their positions. What follows the last of them is not run.
    pub fn learn(
        &self,
        state: &mut State,
        tokens: &[u32],
        scores: &[Score],
        gradients: &mut Flat,
    ) -> f64 {
        let Some(last) = scores.last() else { return 0.0 };
        self.forward(state, &tokens[..=last.position]);
        let positions: Vec<usize> = scores.iter().map(|score| score.position).collect();
        let logits = self.logits(state, &positions);
        let mut loss = 0.0;
        for (row, score) in logits.chunks_exact_mut(self.sizes.vocab_size).zip(scores) {
            loss += f64::from(score.weight) * self.cross_entropy(row, score);
        }
        self.output_back(state, &positions, gradients);
        for layer_idx in (0..self.sizes.n_layers).rev() {
            self.layer_back(state, layer_idx, gradients);
        }
        if let Learns::Weights = self.learns {
            let dim = self.sizes.dim;
            let d_embedding = gradient(gradients, EMBEDDING, self.embedding.len());
            let factor = (dim as f32).sqrt();
            for (d_x, token) in state.back.d_x.chunks_exact(dim).zip(&state.tokens) {
                let row = &mut d_embedding[*token as usize * dim..][..dim];
                row.iter_mut().zip(d_x).for_each(|(sum, d_x)| *sum += factor * d_x);
            }
        }
        loss
    }

    /// -ln p(target); the logits' weighted gradient takes their place.
    fn cross_entropy(&self, row: &mut [f32], score: &Score) -> f64 {
        let target = score.target as usize;
        let distance = f64::from(row_max(self.isa, row)) - f64::from(row[target]);
        let sum = softmax_numerators(self.isa, row, 1.0);
        scale(self.isa, row, score.weight / sum);
        row[target] -= score.weight;
        // A loss that is no longer a number is reported by the caller.
        if sum.is_normal() { ln_f64(f64::from(sum)) + distance } else { f64::NAN }
    }

    /// From the logits' gradient to the stream's, which is zero where nothing was scored.
    fn output_back(&self, state: &mut State, positions: &[usize], gradients: &mut Flat) {
        let (isa, dim, n_scored) = (self.isa, self.sizes.dim, positions.len());
        let State { logits, normed, scored, back, tokens, .. } = state;
        if let Learns::Weights = self.learns {
            let d_embedding = gradient(gradients, EMBEDDING, self.embedding.len());
            back.spare.inputs.pack(normed, dim, (n_scored, dim));
            weight_gradient(self, logits, &back.spare.inputs, d_embedding);
        }
        let n_rows = n_scored;
        let d = Left { data: logits, stride: self.sizes.vocab_size, order: Order::Rows, n_rows };
        let d_normed = room(&mut back.d_normed, n_scored * dim);
        let (right, steps) = (&self.output.backward, 0..self.sizes.vocab_size);
        product(isa, d, right, steps, dim, d_normed, dim, Start::Zero);
        let d_norm = self.norm_gradient(gradients, "model.norm.weight", &mut back.d_norm);
        room(&mut back.d_x, tokens.len() * dim).fill(0.0);
        for (i, position) in positions.iter().enumerate() {
            let (x, d_y) = (&scored[i * dim..][..dim], &d_normed[i * dim..][..dim]);
            let d_x = &mut back.d_x[position * dim..][..dim];
            rms_norm_back(isa, x, &self.norm, NORM_EPS, d_y, d_x, d_norm);
        }
    }

    /// Turns the gradient of a layer's result, in `d_x`, into that of what came in.
    fn layer_back(&self, state: &mut State, layer_idx: usize, gradients: &mut Flat) {
        let State { layers, cos, sin, attention, back, .. } = state;
        let (layer, kept) = (&self.layers[layer_idx], &mut layers[layer_idx]);
        self.feed_forward_back(layer, kept, back, gradients);
        self.attend_back(layer, kept, (cos, sin), attention, back, gradients);
    }

    fn feed_forward_back(
        &self,
        layer: &Layer,
        kept: &mut Kept,
        back: &mut Scratch,
        gradients: &mut Flat,
    ) {
        let Scratch { d_x, d_normed, d_inner, d_norm, spare, .. } = back;
        let mut linear = |i: usize, x: &[f32], d_y: &[f32], d_x: &mut [f32], start: Start| {
            self.linear_back(&layer.linears[i], x, d_y, (d_x, start), gradients, spare);
        };
        linear(DOWN, &kept.inner, d_x, room(d_inner, kept.inner.len()), Start::Zero);
        gelu_tanh_times_back(self.isa, &mut kept.gate, &mut kept.up, d_inner);
        linear(GATE, &kept.normed_2, &kept.gate, room(d_normed, d_x.len()), Start::Zero);
        linear(UP, &kept.normed_2, &kept.up, d_normed, Start::Add);
        let name = format!("{}.post_attention_layernorm.weight", layer.name);
        let weight = &layer.post_attention_norm;
        self.norm_back(&kept.x_2, weight, d_normed, d_x, gradients, (&name, d_norm));
    }

    fn attend_back(
        &self,
        layer: &Layer,
        kept: &Kept,
        (cos, sin): (&[f32], &[f32]),
        scratch: &mut attention::Scratch,
        back: &mut Scratch,
        gradients: &mut Flat,
    ) {
        let Scratch { d_x, d_normed, d_q, d_k, d_v, d_attended, minus_sin, d_norm, .. } = back;
        let spare = &mut back.spare;
        let mut linear = |i: usize, x: &[f32], d_y: &[f32], d_x: &mut [f32], start: Start| {
            self.linear_back(&layer.linears[i], x, d_y, (d_x, start), gradients, spare);
        };
        linear(O, &kept.attended, d_x, room(d_attended, kept.attended.len()), Start::Zero);
        room(d_q, kept.q.len());
        room(d_k, kept.k.len()).fill(0.0);
        room(d_v, kept.v.len()).fill(0.0);
        let inputs = Inputs { q: &kept.q, k: &kept.k, v: &kept.v };
        let owed = Gradients { q: d_q, k: d_k, v: d_v };
        attend_back(self.isa, &self.sizes, inputs, &kept.shares, d_attended, owed, scratch);
        minus_sin.clear();
        minus_sin.extend(sin.iter().map(|sin| -sin));
        self.rotate_rows(d_q, cos, minus_sin);
        self.rotate_rows(d_k, cos, minus_sin);
        linear(Q, &kept.normed, d_q, d_normed, Start::Zero);
        linear(K, &kept.normed, d_k, d_normed, Start::Add);
        linear(V, &kept.normed, d_v, d_normed, Start::Add);
        let name = format!("{}.input_layernorm.weight", layer.name);
        self.norm_back(&kept.x, &layer.input_norm, d_normed, d_x, gradients, (&name, d_norm));
    }

    /// Of `y = x W^T`: adds what is owed to W, or to B, and puts `d_y W` in the place of `d_x`.
    fn linear_back(
        &self,
        linear: &Linear,
        x: &[f32],
        d_y: &[f32],
        (d_x, start): (&mut [f32], Start),
        gradients: &mut Flat,
        Spare { shrunk, inputs }: &mut Spare,
    ) {
        let (n_out, n_in) = (linear.n_out, linear.n_in);
        let n_rows = x.len() / n_in;
        let name = &linear.name;
        match (&self.learns, &linear.a) {
            (Learns::B { scale: factor, rank }, Some(a)) => {
                let x = Left { data: x, stride: n_in, order: Order::Rows, n_rows };
                let shrunk = room(shrunk, n_rows * rank);
                product(self.isa, x, a, 0..n_in, *rank, shrunk, *rank, Start::Zero);
                scale(self.isa, shrunk, *factor);
                inputs.pack(shrunk, *rank, (n_rows, *rank));
                weight_gradient(self, d_y, inputs, gradient(gradients, name, n_out * rank));
            }
            _ => {
                inputs.pack(x, n_in, (n_rows, n_in));
                weight_gradient(self, d_y, inputs, gradient(gradients, name, n_out * n_in));
            }
        }
        let d_y = Left { data: d_y, stride: n_out, order: Order::Rows, n_rows };
        product(self.isa, d_y, &linear.backward, 0..n_out, n_in, d_x, n_in, start);
    }

    /// Of a norm over rows: adds to the gradients of its input and of its weight.
    fn norm_back(
        &self,
        x: &[f32],
        weight: &[f32],
        d_y: &[f32],
        d_x: &mut [f32],
        gradients: &mut Flat,
        (name, spare): (&str, &mut Vec<f32>),
    ) {
        let d_weight = self.norm_gradient(gradients, name, spare);
        let dim = weight.len();
        let rows = x.chunks_exact(dim).zip(d_y.chunks_exact(dim)).zip(d_x.chunks_exact_mut(dim));
        for ((x, d_y), d_x) in rows {
            rms_norm_back(self.isa, x, weight, NORM_EPS, d_y, d_x, d_weight);
        }
    }

    /// Where a norm's gradient goes: to nobody where norms do not learn.
    fn norm_gradient<'g>(
        &self,
        gradients: &'g mut Flat,
        name: &str,
        spare: &'g mut Vec<f32>,
    ) -> &'g mut [f32] {
        match self.learns {
            Learns::Weights => gradient(gradients, name, self.sizes.dim),
            Learns::B { .. } => room(spare, self.sizes.dim),
        }
    }
}

/// `d_weight += d_y^T x`, with x (n_rows, n_in) packed.
fn weight_gradient(decoder: &Decoder, d_y: &[f32], x: &Panels, d_weight: &mut [f32]) {
    let (n_rows, n_in) = x.shape();
    let n_out = d_y.len() / n_rows;
    let d_y = Left { data: d_y, stride: n_out, order: Order::Columns, n_rows: n_out };
    product(decoder.isa, d_y, x, 0..n_rows, n_in, d_weight, n_in, Start::Add);
}

/// The gradient of that name, zero before it is first asked for.
fn gradient<'g>(gradients: &'g mut Flat, name: &str, n: usize) -> &'g mut [f32] {
    if !gradients.contains_key(name) {
        gradients.insert(name.to_string(), vec![0.0; n]);
    }
    gradients.entry(name.to_string()).or_default()
}
