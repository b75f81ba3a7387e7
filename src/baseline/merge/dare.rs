//! DARE before TIES: offsets are dropped at random and the rest rescaled, then a sign is elected.
//!
//! ```text
//! d_i = rescaled(m_i (x_i - b)),   m_i = 1 with probability density, for each element
//! ```
//!
//! The vote and the sum are those of `ties`. Masks are given: from a seed ([`drawn_mask`]) or from
//! elsewhere.

use sha2::{Digest, Sha256};

use super::Tensors;
use super::linear::Divide;
use super::ties::{Election, Offsets, consensus};
use crate::rng::{Draws, Purpose};

/// How what is left makes up for what was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rescale {
    /// Divided by the density: mergekit up to 0.0.6, which is that of the paper's time.
    ByDensity,
    /// Multiplied by sum |d| before over sum |d| after: mergekit from 0.1 on. Where either sum is
    /// below 1e-7, left alone.
    ByL1Norm,
}

/// The merged tensor. `masks` has one for each expert, `None` where nothing is dropped; so have
/// `densities` and `weights`.
pub fn dare_ties(
    tensors: Tensors,
    weights: &[f64],
    densities: &[f64],
    masks: &[Option<Vec<bool>>],
    rescale: Rescale,
    election: Election,
    divide: Divide,
) -> Vec<f32> {
    let n_experts = tensors.experts.len();
    assert_eq!((masks.len(), densities.len()), (n_experts, n_experts), "masks and densities");
    let factor = |(expert_idx, mask): (usize, &Option<Vec<bool>>)| match (mask, rescale) {
        (None, _) => 1.0,
        (Some(_), Rescale::ByDensity) => 1.0 / densities[expert_idx],
        (Some(mask), Rescale::ByL1Norm) => l1_factor(tensors, expert_idx, mask),
    };
    let factors: Vec<f64> = masks.iter().enumerate().map(factor).collect();
    consensus(tensors, &Offsets { kept: masks, factors: &factors }, weights, election, divide)
}

/// Which of `len` elements an expert keeps in the tensor `name`: each with probability `density`,
/// and all, for which `None` stands, where it is 1 or more.
///
/// The draws have an address of their own for each (seed, tensor, expert): the key is the first 8
/// bytes of SHA-256 over the seed (8 bytes, little-endian) and the tensor's name, the expert is the
/// particle.
pub fn drawn_mask(
    seed: u64,
    name: &str,
    expert_idx: usize,
    density: f64,
    len: usize,
) -> Option<Vec<bool>> {
    if density >= 1.0 {
        return None;
    }
    let digest = Sha256::new_with_prefix(seed.to_le_bytes()).chain_update(name).finalize();
    let mut key = [0; 8];
    key.copy_from_slice(&digest[..8]);
    let draws = Draws::new(u64::from_le_bytes(key));
    let mut stream = draws.stream(Purpose::Mask, 0, expert_idx);
    Some((0..len).map(|_| stream.uniform() < density).collect())
}

fn l1_factor(tensors: Tensors, expert_idx: usize, mask: &[bool]) -> f64 {
    let (mut before, mut after) = (0.0, 0.0);
    for (i, &is_kept) in mask.iter().enumerate() {
        let magnitude = tensors.offset(expert_idx, i).abs();
        before += magnitude;
        after += if is_kept { magnitude } else { 0.0 };
    }
    if before < 1e-7 || after < 1e-7 { 1.0 } else { before / after }
}
