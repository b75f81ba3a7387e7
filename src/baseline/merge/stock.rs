//! Model stock: the mean of the experts, drawn towards the base by how much they disagree.
//!
//! ```text
//! o_i = x_i - b;   c = mean over i < j of cos(o_i, o_j);   t = N c / (1 + (N - 1) c)
//! out = t mean(x_i) + (1 - t) b
//! ```
//!
//! As mergekit has it, which is where the mean of the cosines comes from: Jang et al. have one
//! angle. t is at most 1 and may be negative; where it is singular, at c = -1 / (N - 1), what is
//! left is the base.

use super::Tensors;
use super::slerp::dot;

/// What has a cosine, and so a t, of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// A tensor as a whole.
    Tensor,
    /// Each of its rows: mergekit's `filter_wise`.
    Row,
}

/// Norms of offsets count as this at least, in the product of two.
const LEAST_NORMS: f64 = 1e-6;
/// Nearer to 0 than this, the denominator of t is singular.
const SINGULAR: f64 = 1e-6;

/// The merged tensor, whose parts of `part_len` elements have a t of their own: a row's length, or
/// the tensor's. At least two experts.
pub fn model_stock(tensors: Tensors, part_len: usize) -> Vec<f32> {
    let n_experts = tensors.experts.len();
    let mut out = Vec::with_capacity(tensors.len());
    let parts = (0..tensors.len()).step_by(part_len.max(1));
    for part in parts.map(|start| start..(start + part_len).min(tensors.len())) {
        let product = |left: usize, right: usize| match tensors.base {
            None => {
                dot(&tensors.experts[left][part.clone()], &tensors.experts[right][part.clone()])
            }
            Some(_) => {
                part.clone().map(|i| tensors.offset(left, i) * tensors.offset(right, i)).sum()
            }
        };
        let share = stock_share(n_experts, product) / n_experts as f64;
        out.extend(part.clone().map(|i| {
            let sum: f64 = (0..n_experts).map(|expert_idx| tensors.offset(expert_idx, i)).sum();
            (tensors.base_at(i) + share * sum) as f32
        }));
    }
    out
}

/// t, given the inner products of the offsets of experts i and j.
pub fn stock_share(n_experts: usize, product: impl Fn(usize, usize) -> f64) -> f64 {
    assert!(n_experts >= 2, "model stock of {n_experts} experts");
    let norms: Vec<f64> = (0..n_experts).map(|idx| product(idx, idx).max(0.0).sqrt()).collect();
    let mut sum = 0.0;
    for right in 0..n_experts {
        for left in 0..right {
            let norms = (norms[left] * norms[right]).max(LEAST_NORMS);
            sum += (product(left, right) / norms).clamp(-1.0, 1.0);
        }
    }
    let n = n_experts as f64;
    let cosine = sum / (n * (n - 1.0) / 2.0);
    let denominator = 1.0 + (n - 1.0) * cosine;
    if denominator.abs() < SINGULAR { 0.0 } else { n * cosine / denominator }
}
