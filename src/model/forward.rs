//! The forward pass, one list of steps for prefill and decode alike.
//!
//! A batch is a list of segments: some tokens of some sequence, from some position on. Rows of
//! different sequences stand one below the other without padding; only attention knows which rows
//! belong together. A row's result depends on its own sequence alone.
//!
//! In the last layer only rows whose result is wanted go on past the keys and values: for a prompt
//! that is its last token, which saves most of that layer.

use std::ops::Range;

use super::Model;
use super::config::Activation;
use super::lora::{Adapted, Lora};
use super::weights::{Layer, Linears};
use crate::backend::cpu::Isa;
use crate::backend::cpu::attention::{self, Cache, Heads, append, attend};
use crate::backend::cpu::buffer::{Buffer, Matrix, PANEL, padded};
use crate::backend::cpu::gemm::{self, Rows, Start, Workers, gemm};
use crate::backend::cpu::math::{exp_f64, ln_f64, sin_cos_f64};
use crate::backend::cpu::ops::{add, gelu_tanh_times, rms_norm, rotate, scale, silu_times};
use crate::backend::cpu::packed::Weights;

/// Tokens of one sequence, to be run from position `first` on.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// The sequence's slot in the cache.
    pub slot: usize,
    /// Position of the first token: so many stand in the cache already.
    pub first: usize,
    /// The tokens.
    pub tokens: &'a [u32],
    /// Which of its rows go on to the output.
    pub want: Want,
}

/// Which rows of a segment are wanted at the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// None: the segment is an earlier part of a prompt.
    Nothing,
    /// The last: the next token follows from it.
    Last,
    /// Every row: each token's probability is asked for.
    All,
}

/// Working memory of one thread's forward passes, with the key-value cache of its sequences.
#[derive(Default)]
pub struct State {
    workers: Option<Workers>,
    capacity: usize,          // positions per sequence, a multiple of 32
    keys: Buffer,             // (n_slots, n_layers, n_kv_heads, capacity / 32, head_dim, 32)
    values: Buffer,           // (n_slots, n_layers, n_kv_heads, capacity, padded head_dim)
    cos: Vec<f32>,            // (capacity, head_dim / 2)
    sin: Vec<f32>,            // (capacity, head_dim / 2)
    x: Matrix,                // (n_rows, dim): the residual stream
    normed: Matrix,           // (n_rows, dim)
    qkv: Matrix,              // (n_rows, q | k | v)
    attended: Matrix,         // (n_rows, n_heads * head_dim)
    out: Matrix,              // (n_rows, dim): what a block adds to the residual stream
    gate_up: Matrix,          // (n_rows, gate | up)
    shrunk: Matrix,           // (n_rows, ranks): A x
    logits: Matrix,           // (n_wanted, vocab_size)
    waiting_x: Matrix,        // (n_wanted, dim): rows that wait for `logits`
    waiting_attended: Matrix, // (n_wanted, n_heads * head_dim)
    attention: attention::Scratch,
    gemm: gemm::Scratch,
}

impl State {
    /// Makes room for `n_slots` sequences of at most `n_positions` tokens each.
    pub fn prepare(&mut self, model: &Model, workers: Workers, n_slots: usize, n_positions: usize) {
        let config = &model.config;
        self.workers = Some(workers);
        self.capacity = padded(n_positions);
        let n_heads = n_slots * config.n_layers * config.n_kv_heads;
        self.keys.grow(n_heads * config.head_dim * self.capacity);
        self.values.grow(n_heads * padded(config.head_dim) * self.capacity);
        let half = config.head_dim / 2;
        let frequencies = rotary_frequencies(config.rope_theta, half);
        for position in self.cos.len() / half..self.capacity {
            for frequency in &frequencies {
                // The angle is rounded to f32, as transformers has it.
                let (sin, cos) = sin_cos_f64(f64::from(position as f32 * frequency));
                self.cos.push(cos as f32);
                self.sin.push(sin as f32);
            }
        }
    }

    /// Runs the segments; [`State::logits`] then tells what may follow the wanted rows.
    ///
    /// The wanted rows wait behind the last layer's attention, so that what is left of that layer
    /// reads its weights once for the rows of several calls.
    pub fn forward(&mut self, model: &Model, adapted: &Adapted, segments: &[Segment]) {
        self.embed(model, segments);
        for layer_idx in 0..model.config.n_layers {
            let layer = AdaptedLayer::new(model, adapted, layer_idx);
            self.attend_all(model, &layer, segments);
            if layer_idx + 1 < model.config.n_layers {
                self.feed_forward(model, &layer);
            }
        }
        for row_idx in 0..self.x.n_rows() {
            self.waiting_x.push(self.x.row(row_idx));
            self.waiting_attended.push(self.attended.row(row_idx));
        }
    }

    /// Logits of all rows that were wanted since the last call, in the order of the segments:
    /// (n_wanted, vocab_size padded to 32).
    pub fn logits(&mut self, model: &Model, adapted: &Adapted) -> &Matrix {
        self.hidden(model, adapted);
        let output = &model.weights.output;
        self.logits.reshape(self.normed.n_rows(), output.n_cols());
        let mut run = products(model, self.workers, &mut self.shrunk, &mut self.gemm);
        run.product(&self.normed, output, &Lora::default(), &mut self.logits);
        &self.logits
    }

    /// What [`State::logits`] is a product of: the last hidden states of the same rows, normed,
    /// (n_wanted, dim).
    pub fn hidden(&mut self, model: &Model, adapted: &Adapted) -> &Matrix {
        std::mem::swap(&mut self.x, &mut self.waiting_x);
        std::mem::swap(&mut self.attended, &mut self.waiting_attended);
        self.feed_forward(model, &AdaptedLayer::new(model, adapted, model.config.n_layers - 1));
        self.norm_rows(model.isa, &model.weights.norm, model.config.norm_eps);
        self.waiting_x.reshape(0, model.config.dim);
        self.waiting_attended.reshape(0, model.config.n_heads * model.config.head_dim);
        &self.normed
    }

    /// x = embedding of every token, scaled where the model does.
    fn embed(&mut self, model: &Model, segments: &[Segment]) {
        let dim = model.config.dim;
        let n_rows: usize = segments.iter().map(|segment| segment.tokens.len()).sum();
        self.x.reshape(n_rows, dim);
        let embedding = model.weights.embedding.tensor();
        for (row_idx, token) in segments.iter().flat_map(|segment| segment.tokens).enumerate() {
            let row = &mut self.x.row_mut(row_idx)[..dim];
            embedding.read_f32(*token as usize * dim, row);
            if let Some(factor) = model.config.embed_scale {
                scale(model.isa, row, factor);
            }
        }
    }

    /// Norm, queries, keys and values, attention. In the last layer only wanted rows are attended
    /// for; they close up in x.
    fn attend_all(&mut self, model: &Model, layer: &AdaptedLayer, segments: &[Segment]) {
        let (config, isa, heads) = (&model.config, model.isa, model.heads());
        self.norm_rows(isa, &layer.base.input_norm, config.norm_eps);
        let qkv = &layer.linears.qkv;
        self.qkv.reshape(self.x.n_rows(), qkv.n_cols());
        let mut run = products(model, self.workers, &mut self.shrunk, &mut self.gemm);
        run.product(&self.normed, qkv, layer.lora(0), &mut self.qkv);

        let n_wanted: usize = segments.iter().map(|segment| layer.wanted(segment).len()).sum();
        self.attended.reshape(n_wanted, config.n_heads * config.head_dim);
        let (stride, out_stride) = (self.qkv.stride(), self.attended.stride());
        let (k_col, v_col) = (qkv.start(1), qkv.start(2));
        let (mut first_row, mut n_done) = (0, 0);
        for segment in segments {
            let n_rows = segment.tokens.len();
            self.rotate_rows(model, first_row, segment, k_col);
            let rows = &self.qkv.data()[first_row * stride..][..n_rows * stride];
            let mut cache = cache_of(
                (&mut self.keys, &mut self.values),
                self.capacity,
                &heads,
                segment.slot * config.n_layers + layer.idx,
            );
            append(&heads, &mut cache, segment.first, &rows[k_col..], &rows[v_col..], stride);
            let wanted = layer.wanted(segment);
            if !wanted.is_empty() {
                attend(
                    isa,
                    &heads,
                    &cache,
                    segment.first + wanted.start,
                    wanted.len(),
                    &rows[wanted.start * stride..],
                    stride,
                    &mut self.attended.data_mut()[n_done * out_stride..],
                    out_stride,
                    &mut self.attention,
                );
            }
            for i in wanted {
                copy_row(&mut self.x, first_row + i, n_done);
                n_done += 1;
            }
            first_row += n_rows;
        }
        self.x.reshape(n_wanted, config.dim);
    }

    /// Rotary embedding of a segment's queries and keys.
    fn rotate_rows(&mut self, model: &Model, first_row: usize, segment: &Segment, k_col: usize) {
        let (config, half) = (&model.config, model.config.head_dim / 2);
        for i in 0..segment.tokens.len() {
            let at = (segment.first + i) * half;
            let (cos, sin) = (&self.cos[at..at + half], &self.sin[at..at + half]);
            let row = self.qkv.row_mut(first_row + i);
            let q = (0..config.n_heads).map(|head| head * config.head_dim);
            let k = (0..config.n_kv_heads).map(|head| k_col + head * config.head_dim);
            for at in q.chain(k) {
                rotate(model.isa, &mut row[at..at + config.head_dim], cos, sin);
            }
        }
    }

    /// What follows attention: its output matrix, then norm and the gated feed-forward network,
    /// each added to x.
    fn feed_forward(&mut self, model: &Model, layer: &AdaptedLayer) {
        let (config, isa, linears) = (&model.config, model.isa, layer.linears);
        let n_rows = self.x.n_rows();
        self.out.reshape(n_rows, config.dim);
        let mut run = products(model, self.workers, &mut self.shrunk, &mut self.gemm);
        run.product(&self.attended, &linears.o, layer.lora(1), &mut self.out);
        add(isa, self.x.data_mut(), self.out.data());

        self.norm_rows(isa, &layer.base.post_norm, config.norm_eps);
        self.gate_up.reshape(n_rows, linears.gate_up.n_cols());
        let mut run = products(model, self.workers, &mut self.shrunk, &mut self.gemm);
        run.product(&self.normed, &linears.gate_up, layer.lora(2), &mut self.gate_up);
        activate(isa, config.activation, linears, config.ffn_dim, &mut self.gate_up);
        let mut run = products(model, self.workers, &mut self.shrunk, &mut self.gemm);
        run.product(&self.gate_up, &linears.down, layer.lora(3), &mut self.out);
        add(isa, self.x.data_mut(), self.out.data());
    }

    fn norm_rows(&mut self, isa: Isa, weight: &[f32], eps: f32) {
        self.normed.reshape(self.x.n_rows(), weight.len());
        for row_idx in 0..self.x.n_rows() {
            rms_norm(isa, self.x.row(row_idx), weight, eps, self.normed.row_mut(row_idx));
        }
    }
}

/// A layer as the adapter makes it.
struct AdaptedLayer<'a> {
    idx: usize,
    is_last: bool,
    base: &'a Layer,
    linears: &'a Linears,
    loras: Option<&'a [Lora; 4]>,
}

/// Beside a product that has no adapter.
static NO_LORA: Lora = Lora { down: None, ups: Vec::new() };

impl<'a> AdaptedLayer<'a> {
    fn new(model: &'a Model, adapted: &'a Adapted, idx: usize) -> Self {
        let base = &model.weights.layers[idx];
        let (linears, loras) = match adapted {
            Adapted::Base => (&base.linears, None),
            Adapted::Merged(layers) => (&layers[idx], None),
            Adapted::Unmerged(layers) => (&base.linears, Some(&layers[idx])),
        };
        Self { idx, is_last: idx + 1 == model.config.n_layers, base, linears, loras }
    }

    /// The update beside one of the four products.
    fn lora(&self, product: usize) -> &'a Lora {
        self.loras.map_or(&NO_LORA, |loras| &loras[product])
    }

    /// The rows of a segment that go on past the keys and values.
    fn wanted(&self, segment: &Segment) -> Range<usize> {
        let n_rows = segment.tokens.len();
        match segment.want {
            _ if !self.is_last => 0..n_rows,
            Want::Nothing => n_rows..n_rows,
            Want::Last => n_rows - 1..n_rows,
            Want::All => 0..n_rows,
        }
    }
}

/// The products of a layer, with an adapter's factors beside them.
struct Products<'a> {
    isa: Isa,
    workers: Workers,
    shrunk: &'a mut Matrix,
    gemm: &'a mut gemm::Scratch,
}

fn products<'a>(
    model: &Model,
    workers: Option<Workers>,
    shrunk: &'a mut Matrix,
    gemm: &'a mut gemm::Scratch,
) -> Products<'a> {
    Products { isa: model.isa, workers: workers.unwrap_or(Workers::One), shrunk, gemm }
}

impl Products<'_> {
    /// `out = x W^T + (x A^T) (scale B)^T`
    fn product(&mut self, x: &Matrix, w: &Weights, lora: &Lora, out: &mut Matrix) {
        let (isa, workers) = (self.isa, self.workers);
        let rows = Rows { data: x.data(), stride: x.stride(), n_rows: x.n_rows() };
        let (stride, panels) = (out.stride(), 0..w.n_cols() / PANEL);
        gemm(isa, workers, rows, w, panels, out.data_mut(), stride, Start::Zero, self.gemm);
        let Some(down) = &lora.down else { return };
        self.shrunk.reshape(x.n_rows(), down.n_cols());
        let (shrunk_stride, panels) = (self.shrunk.stride(), down.panels_of(0..1));
        let shrunk = self.shrunk.data_mut();
        gemm(isa, workers, rows, down, panels, shrunk, shrunk_stride, Start::Zero, self.gemm);
        for up in &lora.ups {
            let data = &self.shrunk.data()[up.first_col..];
            let rows = Rows { data, stride: shrunk_stride, n_rows: x.n_rows() };
            let c = &mut out.data_mut()[w.start(up.part_idx)..];
            let panels = up.weights.panels_of(0..1);
            gemm(isa, workers, rows, &up.weights, panels, c, stride, Start::FromC, self.gemm);
        }
    }
}

/// The feed-forward network's inner state, over the gate: (n_rows, ffn_dim).
fn activate(isa: Isa, kind: Activation, linears: &Linears, ffn_dim: usize, gate_up: &mut Matrix) {
    let up_col = linears.gate_up.start(1);
    for row_idx in 0..gate_up.n_rows() {
        let (gate, up) = gate_up.row_mut(row_idx).split_at_mut(up_col);
        match kind {
            Activation::GeluTanh => gelu_tanh_times(isa, &mut gate[..ffn_dim], &up[..ffn_dim]),
            Activation::Silu => silu_times(isa, &mut gate[..ffn_dim], &up[..ffn_dim]),
        }
    }
}

fn copy_row(x: &mut Matrix, from: usize, to: usize) {
    if from != to {
        let stride = x.stride();
        x.data_mut().copy_within(from * stride..(from + 1) * stride, to * stride);
    }
}

/// The cache of one sequence and layer, the `idx`-th of all.
fn cache_of<'a>(
    (keys, values): (&'a mut Buffer, &'a mut Buffer),
    capacity: usize,
    heads: &Heads,
    idx: usize,
) -> Cache<'a> {
    let at = idx * heads.n_kv_heads;
    let keys_len = heads.n_kv_heads * heads.head_dim * capacity;
    let values_len = heads.n_kv_heads * padded(heads.head_dim) * capacity;
    Cache {
        keys: &mut keys[at * heads.head_dim * capacity..][..keys_len],
        values: &mut values[at * padded(heads.head_dim) * capacity..][..values_len],
        capacity,
    }
}

/// `1 / theta^(i / half)` for i below half. Exponent, power and inverse are each rounded to f32, as
/// transformers has it: at position 3000 an angle would otherwise be off by 2e-4.
fn rotary_frequencies(theta: f64, half: usize) -> Vec<f32> {
    let ln_theta = ln_f64(theta);
    let frequency = |i: usize| {
        let exponent = i as f32 / half as f32;
        1.0 / (exp_f64(ln_theta * f64::from(exponent)) as f32)
    };
    (0..half).map(frequency).collect()
}

#[cfg(test)]
mod tests {
    use super::rotary_frequencies;

    #[test]
    #[rustfmt::skip]
    fn frequencies_are_those_of_transformers() {
        // If this fails, long prompts are read with other angles than the reference's.
        let llama = [
            1.0, 0.33503163, 0.11224619, 0.03760603, 0.012599208, 0.004221135, 0.0014142134,
            0.0004738064, 0.00015874006, 5.3182957e-05, 1.781798e-05, 5.9695835e-06,
        ];
        assert_eq!(rotary_frequencies(5e5, 12), llama);
        let gemma = [
            1.0, 0.6309573, 0.39810717, 0.25118864, 0.15848932, 0.1, 0.063095726, 0.03981072,
            0.025118863, 0.015848935, 0.01, 0.006309573, 0.0039810706, 0.0025118869,
            0.0015848933, 0.001, 0.0006309573, 0.00039810708, 0.0002511887, 0.00015848933,
        ];
        assert_eq!(rotary_frequencies(1e4, 20), gemma);
    }
}
