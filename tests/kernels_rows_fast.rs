//! The kernels of precision `fast` that work row by row, against the CPU backend on numbers that
//! are rounded to bf16: to the bit where the arithmetic is the same, else within what the roundings
//! may do; and a row's bits against the same row's in other batches.
#![cfg(feature = "kernel-tests")]

mod kernels_common;

use kernels_common::values::{
    assert_bits, from_bits, rounded, strided, to_bits, unstrided, values,
};
use kernels_common::{Argument, Device, Launch, Null, SEEDS, must_launch};
use model_swarms::backend::cpu::Isa;
use model_swarms::backend::cpu::ops::{add, gelu_tanh_times, rms_norm, silu_times};

/// Lengths of rows: of nothing, around 4 and 8 numbers at once, a warp's, a block's 1024 and 2048.
const LENGTHS: [usize; 15] = [0, 1, 3, 4, 5, 7, 8, 9, 33, 127, 1023, 1024, 1028, 2048, 2051];

/// Half a unit in the last place, relative to the number: eight bits of bf16, 24 of f32.
const NARROW: f64 = 1.0 / (1 << 8) as f64;
const WIDE: f64 = 1.0 / (1 << 24) as f64;

fn on(name: &str, grid: [usize; 2], block: usize, seed: u64) -> Launch<'_> {
    Launch { name, grid: [grid[0], grid[1], 1], block, shared_bytes: 0, seed }
}

/// (x after the residual, the normed rows); rows lie apart, NaN between them.
fn norm(x: &[f32], y: Option<&[f32]>, weight: &[f32], seed: u64) -> (Vec<f32>, Vec<f32>) {
    let dim = weight.len();
    let ld = dim.next_multiple_of(8);
    let (n_rows, ldy, ldo) = (x.len() / dim, ld + 8, ld + 16);
    let device = Device::new(&strided(x, dim, ld));
    let y = y.map(|y| Device::new(&to_bits(&strided(y, dim, ldy))));
    let (weight, out) = (Device::new(weight), Device::new(&vec![u16::MAX; n_rows * ldo]));
    let what = Launch { shared_bytes: dim * 4, ..on("rms_norm_fast_v1", [n_rows, 1], 256, seed) };
    let y: &dyn Argument = y.as_ref().map_or(&Null, |y| y);
    let [dims, ld_, ldy, ldo_] = [dim, ld, ldy, ldo].map(|n| n as i32);
    must_launch(what, &[&device, y, &weight, &1e-6f32, &out, &dims, &ld_, &ldy, &ldo_]);
    let normed = from_bits(&out.read());
    (unstrided(&device.read(), n_rows, dim, ld), unstrided(&normed, n_rows, dim, ldo))
}

#[test]
fn norms_are_the_cpus_but_for_their_order() {
    // Broken: every layer's input is another than the model's.
    let isa = Isa::detect();
    for dim in LENGTHS.into_iter().filter(|dim| *dim > 0) {
        let (x, y, weight) = (values(1, 2 * dim), rounded(&values(2, 2 * dim)), values(3, dim));
        for y in [None, Some(&y[..])] {
            let (mut sum, mut wanted) = (x.clone(), vec![0.0; x.len()]);
            add(isa, &mut sum, y.unwrap_or(&[]));
            for (x, out) in sum.chunks(dim).zip(wanted.chunks_mut(dim)) {
                rms_norm(isa, x, &weight, 1e-6, out);
            }
            let (_, first) = norm(&x, y, &weight, 0);
            for seed in SEEDS {
                let (ours, normed) = norm(&x, y, &weight, seed);
                assert_bits(&ours, &sum, &format!("x of {dim}, seed {seed}"));
                assert_bits(&normed, &first, &format!("{dim}, seed {seed}"));
            }
            for (i, (ours, wanted)) in first.iter().zip(&wanted).enumerate() {
                // Squares are positive: either sum errs by a half unit for each addition, of which
                // the root leaves half, and six more operations follow; then bf16.
                let per_value = NARROW + (dim + 12) as f64 * WIDE;
                let most = 1.01 * per_value * f64::from(wanted.abs());
                let error = (f64::from(*ours) - f64::from(*wanted)).abs();
                assert!(error <= most, "{dim}, element {i}: {ours}, wanted {wanted}");
            }
        }
    }
    let (x, weight) = (values(1, 20 * 77), values(2, 77));
    let (_, all) = norm(&x, None, &weight, 0);
    for row in [0, 7, 19] {
        let (_, alone) = norm(&x[row * 77..][..77], None, &weight, 3);
        assert_bits(&alone, &all[row * 77..][..77], "a row alone is the row in any batch");
    }
}

/// Numbers of all magnitudes that an activation may have, and those at which formulas turn.
fn activations(stream: u32, len: usize) -> Vec<f32> {
    let special = [0.0, -0.0, 88.3, -87.3, 100.0, -100.0, 1e-40, f32::INFINITY, 3e38, 10.0, -10.0];
    let at = |(i, x): (usize, f32)| match i % 3 {
        0 => x * 20.0,
        1 if i % 7 == 0 => special[i / 7 % special.len()],
        _ => x,
    };
    rounded(&values(stream, len).into_iter().enumerate().map(at).collect::<Vec<f32>>())
}

#[test]
fn gates_are_the_cpus_rounded_once() {
    // Broken: feed-forward networks lose more than bf16 takes, or touch what is not theirs.
    type Gate = fn(Isa, &mut [f32], &[f32]);
    let gates: [(&str, Gate); 2] =
        [("gelu_tanh_times_fast_v1", gelu_tanh_times), ("silu_times_fast_v1", silu_times)];
    for (name, on_cpu) in gates {
        for dim in LENGTHS {
            // Rows at multiples of 16 bytes, and elsewhere.
            for ld in [dim.next_multiple_of(8) + 8, dim + 3] {
                let gate = strided(&activations(1, 3 * dim), dim, ld);
                let up = strided(&rounded(&values(2, 3 * dim)), dim, ld);
                let mut wanted = gate.clone();
                for (gate, up) in wanted.chunks_mut(ld).zip(up.chunks(ld)) {
                    on_cpu(Isa::detect(), &mut gate[..dim], &up[..dim]);
                }
                let (gate, up) = (Device::new(&to_bits(&gate)), Device::new(&to_bits(&up)));
                let args: [&dyn Argument; 4] = [&gate, &up, &(dim as i32), &(ld as i32)];
                must_launch(on(name, [dim.div_ceil(2048), 3], 256, 2), &args);
                let case = format!("{name} {dim}, {ld} apart");
                assert_bits(&from_bits(&gate.read()), &rounded(&wanted), &case);
            }
        }
    }
}

#[test]
fn gathered_rows_are_the_rows() {
    // Broken: logits are those of other positions than the wanted ones.
    for dim in LENGTHS {
        let ld = dim.next_multiple_of(8) + 8;
        let x: Vec<u16> = (0..5 * ld).map(|i| ((i * 40_503) >> 3) as u16).collect();
        let (device, rows) = (Device::new(&x), Device::new(&[4i32, 0, 2]));
        let out = Device::new(&vec![7u16; 3 * ld]);
        let args: [&dyn Argument; 5] = [&device, &rows, &out, &(dim as i32), &(ld as i32)];
        must_launch(on("gather_rows_fast_v1", [3, 1], 256, 1), &args);
        for (row, from) in out.read().chunks(ld).zip([4, 0, 2]) {
            assert_eq!(row[..dim], x[from * ld..][..dim], "{dim}");
            assert!(row[dim..].iter().all(|bits| *bits == 7), "{dim}: written past its end");
        }
    }
}
