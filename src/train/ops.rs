//! Gradients of the row operations whose forward side stands in `backend::cpu::ops`.
//!
//! Each takes the gradient of its result and gives that of its arguments. Reductions keep sixteen
//! partial sums, as in the backend.

use crate::backend::cpu::for_each_isa;
use crate::backend::cpu::math::exp;
use crate::backend::cpu::ops::{LANES, fold_sum};

/// The sum of `f(i)`.
#[inline(always)]
fn sum_of(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for first in (0..n / LANES * LANES).step_by(LANES) {
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane += f(first + i);
        }
    }
    for (lane, i) in lanes.iter_mut().zip(n / LANES * LANES..n) {
        *lane += f(i);
    }
    fold_sum(lanes)
}

for_each_isa! {
    /// Of `y = w x r` with `r = 1 / sqrt(mean(x^2) + eps)`, all of length dim:
    /// `d_x += r w d_y - x r^3 mean(w d_y x)` and `d_w += d_y x r`.
    pub fn rms_norm_back(
        x: &[f32],
        weight: &[f32],
        eps: f32,
        d_y: &[f32],
        d_x: &mut [f32],
        d_weight: &mut [f32],
    ) {
        let dim = weight.len();
        let (x, d_y) = (&x[..dim], &d_y[..dim]);
        let (d_x, d_weight) = (&mut d_x[..dim], &mut d_weight[..dim]);
        let inverse = 1.0 / (sum_of(dim, |i| x[i] * x[i]) / dim as f32 + eps).sqrt();
        let mean = sum_of(dim, |i| weight[i] * d_y[i] * x[i]) / dim as f32;
        let along = mean * inverse * inverse * inverse;
        for i in 0..dim {
            d_x[i] += inverse * weight[i] * d_y[i] - along * x[i];
            d_weight[i] += d_y[i] * x[i] * inverse;
        }
    }
}

for_each_isa! {
    /// Of `y = gelu(gate) * up`; the gradients take the places of `gate` and `up`. With
    /// gelu(x) = x s, s = 1 / (1 + e^-z) and z = 2 sqrt(2/pi) (x + 0.044715 x^3):
    /// gelu'(x) = s + x s (1 - s) z'.
    pub fn gelu_tanh_times_back(gate: &mut [f32], up: &mut [f32], d_y: &[f32]) {
        const TWO_SQRT_2_OVER_PI: f32 = 1.595_769_2;
        for ((gate, up), d_y) in gate.iter_mut().zip(up).zip(d_y) {
            let x = *gate;
            let square = 0.044_715 * x * x;
            let s = 1.0 / (1.0 + exp(-TWO_SQRT_2_OVER_PI * square.mul_add(x, x)));
            let slope = TWO_SQRT_2_OVER_PI * square.mul_add(3.0, 1.0);
            *gate = d_y * *up * (x * s * (1.0 - s)).mul_add(slope, s);
            *up = d_y * x * s;
        }
    }
}

for_each_isa! {
    /// Of `shares = softmax(factor * scores)`: `d = factor * shares * (d - sum(d * shares))`, in
    /// place.
    pub fn softmax_back(shares: &[f32], factor: f32, d: &mut [f32]) {
        let d = &mut d[..shares.len()];
        let mean = sum_of(shares.len(), |i| d[i] * shares[i]);
        for (d, share) in d.iter_mut().zip(shares) {
            *d = factor * share * (*d - mean);
        }
    }
}
