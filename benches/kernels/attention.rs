//! Attention of prompts and of steps, and what puts their keys and values into the cache; in both
//! precisions.

use model_swarms::backend::cuda::driver::Arg;
use model_swarms::tensors::Dtype;

use super::batch::Batch;
use super::case::{BF16, Case, F32, Named, Shapes, Within, hold, some_of, step};
use crate::common::testbed::Sizes;
use crate::gpu::array::Array;
use crate::gpu::machine::Machine;
use crate::gpu::peaks::Peak;

/// All of them.
pub fn cases<'a, M: Machine>(machine: &'a M, shapes: Shapes) -> Vec<Named<'a>> {
    let mut cases: Vec<Named> = Vec::new();
    for is_fast in [true, false] {
        let fast = if is_fast { "_fast" } else { "" };
        let append = move || rope_append(machine, &shapes, is_fast);
        cases.push((format!("rope_append{fast}"), Box::new(append)));
        for (name, kind) in [("prefill", Kind::Prompts(Version::Any)), ("decode", Kind::Steps)] {
            let attend = move || attend(machine, &shapes, kind, is_fast);
            cases.push((format!("attention_{name}{fast}"), Box::new(attend)));
        }
    }
    if machine.is_hopper() {
        let kind = Kind::Prompts(Version::Hopper);
        let attend = move || attend(machine, &shapes, kind, true);
        cases.push(("attention_prefill_hopper".into(), Box::new(attend)));
    }
    cases
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Prompts(Version),
    Steps,
}

/// Which chips a kernel is for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Version {
    Any,
    Hopper,
}

fn dtype_of(is_fast: bool) -> Dtype {
    if is_fast { Dtype::BF16 } else { Dtype::F32 }
}

fn heads_of(sizes: &Sizes, capacity: usize) -> Arg {
    let factor = 1.0 / (sizes.head_dim as f32).sqrt();
    Arg::heads([sizes.n_heads, sizes.n_kv_heads, sizes.head_dim, capacity, 0], factor)
}

/// Keys and values of all slots.
struct Cache<'a, M: Machine> {
    keys: Array<'a, M>,
    values: Array<'a, M>,
    sizes: Sizes,
    capacity: usize,
    is_fast: bool,
}

impl<'a, M: Machine> Cache<'a, M> {
    fn new(machine: &'a M, sizes: Sizes, batch: &Batch<M>, is_fast: bool) -> Self {
        let len = batch.n_slots * sizes.n_kv_heads * batch.capacity * sizes.head_dim;
        let draw = |stream| Array::drawn(machine, dtype_of(is_fast), len, stream, 1.0);
        Self { keys: draw(7), values: draw(8), sizes, capacity: batch.capacity, is_fast }
    }

    fn value_at(&self, slot: usize, kv_head: usize, position: usize, d: usize) -> usize {
        let head = slot * self.sizes.n_kv_heads + kv_head;
        (head * self.capacity + position) * self.sizes.head_dim + d
    }

    /// Exact keys stand in panels of 32 positions: `attention.cuh`.
    fn key_at(&self, slot: usize, kv_head: usize, position: usize, d: usize) -> usize {
        if self.is_fast {
            return self.value_at(slot, kv_head, position, d);
        }
        let first = self.value_at(slot, kv_head, position / 32 * 32, 0);
        first + d * 32 + position % 32
    }
}

/// Queries turned, keys turned and values copied into the cache.
fn rope_append<'a, M: Machine>(machine: &'a M, shapes: &Shapes, is_fast: bool) -> Case<'a> {
    let Shapes { sizes, n_rows, .. } = *shapes;
    let Sizes { n_heads, n_kv_heads, head_dim, .. } = sizes;
    let (q_dim, kv_dim, half) = (n_heads * head_dim, n_kv_heads * head_dim, head_dim / 2);
    let ld = q_dim + 2 * kv_dim;
    let batch = Batch::prompts(machine, shapes, 1);
    let cache = Cache::new(machine, sizes, &batch, is_fast);
    let qkv = Array::drawn(machine, dtype_of(is_fast), n_rows * ld, 1, 1.0);
    let angles = |stream| Array::drawn(machine, Dtype::F32, batch.capacity * half, stream, 1.0);
    let (cos, sin) = (angles(2), angles(3));
    let [slots, positions, ..] = batch.args();
    let mut args = vec![qkv.arg(), qkv.arg_at(q_dim), qkv.arg_at(q_dim + kv_dim)];
    args.extend([cos.arg(), sin.arg(), slots, positions, cache.keys.arg(), cache.values.arg()]);
    args.extend([heads_of(&sizes, batch.capacity), Arg::int(ld)]);
    let kernel = if is_fast { "rope_append_fast_v1" } else { "rope_append_v1" };
    let step = step(kernel, [n_rows, 1, 1], 128, args);
    let bytes = n_rows * (2 * q_dim + 4 * kv_dim) * dtype_of(is_fast).n_bytes();
    Case::new(vec![step], bytes, move || {
        for at in some_of(n_rows * head_dim) {
            let (row, d) = (at / head_dim, at % head_dim);
            let (slot, position) = (batch.slot(row), batch.position(row));
            let turned = |first: usize| {
                let i = d % half;
                let drawn = |array: &Array<M>, at| f64::from(array.drawn_at(at));
                let [a, b] = [first + i, first + i + half].map(|at| drawn(&qkv, at));
                let [c, s] = [&cos, &sin].map(|table| drawn(table, position * half + i));
                if d < half { a * c - b * s } else { b * c + a * s }
            };
            let rel = if is_fast { BF16 } else { F32 };
            let within = Within { abs: 1e-6, rel };
            let q = row * ld + (n_heads - 1) * head_dim;
            hold("rope's q", &qkv, q + d, turned(q), within);
            let k = row * ld + q_dim + (n_kv_heads - 1) * head_dim;
            let to = cache.key_at(slot, n_kv_heads - 1, position, d);
            hold("rope's keys", &cache.keys, to, turned(k), within);
            let v = f64::from(qkv.drawn_at(k + kv_dim + d));
            let to = cache.value_at(slot, n_kv_heads - 1, position, d);
            hold("rope's values", &cache.values, to, v, Within { abs: 0.0, rel: 0.0 });
        }
    })
}

fn attend<'a, M: Machine>(machine: &'a M, shapes: &Shapes, kind: Kind, is_fast: bool) -> Case<'a> {
    let sizes = shapes.sizes;
    let Sizes { n_heads, n_kv_heads, head_dim, .. } = sizes;
    let (q_dim, group) = (n_heads * head_dim, n_heads / n_kv_heads);
    let batch = match kind {
        Kind::Prompts(_) => Batch::prompts(machine, shapes, if is_fast { 64 } else { 32 } / group),
        Kind::Steps => Batch::steps(machine, shapes),
    };
    let cache = Cache::new(machine, sizes, &batch, is_fast);
    let q = Array::drawn(machine, dtype_of(is_fast), batch.n_rows * q_dim, 1, 2.0);
    let out = Array::unset(machine, dtype_of(is_fast), batch.n_rows * q_dim);
    let [slots, positions, _, tiles] = batch.args();
    let mut args = vec![q.arg(), cache.keys.arg(), cache.values.arg(), slots, positions];
    if kind != Kind::Steps {
        args.push(tiles);
    }
    args.extend([out.arg(), heads_of(&sizes, batch.capacity), Arg::int(q_dim), Arg::int(q_dim)]);
    // The size of heads that the kernels of precision fast are compiled for, and what they share.
    let (template, tile_bytes) = match head_dim {
        0..=64 => (64, 24_576),
        65..=128 => (128, 49_152),
        _ => (256, 65_536),
    };
    let by_tiles = [batch.n_tiles, n_kv_heads, 1];
    let step = match (kind, is_fast) {
        (Kind::Prompts(Version::Hopper), _) => {
            let kernel = format!("attention_prefill_hopper_{template}_v3");
            step(&kernel, by_tiles, 128, args).sharing(384 * template + 1024)
        }
        (Kind::Prompts(Version::Any), true) => {
            let kernel = format!("attention_prefill_fast_{template}_v2");
            step(&kernel, by_tiles, 128, args).sharing(tile_bytes)
        }
        (Kind::Prompts(Version::Any), false) => {
            let kernel = format!("attention_prefill_{template}_v2");
            step(&kernel, by_tiles, 128, args).sharing((96 * head_dim + 1024) * size_of::<f32>())
        }
        (Kind::Steps, true) => {
            let kernel = format!("attention_decode_fast_{template}_v2");
            let grid = [n_kv_heads, batch.n_rows, group.div_ceil(16)];
            step(&kernel, grid, 128, args).sharing(65_536 + 32 * template)
        }
        (Kind::Steps, false) => {
            let shared_bytes = (head_dim + shapes.n_prompt + 1) * size_of::<f32>();
            let grid = [n_heads, batch.n_rows, 1];
            step("attention_decode_v2", grid, 128, args).sharing(shared_bytes)
        }
    };
    // Queries read, results written, and each sequence's keys and values read once.
    let n_kept = match kind {
        Kind::Prompts(_) => batch.n_rows,
        Kind::Steps => batch.n_seen(),
    };
    let n_numbers = 2 * batch.n_rows * q_dim + 2 * n_kept * n_kv_heads * head_dim;
    let bytes = n_numbers * dtype_of(is_fast).n_bytes();
    let flop = 4 * batch.n_seen() * n_heads * head_dim;
    let check = move || {
        for at in some_of(batch.n_rows * q_dim) {
            let (row, head, d) = (at / q_dim, at % q_dim / head_dim, at % head_dim);
            let (slot, kv_head) = (batch.slot(row), head / group);
            let number = |array: &Array<M>, at: usize| f64::from(array.drawn_at(at));
            let score = |position: usize| -> f64 {
                let term = |i: usize| {
                    let key = cache.key_at(slot, kv_head, position, i);
                    number(&q, row * q_dim + head * head_dim + i) * number(&cache.keys, key)
                };
                (0..head_dim).map(term).sum::<f64>() / (head_dim as f64).sqrt()
            };
            let scores: Vec<f64> = (0..=batch.position(row)).map(score).collect();
            let largest = scores.iter().fold(f64::MIN, |largest, score| largest.max(*score));
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let weighted = weights.iter().enumerate().map(|(position, weight)| {
                weight * number(&cache.values, cache.value_at(slot, kv_head, position, d))
            });
            let wanted = weighted.sum::<f64>() / weights.iter().sum::<f64>();
            // Weights in bf16 sum to about 1, and values lie below 1.
            let (abs, rel) = if is_fast { (BF16, BF16) } else { (1e-5, F32) };
            hold("attention", &out, at, wanted, Within { abs, rel });
        }
    };
    let peak = if is_fast { Peak::Matrix } else { Peak::Fma };
    Case::new(vec![step], bytes, check).computing(peak, flop)
}
