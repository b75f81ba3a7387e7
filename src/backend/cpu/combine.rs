//! Weighted sums of experts, for all particles in one pass: the swarm's arithmetic over mapped
//! adapters.
//!
//! `out[p][e] = sum over i of c[p][i] * expert[i][e]`, experts in order, one fused multiply-add
//! each. Work goes block by block: a block of every expert is widened into the first-level cache
//! once and then used by all particles, so memory sees each expert read once and each result
//! written once: (n + N) adapter-sized streams. Results too large for the caches are written past
//! them, which spares reading the lines that are about to be overwritten.

use rayon::prelude::*;

use super::Isa;
use super::buffer::Buffer;
use super::for_each_isa;

/// Elements of a block: ten experts' blocks fill half of a 48 KiB first-level cache.
const BLOCK: usize = 512;

/// Blocks that one thread works through without asking for more.
const RUN: usize = 64;

/// Results of more bytes than this together are written past the caches.
const STREAM_FROM: usize = 32 << 20;

/// Reads elements `start..` of an expert, widened to f32: `(expert index, start, values)`.
pub type ReadExpert<'a> = dyn Fn(usize, usize, &mut [f32]) + Sync + 'a;

/// Fills every `outs[p]` with the sum of the experts weighted by `coefficients[p]`, all of one
/// length.
pub fn combine(isa: Isa, read: &ReadExpert, coefficients: &[Vec<f32>], outs: &mut [Vec<f32>]) {
    assert_eq!(coefficients.len(), outs.len(), "a row of coefficients for each result");
    let len = outs.first().map_or(0, Vec::len);
    assert!(outs.iter().all(|out| out.len() == len), "results of different lengths");
    let n_experts = coefficients.first().map_or(0, Vec::len);
    let store = if outs.len() * len * size_of::<f32>() > STREAM_FROM { isa } else { Isa::Scalar };

    // Cut every result at the same places; a job is the same piece of each.
    let mut pieces: Vec<_> = outs.iter_mut().map(|out| out.chunks_mut(BLOCK * RUN)).collect();
    let jobs: Vec<Vec<&mut [f32]>> = (0..len.div_ceil(BLOCK * RUN))
        .map(|_| pieces.iter_mut().filter_map(Iterator::next).collect())
        .collect();
    jobs.into_par_iter().enumerate().for_each(|(job_idx, mut job)| {
        let mut experts = Buffer::zeros(n_experts * BLOCK);
        let mut sums = Buffer::zeros(BLOCK);
        let job_len = job[0].len();
        for first in (0..job_len).step_by(BLOCK) {
            let n_here = BLOCK.min(job_len - first);
            for i in 0..n_experts {
                read(i, job_idx * BLOCK * RUN + first, &mut experts[i * BLOCK..][..n_here]);
            }
            for (row, out) in coefficients.iter().zip(&mut job) {
                weighted_sum(isa, row, &experts, &mut sums);
                store_block(store, &sums[..n_here], &mut out[first..][..n_here]);
            }
        }
        fence(store);
    });
}

for_each_isa! {
    fn weighted_sum(coefficients: &[f32], experts: &[f32], sums: &mut [f32]) {
        const LANES: usize = 64;
        for first in (0..BLOCK).step_by(LANES) {
            let mut lanes = [0.0f32; LANES];
            for (i, c) in coefficients.iter().enumerate() {
                let values = &experts[i * BLOCK + first..][..LANES];
                for (lane, value) in lanes.iter_mut().zip(values) {
                    *lane = c.mul_add(*value, *lane);
                }
            }
            sums[first..first + LANES].copy_from_slice(&lanes);
        }
    }
}

/// Copies a block to its place: past the caches unless `store` is `Scalar`.
fn store_block(store: Isa, from: &[f32], to: &mut [f32]) {
    match store {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` other than `Scalar` exists only where the machine has it.
        Isa::Avx512 | Isa::Avx2 => unsafe { stream(from, to) },
        _ => to.copy_from_slice(from),
    }
}

/// # Safety
/// The machine has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn stream(from: &[f32], to: &mut [f32]) {
    use std::arch::x86_64::{_mm256_loadu_ps, _mm256_stream_ps};
    let n_before = to.as_ptr().align_offset(32).min(to.len());
    let (from_before, from) = from.split_at(n_before);
    let (to_before, to) = to.split_at_mut(n_before);
    to_before.copy_from_slice(from_before);
    let (from, from_after) = from.as_chunks::<8>();
    let (to, to_after) = to.as_chunks_mut::<8>();
    for (from, to) in from.iter().zip(to) {
        // SAFETY: both are 8 values, and `to` is aligned to 32 bytes after the split above.
        unsafe { _mm256_stream_ps(to.as_mut_ptr(), _mm256_loadu_ps(from.as_ptr())) };
    }
    to_after.copy_from_slice(from_after);
}

/// Makes streamed stores visible before other threads are told that the work is done.
fn fence(store: Isa) {
    #[cfg(target_arch = "x86_64")]
    if store != Isa::Scalar {
        // SAFETY: every x86-64 machine has SSE.
        unsafe { std::arch::x86_64::_mm_sfence() };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = store;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this fails, a materialised adapter is not the weighted sum of its experts, or depends on
    /// the instruction set.
    #[test]
    fn sums_equal_the_plain_loop_bit_for_bit() {
        let expert = |i: usize, e: usize| ((i * 7919 + e * 104_729) % 1000) as f32 * 1e-3 - 0.5;
        let read = |i: usize, start: usize, values: &mut [f32]| {
            for (at, value) in values.iter_mut().enumerate() {
                *value = expert(i, start + at);
            }
        };
        for len in [0, 1, BLOCK - 1, BLOCK, BLOCK * RUN + 1, 3_000_000] {
            for isa in [Isa::detect(), Isa::Scalar] {
                if isa == Isa::Scalar && len > 1 << 20 {
                    continue;
                }
                let coefficients = vec![vec![0.3, -1.2, 1.9], vec![1.0, 0.0, 0.0], vec![0.1; 3]];
                let mut outs = vec![vec![0.0; len]; 3];
                combine(isa, &read, &coefficients, &mut outs);
                for (row, out) in coefficients.iter().zip(&outs) {
                    for (e, ours) in out.iter().enumerate() {
                        let plain = (0..3).fold(0.0f32, |sum, i| row[i].mul_add(expert(i, e), sum));
                        assert_eq!(ours.to_bits(), plain.to_bits(), "{isa:?} element {e} of {len}");
                    }
                }
            }
        }
    }
}
