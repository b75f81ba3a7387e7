//! Matrix products: those of a layer at the rows of a prefill and of a step of decoding, and the
//! output matrix; then what adapters add beside them. In precision fast that is a part of the
//! product, whose cost the end-to-end rows tell; what comes before it stands here.

use model_swarms::backend::cuda::driver::Arg;
use model_swarms::tensors::Dtype;

use super::batch::Batch;
use super::case::{BF16, Case, F32, Named, Shapes, Within, hold, some_of, step};
use crate::common::testbed::Sizes;
use crate::gpu::array::{Array, Bytes};
use crate::gpu::machine::Machine;
use crate::gpu::peaks::Peak;

/// Inputs that a block of lora_shrink_fast_v3 takes.
const BLOCK_INPUTS: usize = 4096;

/// The products of a layer: name, inputs, outputs.
pub fn products(sizes: &Sizes) -> [(&'static str, usize, usize); 4] {
    let (q_dim, kv_dim) = (sizes.n_heads * sizes.head_dim, sizes.n_kv_heads * sizes.head_dim);
    [
        ("qkv", sizes.dim, q_dim + 2 * kv_dim),
        ("o", q_dim, sizes.dim),
        ("gate_up", sizes.dim, 2 * sizes.ffn_dim),
        ("down", sizes.ffn_dim, sizes.dim),
    ]
}

/// Whose product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// bf16 by mma.sync.
    Fast,
    /// bf16 by wgmma.
    Hopper,
    /// f32 activations in the CPU's order; weights of this type.
    Exact(Dtype),
}

impl Version {
    /// As cases are named.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "gemm_fast",
            Self::Hopper => "gemm_hopper",
            Self::Exact(Dtype::F32) => "gemm_exact_f32",
            Self::Exact(_) => "gemm_exact_bf16",
        }
    }
}

/// The name of a product's case.
pub fn product_name(version: Version, product: &str, n_rows: usize) -> String {
    format!("{} {product} {n_rows}", version.name())
}

/// All products, and the updates of adapters.
pub fn cases<'a, M: Machine>(machine: &'a M, shapes: Shapes) -> Vec<Named<'a>> {
    let mut cases: Vec<Named> = vec![
        ("low_rank gate".into(), Box::new(move || low_rank(machine, &shapes))),
        ("lora_shrink gate".into(), Box::new(move || shrink(machine, &shapes))),
        ("lora_expand gate".into(), Box::new(move || expand(machine, &shapes))),
        ("lora_prepare_fast gate".into(), Box::new(move || prepare(machine, &shapes))),
    ];
    // Wide inputs are shared by several blocks: as many as there are 4096 of them.
    let Sizes { dim, ffn_dim, .. } = shapes.sizes;
    for (name, n_in) in [("gate", dim), ("down", ffn_dim.max(BLOCK_INPUTS + 8))] {
        let shrink = move || shrink_fast(machine, &shapes, n_in);
        cases.push((format!("lora_shrink_fast {name}"), Box::new(shrink)));
    }

    let mut add = |version, name: &str, [n_rows, n_out, n_in]: [usize; 3], out| {
        let name = product_name(version, name, n_rows);
        let make = move || product(machine, version, [n_rows, n_out, n_in], out);
        cases.push((name, Box::new(make)));
    };
    let (exact, wide) = (Version::Exact(Dtype::BF16), Version::Exact(Dtype::F32));
    for (name, n_in, n_out) in products(&shapes.sizes) {
        add(exact, name, [shapes.n_rows, n_out, n_in], Dtype::F32);
    }
    let vocab = shapes.sizes.vocab;
    add(wide, "down", [shapes.n_rows, dim, ffn_dim], Dtype::F32); // as merged weights are kept
    let fast = [Version::Fast, Version::Hopper];
    for version in fast.into_iter().take(if machine.is_hopper() { 2 } else { 1 }) {
        for (name, n_in, n_out) in products(&shapes.sizes) {
            for n_rows in [shapes.n_rows, shapes.n_steps] {
                add(version, name, [n_rows, n_out, n_in], Dtype::BF16);
            }
        }
        add(version, "logits", [shapes.n_steps, vocab, dim], Dtype::F32);
    }
    cases
}

/// What additions of `n` numbers may err by, of the sum of their magnitudes: tensor cores may
/// truncate.
fn of_sum(n: usize) -> f64 {
    n as f64 * f64::from(f32::EPSILON)
}

/// c = a w^T
fn product<M: Machine>(
    machine: &M,
    version: Version,
    [n_rows, n_out, n_in]: [usize; 3],
    out: Dtype,
) -> Case<'_> {
    let (of_a, of_w) = match version {
        Version::Exact(storage) => (Dtype::F32, storage),
        _ => (Dtype::BF16, Dtype::BF16),
    };
    let a = Array::drawn(machine, of_a, n_rows * n_in, 1, 1.0);
    let w = Array::drawn(machine, of_w, n_out * n_in, 2, 1.0);
    let c = Array::unset(machine, out, n_rows * n_out);
    let [n_rows_, n_out_, n_in_] = [n_rows, n_out, n_in].map(Arg::int);
    let start = Arg::int(0);
    let sizes = [n_rows_, n_out_, n_in_, n_in_, n_in_, n_out_, start];
    let mut by_address: Vec<Arg> = [a.arg(), w.arg(), c.arg()].into_iter().chain(sizes).collect();
    let no_update = Arg::structure(&[0; 4], &[0; 14]); // `Update` of gemm_fast.cuh
    let suffix = |dtype| if dtype == Dtype::F32 { "f32" } else { "bf16" };
    let step = match version {
        Version::Fast => {
            let grid = [n_out.div_ceil(128) * n_rows.div_ceil(128), 1, 1];
            by_address.push(no_update);
            step(&format!("gemm_fast_{}_v2", suffix(out)), grid, 128, by_address)
        }
        Version::Hopper => {
            let n_tiles = n_out.div_ceil(256) * n_rows.div_ceil(128);
            let grid = [n_tiles.min(machine.n_processors()), 1, 1];
            let mut args = vec![a.map(n_rows, n_in, 128), w.map(n_out, n_in, 256), c.arg()];
            args.extend([n_rows_, n_out_, n_in_, n_out_, start]);
            let no_map = Arg::new(&[], 128);
            args.extend([no_map, no_map, no_update]);
            let kernel = format!("gemm_hopper_{}_v3", suffix(out));
            step(&kernel, grid, 288, args).sharing(197_696)
        }
        Version::Exact(storage) => {
            let grid = [n_out.div_ceil(64), n_rows.div_ceil(64), 1];
            step(&format!("gemm_exact_{}_v2", suffix(storage)), grid, 128, by_address)
        }
    };
    let n_bytes = |dtype: Dtype, len: usize| len * dtype.n_bytes();
    let bytes = n_bytes(of_a, n_rows * n_in) + n_bytes(of_w, n_out * n_in);
    let bytes = bytes + n_bytes(out, n_rows * n_out);
    let peak = if of_a == Dtype::F32 { Peak::Fma } else { Peak::Matrix };
    let check = move || {
        for at in some_of(n_rows * n_out) {
            let (i, j) = (at / n_out, at % n_out);
            let (sum, magnitudes) = dot(&a, i * n_in, &w, j * n_in, n_in);
            let rel = if out == Dtype::BF16 { BF16 } else { F32 };
            let within = Within { abs: of_sum(n_in) * magnitudes, rel };
            hold(version.name(), &c, at, sum, within);
        }
    };
    Case::new(vec![step], bytes, check).computing(peak, 2 * n_rows * n_out * n_in)
}

/// W += scale B A, merging an adapter into gate's weights.
fn low_rank<'a, M: Machine>(machine: &'a M, shapes: &Shapes) -> Case<'a> {
    const SCALE: f32 = 0.5;
    let (rank, n_out, n_in) = (shapes.rank, shapes.sizes.ffn_dim, shapes.sizes.dim);
    let w = Array::drawn(machine, Dtype::F32, n_out * n_in, 1, 1.0);
    let a = Array::drawn(machine, Dtype::F32, rank * n_in, 2, 1.0);
    let b = Array::drawn(machine, Dtype::F32, n_out * rank, 3, 1.0);
    let mut args = vec![w.arg(), a.arg(), b.arg(), Arg::float(SCALE)];
    args.extend([n_out, n_in, rank, n_in].map(Arg::int));
    let step = step("low_rank_v2", [n_in.div_ceil(128), n_out.div_ceil(8), 1], 128, args);
    Case::new(vec![step], 8 * n_out * n_in, move || {
        for at in some_of(n_out * n_in) {
            let (j, k) = (at / n_in, at % n_in);
            let terms = (0..rank).map(|r| {
                let scaled = SCALE * b.drawn_at(j * rank + r);
                f64::from(a.drawn_at(r * n_in + k)) * f64::from(scaled)
            });
            let wanted = f64::from(w.drawn_at(at)) + terms.sum::<f64>();
            hold("low_rank", &w, at, wanted, Within { abs: 1e-5, rel: F32 });
        }
    })
    .computing(Peak::Fma, 2 * n_out * n_in * rank)
}

/// shrunk = A x of gate, each row by its adapter.
fn shrink<'a, M: Machine>(machine: &'a M, shapes: &Shapes) -> Case<'a> {
    let (rank, n_in, n_rows) = (shapes.rank, shapes.sizes.dim, shapes.n_rows);
    let batch = Batch::prompts(machine, shapes, 1);
    let x = Array::drawn(machine, Dtype::F32, n_rows * n_in, 1, 1.0);
    let a = Array::drawn(machine, Dtype::F32, shapes.n_adapters * rank * n_in, 2, 1.0);
    let out = Array::unset(machine, Dtype::F32, n_rows * rank);
    let mut args = vec![x.arg(), a.arg(), batch.args()[2], out.arg()];
    args.extend([n_rows, n_in, rank, n_in].map(Arg::int));
    args.push(Arg::long(rank * n_in));
    let grid = [rank.div_ceil(16), n_rows.div_ceil(16), 1];
    let step = step("lora_shrink_v2", grid, 256, args);
    let check = move || {
        for at in some_of(n_rows * rank) {
            let (i, r) = (at / rank, at % rank);
            let (sum, magnitudes) =
                dot(&x, i * n_in, &a, (batch.adapter(i) * rank + r) * n_in, n_in);
            let within = Within { abs: of_sum(n_in) * magnitudes, rel: F32 };
            hold("lora_shrink", &out, at, sum, within);
        }
    };
    let bytes = 4 * n_rows * (n_in + rank);
    Case::new(vec![step], bytes, check).computing(Peak::Fma, 2 * n_rows * rank * n_in)
}

/// The same of `n_in` inputs in precision fast: in the slots that the adapters of a tile of rows
/// have.
fn shrink_fast<'a, M: Machine>(machine: &'a M, shapes: &Shapes, n_in: usize) -> Case<'a> {
    let (n_rows, n_blocks) = (shapes.n_rows, n_in.div_ceil(BLOCK_INPUTS));
    let depth = shapes.rank.next_multiple_of(16);
    let batch = Batch::prompts(machine, shapes, 1);
    let slots = batch.update_slots();
    let slots_there = Bytes::of_ints(machine, slots.iter().flatten().copied());
    let x = Array::drawn(machine, Dtype::BF16, n_rows * n_in, 1, 1.0);
    let a = Array::drawn(machine, Dtype::BF16, shapes.n_adapters * depth * n_in, 2, 1.0);
    let out = Array::unset(machine, Dtype::BF16, slots.len() * 128 * depth);
    let sums = Array::unset(machine, Dtype::F32, n_blocks * out.len()); // of each block
    let [_, _, adapters, _] = batch.args();
    let mut args = vec![x.arg(), a.arg(), adapters, slots_there.arg(), out.arg(), sums.arg()];
    args.extend([n_rows, n_in, 1, depth, n_in, n_in].map(Arg::int));
    let grid = [2 * slots.len(), depth.div_ceil(48), n_blocks];
    let mut steps = vec![step("lora_shrink_fast_v3", grid, 128, args).sharing(57_344)];
    if n_blocks > 1 {
        let mut args = vec![sums.arg(), adapters, slots_there.arg(), out.arg()];
        args.extend([n_rows, n_blocks, 1, depth].map(Arg::int));
        steps.push(step("lora_sum_fast_v1", [depth / 2, slots.len(), 1], 128, args));
    }
    let check = move || {
        let _ = (&slots_there, &sums); // the launches read them
        for at in some_of(n_rows * depth) {
            let (i, r) = (at / depth, at % depth);
            let wanted = [i / 128, batch.adapter(i)];
            let slot = slots.iter().position(|slot| *slot == wanted).expect("a slot of each");
            let (sum, magnitudes) = dot(&x, i * n_in, &a, (wanted[1] * depth + r) * n_in, n_in);
            let within = Within { abs: of_sum(n_in) * magnitudes, rel: BF16 };
            hold("lora_shrink_fast", &out, (slot * 128 + i % 128) * depth + r, sum, within);
        }
    };
    let bytes = 2 * n_rows * (n_in + depth);
    Case::new(steps, bytes, check).computing(Peak::Matrix, 2 * n_rows * depth * n_in)
}

/// The factors of gate, of as many adapters as there are particles, made ready for precision fast.
fn prepare<'a, M: Machine>(machine: &'a M, shapes: &Shapes) -> Case<'a> {
    const SCALE: f32 = 0.5;
    let (rank, n_out, n_in) = (shapes.rank, shapes.sizes.ffn_dim, shapes.sizes.dim);
    let (n, depth) = (shapes.n_particles, rank.next_multiple_of(16));
    let a = Array::drawn(machine, Dtype::F32, n * rank * n_in, 1, 1.0);
    let b = Array::drawn(machine, Dtype::F32, n * n_out * rank, 2, 1.0);
    let ready_a = Array::unset(machine, Dtype::BF16, n * depth * n_in);
    let ready_b = Array::unset(machine, Dtype::BF16, n * n_out * depth);
    let a_stride = Arg::long(depth * n_in);
    let mut of_a = vec![a.arg(), ready_a.arg()];
    of_a.extend([n_in, rank, depth, n_in].map(Arg::int));
    of_a.extend([Arg::long(rank * n_in), a_stride]);
    let mut of_b = vec![b.arg(), ready_b.arg(), ready_a.arg(), Arg::float(SCALE)];
    of_b.extend([n_out, rank, depth].map(Arg::int));
    of_b.extend([Arg::long(n_out * rank), a_stride]);
    let grid = |len: usize| [len.div_ceil(2048), n, 1];
    let steps = vec![
        step("lora_prepare_a_fast_v1", grid(depth * n_in), 32, of_a),
        step("lora_prepare_b_fast_v1", grid(n_out * depth), 32, of_b),
    ];
    let numbers = n * rank * (n_in + n_out);
    Case::new(steps, 6 * numbers, move || {
        for at in some_of(n * rank * n_in) {
            let (adapter, r, k) = (at / (rank * n_in), at / n_in % rank, at % n_in);
            let to = (adapter * depth + r) * n_in + k;
            hold("a'", &ready_a, to, f64::from(a.drawn_at(at)), Within { abs: 0.0, rel: BF16 });
        }
        for at in some_of(n * n_out * rank) {
            let (to, wanted) = (at / rank * depth + at % rank, SCALE * b.drawn_at(at));
            hold("b'", &ready_b, to, f64::from(wanted), Within { abs: 0.0, rel: BF16 });
        }
    })
}

/// y += scale B shrunk of gate, which is half of a product's row, each row by its adapter.
fn expand<'a, M: Machine>(machine: &'a M, shapes: &Shapes) -> Case<'a> {
    const SCALE: f32 = 0.5;
    let (rank, n_out, n_rows) = (shapes.rank, shapes.sizes.ffn_dim, shapes.n_rows);
    let ld = 2 * n_out;
    let batch = Batch::prompts(machine, shapes, 1);
    let shrunk = Array::drawn(machine, Dtype::F32, n_rows * rank, 1, 1.0);
    let b = Array::drawn(machine, Dtype::F32, shapes.n_adapters * n_out * rank, 2, 1.0);
    let y = Array::drawn(machine, Dtype::F32, n_rows * ld, 3, 1.0);
    let mut args = vec![shrunk.arg(), b.arg(), batch.args()[2], Arg::float(SCALE), y.arg()];
    args.extend([n_rows, n_out, rank, ld].map(Arg::int));
    args.push(Arg::long(n_out * rank));
    let grid = [n_out.div_ceil(128), n_rows.div_ceil(8), 1];
    let step = step("lora_expand_v2", grid, 128, args);
    let check = move || {
        for at in some_of(n_rows * n_out) {
            let (i, j) = (at / n_out, at % n_out);
            let (sum, _) = dot(&shrunk, i * rank, &b, (batch.adapter(i) * n_out + j) * rank, rank);
            let wanted = f64::from(y.drawn_at(i * ld + j)) + f64::from(SCALE) * sum;
            // Of some sixteen terms, each below 1.
            hold("lora_expand", &y, i * ld + j, wanted, Within { abs: 1e-5, rel: F32 });
        }
    };
    let bytes = 4 * n_rows * (2 * n_out + rank);
    Case::new(vec![step], bytes, check).computing(Peak::Fma, 2 * n_rows * rank * n_out)
}

/// The inner product of `n` numbers of two arrays, from these places on, and of their magnitudes.
fn dot<M: Machine>(
    x: &Array<M>,
    x_first: usize,
    y: &Array<M>,
    y_first: usize,
    n: usize,
) -> (f64, f64) {
    let term = |k: usize| f64::from(x.drawn_at(x_first + k)) * f64::from(y.drawn_at(y_first + k));
    (0..n).map(term).fold((0.0, 0.0), |(sum, of), term| (sum + term, of + term.abs()))
}
