//! What the machine can do at most: multiply-adds on registers, and STREAM's triad on memory.
//!
//! FMA: twelve independent chains of the widest fused multiply-adds, which hides a latency of 4
//! cycles at 2 a cycle; nothing is loaded. Triad: `a = b + s * c` on three arrays of 256 MB with
//! plain stores, counted as 12 bytes an element, though a plain store also reads the line that it
//! overwrites: code that stores past the caches may reach more than the whole of it.

use std::fmt;
use std::hint::black_box;
use std::time::Instant;

use model_swarms::backend::cpu::Isa;
use model_swarms::backend::cpu::buffer::Buffer;
use model_swarms::backend::cpu::gemm::Workers;
use rayon::prelude::*;

use super::{Work, median};

/// Steps of one measurement: a few milliseconds.
const FMA_STEPS: usize = 2_000_000;
/// Chains of one step.
const CHAINS: usize = 12;
/// Elements of each of the triad's arrays.
const TRIAD_LEN: usize = 64 << 20;

/// Work done in some time.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    amount: f64,
    seconds: f64,
}

impl Measured {
    /// Operations or bytes per second.
    pub fn rate(self) -> f64 {
        self.amount / self.seconds
    }
}

/// The machine's peaks, measured again whenever asked.
#[derive(Default)]
pub struct Peaks {
    triad: Vec<Buffer>, // a, b, c on cache lines; empty until asked for
    seen: Vec<(Kind, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fma(usize),
    Triad(usize),
}

impl Peaks {
    /// Measures the peak of this kind of work on the calling thread or on all of the pool.
    pub fn measure(&mut self, work: Work, workers: Workers) -> Measured {
        let n_threads = match workers {
            Workers::One => 1,
            Workers::All => rayon::current_num_threads(),
        };
        let (kind, measured) = match work {
            Work::Flop(_) => (Kind::Fma(n_threads), fma(n_threads)),
            Work::Bytes(_) => (Kind::Triad(n_threads), self.triad(n_threads)),
        };
        self.seen.push((kind, measured.rate()));
        measured
    }

    fn triad(&mut self, n_threads: usize) -> Measured {
        if self.triad.is_empty() {
            self.triad = (0..3).map(|_| Buffer::zeros(TRIAD_LEN)).collect();
            self.triad.iter_mut().for_each(|array| array.fill(0.1));
        }
        let [a, b, c] = &mut self.triad[..] else { unreachable!("three arrays") };
        let share = TRIAD_LEN.div_ceil(n_threads);
        let (isa, factor) = (Isa::detect(), black_box(1.5));
        let started = Instant::now();
        if n_threads == 1 {
            triad(isa, a, b, c, factor);
        } else {
            let shares = a.par_chunks_mut(share).zip(b.par_chunks(share)).zip(c.par_chunks(share));
            shares.with_max_len(1).for_each(|((a, b), c)| triad(isa, a, b, c, factor));
        }
        let seconds = started.elapsed().as_secs_f64();
        black_box(&self.triad[0]);
        Measured { amount: 12.0 * TRIAD_LEN as f64, seconds }
    }
}

/// The medians of all that was measured.
impl fmt::Display for Peaks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: Vec<Kind> = Vec::new();
        for (kind, _) in &self.seen {
            if !kinds.contains(kind) {
                kinds.push(*kind);
            }
        }
        for kind in kinds {
            let rates = self.seen.iter().filter(|seen| seen.0 == kind).map(|seen| seen.1);
            let rate = median(rates) / 1e9;
            match kind {
                Kind::Fma(n) => writeln!(out, "peak on {n} threads: {rate:.1} GFLOP/s (FMA, f32)")?,
                Kind::Triad(n) => writeln!(out, "peak on {n} threads: {rate:.1} GB/s (triad)")?,
            }
        }
        Ok(())
    }
}

fn fma(n_threads: usize) -> Measured {
    let isa = Isa::detect();
    let lanes = match isa {
        Isa::Avx512 => 16,
        Isa::Avx2 => 8,
        Isa::Scalar => PLAIN_LANES,
    };
    let n_steps = black_box(FMA_STEPS);
    let run = || black_box(fma_chains(isa, n_steps));
    let started = Instant::now();
    if n_threads == 1 {
        run();
    } else {
        rayon::broadcast(|_| run());
    }
    let seconds = started.elapsed().as_secs_f64();
    Measured { amount: (n_threads * n_steps * CHAINS * lanes * 2) as f64, seconds }
}

fn fma_chains(isa: Isa, n_steps: usize) -> f32 {
    match isa {
        // SAFETY: an `Isa` other than `Scalar` exists only where the machine has it.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { fma_avx512(n_steps) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { fma_avx2(n_steps) },
        _ => fma_plain(n_steps),
    }
}

/// # Safety
/// The machine has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn fma_avx512(n_steps: usize) -> f32 {
    use std::arch::x86_64::{_mm512_add_ps, _mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let (factor, offset) = (_mm512_set1_ps(black_box(0.999_999)), _mm512_set1_ps(black_box(1e-7)));
    let mut chains: [_; CHAINS] = std::array::from_fn(|i| _mm512_set1_ps(1.0 + i as f32));
    for _ in 0..n_steps {
        for chain in &mut chains {
            *chain = _mm512_fmadd_ps(*chain, factor, offset);
        }
    }
    _mm512_reduce_add_ps(chains.into_iter().fold(offset, |sum, chain| _mm512_add_ps(sum, chain)))
}

/// # Safety
/// The machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn fma_avx2(n_steps: usize) -> f32 {
    use std::arch::x86_64::{_mm256_add_ps, _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let (factor, offset) = (_mm256_set1_ps(black_box(0.999_999)), _mm256_set1_ps(black_box(1e-7)));
    let mut chains: [_; CHAINS] = std::array::from_fn(|i| _mm256_set1_ps(1.0 + i as f32));
    for _ in 0..n_steps {
        for chain in &mut chains {
            *chain = _mm256_fmadd_ps(*chain, factor, offset);
        }
    }
    _mm256_cvtss_f32(chains.into_iter().fold(offset, |sum, chain| _mm256_add_ps(sum, chain)))
}

const PLAIN_LANES: usize = 4;

/// A multiplication and an addition, as the compiler makes them: where there is no FMA.
fn fma_plain(n_steps: usize) -> f32 {
    let (factor, offset) = (black_box(0.999_999_f32), black_box(1e-7_f32));
    let mut chains: [f32; CHAINS * PLAIN_LANES] = std::array::from_fn(|i| 1.0 + i as f32);
    for _ in 0..n_steps {
        for chain in &mut chains {
            *chain = *chain * factor + offset;
        }
    }
    chains.into_iter().sum()
}

fn triad(isa: Isa, a: &mut [f32], b: &[f32], c: &[f32], factor: f32) {
    match isa {
        // SAFETY: an `Isa` other than `Scalar` exists only where the machine has it.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { triad_avx512(a, b, c, factor) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { triad_avx2(a, b, c, factor) },
        _ => triad_plain(a, b, c, factor),
    }
}

/// # Safety
/// The machine has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn triad_avx512(a: &mut [f32], b: &[f32], c: &[f32], factor: f32) {
    triad_plain(a, b, c, factor);
}

/// # Safety
/// The machine has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn triad_avx2(a: &mut [f32], b: &[f32], c: &[f32], factor: f32) {
    triad_plain(a, b, c, factor);
}

#[inline(always)]
fn triad_plain(a: &mut [f32], b: &[f32], c: &[f32], factor: f32) {
    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
        *a = b + factor * c;
    }
}
