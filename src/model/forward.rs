//! The forward pass, one list of steps for prefill and decode alike.
//!
//! A batch is a list of segments: some tokens of some sequence, from some position on. Rows of
//! different sequences stand one below the other without padding; only attention knows which rows
//! belong together. A row's result depends on its own sequence alone.
//!
//! In the last layer only rows whose result is wanted go on past the keys and values: for a prompt
//! that is its last token, which saves most of that layer.

use super::Model;
use super::config::Activation;
use super::lora::{Adapted, Lora};
use super::weights::Linears;
use crate::backend::cpu::Isa;
use crate::backend::cpu::attention::{self, Cache, Heads, append, attend};
use crate::backend::cpu::buffer::{Buffer, Matrix, PANEL, padded};
use crate::backend::cpu::gemm::{self, Rows, Start, Weights, Workers, gemm};
use crate::backend::cpu::math::{exp_f64, ln_f64, sin_cos_f64};
use crate::backend::cpu::ops::{add, gelu_tanh_times, rms_norm, rotate, scale, silu_times};

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
    capacity: usize,  // positions per sequence, a multiple of 32
    keys: Buffer,     // (n_slots, n_layers, n_kv_heads, capacity / 32, head_dim, 32)
    values: Buffer,   // (n_slots, n_layers, n_kv_heads, capacity, padded head_dim)
    cos: Vec<f32>,    // (capacity, head_dim / 2)
    sin: Vec<f32>,    // (capacity, head_dim / 2)
    x: Matrix,        // (n_rows, dim): the residual stream
    normed: Matrix,   // (n_rows, dim)
    qkv: Matrix,      // (n_rows, q | k | v)
    attended: Matrix, // (n_rows, n_heads * head_dim)
    out: Matrix,      // (n_rows, dim): what a block adds to the residual stream
    gate_up: Matrix,  // (n_rows, gate | up)
    shrunk: Matrix,   // (n_rows, ranks): A x
    logits: Matrix,   // (n_wanted, vocab_size)
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
    pub fn forward(&mut self, model: &Model, adapted: &Adapted, segments: &[Segment]) {
        let (config, isa) = (&model.config, model.isa);
        let heads = model.heads();
        let (q_dim, half) = (config.n_heads * config.head_dim, config.head_dim / 2);

        // Embed.
        let n_rows: usize = segments.iter().map(|segment| segment.tokens.len()).sum();
        self.x.reshape(n_rows, config.dim);
        let embedding = model.weights.embedding.tensor();
        for (row_idx, token) in segments.iter().flat_map(|segment| segment.tokens).enumerate() {
            let row = &mut self.x.row_mut(row_idx)[..config.dim];
            embedding.read_f32(*token as usize * config.dim, row);
            if let Some(factor) = config.embed_scale {
                scale(isa, row, factor);
            }
        }

        for (layer_idx, layer) in model.weights.layers.iter().enumerate() {
            let last_layer = layer_idx + 1 == config.n_layers;
            let linears = match adapted {
                Adapted::Merged(layers) => &layers[layer_idx],
                Adapted::Base | Adapted::Unmerged(_) => &layer.linears,
            };
            let none = Lora::default();
            let lora = |product: usize| match adapted {
                Adapted::Unmerged(layers) => &layers[layer_idx][product],
                Adapted::Base | Adapted::Merged(_) => &none,
            };

            // Norm, then queries, keys and values.
            self.norm_rows(isa, &layer.input_norm, config.norm_eps);
            self.qkv.reshape(self.x.n_rows(), linears.qkv.n_cols());
            let workers = self.workers.unwrap_or(Workers::One);
            let mut run = Products { isa, workers, shrunk: &mut self.shrunk, gemm: &mut self.gemm };
            run.product(&self.normed, &linears.qkv, lora(0), &mut self.qkv);

            // Rotate queries and keys; keys and values go into the cache.
            let stride = self.qkv.stride();
            let (k_col, v_col) = (linears.qkv.start(1), linears.qkv.start(2));
            let mut first_row = 0;
            for segment in segments {
                for i in 0..segment.tokens.len() {
                    let at = (segment.first + i) * half;
                    let (cos, sin) = (&self.cos[at..at + half], &self.sin[at..at + half]);
                    let row = self.qkv.row_mut(first_row + i);
                    let (q, k) = (0..config.n_heads, 0..config.n_kv_heads);
                    let q = q.map(|head| head * config.head_dim);
                    let k = k.map(|head| k_col + head * config.head_dim);
                    for at in q.chain(k) {
                        rotate(isa, &mut row[at..at + config.head_dim], cos, sin);
                    }
                }
                let rows = &self.qkv.data()[first_row * stride..][..segment.tokens.len() * stride];
                let mut cache = cache_of(
                    &mut self.keys,
                    &mut self.values,
                    self.capacity,
                    &heads,
                    config.n_layers,
                    segment.slot,
                    layer_idx,
                );
                append(&heads, &mut cache, segment.first, &rows[k_col..], &rows[v_col..], stride);
                first_row += segment.tokens.len();
            }

            // Attention; in the last layer only for the wanted rows, which close up here.
            let wanted = |segment: &Segment| wanted_rows(segment, last_layer);
            let n_wanted: usize = segments.iter().map(|segment| wanted(segment).len()).sum();
            self.attended.reshape(n_wanted, q_dim);
            let (mut first_row, mut to) = (0, 0);
            for segment in segments {
                let rows = wanted(segment);
                let cache = cache_of(
                    &mut self.keys,
                    &mut self.values,
                    self.capacity,
                    &heads,
                    config.n_layers,
                    segment.slot,
                    layer_idx,
                );
                let out_stride = self.attended.stride();
                if !rows.is_empty() {
                    attend(
                        isa,
                        &heads,
                        &cache,
                        segment.first + rows.start,
                        rows.len(),
                        &self.qkv.data()[(first_row + rows.start) * stride..],
                        stride,
                        &mut self.attended.data_mut()[to * out_stride..],
                        out_stride,
                        &mut self.attention,
                    );
                }
                for i in rows {
                    copy_row(&mut self.x, first_row + i, to);
                    to += 1;
                }
                first_row += segment.tokens.len();
            }
            self.x.reshape(n_wanted, config.dim);
            if n_wanted == 0 {
                break;
            }
            self.out.reshape(n_wanted, config.dim);
            let mut run = Products { isa, workers, shrunk: &mut self.shrunk, gemm: &mut self.gemm };
            run.product(&self.attended, &linears.o, lora(1), &mut self.out);
            add(isa, self.x.data_mut(), self.out.data());

            // Norm, then the gated feed-forward network.
            self.norm_rows(isa, &layer.post_norm, config.norm_eps);
            self.gate_up.reshape(n_wanted, linears.gate_up.n_cols());
            let mut run = Products { isa, workers, shrunk: &mut self.shrunk, gemm: &mut self.gemm };
            run.product(&self.normed, &linears.gate_up, lora(2), &mut self.gate_up);
            activate(isa, config.activation, linears, config.ffn_dim, &mut self.gate_up);
            let mut run = Products { isa, workers, shrunk: &mut self.shrunk, gemm: &mut self.gemm };
            run.product(&self.gate_up, &linears.down, lora(3), &mut self.out);
            add(isa, self.x.data_mut(), self.out.data());
        }

        // Final norm.
        self.norm_rows(isa, &model.weights.norm, config.norm_eps);
    }

    fn norm_rows(&mut self, isa: Isa, weight: &[f32], eps: f32) {
        self.normed.reshape(self.x.n_rows(), weight.len());
        for row_idx in 0..self.x.n_rows() {
            rms_norm(isa, self.x.row(row_idx), weight, eps, self.normed.row_mut(row_idx));
        }
    }

    /// Logits of the rows that the last forward pass was asked for, in the order of its segments:
    /// (n_wanted, vocab_size padded to 32).
    pub fn logits(&mut self, model: &Model) -> &Matrix {
        let workers = self.workers.unwrap_or(Workers::One);
        let mut run =
            Products { isa: model.isa, workers, shrunk: &mut self.shrunk, gemm: &mut self.gemm };
        let output = &model.weights.output;
        self.logits.reshape(self.normed.n_rows(), output.n_cols());
        run.product(&self.normed, output, &Lora::default(), &mut self.logits);
        &self.logits
    }
}

/// The products of a layer, with an adapter's factors beside them.
struct Products<'a> {
    isa: Isa,
    workers: Workers,
    shrunk: &'a mut Matrix,
    gemm: &'a mut gemm::Scratch,
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

fn wanted_rows(segment: &Segment, last_layer: bool) -> std::ops::Range<usize> {
    let n_rows = segment.tokens.len();
    match segment.want {
        _ if !last_layer => 0..n_rows,
        Want::Nothing => n_rows..n_rows,
        Want::Last => n_rows - 1..n_rows,
        Want::All => 0..n_rows,
    }
}

fn copy_row(x: &mut Matrix, from: usize, to: usize) {
    if from != to {
        let stride = x.stride();
        x.data_mut().copy_within(from * stride..(from + 1) * stride, to * stride);
    }
}

/// The cache of one sequence and layer.
fn cache_of<'a>(
    keys: &'a mut Buffer,
    values: &'a mut Buffer,
    capacity: usize,
    heads: &Heads,
    n_layers: usize,
    slot: usize,
    layer_idx: usize,
) -> Cache<'a> {
    let at = (slot * n_layers + layer_idx) * heads.n_kv_heads;
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
