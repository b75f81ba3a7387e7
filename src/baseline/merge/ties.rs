//! TIES: trim each expert's offset from the base, elect a sign, and merge those that agree.
//!
//! ```text
//! d_i = x_i - b, but 0 outside the largest int(density * numel) magnitudes
//! S = sum_i w_i d_i    or    sum_i sign(w_i d_i);      elected = + if S >= 0, else -
//! out = b + (sum of the w_i d_i of the elected sign) / (sum of their w_i, or 1)
//! ```
//!
//! As mergekit has it: the vote is among weighted offsets (in the TIES paper, unweighted ones) and
//! the trimming is per tensor. Of equal magnitudes the earlier elements stay.

use rayon::prelude::*;

use super::Tensors;
use super::linear::Divide;

/// Elements that one thread merges at a time.
const BLOCK: usize = 1 << 14;

/// What a vote on the sign counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// The weighted offsets themselves.
    Sum,
    /// One for each expert, by the sign of its weighted offset.
    Count,
}

/// The merged tensor. `densities` and `weights` have one for each expert.
pub fn ties(
    tensors: Tensors,
    weights: &[f64],
    densities: &[f64],
    election: Election,
    divide: Divide,
) -> Vec<f32> {
    assert_eq!(densities.len(), tensors.experts.len(), "one density for each tensor");
    let trim = |(expert_idx, &density): (usize, &f64)| trimmed(tensors, expert_idx, density);
    let kept: Vec<Option<Vec<bool>>> = densities.par_iter().enumerate().map(trim).collect();
    let factors = vec![1.0; densities.len()];
    consensus(tensors, &Offsets { kept: &kept, factors: &factors }, weights, election, divide)
}

/// Which elements of an expert's offset are among its largest: at least one, and where `density` is
/// 1 or more all, for which `None` stands.
pub fn trimmed(tensors: Tensors, expert_idx: usize, density: f64) -> Option<Vec<bool>> {
    let len = tensors.len();
    if density >= 1.0 || len == 0 {
        return None;
    }
    let n_kept = ((density * len as f64) as usize).clamp(1, len);
    let magnitude = |i: usize| tensors.offset(expert_idx, i).abs();
    let mut order: Vec<usize> = (0..len).collect();
    order.select_nth_unstable_by(n_kept - 1, |&left, &right| {
        magnitude(right).total_cmp(&magnitude(left)).then(left.cmp(&right))
    });
    let mut kept = vec![false; len];
    order[..n_kept].iter().for_each(|&i| kept[i] = true);
    Some(kept)
}

/// What is left of each expert's offset.
pub(super) struct Offsets<'a> {
    /// Which elements count; all where `None`.
    pub kept: &'a [Option<Vec<bool>>],
    /// What each expert's offset is multiplied by.
    pub factors: &'a [f64],
}

/// The vote, and the sum of those that agree with it.
pub(super) fn consensus(
    tensors: Tensors,
    offsets: &Offsets,
    weights: &[f64],
    election: Election,
    divide: Divide,
) -> Vec<f32> {
    let n_experts = tensors.experts.len();
    assert_eq!(weights.len(), n_experts, "one weight for each tensor");
    let value = |i: usize, weighted: &mut [f64]| {
        for (expert_idx, weighted) in weighted.iter_mut().enumerate() {
            let is_kept = offsets.kept[expert_idx].as_ref().is_none_or(|kept| kept[i]);
            let offset = offsets.factors[expert_idx] * tensors.offset(expert_idx, i);
            *weighted = if is_kept { weights[expert_idx] * offset } else { 0.0 };
        }
        let vote: f64 = match election {
            Election::Sum => weighted.iter().sum(),
            Election::Count => weighted.iter().map(|&value| sign(value)).sum(),
        };
        let elected = if vote >= 0.0 { 1.0 } else { -1.0 };
        let (mut mix, mut weight) = (0.0, 0.0);
        for (value, w) in weighted.iter().zip(weights) {
            if sign(*value) == elected {
                mix += value;
                weight += w;
            }
        }
        let divisor = match divide {
            Divide::ByWeights if weight != 0.0 => weight,
            _ => 1.0,
        };
        (tensors.base_at(i) + mix / divisor) as f32
    };
    let mut out = vec![0.0; tensors.len()];
    out.par_chunks_mut(BLOCK).enumerate().for_each(|(block_idx, out)| {
        let mut weighted = vec![0.0; n_experts]; // w_i d_i of one element
        for (i, out) in out.iter_mut().enumerate() {
            *out = value(block_idx * BLOCK + i, &mut weighted);
        }
    });
    out
}

/// -1, 0 or 1: what is 0 agrees with nobody.
fn sign(value: f64) -> f64 {
    match value {
        value if value > 0.0 => 1.0,
        value if value < 0.0 => -1.0,
        _ => 0.0,
    }
}
