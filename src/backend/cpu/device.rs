//! The CPU as what a decoder is computed with.

use std::convert::Infallible;

use rayon::prelude::*;

use super::Isa;
use super::attention::{self, append, attend};
use super::buffer::{Buffer, Matrix, padded};
use super::gemm::{self, Start, gemm};
use super::low_rank::{Update, add_low_rank};
use super::math::sin_cos_f64;
use super::ops::{self, argmax};
use super::packed::Weights;
use crate::backend::{
    Activation, Backend, Factors, Heads, Limits, Part, Phase, Precision, ReadRows, Room, Span,
    Workers,
};
use crate::error::Result;
use crate::tensors::{Dtype, Tensor};

/// The CPU.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    /// The instruction set in use.
    pub isa: Isa,
}

/// An embedding whose rows are read one at a time from where they are mapped.
pub struct Table {
    dim: usize,
    read: Box<ReadRows>,
}

/// Keys and values of a batch's sequences.
#[derive(Default)]
pub struct Cache {
    room: Option<Room>,
    capacity: usize, // positions per sequence, a multiple of 32
    keys: Buffer,    // (n_slots, n_layers, n_kv_heads, capacity / 32, head_dim, 32)
    values: Buffer,  // (n_slots, n_layers, n_kv_heads, capacity, padded head_dim)
    cos: Vec<f32>,   // (capacity, head_dim / 2)
    sin: Vec<f32>,   // (capacity, head_dim / 2)
}

impl Cache {
    fn room(&self) -> &Room {
        self.room.as_ref().expect("a cache is prepared before it is used")
    }

    /// The keys and values of a layer of a slot.
    fn of(&mut self, slot: usize, layer_idx: usize) -> attention::Cache<'_> {
        let Room { heads, n_layers, .. } = *self.room();
        let (at, capacity) = (slot * n_layers + layer_idx, self.capacity);
        let keys_len = heads.n_kv_heads * heads.head_dim * capacity;
        let values_len = heads.n_kv_heads * padded(heads.head_dim) * capacity;
        attention::Cache {
            keys: &mut self.keys[at * keys_len..][..keys_len],
            values: &mut self.values[at * values_len..][..values_len],
            capacity,
        }
    }
}

/// Working memory of one thread.
#[derive(Default)]
pub struct Scratch {
    workers: Workers,
    shrunk: Matrix, // (n_rows, ranks): A x
    gemm: gemm::Scratch,
    attention: attention::Scratch,
}

impl Cpu {
    fn multiply(&self, scratch: &mut Scratch, x: &Matrix, w: &Weights, out: &mut Matrix) {
        out.reshape(x.n_rows(), w.n_cols());
        let left = gemm::Rows { data: x.data(), stride: x.stride(), n_rows: x.n_rows() };
        let (stride, panels) = (out.stride(), 0..w.n_panels());
        let c = out.data_mut();
        gemm(self.isa, scratch.workers, left, w, panels, c, stride, Start::Zero, &mut scratch.gemm);
    }
}

impl Backend for Cpu {
    type Matrix = Matrix;
    type Vector = Vec<f32>;
    type Table = Table;
    type Weights = Weights;
    type Update = Update;
    type Adapters<'a> = Vec<&'a [f32]>;
    type Experts = Infallible; // they stay mapped
    type Rows = Vec<Span>;
    type Cache = Cache;
    type Scratch = Scratch;

    /// A batch is three full tiles of a step's products: with more sequences, a step reads more
    /// keys and values than caches hold; with fewer, it reads the weights for too few rows.
    fn limits(&self) -> Limits {
        Limits {
            prefill_rows: 192,
            logit_rows: 64,
            cache_bytes: 512 << 20,
            batch: 36,
            max_batch: usize::MAX,
            mixes_adapters: false,
        }
    }

    fn precision(&self) -> Precision {
        Precision::Exact
    }

    fn refusal(&self, _: &Heads) -> Option<String> {
        None
    }

    fn in_parallel<T: Send>(&self, n: usize, run: impl Fn(usize, Workers) -> T + Sync) -> Vec<T> {
        // With fewer jobs than threads, the threads share each product instead.
        if n < rayon::current_num_threads() {
            (0..n).map(|idx| run(idx, Workers::All)).collect()
        } else {
            (0..n).into_par_iter().with_max_len(1).map(|idx| run(idx, Workers::One)).collect()
        }
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        Ok(values)
    }

    fn table(
        &self,
        [_, dim]: [usize; 2],
        _: Dtype,
        read: Box<ReadRows>,
        _: Option<&Weights>,
    ) -> Result<Table> {
        Ok(Table { dim, read })
    }

    fn weights(&self, n_in: usize, parts: &[Part], storage: Dtype) -> Result<Weights> {
        Ok(Weights::pack(n_in, parts, storage))
    }

    fn adapters<'a>(&self, data: &[&'a [f32]]) -> Result<Vec<&'a [f32]>> {
        Ok(data.to_vec())
    }

    fn experts(&self, _: &[Vec<Tensor>]) -> Result<Option<Infallible>> {
        Ok(None)
    }

    fn combine(&self, experts: &Infallible, _: &[Vec<f32>]) -> Result<Vec<&'static [f32]>> {
        match *experts {}
    }

    fn merged(
        &self,
        base: &Weights,
        factors: &[Factors],
        adapters: &Vec<&[f32]>,
        adapter_idx: usize,
    ) -> Result<Weights> {
        let adapter = adapters[adapter_idx];
        let mut merged = base.clone();
        for factors in factors {
            let (a, b) = (&adapter[factors.a.clone()], &adapter[factors.b.clone()]);
            let panels = merged.part_mut(factors.part_idx);
            add_low_rank(self.isa, panels, base.n_in(), a, b, factors.scale);
        }
        Ok(merged)
    }

    fn update(&self, n_in: usize, factors: &[Factors], adapters: &Vec<&[f32]>) -> Result<Update> {
        Ok(Update::pack(n_in, factors, adapters))
    }

    fn prepare(
        &self,
        scratch: &mut Scratch,
        cache: &mut Cache,
        workers: Workers,
        room: Room,
        frequencies: &[f32],
    ) {
        let Room { heads, n_layers, n_slots, n_positions } = room;
        scratch.workers = workers;
        cache.room = Some(room);
        cache.capacity = padded(n_positions);
        let n_heads = n_slots * n_layers * heads.n_kv_heads;
        cache.keys.grow(n_heads * heads.head_dim * cache.capacity);
        cache.values.grow(n_heads * padded(heads.head_dim) * cache.capacity);
        rotary_tables(frequencies, cache.capacity, &mut cache.cos, &mut cache.sin);
    }

    fn rows(&self, _: &mut Scratch, spans: Vec<Span>, _: Phase) -> Vec<Span> {
        spans
    }

    fn embed(
        &self,
        _: &mut Scratch,
        Table { dim, read }: &Table,
        tokens: &[u32],
        factor: Option<f32>,
        x: &mut Matrix,
    ) {
        x.reshape(tokens.len(), *dim);
        let stride = x.stride();
        read(tokens, stride, x.data_mut());
        let Some(factor) = factor else { return };
        for row_idx in 0..tokens.len() {
            ops::scale(self.isa, &mut x.row_mut(row_idx)[..*dim], factor);
        }
    }

    fn add_norm(
        &self,
        _: &mut Scratch,
        x: &mut Matrix,
        y: Option<&Matrix>,
        weight: &Vec<f32>,
        eps: f32,
        out: &mut Matrix,
    ) {
        if let Some(y) = y {
            ops::add(self.isa, x.data_mut(), y.data());
        }
        out.reshape(x.n_rows(), weight.len());
        for row_idx in 0..x.n_rows() {
            ops::rms_norm(self.isa, x.row(row_idx), weight, eps, out.row_mut(row_idx));
        }
    }

    fn product(
        &self,
        scratch: &mut Scratch,
        x: &Matrix,
        weights: &Weights,
        update: Option<(&Update, &Vec<Span>)>,
        out: &mut Matrix,
    ) {
        self.multiply(scratch, x, weights, out);
        let Some((update, spans)) = update else { return };
        let Some(first) = spans.first() else { return };
        let adapter_idx = first.adapter_idx;
        assert!(spans.iter().all(|span| span.adapter_idx == adapter_idx), "one adapter in a batch");
        let Some((down, ups)) = update.of(adapter_idx) else { return };
        let mut shrunk = std::mem::take(&mut scratch.shrunk);
        self.multiply(scratch, x, down, &mut shrunk);
        let stride = out.stride();
        for up in ups {
            let data = &shrunk.data()[up.first_col..];
            let left = gemm::Rows { data, stride: shrunk.stride(), n_rows: x.n_rows() };
            let c = &mut out.data_mut()[weights.start(up.part_idx)..];
            let (w, panels) = (&up.weights, 0..up.weights.n_panels());
            let Scratch { workers, gemm: working, .. } = scratch;
            gemm(self.isa, *workers, left, w, panels, c, stride, Start::FromC, working);
        }
        scratch.shrunk = shrunk;
    }

    fn logits(&self, scratch: &mut Scratch, x: &Matrix, weights: &Weights, out: &mut Matrix) {
        self.multiply(scratch, x, weights, out);
    }

    fn rotate_append(
        &self,
        _: &mut Scratch,
        qkv: &mut Matrix,
        weights: &Weights,
        rows: &Vec<Span>,
        cache: &mut Cache,
        layer_idx: usize,
    ) {
        let heads = cache.room().heads;
        let Heads { n_heads, n_kv_heads, head_dim, .. } = heads;
        let (k_col, v_col, half) = (weights.start(1), weights.start(2), head_dim / 2);
        let stride = qkv.stride();
        for span in rows {
            for i in 0..span.n_rows {
                let at = (span.first + i) * half;
                let (cos, sin) = (&cache.cos[at..at + half], &cache.sin[at..at + half]);
                let row = qkv.row_mut(span.row + i);
                let q = (0..n_heads).map(|head| head * head_dim);
                let k = (0..n_kv_heads).map(|head| k_col + head * head_dim);
                for at in q.chain(k) {
                    ops::rotate(self.isa, &mut row[at..at + head_dim], cos, sin);
                }
            }
            let rows = &qkv.data()[span.row * stride..][..span.n_rows * stride];
            let (k, v) = (&rows[k_col..], &rows[v_col..]);
            append(&heads, &mut cache.of(span.slot, layer_idx), span.first, k, v, stride);
        }
    }

    fn attend(
        &self,
        scratch: &mut Scratch,
        qkv: &Matrix,
        rows: &Vec<Span>,
        cache: &mut Cache,
        layer_idx: usize,
        out: &mut Matrix,
    ) {
        let heads = cache.room().heads;
        let n_rows = rows.iter().map(|span| span.n_rows).sum();
        out.reshape(n_rows, heads.n_heads * heads.head_dim);
        let (stride, out_stride, mut n_done) = (qkv.stride(), out.stride(), 0);
        for span in rows.iter().filter(|span| span.n_rows > 0) {
            attend(
                self.isa,
                &heads,
                &cache.of(span.slot, layer_idx),
                span.first,
                span.n_rows,
                &qkv.data()[span.row * stride..],
                stride,
                &mut out.data_mut()[n_done * out_stride..],
                out_stride,
                &mut scratch.attention,
            );
            n_done += span.n_rows;
        }
    }

    fn activate(
        &self,
        _: &mut Scratch,
        kind: Activation,
        gate_up: &mut Matrix,
        weights: &Weights,
        ffn_dim: usize,
    ) {
        let (isa, up_col) = (self.isa, weights.start(1));
        for row_idx in 0..gate_up.n_rows() {
            let (gate, up) = gate_up.row_mut(row_idx).split_at_mut(up_col);
            let (gate, up) = (&mut gate[..ffn_dim], &up[..ffn_dim]);
            match kind {
                Activation::GeluTanh => ops::gelu_tanh_times(isa, gate, up),
                Activation::Silu => ops::silu_times(isa, gate, up),
            }
        }
    }

    fn append(&self, _: &mut Scratch, to: &mut Matrix, x: &Matrix, rows: Option<&Vec<Span>>) {
        match rows {
            None => (0..x.n_rows()).for_each(|row_idx| to.push(x.row(row_idx))),
            Some(spans) => {
                let rows = spans.iter().flat_map(|span| span.row..span.row + span.n_rows);
                rows.for_each(|row_idx| to.push(x.row(row_idx)));
            }
        }
    }

    fn clear(&self, x: &mut Matrix) {
        x.reshape(0, 0);
    }

    fn largest(&self, _: &mut Scratch, logits: &Matrix, n_cols: usize) -> Result<Vec<u32>> {
        let rows = 0..logits.n_rows();
        Ok(rows.map(|idx| argmax(self.isa, &logits.row(idx)[..n_cols]) as u32).collect())
    }

    fn log_probabilities(
        &self,
        _: &mut Scratch,
        logits: &Matrix,
        n_cols: usize,
        wanted: &[(usize, u32)],
    ) -> Result<Vec<f64>> {
        let of = |&(row_idx, token): &(usize, u32)| {
            ops::ln_probability(self.isa, &logits.row(row_idx)[..n_cols], token)
        };
        Ok(wanted.iter().map(of).collect())
    }

    fn each_row(
        &self,
        _: &mut Scratch,
        x: &Matrix,
        n_cols: usize,
        visit: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        (0..x.n_rows()).for_each(|row_idx| visit(row_idx, &x.row(row_idx)[..n_cols]));
        Ok(())
    }
}

/// Cosine and sine of every position's angles, (capacity, n_frequencies), where they are not there
/// yet. The angle is rounded to f32, as transformers has it.
pub fn rotary_tables(frequencies: &[f32], capacity: usize, cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
    for position in cos.len() / frequencies.len().max(1)..capacity {
        for frequency in frequencies {
            let (sine, cosine) = sin_cos_f64(f64::from(position as f32 * frequency));
            cos.push(cosine as f32);
            sin.push(sine as f32);
        }
    }
}
