//! Row operations of the forward pass: norms, activations, rotary embedding, what logits say.
//!
//! Written once over plain arrays, compiled for each instruction set, the same bits from each.

use super::math::{exp, ln_f64};
use super::{Isa, for_each_isa};

/// Partial sums of a reduction along a row.
pub const LANES: usize = 16;

/// Folds the partial sums of a reduction: 16 -> 8 -> 4 -> 2 -> 1.
#[inline(always)]
pub fn fold_sum(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The largest element; the lanes make no difference to a maximum.
#[inline(always)]
pub fn max_of(row: &[f32]) -> f32 {
    let (chunks, tail) = row.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    let mut max = f32::NEG_INFINITY;
    for x in lanes.iter().chain(tail) {
        max = if *x > max { *x } else { max };
    }
    max
}

for_each_isa! {
    /// RMSNorm: `out = x / sqrt(mean(x^2) + eps) * weight`, all of length dim; the weight already
    /// holds Gemma's added one.
    pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let dim = weight.len();
        let (x, out) = (&x[..dim], &mut out[..dim]);
        let mut lanes = [0.0f32; LANES];
        let (chunks, tail) = x.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane = x.mul_add(*x, *lane);
            }
        }
        for (lane, x) in lanes.iter_mut().zip(tail) {
            *lane = x.mul_add(*x, *lane);
        }
        let inverse = 1.0 / (fold_sum(lanes) / dim as f32 + eps).sqrt();
        for i in 0..dim {
            out[i] = x[i] * inverse * weight[i];
        }
    }
}

for_each_isa! {
    /// GeGLU: `gate = gelu_tanh(gate) * up`. With u = sqrt(2/pi) (x + 0.044715 x^3),
    /// 0.5 x (1 + tanh u) = x / (1 + e^(-2u)).
    pub fn gelu_tanh_times(gate: &mut [f32], up: &[f32]) {
        const MINUS_TWO_SQRT_2_OVER_PI: f32 = -1.595_769_2;
        for (gate, up) in gate.iter_mut().zip(up) {
            let x = *gate;
            let inner = (x * x).mul_add(0.044_715 * x, x);
            *gate = x / (1.0 + exp(inner * MINUS_TWO_SQRT_2_OVER_PI)) * up;
        }
    }
}

for_each_isa! {
    /// SwiGLU: `gate = silu(gate) * up` with silu(x) = x / (1 + e^-x).
    pub fn silu_times(gate: &mut [f32], up: &[f32]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            let x = *gate;
            *gate = x / (1.0 + exp(-x)) * up;
        }
    }
}

for_each_isa! {
    /// `x += y`, elementwise.
    pub fn add(x: &mut [f32], y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    }
}

for_each_isa! {
    /// `x *= factor`, elementwise.
    pub fn scale(x: &mut [f32], factor: f32) {
        for x in x.iter_mut() {
            *x *= factor;
        }
    }
}

for_each_isa! {
    /// Rotary embedding of one head in place: the halves (a, b) become (a cos - b sin, b cos + a
    /// sin); `cos` and `sin` have head_dim / 2 values.
    pub fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
        let half = cos.len();
        let (first, second) = head.split_at_mut(half);
        let (sin, second) = (&sin[..half], &mut second[..half]);
        for i in 0..half {
            let (a, b) = (first[i], second[i]);
            first[i] = a.mul_add(cos[i], -(b * sin[i]));
            second[i] = b.mul_add(cos[i], a * sin[i]);
        }
    }
}

for_each_isa! {
    /// Softmax numerators in place: `scores = e^(factor * scores - max)`; returns their sum.
    pub fn softmax_numerators(scores: &mut [f32], factor: f32) -> f32 {
        let max = max_of(scores) * factor;
        let mut lanes = [0.0f32; LANES];
        let (chunks, tail) = scores.as_chunks_mut::<LANES>();
        for chunk in chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *x = exp(x.mul_add(factor, -max));
                *lane += *x;
            }
        }
        for (lane, x) in lanes.iter_mut().zip(tail) {
            *x = exp(x.mul_add(factor, -max));
            *lane += *x;
        }
        fold_sum(lanes)
    }
}

/// `logit[token] - ln(sum of e^logit)`; NaN where the sum is no normal number.
pub fn ln_probability(isa: Isa, logits: &[f32], token: u32) -> f64 {
    let max = row_max(isa, logits);
    let sum: f64 = logits.iter().map(|logit| f64::from(exp(logit - max))).sum();
    if !sum.is_normal() {
        return f64::NAN;
    }
    f64::from(logits[token as usize]) - f64::from(max) - ln_f64(sum)
}

/// The index of the largest value; the lowest index wins a tie.
pub fn argmax(isa: Isa, row: &[f32]) -> usize {
    let max = row_max(isa, row);
    row.iter().position(|x| *x == max).unwrap_or(0)
}

for_each_isa! {
    /// The largest element of a row.
    pub fn row_max(row: &[f32]) -> f32 {
        max_of(row)
    }
}
