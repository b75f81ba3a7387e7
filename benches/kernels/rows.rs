//! What is done to rows between the products: embedding, norms, gates, gathering, and what becomes
//! of logits; in both precisions.

use model_swarms::backend::cuda::driver::Arg;
use model_swarms::tensors::Dtype;

use super::case::{BF16, Case, F32, Named, Shapes, Within, hold, some_of, step};
use crate::gpu::array::{Array, Bytes};
use crate::gpu::machine::Machine;

/// All of them.
pub fn cases<'a, M: Machine>(machine: &'a M, shapes: Shapes) -> Vec<Named<'a>> {
    let mut cases: Vec<Named> = vec![
        ("embed_bf16".into(), Box::new(move || embed(machine, &shapes))),
        ("argmax".into(), Box::new(move || argmax(machine, &shapes))),
        ("log_probability".into(), Box::new(move || log_probability(machine, &shapes))),
    ];
    for is_fast in [true, false] {
        let fast = if is_fast { "_fast" } else { "" };
        let norm = move || rms_norm(machine, &shapes, is_fast);
        cases.push((format!("rms_norm{fast}"), Box::new(norm)));
        for gate in ["gelu_tanh", "silu"] {
            let make = move || gated(machine, &shapes, gate, is_fast);
            cases.push((format!("{gate}_times{fast}"), Box::new(make)));
        }
        let rows = move || gather(machine, &shapes, is_fast);
        cases.push((format!("gather_rows{fast}"), Box::new(rows)));
    }
    cases
}

fn dtype_of(is_fast: bool) -> Dtype {
    if is_fast { Dtype::BF16 } else { Dtype::F32 }
}

fn rel_of(is_fast: bool) -> f64 {
    if is_fast { BF16 } else { F32 }
}

/// Rows of a table in another order than they stand there.
fn mixed(n: usize, of: usize) -> impl Iterator<Item = usize> {
    (0..n).map(move |i| i * 7919 % of)
}

fn embed<'a, M: Machine>(machine: &'a M, shapes: &Shapes) -> Case<'a> {
    let (n_rows, dim, vocab) = (shapes.n_rows, shapes.sizes.dim, shapes.sizes.vocab);
    let factor = (dim as f32).sqrt();
    let table = Array::drawn(machine, Dtype::BF16, vocab * dim, 1, 0.1);
    let tokens = Bytes::of_ints(machine, mixed(n_rows, vocab));
    let x = Array::unset(machine, Dtype::F32, n_rows * dim);
    let mut args = vec![table.arg(), tokens.arg(), Arg::float(factor), x.arg()];
    args.extend([dim, dim, dim].map(Arg::int));
    let step = step("embed_bf16_v1", [n_rows, 1, 1], 256, args);
    Case::new(vec![step], 6 * n_rows * dim, move || {
        let tokens = tokens.read_ints(n_rows);
        for at in some_of(n_rows * dim) {
            let token = tokens[at / dim] as usize;
            let wanted = table.drawn_at(token * dim + at % dim) * factor;
            hold("embed", &x, at, f64::from(wanted), Within { abs: 0.0, rel: 0.0 });
        }
    })
}

/// x += y; out = x / sqrt(mean(x^2) + eps) * weight
fn rms_norm<'a, M: Machine>(machine: &'a M, shapes: &Shapes, is_fast: bool) -> Case<'a> {
    const EPS: f32 = 1e-6;
    let (n_rows, dim, dtype) = (shapes.n_rows, shapes.sizes.dim, dtype_of(is_fast));
    let x = Array::drawn(machine, Dtype::F32, n_rows * dim, 1, 1.0);
    let y = Array::drawn(machine, dtype, n_rows * dim, 2, 1.0);
    let weight = Array::drawn(machine, Dtype::F32, dim, 3, 1.0);
    let out = Array::unset(machine, dtype, n_rows * dim);
    let mut args = vec![x.arg(), y.arg(), weight.arg(), Arg::float(EPS), out.arg()];
    args.extend([dim, dim, dim].map(Arg::int));
    let kernel = if is_fast {
        args.push(Arg::int(dim));
        "rms_norm_fast_v1"
    } else {
        "rms_norm_v2"
    };
    let step = step(kernel, [n_rows, 1, 1], 256, args).sharing(dim * size_of::<f32>());
    let bytes = n_rows * dim * (8 + 2 * dtype.n_bytes());
    Case::new(vec![step], bytes, move || {
        for at in some_of(n_rows * dim) {
            let (row, i) = (at / dim, at % dim);
            let added = |i: usize| f64::from(x.drawn_at(row * dim + i) + y.drawn_at(row * dim + i));
            let mean = (0..dim).map(|i| added(i) * added(i)).sum::<f64>() / dim as f64;
            let scale = (mean + f64::from(EPS)).sqrt().recip();
            let wanted = added(i) * scale * f64::from(weight.drawn_at(i));
            hold("rms_norm's x", &x, at, added(i), Within { abs: 0.0, rel: 0.0 });
            hold("rms_norm", &out, at, wanted, Within { abs: 0.0, rel: rel_of(is_fast) });
        }
    })
}

/// gate = formula(gate) * up. Runs that follow find smaller numbers there, which take as long.
fn gated<'a, M: Machine>(
    machine: &'a M,
    shapes: &Shapes,
    formula: &str,
    is_fast: bool,
) -> Case<'a> {
    let (n_rows, dim, dtype) = (shapes.n_rows, shapes.sizes.ffn_dim, dtype_of(is_fast));
    let ld = 2 * dim;
    let gate_up = Array::drawn(machine, dtype, n_rows * ld, 1, 4.0);
    let mut args = vec![gate_up.arg(), gate_up.arg_at(dim)];
    args.extend([dim, ld].map(Arg::int));
    let (fast, block_cols) = if is_fast { ("fast_", 2048) } else { ("", 256) };
    let kernel = format!("{formula}_times_{fast}v1");
    let step = step(&kernel, [dim.div_ceil(block_cols), n_rows, 1], 256, args);
    let gate: fn(f64) -> f64 = match formula {
        "silu" => |x| x / (1.0 + (-x).exp()),
        _ => |x| {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + u.tanh())
        },
    };
    Case::new(vec![step], 3 * n_rows * dim * dtype.n_bytes(), move || {
        for at in some_of(n_rows * dim) {
            let at = at / dim * ld + at % dim;
            let [x, up] = [at, at + dim].map(|at| f64::from(gate_up.drawn_at(at)));
            // Where the gate is nearly shut, 1 + tanh is a difference.
            let within = Within { abs: 1e-5, rel: rel_of(is_fast) };
            hold(&kernel, &gate_up, at, gate(x) * up, within);
        }
    })
}

/// As many rows as a prefill has, where a few go on, so that it is the copying that is measured.
fn gather<'a, M: Machine>(machine: &'a M, shapes: &Shapes, is_fast: bool) -> Case<'a> {
    let (n_rows, dim, dtype) = (shapes.n_rows, shapes.sizes.dim, dtype_of(is_fast));
    let x = Array::drawn(machine, dtype, n_rows * dim, 1, 1.0);
    let idxs = Bytes::of_ints(machine, mixed(n_rows, n_rows));
    let out = Array::unset(machine, dtype, n_rows * dim);
    let args = vec![x.arg(), idxs.arg(), out.arg(), Arg::int(dim), Arg::int(dim)];
    let kernel = if is_fast { "gather_rows_fast_v1" } else { "gather_rows_v1" };
    let step = step(kernel, [n_rows, 1, 1], 256, args);
    Case::new(vec![step], 2 * n_rows * dim * dtype.n_bytes(), move || {
        let idxs = idxs.read_ints(n_rows);
        for at in some_of(n_rows * dim) {
            let wanted = x.drawn_at(idxs[at / dim] as usize * dim + at % dim);
            hold(kernel, &out, at, f64::from(wanted), Within { abs: 0.0, rel: 0.0 });
        }
    })
}

fn argmax<'a, M: Machine>(machine: &'a M, shapes: &Shapes) -> Case<'a> {
    let (n_rows, vocab) = (shapes.n_steps, shapes.sizes.vocab);
    let logits = Array::drawn(machine, Dtype::F32, n_rows * vocab, 1, 10.0);
    let found = Bytes::of_ints(machine, (0..n_rows).map(|_| vocab));
    let args = vec![logits.arg(), found.arg(), Arg::int(vocab), Arg::int(vocab)];
    let step = step("argmax_v2", [n_rows, 1, 1], 256, args);
    Case::new(vec![step], 4 * n_rows * vocab, move || {
        let found = found.read_ints(n_rows);
        for row in [0, n_rows / 2, n_rows - 1] {
            let at = |i: usize| logits.drawn_at(row * vocab + i);
            // The first of equals.
            let wanted = (0..vocab).reduce(|best, i| if at(i) > at(best) { i } else { best });
            assert_eq!(Some(found[row] as usize), wanted, "argmax, row {row}");
        }
    })
}

fn log_probability<'a, M: Machine>(machine: &'a M, shapes: &Shapes) -> Case<'a> {
    let (n_rows, vocab) = (shapes.n_steps, shapes.sizes.vocab);
    let logits = Array::drawn(machine, Dtype::F32, n_rows * vocab, 1, 10.0);
    let tokens = Bytes::of_ints(machine, mixed(n_rows, vocab));
    let found = Bytes::new(machine, &vec![0xff; 8 * n_rows]);
    let args = vec![logits.arg(), tokens.arg(), found.arg(), Arg::int(vocab), Arg::int(vocab)];
    let step = step("log_probability_v2", [n_rows, 1, 1], 256, args);
    Case::new(vec![step], 4 * n_rows * vocab, move || {
        let (found, tokens) = (found.read_f64(n_rows), tokens.read_ints(n_rows));
        for row in [0, n_rows / 2, n_rows - 1] {
            let at = |i: usize| f64::from(logits.drawn_at(row * vocab + i));
            let sum: f64 = (0..vocab).map(|i| (at(i) - 10.0).exp()).sum();
            let wanted = at(tokens[row] as usize) - 10.0 - sum.ln();
            let error = (found[row] - wanted).abs();
            assert!(error < 1e-5, "log_probability, row {row}: {}, wanted {wanted}", found[row]);
        }
    })
}
