//! Weighted sums: soups, LoraHub's compositions, and the arithmetic of the authors' program.
//!
//! ```text
//! out = b + sum_i w_i (x_i - b)          or the sum over sum_i w_i
//! ```
//!
//! With b = 0, or weights that sum to 1, this is sum_i w_i x_i.

use super::Tensors;
use crate::tensors::Dtype;

/// What a weighted sum is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divide {
    /// Nothing: weights count as they are given.
    ByNothing,
    /// The sum of the weights that took part.
    ByWeights,
}

/// The weighted sum of the tensors; `weights` has one for each, and a sum that is not 0 where it is
/// divided by.
pub fn linear(tensors: Tensors, weights: &[f64], divide: Divide) -> Vec<f32> {
    assert_eq!(weights.len(), tensors.experts.len(), "one weight for each tensor");
    let divisor = match divide {
        Divide::ByNothing => 1.0,
        Divide::ByWeights => weights.iter().sum(),
    };
    let value = |i| {
        let offsets = (0..weights.len()).map(|expert_idx| tensors.offset(expert_idx, i));
        let sum: f64 = weights.iter().zip(offsets).map(|(w, offset)| w * offset).sum();
        (tensors.base_at(i) + sum / divisor) as f32
    };
    (0..tensors.len()).map(value).collect()
}

/// The weighted sum as the authors' `lora_merge` has it: weights in f32, and every product and
/// every sum rounded to the stored type. To be given tensors whose values are of that type.
///
/// ```text
/// acc = round(w_0 x_0);    acc = round(acc + round(w_i x_i))
/// ```
pub fn authors_linear(tensors: &[&[f32]], weights: &[f64], dtype: Dtype) -> Vec<f32> {
    assert_eq!(weights.len(), tensors.len(), "one weight for each tensor");
    let mut terms = tensors.iter().zip(weights.iter().map(|&weight| weight as f32));
    let Some((first, weight)) = terms.next() else { return Vec::new() };
    let mut sums: Vec<f32> = first.iter().map(|x| dtype.round(weight * x)).collect();
    for (tensor, weight) in terms {
        for (sum, x) in sums.iter_mut().zip(*tensor) {
            *sum = dtype.round(*sum + dtype.round(weight * x));
        }
    }
    sums
}
