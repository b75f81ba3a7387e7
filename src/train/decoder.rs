//! The small Gemma that is trained: `model`'s forward pass, keeping what the gradient needs.
//!
//! One sequence at a time, so that what is kept stays near the processor. Weights carry the names
//! that transformers gives them. Where an adapter is trained, its factor A stays as it was drawn
//! and only B learns: the update is then linear in what is trained, and the updates of experts that
//! share A add up without cross terms.

use super::attention::{self, Inputs, attend};
use super::linear::{Linear, Lora};
use super::optimizer::Flat;
use super::product::Start;
use crate::backend::cpu::Isa;
use crate::backend::cpu::math::{exp_f64, ln_f64, sin_cos_f64};
use crate::backend::cpu::ops::{gelu_tanh_times, rms_norm, rotate, scale};
use crate::model::weights::LINEARS;

/// Sizes of the model.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub dim: usize,
    /// Decoder layers.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Width of the feed-forward network.
    pub ffn_dim: usize,
}

/// Gemma's rotary base.
pub const ROPE_THETA: f64 = 10_000.0;
/// Added to the mean square before its root.
pub const NORM_EPS: f32 = 1e-6;

impl Sizes {
    /// (outputs, inputs) of a linear layer of [`LINEARS`].
    pub fn linear(&self, name: &str) -> (usize, usize) {
        let (q_dim, kv_dim) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        match name {
            "self_attn.q_proj" => (q_dim, self.dim),
            "self_attn.k_proj" | "self_attn.v_proj" => (kv_dim, self.dim),
            "self_attn.o_proj" => (self.dim, q_dim),
            "mlp.gate_proj" | "mlp.up_proj" => (self.ffn_dim, self.dim),
            "mlp.down_proj" => (self.dim, self.ffn_dim),
            _ => unreachable!("{name} is none of a layer's linears"),
        }
    }

    /// Name and shape of every tensor of the model.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut tensors = vec![(EMBEDDING.into(), vec![self.vocab_size, self.dim])];
        for layer in 0..self.n_layers {
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                tensors.push((format!("model.layers.{layer}.{norm}.weight"), vec![self.dim]));
            }
            for linear in LINEARS {
                let (n_out, n_in) = self.linear(linear);
                tensors.push((format!("model.layers.{layer}.{linear}.weight"), vec![n_out, n_in]));
            }
        }
        tensors.push(("model.norm.weight".into(), vec![self.dim]));
        tensors
    }
}

/// The name of the token embedding, which is the output matrix too.
pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";

/// Places of the linear layers in [`LINEARS`].
pub(super) const Q: usize = 0;
pub(super) const K: usize = 1;
pub(super) const V: usize = 2;
pub(super) const O: usize = 3;
pub(super) const GATE: usize = 4;
pub(super) const UP: usize = 5;
pub(super) const DOWN: usize = 6;

/// The decoder over given weights, packed for both directions.
pub struct Decoder<'a> {
    pub(super) isa: Isa,
    pub(super) sizes: Sizes,
    pub(super) embedding: &'a [f32], // (vocab_size, dim)
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Vec<f32>, // (dim), one added
    pub(super) output: Linear,
    pub(super) learns: Learns,
}

/// What gradients are wanted of.
pub(super) enum Learns {
    Weights,
    /// Factors B, at this scale and rank.
    B {
        scale: f32,
        rank: usize,
    },
}

pub(super) struct Layer {
    pub name: String,
    pub input_norm: Vec<f32>,          // (dim), one added
    pub post_attention_norm: Vec<f32>, // (dim), one added
    pub linears: Vec<Linear>,          // in the order of LINEARS
}

/// What one sequence leaves behind on its way forward, and room for the way back; reused.
#[derive(Default)]
pub struct State {
    pub(super) tokens: Vec<u32>,
    pub(super) layers: Vec<Kept>,
    pub(super) x: Vec<f32>,      // (n_tokens, dim): the residual stream
    pub(super) cos: Vec<f32>,    // (n_tokens, head_dim / 2)
    pub(super) sin: Vec<f32>,    // (n_tokens, head_dim / 2)
    pub(super) scored: Vec<f32>, // (n_scored, dim): the stream where logits are wanted
    pub(super) normed: Vec<f32>, // (n_scored, dim)
    pub(super) logits: Vec<f32>, // (n_scored, vocab_size)
    pub(super) attention: attention::Scratch,
    pub(super) back: super::backward::Scratch,
}

/// What one layer leaves behind.
#[derive(Default)]
pub(super) struct Kept {
    pub x: Vec<f32>,        // (n_tokens, dim): what came in
    pub normed: Vec<f32>,   // (n_tokens, dim)
    pub q: Vec<f32>,        // (n_tokens, n_heads * head_dim), rotated
    pub k: Vec<f32>,        // (n_tokens, n_kv_heads * head_dim), rotated
    pub v: Vec<f32>,        // (n_tokens, n_kv_heads * head_dim)
    pub shares: Vec<f32>,   // (n_heads, n_tokens, stride)
    pub attended: Vec<f32>, // (n_tokens, n_heads * head_dim)
    pub x_2: Vec<f32>,      // (n_tokens, dim): the stream after attention
    pub normed_2: Vec<f32>, // (n_tokens, dim)
    pub gate: Vec<f32>,     // (n_tokens, ffn_dim)
    pub up: Vec<f32>,       // (n_tokens, ffn_dim)
    pub inner: Vec<f32>,    // (n_tokens, ffn_dim)
}

/// Makes `buffer` `n` long; what it holds is of no account.
pub(super) fn room(buffer: &mut Vec<f32>, n: usize) -> &mut [f32] {
    buffer.resize(n, 0.0);
    buffer
}

impl<'a> Decoder<'a> {
    /// Of the model's weights, all of which learn.
    pub fn new(isa: Isa, sizes: Sizes, weights: &'a Flat) -> Self {
        Self::pack(isa, sizes, weights, None)
    }

    /// Of fixed weights with an adapter, whose B learns.
    pub fn with_lora(isa: Isa, sizes: Sizes, weights: &'a Flat, lora: Lora) -> Self {
        Self::pack(isa, sizes, weights, Some(lora))
    }

    fn pack(isa: Isa, sizes: Sizes, weights: &'a Flat, lora: Option<Lora>) -> Self {
        let norm = |name: String| -> Vec<f32> { weights[&name].iter().map(|w| w + 1.0).collect() };
        let layer = |layer: usize| {
            let name = format!("model.layers.{layer}");
            let linear = |linear: &&str| {
                let (name, shape) = (format!("{name}.{linear}"), sizes.linear(linear));
                let weight_name = format!("{name}.weight");
                let weight = &weights[&weight_name];
                match lora {
                    None => Linear::new(weight_name, weight, shape),
                    Some(lora) => Linear::adapted(isa, name, weight, shape, lora),
                }
            };
            Layer {
                input_norm: norm(format!("{name}.input_layernorm.weight")),
                post_attention_norm: norm(format!("{name}.post_attention_layernorm.weight")),
                linears: LINEARS.iter().map(linear).collect(),
                name,
            }
        };
        let embedding = &weights[EMBEDDING];
        Self {
            isa,
            sizes,
            embedding,
            layers: (0..sizes.n_layers).map(layer).collect(),
            norm: norm("model.norm.weight".into()),
            output: Linear::new(EMBEDDING.into(), embedding, (sizes.vocab_size, sizes.dim)),
            learns: match lora {
                None => Learns::Weights,
                Some(Lora { scale, rank, .. }) => Learns::B { scale, rank },
            },
        }
    }

    /// Runs the layers over `tokens`.
    pub fn forward(&self, state: &mut State, tokens: &[u32]) {
        let (isa, n_tokens, dim) = (self.isa, tokens.len(), self.sizes.dim);
        state.tokens.clear();
        state.tokens.extend(tokens);
        state.turn(&self.sizes, n_tokens);
        state.layers.resize_with(self.sizes.n_layers, Kept::default);
        room(&mut state.x, n_tokens * dim);
        for (row, token) in state.x.chunks_exact_mut(dim).zip(tokens) {
            row.copy_from_slice(&self.embedding[*token as usize * dim..][..dim]);
        }
        scale(isa, &mut state.x, (dim as f32).sqrt());
        for layer_idx in 0..self.sizes.n_layers {
            self.layer(state, layer_idx, n_tokens);
        }
    }

    fn layer(&self, state: &mut State, layer_idx: usize, n_tokens: usize) {
        let (isa, sizes, layer) = (self.isa, &self.sizes, &self.layers[layer_idx]);
        let State { layers, x, cos, sin, attention, .. } = state;
        let kept = &mut layers[layer_idx];
        let linear = |i: usize, x: &[f32], y: &mut Vec<f32>| {
            let linear = &layer.linears[i];
            linear.apply(isa, x, room(y, n_tokens * linear.n_out), Start::Zero);
        };
        kept.x.clone_from(x);
        self.norm_rows(x, &layer.input_norm, &mut kept.normed);
        linear(Q, &kept.normed, &mut kept.q);
        linear(K, &kept.normed, &mut kept.k);
        linear(V, &kept.normed, &mut kept.v);
        self.rotate_rows(&mut kept.q, cos, sin);
        self.rotate_rows(&mut kept.k, cos, sin);
        let inputs = Inputs { q: &kept.q, k: &kept.k, v: &kept.v };
        let n_shares = sizes.n_heads * n_tokens * attention::stride(n_tokens);
        let shares = room(&mut kept.shares, n_shares);
        let attended = room(&mut kept.attended, kept.q.len());
        attend(isa, sizes, inputs, shares, attended, attention);
        layer.linears[O].apply(isa, &kept.attended, x, Start::Add);

        kept.x_2.clone_from(x);
        self.norm_rows(x, &layer.post_attention_norm, &mut kept.normed_2);
        linear(GATE, &kept.normed_2, &mut kept.gate);
        linear(UP, &kept.normed_2, &mut kept.up);
        kept.inner.clone_from(&kept.gate);
        gelu_tanh_times(isa, &mut kept.inner, &kept.up);
        layer.linears[DOWN].apply(isa, &kept.inner, x, Start::Add);
    }

    /// Logits (positions, vocab_size) of what follows the given positions of the last sequence.
    pub fn logits<'s>(&self, state: &'s mut State, positions: &[usize]) -> &'s mut [f32] {
        let dim = self.sizes.dim;
        state.scored.clear();
        for position in positions {
            state.scored.extend(&state.x[position * dim..][..dim]);
        }
        self.norm_rows(&state.scored, &self.norm, &mut state.normed);
        let logits = room(&mut state.logits, positions.len() * self.sizes.vocab_size);
        self.output.apply(self.isa, &state.normed, logits, Start::Zero);
        logits
    }

    fn norm_rows(&self, x: &[f32], weight: &[f32], out: &mut Vec<f32>) {
        let dim = weight.len();
        let out = room(out, x.len());
        for (x, out) in x.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
            rms_norm(self.isa, x, weight, NORM_EPS, out);
        }
    }

    /// Rotary embedding of all heads; with the sines turned round, its gradient.
    pub(super) fn rotate_rows(&self, x: &mut [f32], cos: &[f32], sin: &[f32]) {
        let (head_dim, half) = (self.sizes.head_dim, self.sizes.head_dim / 2);
        let width = x.len() / (cos.len() / half);
        for (position, row) in x.chunks_exact_mut(width).enumerate() {
            let (cos, sin) = (&cos[position * half..][..half], &sin[position * half..][..half]);
            for head in row.chunks_exact_mut(head_dim) {
                rotate(self.isa, head, cos, sin);
            }
        }
    }
}

impl State {
    /// Cosines and sines of the positions.
    fn turn(&mut self, sizes: &Sizes, n_tokens: usize) {
        let half = sizes.head_dim / 2;
        self.cos.truncate(n_tokens * half);
        self.sin.truncate(n_tokens * half);
        let ln_theta = ln_f64(ROPE_THETA);
        for i in self.cos.len()..n_tokens * half {
            let frequency = exp_f64(-ln_theta * (i % half) as f64 / half as f64);
            let (sin, cos) = sin_cos_f64((i / half) as f64 * frequency);
            self.cos.push(cos as f32);
            self.sin.push(sin as f32);
        }
    }
}
