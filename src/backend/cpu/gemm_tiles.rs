//! The innermost loop of every matrix product: a tile of C, up to 12 rows by 32 columns, in
//! registers.
//!
//! `C[i][j] (+)= sum over p of A[i][p] * B[p][j]`, p in order, one fused multiply-add per step and
//! output. The three versions differ only in how many of the outputs they hold at once.
//!
//! On AVX-512 a tile is 12 x 2 registers of 16 lanes: 24 independent chains hide the multiply-add's
//! latency of 4 cycles at 2 a cycle, and each step loads 2 vectors of B and broadcasts 12 values of
//! A for 24 multiply-adds. AVX2 holds 6 x 2 registers of 8 lanes and makes the 32 columns in
//! halves.
//!
//! While a tile is computed it asks for bytes that a later one will read, a cache line every few
//! steps: from the third-level cache or memory they would arrive late, and asked for all at once
//! they fill the buffers that the tile's own loads need.

use super::Isa;
use super::buffer::PANEL;

/// Steps of the inner dimension that are worked on at once.
pub const K_BLOCK: usize = 256;

/// Where the sums begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At zero.
    Zero,
    /// At what C holds: a product that continues an earlier one.
    FromC,
}

/// How the values of A stand.
#[derive(Debug, Clone, Copy)]
pub enum Left {
    /// Row by row, so many values apart.
    Rows(usize),
    /// Step by step, the rows of the tile side by side.
    Copied,
}

/// The most rows of one tile.
pub fn max_rows(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => 12,
        Isa::Avx2 => 6,
        Isa::Scalar => 4,
    }
}

/// One tile: `n_rows` (at most [`max_rows`]) by 32.
///
/// # Safety
/// `a` points at n_rows rows of n_steps values, which stand as `left` says; `b` at n_steps
/// rows of 32 values, `b_stride` apart; `c` at n_rows rows of 32 values, `c_stride` apart, that
/// nobody else uses. `ahead` are bytes that will be read soon.
#[inline]
#[allow(clippy::too_many_arguments)] // pointer, stride, pointer, stride: a kernel's argument list
pub unsafe fn tile(
    isa: Isa,
    n_rows: usize,
    n_steps: usize,
    a: *const f32,
    left: Left,
    b: *const f32,
    b_stride: usize,
    c: *mut f32,
    c_stride: usize,
    start: Start,
    ahead: &[u8],
) {
    debug_assert!(n_rows <= max_rows(isa));
    let (is_copied, stride) = match left {
        Left::Rows(stride) => (false, stride),
        Left::Copied => (true, n_rows),
    };
    macro_rules! by_rows {
        ($module:ident: $($rows:literal)*) => {
            match (n_rows, is_copied) {
                // SAFETY: the caller's promise; an `Isa` exists only where the machine has it.
                $(($rows, false) => unsafe {
                    $module::tile::<$rows, false>(
                        n_steps, a, stride, b, b_stride, c, c_stride, start, ahead,
                    )
                },
                // SAFETY: as above.
                ($rows, true) => unsafe {
                    $module::tile::<$rows, true>(
                        n_steps, a, stride, b, b_stride, c, c_stride, start, ahead,
                    )
                },)*
                _ => unreachable!("a tile has at most {} rows", max_rows(isa)),
            }
        };
    }
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => by_rows!(avx512: 0 1 2 3 4 5 6 7 8 9 10 11 12),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => by_rows!(avx2: 0 1 2 3 4 5 6),
        _ => by_rows!(scalar: 0 1 2 3 4),
    }
}

/// Where to begin asking for `ahead`, and by how many bytes to go on at each of `n_steps` steps;
/// with nothing to ask for, an address that is at hand.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn spread(ahead: &[u8], n_steps: usize, at_hand: *const f32) -> (*const u8, usize) {
    match ahead {
        [] => (at_hand.cast(), 0),
        _ => (ahead.as_ptr(), ahead.len() / n_steps.max(1)),
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{Start, spread};
    use std::arch::x86_64::*;

    /// # Safety
    /// As [`super::tile`]; the machine has AVX-512F.
    #[target_feature(enable = "avx512f")]
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn tile<const ROWS: usize, const COPIED: bool>(
        n_steps: usize,
        mut a: *const f32,
        a_stride: usize,
        mut b: *const f32,
        b_stride: usize,
        c: *mut f32,
        c_stride: usize,
        start: Start,
        ahead: &[u8],
    ) {
        let (a_row, a_step) = if COPIED { (1, ROWS) } else { (a_stride, 1) };
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        let (mut next, bytes_per_step) = spread(ahead, n_steps, b);
        // SAFETY: every address below lies in the ranges that the caller promises.
        unsafe {
            if start == Start::FromC {
                for (i, row) in sums.iter_mut().enumerate() {
                    row[0] = _mm512_loadu_ps(c.add(i * c_stride));
                    row[1] = _mm512_loadu_ps(c.add(i * c_stride + 16));
                }
            }
            for _ in 0..n_steps {
                _mm_prefetch::<_MM_HINT_T1>(next.cast());
                next = next.wrapping_add(bytes_per_step);
                let b0 = _mm512_loadu_ps(b);
                let b1 = _mm512_loadu_ps(b.add(16));
                for (i, row) in sums.iter_mut().enumerate() {
                    let a_i = _mm512_set1_ps(*a.add(i * a_row));
                    row[0] = _mm512_fmadd_ps(a_i, b0, row[0]);
                    row[1] = _mm512_fmadd_ps(a_i, b1, row[1]);
                }
                a = a.wrapping_add(a_step);
                b = b.wrapping_add(b_stride);
            }
            for (i, row) in sums.iter().enumerate() {
                _mm512_storeu_ps(c.add(i * c_stride), row[0]);
                _mm512_storeu_ps(c.add(i * c_stride + 16), row[1]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{PANEL, Start, spread};
    use std::arch::x86_64::*;

    /// # Safety
    /// As [`super::tile`]; the machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn tile<const ROWS: usize, const COPIED: bool>(
        n_steps: usize,
        a: *const f32,
        a_stride: usize,
        b: *const f32,
        b_stride: usize,
        c: *mut f32,
        c_stride: usize,
        start: Start,
        ahead: &[u8],
    ) {
        let (a_row, a_step) = if COPIED { (1, ROWS) } else { (a_stride, 1) };
        for first_col in [0, PANEL / 2] {
            let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
            // SAFETY: every address below lies in the ranges that the caller promises.
            unsafe {
                let c = c.add(first_col);
                if start == Start::FromC {
                    for (i, row) in sums.iter_mut().enumerate() {
                        row[0] = _mm256_loadu_ps(c.add(i * c_stride));
                        row[1] = _mm256_loadu_ps(c.add(i * c_stride + 8));
                    }
                }
                let mut a = a;
                let mut b = b.wrapping_add(first_col);
                let (mut next, bytes_per_step) = spread(ahead, n_steps, b);
                for _ in 0..n_steps {
                    _mm_prefetch::<_MM_HINT_T1>(next.cast());
                    next = next.wrapping_add(bytes_per_step);
                    let b0 = _mm256_loadu_ps(b);
                    let b1 = _mm256_loadu_ps(b.add(8));
                    for (i, row) in sums.iter_mut().enumerate() {
                        let a_i = _mm256_set1_ps(*a.add(i * a_row));
                        row[0] = _mm256_fmadd_ps(a_i, b0, row[0]);
                        row[1] = _mm256_fmadd_ps(a_i, b1, row[1]);
                    }
                    a = a.wrapping_add(a_step);
                    b = b.wrapping_add(b_stride);
                }
                for (i, row) in sums.iter().enumerate() {
                    _mm256_storeu_ps(c.add(i * c_stride), row[0]);
                    _mm256_storeu_ps(c.add(i * c_stride + 8), row[1]);
                }
            }
        }
    }
}

mod scalar {
    use super::{PANEL, Start};

    /// # Safety
    /// As [`super::tile`].
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn tile<const ROWS: usize, const COPIED: bool>(
        n_steps: usize,
        a: *const f32,
        a_stride: usize,
        b: *const f32,
        b_stride: usize,
        c: *mut f32,
        c_stride: usize,
        start: Start,
        _ahead: &[u8],
    ) {
        let (a_row, a_step) = if COPIED { (1, ROWS) } else { (a_stride, 1) };
        for i in 0..ROWS {
            for j in 0..PANEL {
                // SAFETY: every address below lies in the ranges that the caller promises.
                unsafe {
                    let c_ij = c.add(i * c_stride + j);
                    let mut sum = if start == Start::FromC { *c_ij } else { 0.0 };
                    for p in 0..n_steps {
                        sum =
                            (*a.add(i * a_row + p * a_step)).mul_add(*b.add(p * b_stride + j), sum);
                    }
                    *c_ij = sum;
                }
            }
        }
    }
}
