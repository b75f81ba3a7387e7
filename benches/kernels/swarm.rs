//! The swarm's arithmetic on whole adapters: materialise, the step on weights, and what merges need.

use model_swarms::backend::cuda::driver::Arg;
use model_swarms::tensors::Dtype;
use rayon::prelude::*;

use super::case::{Case, Named, Shapes, Within, hold, some_of, step};
use crate::gpu::array::{Array, Bytes};
use crate::gpu::machine::Machine;

/// All of them.
pub fn cases<'a, M: Machine>(machine: &'a M, shapes: Shapes) -> Vec<Named<'a>> {
    vec![
        ("combine_f32".into(), Box::new(move || combine(machine, &shapes, Dtype::F32))),
        ("combine_bf16".into(), Box::new(move || combine(machine, &shapes, Dtype::BF16))),
        ("step".into(), Box::new(move || advance(machine, &shapes))),
        ("mix".into(), Box::new(move || mix(machine, &shapes))),
        ("gram".into(), Box::new(move || gram(machine, &shapes))),
    ]
}

/// A kernel's `double`.
fn double(value: f64) -> Arg {
    Arg::new(&[value.to_bits()], 8)
}

fn table_of<'a, M: Machine>(machine: &'a M, arrays: &[Array<M>]) -> Bytes<'a, M> {
    let bytes = arrays.iter().flat_map(|array| array.address_of(0).to_le_bytes());
    Bytes::new(machine, &bytes.collect::<Vec<u8>>())
}

/// out[p] = sum over i of c[p][i] expert[i]
fn combine<'a, M: Machine>(machine: &'a M, shapes: &Shapes, dtype: Dtype) -> Case<'a> {
    let Shapes { n_experts, n_particles, adapter_len: len, .. } = *shapes;
    let experts: Vec<Array<M>> =
        (0..n_experts).map(|i| Array::drawn(machine, dtype, len, 10 + i, 0.05)).collect();
    let table = table_of(machine, &experts);
    let coefficients = Array::drawn(machine, Dtype::F32, n_particles * n_experts, 1, 0.5);
    let stride = len.next_multiple_of(4);
    let out = Array::unset(machine, Dtype::F32, n_particles * stride);
    let kernel = if dtype == Dtype::F32 { "combine_f32_v2" } else { "combine_bf16_v2" };
    let args = vec![
        table.arg(),
        coefficients.arg(),
        out.arg(),
        Arg::int(n_experts),
        Arg::int(n_particles),
        Arg::long(len),
        Arg::long(stride),
    ];
    let step = step(kernel, [len.div_ceil(512), 1, 1], 128, args)
        .sharing(n_experts * 512 * size_of::<f32>());
    let bytes = len * (n_experts * dtype.n_bytes() + n_particles * size_of::<f32>());
    Case::new(vec![step], bytes, move || {
        let _ = &table; // the kernel reads it
        for at in some_of(n_particles * len) {
            let (p, e) = (at / len, at % len);
            // In the kernel's order, so to the bit.
            let wanted = experts.iter().enumerate().fold(0.0f32, |sum, (i, expert)| {
                coefficients.drawn_at(p * n_experts + i).mul_add(expert.drawn_at(e), sum)
            });
            hold("combine", &out, p * stride + e, f64::from(wanted), Within { abs: 0.0, rel: 0.0 });
        }
    })
}

/// v = a_v v + a_p (p - x) + a_g (g - x) + a_w (x - g_w); x += step v
fn advance<'a, M: Machine>(machine: &'a M, shapes: &Shapes) -> Case<'a> {
    const WEIGHTS: [f64; 4] = [0.3, 0.2, 0.4, -0.1]; // later steps stay where numbers are normal
    const LENGTH: f64 = 0.7;
    let Shapes { n_particles, adapter_len: len, .. } = *shapes;
    let stride = len.next_multiple_of(4);
    let swarm = |stream| Array::drawn(machine, Dtype::F32, n_particles * stride, stream, 0.05);
    let (x, v, p) = (swarm(1), swarm(2), swarm(3));
    let (g, g_w) = (
        Array::drawn(machine, Dtype::F32, len, 4, 0.05),
        Array::drawn(machine, Dtype::F32, len, 5, 0.05),
    );
    let rows: Vec<u8> = (0..n_particles).flat_map(|_| WEIGHTS).flat_map(f64::to_le_bytes).collect();
    let weights = Bytes::new(machine, &rows);
    let mut args = vec![x.arg(), v.arg(), p.arg(), g.arg(), g_w.arg(), weights.arg()];
    args.extend([double(LENGTH), Arg::long(len), Arg::long(stride)]);
    let step = step("step_v2", [len.div_ceil(1024), n_particles, 1], 256, args);
    // x, v and p read, x and v written; g and g_w once for all particles.
    let bytes = size_of::<f32>() * len * (5 * n_particles + 2);
    Case::new(vec![step], bytes, move || {
        let _ = &weights; // the kernel reads it
        for at in some_of(n_particles * len) {
            let (i, e) = (at / len, at % len);
            let at = i * stride + e;
            let [x0, v0, p0] = [&x, &v, &p].map(|array| f64::from(array.drawn_at(at)));
            let [g0, w0] = [&g, &g_w].map(|array| f64::from(array.drawn_at(e)));
            let [a_v, a_p, a_g, a_w] = WEIGHTS;
            let moved = a_v * v0 + a_p * (p0 - x0) + a_g * (g0 - x0) + a_w * (x0 - w0);
            let exact = Within { abs: 0.0, rel: 0.0 };
            hold("step's v", &v, at, f64::from(moved as f32), exact);
            hold("step's x", &x, at, f64::from((x0 + LENGTH * moved) as f32), exact);
        }
    })
}

/// out = share_a a + share_b b
fn mix<'a, M: Machine>(machine: &'a M, shapes: &Shapes) -> Case<'a> {
    let len = shapes.adapter_len;
    let draw = |stream| Array::drawn(machine, Dtype::F32, len, stream, 0.05);
    let (a, b, out) = (draw(1), draw(2), Array::unset(machine, Dtype::F32, len));
    let shares = [0.3, 0.7];
    let args =
        vec![a.arg(), b.arg(), double(shares[0]), double(shares[1]), out.arg(), Arg::long(len)];
    let step = step("mix_v1", [len.div_ceil(256), 1, 1], 256, args);
    Case::new(vec![step], 12 * len, move || {
        for e in some_of(len) {
            let sum = shares[0] * f64::from(a.drawn_at(e)) + shares[1] * f64::from(b.drawn_at(e));
            hold("mix", &out, e, f64::from(sum as f32), Within { abs: 0.0, rel: 0.0 });
        }
    })
}

/// Inner products of every two of the experts.
fn gram<'a, M: Machine>(machine: &'a M, shapes: &Shapes) -> Case<'a> {
    let Shapes { n_experts: n, adapter_len: len, .. } = *shapes;
    let experts: Vec<Array<M>> =
        (0..n).map(|i| Array::drawn(machine, Dtype::F32, len, 10 + i, 0.05)).collect();
    let table = table_of(machine, &experts);
    let (n_pairs, n_pieces) = (n * (n + 1) / 2, len.div_ceil(1024));
    let pieces = Bytes::new(machine, &vec![0xff; 8 * n_pairs * n_pieces]);
    let out = Bytes::new(machine, &vec![0xff; 8 * n * n]);
    let no_base = Arg::address(0);
    let args = vec![table.arg(), no_base, pieces.arg(), Arg::int(n), Arg::long(len)];
    let shared_bytes = (n + 1) * 1024 * size_of::<f32>();
    let steps = vec![
        step("gram_pieces_v2", [n_pieces, 1, 1], 256, args).sharing(shared_bytes),
        step(
            "gram_sum_v2",
            [n_pairs, 1, 1],
            1,
            vec![pieces.arg(), out.arg(), Arg::int(n), Arg::int(n_pieces)],
        ),
    ];
    Case::new(steps, 4 * n * len, move || {
        let _ = (&table, &pieces); // the kernels read them
        let found = out.read_f64(n * n);
        for (i, j) in [(0, 0), (0, n - 1), (n - 1, n - 1)] {
            let product =
                |e: usize| f64::from(experts[i].drawn_at(e)) * f64::from(experts[j].drawn_at(e));
            let wanted: f64 = (0..len).into_par_iter().map(product).sum();
            // Of a sum of magnitudes that is below len * 0.05^2.
            let most = 1e-12 * 0.05 * 0.05 * len as f64;
            let ours = found[i * n + j];
            assert!((ours - wanted).abs() <= most, "gram [{i}][{j}]: {ours}, wanted {wanted}");
        }
    })
}
