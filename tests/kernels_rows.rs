//! The kernels that work row by row, against the CPU backend, bit for bit: embedding, norms, gates,
//! the largest logit and a token's probability.
#![cfg(feature = "kernel-tests")]

mod kernels_common;

use half::{bf16, f16};
use kernels_common::values::{assert_bits, strided, tiny_values, unstrided, values};
use kernels_common::{Argument, Device, Launch, Null, SEEDS, must_launch};
use model_swarms::backend::cpu::Isa;
use model_swarms::backend::cpu::math::{exp, ln_f64};
use model_swarms::backend::cpu::ops::{
    add, argmax, gelu_tanh_times, rms_norm, row_max, scale, silu_times,
};

/// Lengths of rows: of nothing, around 16 lanes, a warp, a block of 256, and a tile of 896.
const LENGTHS: [usize; 13] = [0, 1, 2, 15, 16, 17, 31, 33, 255, 256, 257, 895, 1000];

fn on(name: &str, grid: [usize; 2], block: usize, seed: u64) -> Launch<'_> {
    Launch { name, grid: [grid[0], grid[1], 1], block, shared_bytes: 0, seed }
}

/// Numbers of all magnitudes that an activation may have, and those at which formulas turn.
fn activations(stream: u32, len: usize) -> Vec<f32> {
    let special = [0.0, -0.0, 88.3, -87.3, 100.0, -100.0, 1e-40, f32::INFINITY, 3e38, 10.0, -10.0];
    let mut all = values(stream, len);
    for (i, x) in all.iter_mut().enumerate() {
        match i % 3 {
            0 => *x *= 20.0,
            1 if i % 7 == 0 => *x = special[i / 7 % special.len()],
            _ => {}
        }
    }
    all
}

#[test]
fn embeddings_are_the_tables_rows() {
    // Broken: tokens are read as others, or Gemma's scale is rounded otherwise.
    for dim in LENGTHS {
        let ldt = dim + 2;
        let (table, tokens) = (values(1, 7 * ldt), [3, 0, 6, 6]);
        let bits = |to_bits: fn(f32) -> u16| table.iter().map(|x| to_bits(x * 1e-4)).collect();
        let f16s: Vec<u16> = bits(|x| f16::from_f32(x).to_bits());
        let bf16s: Vec<u16> = bits(|x| bf16::from_f32(x).to_bits());
        let wide = |bits: &[u16], widen: fn(u16) -> f32| bits.iter().map(|x| widen(*x)).collect();
        let f16s_wide = wide(&f16s, |bits| f16::from_bits(bits).to_f32());
        let bf16s_wide = wide(&bf16s, |bits| bf16::from_bits(bits).to_f32());
        let devices = (Device::new(&table), Device::new(&f16s), Device::new(&bf16s));
        let tables: [&dyn Argument; 3] = [&devices.0, &devices.1, &devices.2];
        let wide = [&table, &f16s_wide, &bf16s_wide];
        for (storage, (table, wide)) in ["f32", "f16", "bf16"].iter().zip(tables.iter().zip(wide)) {
            let mut wanted: Vec<f32> =
                tokens.iter().flat_map(|token| wide[token * ldt..][..dim].to_vec()).collect();
            scale(Isa::detect(), &mut wanted, 7.483_315);
            let ldx = dim + 3;
            let x = Device::unset(4 * ldx);
            let device = Device::new(&tokens.map(|token| token as i32));
            let name = format!("embed_{storage}_v1");
            let [dim_, ldt, ldx_] = [dim, ldt, ldx].map(|n| n as i32);
            let args: [&dyn Argument; 7] = [*table, &device, &7.483_315f32, &x, &dim_, &ldt, &ldx_];
            must_launch(on(&name, [4, 1], 256, 1), &args);
            assert_bits(&unstrided(&x.read(), 4, dim, ldx), &wanted, &format!("{name} {dim}"));
        }
    }
}

#[test]
fn every_16_bit_number_is_widened_as_on_the_cpu() {
    // Broken: models stored in 16 bits are read as others.
    let bits: Vec<u16> = (0..=u16::MAX).collect();
    let all = Device::new(&bits);
    let token = Device::new(&[0i32]);
    let n = bits.len() as i32;
    type Widen = fn(u16) -> f32;
    let to_f32: [(&str, Widen); 2] = [
        ("embed_f16_v1", |bits| f16::from_bits(bits).to_f32()),
        ("embed_bf16_v1", |bits| bf16::from_bits(bits).to_f32()),
    ];
    for (name, to_f32) in to_f32 {
        let x = Device::unset(bits.len());
        must_launch(on(name, [1, 1], 256, 0), &[&all, &token, &1.0f32, &x, &n, &n, &n]);
        let wanted: Vec<f32> = bits.iter().map(|bits| to_f32(*bits)).collect();
        assert_bits(&x.read(), &wanted, name);
    }
}

/// (x after the residual, the normed rows) by a kernel.
fn norm(
    version: &str,
    x: &[f32],
    y: Option<&[f32]>,
    weight: &[f32],
    seed: u64,
) -> (Vec<f32>, Vec<f32>) {
    let dim = weight.len();
    let (n_rows, ld, ldy) = (x.len() / dim, dim + 3, dim + 1);
    let device = Device::new(&strided(x, dim, ld));
    let y = y.map(|y| Device::new(&strided(y, dim, ldy)));
    let (weight, out) = (Device::new(weight), Device::unset(n_rows * ld));
    let name = format!("rms_norm_{version}");
    let mut what = match version {
        "v1" => on(&name, [n_rows.div_ceil(128), 1], 128, seed),
        _ => on(&name, [n_rows, 1], 256, seed),
    };
    what.shared_bytes = if version == "v1" { 0 } else { dim * 4 };
    let y: &dyn Argument = y.as_ref().map_or(&Null, |y| y);
    let [rows, dims, ld_, ldy] = [n_rows, dim, ld, ldy].map(|n| n as i32);
    let mut args: Vec<&dyn Argument> = vec![&device, y, &weight, &1e-6f32, &out];
    if version == "v1" {
        args.push(&rows);
    }
    args.extend([&dims as &dyn Argument, &ld_, &ldy]);
    must_launch(what, &args);
    (unstrided(&device.read(), n_rows, dim, ld), unstrided(&out.read(), n_rows, dim, ld))
}

#[test]
fn norms_are_the_cpus() {
    // Broken: every layer's input differs between CPU and GPU.
    let isa = Isa::detect();
    for dim in LENGTHS.into_iter().filter(|dim| *dim > 0) {
        for n_rows in [1, 3] {
            let (x, y, weight) = (values(1, n_rows * dim), values(2, n_rows * dim), values(3, dim));
            for y in [None, Some(&y[..])] {
                let (mut sum, mut wanted) = (x.clone(), vec![0.0; x.len()]);
                add(isa, &mut sum, y.unwrap_or(&[]));
                for (x, out) in sum.chunks(dim).zip(wanted.chunks_mut(dim)) {
                    rms_norm(isa, x, &weight, 1e-6, out);
                }
                for version in ["v1", "v2"] {
                    for seed in SEEDS {
                        let (ours, normed) = norm(version, &x, y, &weight, seed);
                        let case = format!("{version} {n_rows} x {dim}, seed {seed}");
                        assert_bits(&ours, &sum, &format!("{case}: x"));
                        assert_bits(&normed, &wanted, &case);
                    }
                }
            }
        }
    }
    for version in ["v1", "v2"] {
        let (x, weight) = (values(1, 130 * 20), values(2, 20));
        let (_, all) = norm(version, &x, None, &weight, 0);
        let (_, alone) = norm(version, &x[129 * 20..], None, &weight, 0);
        assert_bits(&alone, &all[129 * 20..], "a row alone is the row in any batch");
    }
}

#[test]
fn gates_are_the_cpus() {
    // Broken: feed-forward networks differ between CPU and GPU.
    type Gate = fn(Isa, &mut [f32], &[f32]);
    let gates: [(&str, Gate); 2] =
        [("gelu_tanh_times_v1", gelu_tanh_times), ("silu_times_v1", silu_times)];
    for (name, on_cpu) in gates {
        for dim in LENGTHS {
            let ld = dim + 2;
            let gate = strided(&activations(1, 3 * dim), dim, ld);
            let up = strided(&values(2, 3 * dim), dim, ld);
            let mut wanted = gate.clone();
            for (gate, up) in wanted.chunks_mut(ld).zip(up.chunks(ld)) {
                on_cpu(Isa::detect(), &mut gate[..dim], &up[..dim]);
            }
            let (gate, up) = (Device::new(&gate), Device::new(&up));
            let args: [&dyn Argument; 4] = [&gate, &up, &(dim as i32), &(ld as i32)];
            must_launch(on(name, [dim.div_ceil(256), 3], 256, 1), &args);
            assert_bits(&gate.read(), &wanted, &format!("{name} {dim}"));
        }
    }
}

#[test]
fn the_exponential_is_the_cpus() {
    // Broken: attention, gates and probabilities differ between CPU and GPU. Gates show it at every
    // 4099th float: x / (1 + e^-x) tells e^-x apart wherever it matters.
    let all: Vec<f32> = (0..=u32::MAX / 4099).map(|i| f32::from_bits(i * 4099)).collect();
    let all = &all[..if kernels_common::SANITIZER.is_empty() { all.len() } else { 10_000 }];
    let mut wanted = all.to_vec();
    silu_times(Isa::detect(), &mut wanted, &vec![1.0; all.len()]);
    let (gate, up) = (Device::new(all), Device::new(&vec![1.0f32; all.len()]));
    let n = all.len() as i32;
    let what = on("silu_times_v1", [all.len().div_ceil(256), 1], 256, 0);
    must_launch(what, &[&gate, &up, &n, &n]);
    assert_bits(&gate.read(), &wanted, "every 4099th float");
}

#[test]
fn gathered_rows_are_the_rows() {
    // Broken: logits are those of other positions than the wanted ones.
    let x = values(1, 5 * 260);
    let (device, rows) = (Device::new(&x), Device::new(&[4i32, 0, 2]));
    let out = Device::new(&[f32::NAN; 3 * 260]);
    must_launch(on("gather_rows_v1", [3, 1], 256, 1), &[&device, &rows, &out, &257i32, &260i32]);
    for (row, from) in out.read().chunks(260).zip([4, 0, 2]) {
        assert_bits(&row[..257], &x[from * 260..][..257], "gathered");
    }
}

/// Rows of logits with ties, zeros of both signs, infinities and NaN.
fn logits(n_logits: usize) -> Vec<Vec<f32>> {
    let plain = values(4, n_logits);
    let tied = plain.iter().map(|x| (x * 3.0).round()).collect();
    let zeros = tiny_values(5, n_logits).iter().map(|x| -x.abs()).collect();
    let mut holes = plain.clone();
    holes.iter_mut().step_by(3).for_each(|x| *x = f32::NAN);
    let lowest = vec![f32::NEG_INFINITY; n_logits];
    let mut last = lowest.clone();
    last.iter_mut().next_back().into_iter().for_each(|x| *x = 1.0);
    let far = plain.iter().map(|x| x * 300.0).collect();
    vec![plain, tied, zeros, holes, lowest, last, vec![f32::NAN; n_logits], far]
}

#[test]
fn the_largest_logit_is_the_cpus() {
    // Broken: generated tokens differ between CPU and GPU, or a tie goes to a higher index.
    for n_logits in LENGTHS {
        let rows = logits(n_logits);
        let (n_rows, ld) = (rows.len(), n_logits + 3);
        let device = Device::new(&strided(&rows.concat(), n_logits, ld)[..]);
        if n_logits == 0 {
            continue; // a vocabulary has a token
        }
        let wanted: Vec<i32> = rows.iter().map(|row| argmax(Isa::detect(), row) as i32).collect();
        let [n_rows_, n, ld] = [n_rows, n_logits, ld].map(|n| n as i32);
        for seed in SEEDS {
            let tokens = Device::new(&vec![-1i32; n_rows]);
            let args: [&dyn Argument; 5] = [&device, &tokens, &n_rows_, &n, &ld];
            must_launch(on("argmax_v1", [n_rows.div_ceil(32), 1], 32, seed), &args);
            assert_eq!(tokens.read(), wanted, "v1 {n_logits} seed {seed}");
            let tokens = Device::new(&vec![-1i32; n_rows]);
            must_launch(on("argmax_v2", [n_rows, 1], 256, seed), &[&device, &tokens, &n, &ld]);
            assert_eq!(tokens.read(), wanted, "v2 {n_logits} seed {seed}");
        }
    }
}

/// As `model::decode` has it.
fn log_probability(logits: &[f32], token: usize) -> f64 {
    let max = row_max(Isa::detect(), logits);
    let sum: f64 = logits.iter().map(|logit| f64::from(exp(logit - max))).sum();
    if !sum.is_normal() {
        return f64::NAN;
    }
    f64::from(logits[token]) - f64::from(max) - ln_f64(sum)
}

#[test]
fn probabilities_are_the_cpus() {
    // Broken: perplexities and multiple choice differ between CPU and GPU.
    for n_logits in [1, 2, 31, 224, 895, 896, 897, 2000] {
        let rows = logits(n_logits);
        let (n_rows, ld) = (rows.len(), n_logits + 3);
        let tokens: Vec<i32> = (0..n_rows).map(|i| (i * 5 % n_logits) as i32).collect();
        let wanted: Vec<f64> =
            rows.iter().zip(&tokens).map(|(row, t)| log_probability(row, *t as usize)).collect();
        let device = Device::new(&strided(&rows.concat(), n_logits, ld));
        let tokens = Device::new(&tokens);
        let [n_rows_, n, ld] = [n_rows, n_logits, ld].map(|n| n as i32);
        for seed in SEEDS {
            for version in ["v1", "v2"] {
                let out = Device::new(&vec![0.0f64; n_rows]);
                let name = format!("log_probability_{version}");
                if version == "v1" {
                    let what = on(&name, [n_rows.div_ceil(32), 1], 32, seed);
                    must_launch(what, &[&device, &tokens, &out, &n_rows_, &n, &ld]);
                } else {
                    let what = on(&name, [n_rows, 1], 256, seed);
                    must_launch(what, &[&device, &tokens, &out, &n, &ld]);
                }
                for (i, (ours, wanted)) in out.read().iter().zip(&wanted).enumerate() {
                    let same =
                        ours.to_bits() == wanted.to_bits() || ours.is_nan() && wanted.is_nan();
                    assert!(same, "{name} {n_logits} seed {seed} row {i}: {ours}, wanted {wanted}");
                }
            }
        }
    }
}
