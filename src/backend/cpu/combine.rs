//! Weighted sums of experts, for all particles in one pass: the swarm's arithmetic over mapped
//! adapters.
//!
//! `out[p][e] = sum over i of c[p][i] * expert[i][e]`, experts in order, one fused multiply-add
//! each. Memory sees each expert read once and each result written once: (n + N) adapter-sized
//! streams. What made it fast, in the order of its worth:
//! - Results are written past the caches where they are too large for them, which spares reading
//!   the lines that are about to be overwritten; whole lines at a time, or the memory writes each
//!   twice.
//! - Blocks are small, two lines of every stream: so reads and writes alternate every few
//!   nanoseconds and both are always under way. With blocks of 2 KiB, half of the bandwidth is
//!   lost.
//! - Four particles are summed at once, so that a value of an expert is loaded once for all of
//!   them.

use std::ops::Range;

use rayon::prelude::*;

use super::Isa;
use super::for_each_isa;
use crate::tensors::Tensor;

/// Elements of a block: two cache lines of a result.
const BLOCK: usize = 32;

/// Particles that are summed at once: with `BLOCK`, eight registers of AVX-512.
const GROUP: usize = 4;

/// Elements that one thread works through without asking for more, at most.
const JOB: usize = 1 << 15;

/// Results of more bytes than this together are written past the caches.
const STREAM_FROM: usize = 32 << 20;

/// Coefficients of a group of particles for each expert: (n_experts, GROUP), zero beyond the last.
type Rows = Vec<[f32; GROUP]>;

/// Fills every `outs[p]` with the sum of the experts weighted by `coefficients[p]`.
///
/// `tensors` are the experts' weights, tensor by tensor in the order in which they make up a
/// result; of each tensor, every expert's. Results that begin on cache lines are made fastest.
pub fn combine(
    isa: Isa,
    tensors: &[Vec<Tensor>],
    coefficients: &[Vec<f32>],
    outs: Vec<&mut [f32]>,
) {
    assert_eq!(coefficients.len(), outs.len(), "a row of coefficients for each result");
    let Some(len) = outs.first().map(|out| out.len()) else { return };
    assert!(outs.iter().all(|out| out.len() == len), "results of different lengths");
    let n_experts = coefficients[0].len();
    let tensor_len = |experts: &Vec<Tensor>| {
        assert_eq!(experts.len(), n_experts, "a tensor of each expert");
        let first = experts.first().map_or(0, Tensor::len);
        assert!(experts.iter().all(|tensor| tensor.len() == first), "tensors of different lengths");
        first
    };
    assert_eq!(tensors.iter().map(tensor_len).sum::<usize>(), len, "tensors make up a result");

    let groups = coefficients.chunks(GROUP).map(|rows| {
        let column = |i| std::array::from_fn(|p| rows.get(p).map_or(0.0, |row: &Vec<f32>| row[i]));
        (0..n_experts).map(column).collect()
    });
    let groups: Vec<Rows> = groups.collect();
    let stores = if outs.len() * len * size_of::<f32>() > STREAM_FROM {
        Stores::PastTheCaches
    } else {
        Stores::Plain
    };
    jobs(tensors, outs)
        .into_par_iter()
        .for_each(|job| run(isa, &job.experts, &groups, job.outs, stores));
}

/// The same stretch of every expert and of every result.
struct Job<'a> {
    experts: Vec<Tensor<'a>>,
    outs: Vec<&'a mut [f32]>,
}

/// Cuts tensors and results into jobs.
fn jobs<'a>(tensors: &[Vec<Tensor<'a>>], mut outs: Vec<&'a mut [f32]>) -> Vec<Job<'a>> {
    let mut jobs = Vec::new();
    for experts in tensors {
        let tensor_len = experts.first().map_or(0, Tensor::len);
        for start in (0..tensor_len).step_by(JOB) {
            let n_here = JOB.min(tensor_len - start);
            let here = outs.iter_mut().map(|out| {
                let (here, rest) = std::mem::take(out).split_at_mut(n_here);
                *out = rest;
                here
            });
            let outs = here.collect();
            let experts = experts.iter().map(|tensor| tensor.part(start, n_here)).collect();
            jobs.push(Job { experts, outs });
        }
    }
    jobs
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stores {
    /// Into the caches.
    Plain,
    /// Past them, where results begin and end on cache lines together.
    PastTheCaches,
}

fn run(isa: Isa, experts: &[Tensor], groups: &[Rows], mut outs: Vec<&mut [f32]>, stores: Stores) {
    // From here on results stand on cache lines, if all of them do.
    let n_before = |out: &&mut [f32]| out.as_ptr().align_offset(64).min(out.len());
    let n_head = n_before(&outs[0]);
    let aligned = outs.iter().all(|out| n_before(out) == n_head);
    let streams = isa != Isa::Scalar && stores == Stores::PastTheCaches && aligned;
    let stores = if streams { Stores::PastTheCaches } else { Stores::Plain };

    let mut wide = vec![[0.0; BLOCK]; experts.len()];
    let len = outs[0].len();
    blocks(isa, experts, groups, &mut outs, &mut wide, 0..n_head, Stores::Plain);
    blocks(isa, experts, groups, &mut outs, &mut wide, n_head..len, stores);
    if streams {
        fence();
    }
}

for_each_isa! {
    // `wide`, (n_experts, BLOCK), is where the experts' block is widened.
    fn blocks(
        experts: &[Tensor],
        groups: &[Rows],
        outs: &mut [&mut [f32]],
        wide: &mut [[f32; BLOCK]],
        range: Range<usize>,
        stores: Stores,
    ) {
        for first in range.clone().step_by(BLOCK) {
            let n_here = BLOCK.min(range.end - first);
            for (wide, expert) in wide.iter_mut().zip(experts) {
                // The length of a whole block is known to the compiler.
                match n_here {
                    BLOCK => expert.read_f32(first, wide),
                    _ => expert.read_f32(first, &mut wide[..n_here]),
                }
            }
            for (rows, outs) in groups.iter().zip(outs.chunks_mut(GROUP)) {
                for (sum, out) in sums(rows, wide).iter().zip(outs) {
                    let out = &mut out[first..first + n_here];
                    match (<&mut [f32; BLOCK]>::try_from(&mut *out), stores) {
                        (Ok(out), Stores::PastTheCaches) => stream(sum, out),
                        (Ok(out), Stores::Plain) => *out = *sum,
                        (Err(_), _) => out.copy_from_slice(&sum[..n_here]),
                    }
                }
            }
        }
    }
}

/// The weighted sums of one block, for a group of particles.
#[inline(always)]
fn sums(rows: &Rows, wide: &[[f32; BLOCK]]) -> [[f32; BLOCK]; GROUP] {
    let mut sums = [[0.0f32; BLOCK]; GROUP];
    for (row, values) in rows.iter().zip(wide) {
        for (c, sums) in row.iter().zip(&mut sums) {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = c.mul_add(*value, *sum);
            }
        }
    }
    sums
}

/// Copies a block to its place, which is two cache lines, past the caches.
#[inline(always)]
fn stream(from: &[f32; BLOCK], to: &mut [f32; BLOCK]) {
    #[cfg(target_arch = "x86_64")]
    for (from, to) in from.as_chunks::<4>().0.iter().zip(to.as_chunks_mut::<4>().0) {
        use std::arch::x86_64::{_mm_loadu_ps, _mm_stream_ps};
        // SAFETY: every x86-64 machine has SSE; both are 4 values, and `to` lies on 16 bytes, since
        // blocks are streamed only where they begin on a cache line.
        unsafe { _mm_stream_ps(to.as_mut_ptr(), _mm_loadu_ps(from.as_ptr())) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    to.copy_from_slice(from);
}

/// Makes streamed stores visible before other threads are told that the work is done.
fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 machine has SSE.
    unsafe {
        std::arch::x86_64::_mm_sfence()
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::buffer::Buffer;
    use crate::tensors::Dtype;

    fn value(i: usize, e: usize) -> f32 {
        ((i * 7919 + e * 104_729) % 1000) as f32 * 1e-3 - 0.5
    }

    /// Expert `i`'s elements `first..`, as a file has them.
    fn bytes_of(dtype: Dtype, i: usize, range: Range<usize>) -> Vec<u8> {
        let values = range.map(|e| value(i, e));
        match dtype {
            Dtype::F32 => values.flat_map(f32::to_le_bytes).collect(),
            Dtype::F16 => values.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect(),
            Dtype::BF16 => values.flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect(),
        }
    }

    /// Combines three experts of tensors of these lengths into `n_outs` results that begin `shift`
    /// elements behind a cache line, and holds every element to the plain loop.
    fn check(isa: Isa, dtype: Dtype, lens: &[usize], n_outs: usize, shift: usize) {
        let len: usize = lens.iter().sum();
        let mut start = 0;
        let mut bytes = Vec::new(); // (n_tensors, 3)
        for tensor_len in lens {
            bytes.push([0, 1, 2].map(|i| bytes_of(dtype, i, start..start + tensor_len)));
            start += tensor_len;
        }
        let tensors: Vec<Vec<Tensor>> = bytes
            .iter()
            .map(|experts| experts.each_ref().map(|bytes| Tensor { dtype, bytes }).to_vec())
            .collect();
        let row = |p: usize| vec![0.3 + p as f32, -1.2, 1.9 - p as f32];
        let coefficients: Vec<Vec<f32>> = (0..n_outs).map(row).collect();
        let mut outs = vec![Buffer::zeros(shift + len); n_outs];
        let slices = outs.iter_mut().map(|out| &mut out[shift..]).collect();
        combine(isa, &tensors, &coefficients, slices);
        for (row, out) in coefficients.iter().zip(&outs) {
            for (e, ours) in out[shift..].iter().enumerate() {
                let plain =
                    (0..3).fold(0.0f32, |sum, i| row[i].mul_add(dtype.round(value(i, e)), sum));
                let case = format!("{isa:?} {dtype} {lens:?} {n_outs} {shift}: element {e}");
                assert_eq!(ours.to_bits(), plain.to_bits(), "{case}: {ours}, wanted {plain}");
            }
        }
    }

    /// If this fails, a materialised adapter is not the weighted sum of its experts, or depends on
    /// the instruction set, on the number of particles or on how tensors follow each other.
    #[test]
    fn sums_equal_the_plain_loop_bit_for_bit() {
        let lens: [&[usize]; 6] = [&[], &[0], &[1], &[31, 33], &[32, 64, 7], &[JOB + 1, 40]];
        for isa in [Isa::detect(), Isa::Scalar] {
            for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
                for lens in lens {
                    for n_outs in [0, 1, GROUP, GROUP + 1] {
                        check(isa, dtype, lens, n_outs, 0);
                    }
                }
            }
        }
    }

    /// If this fails, results that are too large for the caches differ from small ones.
    #[test]
    fn streamed_sums_equal_the_plain_loop_bit_for_bit() {
        for shift in [0, 3] {
            check(Isa::detect(), Dtype::F32, &[1_000_003, 2_000_000], 3, shift);
        }
    }
}
