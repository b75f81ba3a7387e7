//! Causal attention of one sequence over its key-value cache.
//!
//! `out[i] = softmax(q[i] . K^T / sqrt(head_dim)) V` over the positions that row i may see. Keys
//! are kept transposed, (head_dim, capacity), so that a product with them is vectorised across
//! positions; values as (capacity, head_dim padded to 32). Both products use the tiles of
//! `gemm_tiles`, with q and the probabilities as the left side; query heads that share a key head
//! are rows of one tile. A row's probabilities beyond its own position are exact zeros, which
//! change no sum.

use super::Isa;
use super::buffer::{Buffer, PANEL, padded};
use super::gemm::Tiles;
use super::gemm_tiles::{Left, Start, max_rows, tile};
use super::ops::{scale, softmax_numerators};
pub use crate::backend::Heads;

/// Keys and values of one layer and one sequence.
pub struct Cache<'a> {
    /// (n_kv_heads, capacity / 32, head_dim, 32)
    pub keys: &'a mut [f32],
    /// (n_kv_heads, capacity, padded head_dim)
    pub values: &'a mut [f32],
    /// Positions there is room for: a multiple of 32.
    pub capacity: usize,
}

/// Working memory of [`attend`], reused from call to call.
#[derive(Default)]
pub struct Scratch {
    queries: Buffer, // (tile rows, head_dim)
    scores: Buffer,  // (tile rows, capacity): scores, then softmax numerators
    out: Buffer,     // (tile rows, padded head_dim)
}

/// Writes the keys and values of new rows into the cache, from position `first` on. `k` and `v`
/// hold one row for each new position, `stride` apart, heads side by side.
pub fn append(heads: &Heads, cache: &mut Cache, first: usize, k: &[f32], v: &[f32], stride: usize) {
    let n_new = k.len().div_ceil(stride);
    let (head_dim, capacity) = (heads.head_dim, cache.capacity);
    assert!(first + n_new <= capacity, "{first} + {n_new} positions of {capacity}");
    let v_stride = padded(head_dim);
    for head in 0..heads.n_kv_heads {
        let panels = &mut cache.keys[head * head_dim * capacity..][..head_dim * capacity];
        for i in 0..n_new {
            let (panel, column) = ((first + i) / PANEL, (first + i) % PANEL);
            let key = &k[i * stride + head * head_dim..][..head_dim];
            let (rows, _) =
                panels[panel * head_dim * PANEL..][..head_dim * PANEL].as_chunks_mut::<PANEL>();
            for (row, value) in rows.iter_mut().zip(key) {
                row[column] = *value;
            }
        }
        for i in 0..n_new {
            let to = (head * capacity + first + i) * v_stride;
            cache.values[to..][..head_dim]
                .copy_from_slice(&v[i * stride + head * head_dim..][..head_dim]);
        }
    }
}

/// Attention of `n_new` rows at positions `first..`, whose keys and values the cache holds already.
/// `q` and `out` hold a row for each position, heads side by side.
#[allow(clippy::too_many_arguments)] // two strided matrices and where they stand
pub fn attend(
    isa: Isa,
    heads: &Heads,
    cache: &Cache,
    first: usize,
    n_new: usize,
    q: &[f32],
    q_stride: usize,
    out: &mut [f32],
    out_stride: usize,
    scratch: &mut Scratch,
) {
    let (head_dim, capacity) = (heads.head_dim, cache.capacity);
    let (group, v_stride) = (heads.n_heads / heads.n_kv_heads, padded(head_dim));
    assert!(first + n_new <= capacity && capacity.is_multiple_of(PANEL));
    scratch.queries.grow(max_rows(isa) * head_dim);
    scratch.scores.grow(max_rows(isa) * capacity);
    scratch.out.grow(max_rows(isa) * v_stride);
    for kv_head in 0..heads.n_kv_heads {
        let keys = &cache.keys[kv_head * head_dim * capacity..][..head_dim * capacity];
        let values = &cache.values[kv_head * capacity * v_stride..][..capacity * v_stride];
        for (first_row, n_rows) in Tiles::new(n_new * group, max_rows(isa)).iter() {
            // Row r of the block is query head kv_head * group + r % group at position r / group.
            let place =
                |r: usize| ((first_row + r) / group, kv_head * group + (first_row + r) % group);
            let visible = |r: usize| {
                let end = first + place(r).0 + 1;
                heads.window.map_or(0, |window| end.saturating_sub(window))..end
            };
            let seen = visible(0).start / PANEL * PANEL..visible(n_rows - 1).end;

            // Scores.
            for r in 0..n_rows {
                let (i, head) = place(r);
                scratch.queries[r * head_dim..][..head_dim]
                    .copy_from_slice(&q[i * q_stride + head * head_dim..][..head_dim]);
            }
            for j in seen.clone().step_by(PANEL) {
                // SAFETY: `queries` and `scores` have max_rows rows, and columns j..j + 32 lie
                // within the capacity, a multiple of 32.
                unsafe {
                    let a = scratch.queries.as_ptr();
                    let b = keys.as_ptr().add(j * head_dim);
                    let c = scratch.scores.as_mut_ptr().add(j);
                    let (left, start) = (Left::Rows(head_dim), Start::Zero);
                    tile(isa, n_rows, head_dim, a, left, b, PANEL, c, capacity, start, &[]);
                }
            }

            // Softmax numerators; the sums divide the result at the end.
            let mut sums = [1.0f32; 16];
            for (r, sum) in sums.iter_mut().enumerate().take(n_rows) {
                let row = &mut scratch.scores[r * capacity..][..capacity];
                let visible = visible(r);
                row[seen.start..visible.start].fill(0.0);
                row[visible.end..seen.end].fill(0.0);
                *sum = softmax_numerators(isa, &mut row[visible], heads.score_factor);
            }

            // Weighted sum of the values.
            for d in (0..v_stride).step_by(PANEL) {
                // SAFETY: `scores` and `out` have max_rows rows; the positions seen lie within the
                // capacity, columns d..d + 32 within the padded head.
                unsafe {
                    let a = scratch.scores.as_ptr().add(seen.start);
                    let b = values.as_ptr().add(seen.start * v_stride + d);
                    let c = scratch.out.as_mut_ptr().add(d);
                    let (left, start) = (Left::Rows(capacity), Start::Zero);
                    let n_steps = seen.len();
                    tile(isa, n_rows, n_steps, a, left, b, v_stride, c, v_stride, start, &[]);
                }
            }
            for (r, sum) in sums.iter().enumerate().take(n_rows) {
                let (i, head) = place(r);
                let row = &mut out[i * out_stride + head * head_dim..][..head_dim];
                row.copy_from_slice(&scratch.out[r * v_stride..][..head_dim]);
                scale(isa, row, 1.0 / sum);
            }
        }
    }
}
