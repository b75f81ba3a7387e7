//! Matrix products against a model's weights: `C (n_rows, n_out) = A (n_rows, n_in) * W^T`.
//!
//! W is packed into panels of 32 outputs (`packed`), which the innermost loop reads front to back;
//! the next panel is asked for while this one is used. A is used block by block (at most
//! [`ROW_BLOCK`] rows, and as many columns as fit a part of the second-level cache: it then stays
//! there while all panels pass by). Bytes moved per call: W once per row block, A once, C once per
//! block of A. Where enough panels pass by, the block of A is first copied in the order in which it
//! is read, which gains 4 to 9 %; for fewer the copy costs what it gains.
//!
//! The inner dimension is walked in order, whatever the blocking: between blocks the sums rest in
//! C, and storing an f32 loses nothing.

use std::ops::Range;

use rayon::prelude::*;

use super::Isa;
use super::buffer::{Buffer, PANEL};
pub use super::gemm_tiles::Start;
use super::gemm_tiles::{K_BLOCK, Left, max_rows, tile};
use super::packed::Weights;
pub use crate::backend::Workers;

/// Rows of A that are worked on at once: more of them pass over C more often, fewer over W.
pub const ROW_BLOCK: usize = 192;

/// Bytes of A that are worked on at once: 1,024 columns of a block of rows, which a second-level
/// cache of 1 MiB holds. Fewer columns pass over C more often.
const A_BYTES: usize = ROW_BLOCK * 1024 * size_of::<f32>();

/// Panels from which on a block of A is copied.
const COPIED_FROM: usize = 32;

/// Rows to multiply: `n_rows` rows, `stride` apart, of which the first `n_in` values count.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The rows.
    pub data: &'a [f32],
    /// Distance between rows.
    pub stride: usize,
    /// Number of rows.
    pub n_rows: usize,
}

/// Working memory of [`gemm`], reused from call to call.
#[derive(Default)]
pub struct Scratch {
    widened: Buffer, // (K_BLOCK, 32)
    copied: Buffer,  // a block of A
}

/// `c[i][j - first] (+)= sum over k of a[i][k] * w[j][k]` for the columns of `panels`, k in order.
///
/// `c` holds rows `c_stride` apart; column 0 is the first column of the first panel.
#[allow(clippy::too_many_arguments)] // what BLAS's own interface takes
pub fn gemm(
    isa: Isa,
    workers: Workers,
    a: Rows,
    w: &Weights,
    panels: Range<usize>,
    c: &mut [f32],
    c_stride: usize,
    start: Start,
    scratch: &mut Scratch,
) {
    let n_panels = panels.len();
    if a.n_rows == 0 || n_panels == 0 {
        return;
    }
    assert!(panels.end <= w.n_panels(), "panels {panels:?} of {}", w.n_panels());
    assert!(w.n_in() <= a.stride, "rows {} apart are too short for {} inputs", a.stride, w.n_in());
    assert!(a.data.len() >= (a.n_rows - 1) * a.stride + w.n_in(), "A is too short");
    assert!(n_panels * PANEL <= c_stride, "{n_panels} panels do not fit {c_stride} columns");
    assert!(c.len() >= (a.n_rows - 1) * c_stride + n_panels * PANEL, "C is too short");
    let c = SharedOut(c.as_mut_ptr());
    let n_shares = match workers {
        Workers::One => 1,
        Workers::All => rayon::current_num_threads().min(n_panels),
    };
    let share = |scratch: &mut Scratch, share_idx: usize| {
        let first = n_panels * share_idx / n_shares;
        let last = n_panels * (share_idx + 1) / n_shares;
        let panels = panels.start + first..panels.start + last;
        // SAFETY: the lengths were checked above; shares write to different columns.
        unsafe { product(isa, a, w, panels, c.at(first * PANEL), c_stride, start, scratch) };
    };
    match n_shares {
        1 => share(scratch, 0),
        _ => (0..n_shares).into_par_iter().for_each_init(Scratch::default, share),
    }
}

/// A pointer into C that several threads hold, each for columns of its own.
#[derive(Clone, Copy)]
struct SharedOut(*mut f32);
// SAFETY: `gemm` gives each thread columns of its own.
unsafe impl Sync for SharedOut {}

impl SharedOut {
    /// # Safety
    /// `offset` lies within C.
    unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(offset) }
    }
}

/// # Safety
/// `c` points at a.n_rows rows, c_stride apart, with room for the columns of `panels`, and nobody
/// else uses these columns.
#[allow(clippy::too_many_arguments)] // as `gemm`
unsafe fn product(
    isa: Isa,
    a_rows: Rows,
    w: &Weights,
    panels: Range<usize>,
    c: *mut f32,
    c_stride: usize,
    start: Start,
    scratch: &mut Scratch,
) {
    let is_copied = panels.len() >= COPIED_FROM;
    let Scratch { widened, copied } = scratch;
    for first_row in (0..a_rows.n_rows).step_by(ROW_BLOCK) {
        let n_rows = ROW_BLOCK.min(a_rows.n_rows - first_row);
        let tiles = Tiles::new(n_rows, max_rows(isa));
        let a = Rows { data: &a_rows.data[first_row * a_rows.stride..], n_rows, ..a_rows };
        // Columns of A that stay in the second-level cache while all panels pass by.
        let n_kept = (A_BYTES / size_of::<f32>() / n_rows / K_BLOCK).max(1) * K_BLOCK;
        for first_kept in (0..w.n_in().max(1)).step_by(n_kept) {
            let kept = first_kept..(first_kept + n_kept).min(w.n_in());
            if is_copied {
                copy(a, tiles, kept.clone(), copied);
            }
            let first_ks = (first_kept..kept.end.max(1)).step_by(K_BLOCK);
            let blocks = panels.clone().enumerate().flat_map(|(panel_idx, panel)| {
                first_ks.clone().map(move |first_k| (panel_idx, panel, first_k))
            });
            for (panel_idx, panel, first_k) in blocks {
                let n_steps = K_BLOCK.min(w.n_in() - first_k);
                let start = if first_k == 0 { start } else { Start::FromC };
                let b = w.block(panel, first_k, n_steps, widened).as_ptr();
                let next = w.stored(panel + 1, first_k, n_steps);
                for (tile_idx, (first, rows)) in tiles.iter().enumerate() {
                    let (a, left) = if is_copied {
                        let place = (first_k - first_kept) * n_rows + first * n_steps;
                        (&copied[place..], Left::Copied)
                    } else {
                        (&a.data[first * a.stride + first_k..], Left::Rows(a.stride))
                    };
                    let ahead = share(next, tile_idx, tiles.n_tiles);
                    // SAFETY: A and C were checked to hold these rows, b has n_steps rows of 32,
                    // and c has room for every row and panel by the caller's promise.
                    unsafe {
                        let c = c.add((first_row + first) * c_stride + panel_idx * PANEL);
                        let a = a.as_ptr();
                        tile(isa, rows, n_steps, a, left, b, PANEL, c, c_stride, start, ahead);
                    }
                }
            }
        }
    }
}

/// Copies columns `kept` of A, [`K_BLOCK`] of them after the other, and these tile by tile as
/// (steps, rows of the tile): in the order in which the innermost loop reads them.
fn copy(a: Rows, tiles: Tiles, kept: Range<usize>, copied: &mut Buffer) {
    copied.grow(kept.len() * a.n_rows);
    let mut rest = &mut copied[..];
    for first_k in kept.clone().step_by(K_BLOCK) {
        let n_steps = K_BLOCK.min(kept.end - first_k);
        for (first, rows) in tiles.iter() {
            let (tile, after) = rest.split_at_mut(n_steps * rows);
            let values = &a.data[first * a.stride + first_k..];
            for (step, places) in tile.chunks_exact_mut(rows).enumerate() {
                for (row, place) in places.iter_mut().enumerate() {
                    *place = values[row * a.stride + step];
                }
            }
            rest = after;
        }
    }
}

/// The `share_idx`-th of `n_shares` shares of bytes, in whole cache lines.
fn share(bytes: &[u8], share_idx: usize, n_shares: usize) -> &[u8] {
    let n_lines = bytes.len() / 64;
    &bytes[n_lines * share_idx / n_shares * 64..n_lines * (share_idx + 1) / n_shares * 64]
}

/// Cuts `n_rows` into tiles of at most `max` rows whose heights differ by one at most.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    n_rows: usize,
    n_tiles: usize,
}

impl Tiles {
    pub(super) fn new(n_rows: usize, max: usize) -> Self {
        Self { n_rows, n_tiles: n_rows.div_ceil(max) }
    }

    /// (first row, number of rows) of each tile.
    pub(super) fn iter(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.n_tiles).map(move |i| {
            let first = self.n_rows * i / self.n_tiles;
            (first, self.n_rows * (i + 1) / self.n_tiles - first)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::buffer::Matrix;
    use crate::backend::cpu::packed::Part;
    use crate::tensors::Dtype;

    fn value(i: usize) -> f32 {
        ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    /// If this fails, a product depends on the instruction set, the blocking or the thread count.
    #[test]
    fn products_equal_the_plain_loop_bit_for_bit() {
        for (n_rows, n_in, n_out) in [
            (0, 3, 5),
            (1, 1, 1),
            (1, 300, 33),
            (11, 0, 4),
            (12, 7, 32),
            (13, 256, 31),
            (25, 257, 65),
            (203, 1100, 1030),
        ] {
            let mut a = Matrix::zeros(n_rows, n_in);
            let stride = a.stride();
            for (i, x) in a.data_mut().iter_mut().enumerate() {
                *x = value(i);
            }
            let part = Part {
                n_out,
                read: Box::new(|out, row| {
                    for (k, x) in row.iter_mut().enumerate() {
                        *x = value(out * 1000 + k + 77);
                    }
                }),
            };
            let w = Weights::pack(n_in, &[part], Dtype::F32);
            for (isa, workers) in [
                (Isa::detect(), Workers::One),
                (Isa::detect(), Workers::All),
                (Isa::Avx2, Workers::One),
                (Isa::Scalar, Workers::One),
            ] {
                if isa == Isa::Avx2 && Isa::detect() == Isa::Scalar {
                    continue;
                }
                let mut c = Matrix::zeros(n_rows, n_out);
                let rows = Rows { data: a.data(), stride, n_rows };
                let c_stride = c.stride();
                let panels = w.panels_of(0..1);
                gemm(
                    isa,
                    workers,
                    rows,
                    &w,
                    panels,
                    c.data_mut(),
                    c_stride,
                    Start::Zero,
                    &mut Scratch::default(),
                );
                for i in 0..n_rows {
                    for j in 0..n_out {
                        let mut sum = 0.0f32;
                        for k in 0..n_in {
                            sum = a.row(i)[k].mul_add(value(j * 1000 + k + 77), sum);
                        }
                        let ours = c.row(i)[j];
                        assert_eq!(
                            ours.to_bits(),
                            sum.to_bits(),
                            "{isa:?} {n_rows}x{n_in}x{n_out} [{i}][{j}]: {ours} {sum}"
                        );
                    }
                }
            }
        }
    }
}
