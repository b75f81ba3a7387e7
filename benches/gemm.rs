//! Matrix products at the shapes of a decoder layer, as shares of the machine's multiply-adds.
//!
//! Rows: 256 and 512 for a prefill, 64 for a step of decoding. Weights that are larger than
//! `MAX_WEIGHTS` are cut to fewer outputs: panels are worked on one after the other, so the rest
//! would tell nothing new. Each product is first held to the plain loop, bit for bit.

mod common;

use common::table::Table;
use common::testbed::{GEMMA_2B, GEMMA_7B, SMALL, Sizes, TINY, TOY, noise};
use common::{Bench, Size, Work};
use model_swarms::backend::cpu::Isa;
use model_swarms::backend::cpu::buffer::{Matrix, PANEL};
use model_swarms::backend::cpu::gemm::{Rows, Scratch, Start, Workers, gemm};
use model_swarms::backend::cpu::packed::{Part, Weights};
use model_swarms::tensors::Dtype;

/// Parameters of one matrix, at most: 64 MiB in f32, more than the second-level caches hold.
const MAX_WEIGHTS: usize = 1 << 24;

/// Elements of every product that are compared with the plain loop.
const N_CHECKED: usize = 40;

/// All shapes, storages and thread counts.
fn main() {
    let bench = &mut Bench::from_arguments();
    let isa = Isa::from_environment().expect("an instruction set that this machine has");
    let models: &[(&str, Sizes)] = match bench.size() {
        Size::Small => &[("toy", TOY)],
        Size::Full => &[("tiny", TINY), ("small", SMALL), ("2b", GEMMA_2B), ("7b", GEMMA_7B)],
    };
    let mut table = Table::new("gemm: GFLOP/s and share of the FMA peak");
    for (model, sizes) in models {
        for (product, n_in, n_out) in products(model, sizes) {
            let n_out = n_out.min(MAX_WEIGHTS / n_in / PANEL * PANEL);
            for storage in [Dtype::F32, Dtype::BF16] {
                let part = Part { n_out, read: Box::new(move |out, row| fill(row, out, storage)) };
                let weights = Weights::pack(n_in, &[part], storage);
                for n_rows in [256, 512, 64] {
                    let row = format!("{model} {product} {n_rows}x{n_in}x{n_out}");
                    shape(bench, isa, &mut table, &row, &weights, storage, (n_rows, n_in, n_out));
                }
            }
        }
    }
    table.print();
    bench.finish();
}

/// The products of a layer, and one of the output matrix: name, inputs, outputs.
fn products(model: &str, sizes: &Sizes) -> Vec<(&'static str, usize, usize)> {
    let (q_dim, kv_dim) = (sizes.n_heads * sizes.head_dim, sizes.n_kv_heads * sizes.head_dim);
    let mut products = vec![
        ("qkv", sizes.dim, q_dim + 2 * kv_dim),
        ("o", q_dim, sizes.dim),
        ("gate_up", sizes.dim, 2 * sizes.ffn_dim),
        ("down", sizes.ffn_dim, sizes.dim),
    ];
    if model == "2b" {
        products.push(("logits", sizes.dim, sizes.vocab));
    }
    products
}

/// Row `out` of the weights, rounded to the type that they are stored in.
fn fill(row: &mut [f32], out: usize, storage: Dtype) {
    for (k, value) in row.iter_mut().enumerate() {
        *value = storage.round(noise(((out as u64) << 20) + k as u64));
    }
}

fn shape(
    bench: &mut Bench,
    isa: Isa,
    table: &mut Table,
    row: &str,
    weights: &Weights,
    storage: Dtype,
    (n_rows, n_in, n_out): (usize, usize, usize),
) {
    let mut a = Matrix::zeros(n_rows, n_in);
    for (i, value) in a.data_mut().iter_mut().enumerate() {
        *value = noise((1 << 50) + i as u64);
    }
    let mut c = Matrix::zeros(n_rows, n_out);
    let stride = c.stride();
    let mut scratch = Scratch::default();
    let rows = Rows { data: a.data(), stride: a.stride(), n_rows };
    for (workers, n_threads) in [(Workers::One, 1), (Workers::All, rayon::current_num_threads())] {
        let panels = weights.panels_of(0..1);
        let mut product = || {
            let (panels, c) = (panels.clone(), c.data_mut());
            gemm(isa, workers, rows, weights, panels, c, stride, Start::Zero, &mut scratch);
        };
        product();
        let work = Work::Flop(2.0 * (n_rows * n_in * n_out) as f64);
        let name = format!("{row} {storage} {n_threads}");
        let timed = bench.time("gemm", &name, work, workers, product);
        let text = timed.map(|timed| {
            let rate = work.amount() / timed.seconds / 1e9;
            format!("{rate:.1} {:3.0} %", 100.0 * timed.share)
        });
        table.set(row, &format!("{storage} {workers:?}"), text);
        check(&name, &a, &c, storage, (n_rows, n_in, n_out));
    }
}

/// Holds sampled elements to the plain loop.
fn check(
    name: &str,
    a: &Matrix,
    c: &Matrix,
    storage: Dtype,
    (n_rows, n_in, n_out): (usize, usize, usize),
) {
    let mut weights = vec![0.0; n_in];
    for sample in 0..N_CHECKED {
        // The corners, then anywhere.
        let (i, j) = match sample {
            0 => (0, 0),
            1 => (n_rows - 1, n_out - 1),
            _ => (sample * 7919 % n_rows, sample * 104_729 % n_out),
        };
        fill(&mut weights, j, storage);
        let factors = a.row(i).iter().zip(&weights);
        let plain = factors.fold(0.0f32, |sum, (x, w)| x.mul_add(*w, sum));
        let ours = c.row(i)[j];
        assert_eq!(ours.to_bits(), plain.to_bits(), "{name} [{i}][{j}]: {ours}, wanted {plain}");
    }
}
