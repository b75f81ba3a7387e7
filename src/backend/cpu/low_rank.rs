//! Low-rank updates: added to packed weights, or packed for use beside them.
//!
//! `W += scale * B A`, one panel at a time. Element by element: `w = fma(a[r][k], scale * b[j][r],
//! w)` for r = 0, 1, ... in order. Beside the weights: `y += (scale * B) (A x)`, as products.

use rayon::prelude::*;

use super::buffer::PANEL;
use super::packed::Weights;
use super::{Isa, for_each_isa};
use crate::backend::{Factors, Part};
use crate::tensors::Dtype;

/// What each adapter of a set adds to one product.
pub struct Update(Vec<Lora>);

/// What one adapter adds to one product.
struct Lora {
    down: Option<Weights>, // all A's that read this input, stacked: (sum of ranks, n_in)
    ups: Vec<Up>,
}

/// One part's B.
pub(super) struct Up {
    /// The part of the product that it adds to.
    pub part_idx: usize,
    /// Its first column in the stacked A's output.
    pub first_col: usize,
    /// scale * B: (n_out, rank)
    pub weights: Weights,
}

impl Update {
    /// Packs the factors of every adapter, for products of `n_in` inputs.
    pub(super) fn pack(n_in: usize, factors: &[Factors], adapters: &[&[f32]]) -> Self {
        Self(adapters.par_iter().map(|adapter| lora(n_in, factors, adapter)).collect())
    }

    /// The stacked A's and the B's of one adapter, where it adds anything.
    pub(super) fn of(&self, adapter_idx: usize) -> Option<(&Weights, &[Up])> {
        let Lora { down, ups } = &self.0[adapter_idx];
        down.as_ref().map(|down| (down, &ups[..]))
    }
}

fn lora(n_in: usize, factors: &[Factors], adapter: &[f32]) -> Lora {
    let mut stacked: Vec<&[f32]> = Vec::new(); // rows of A
    let mut ups = Vec::new();
    for Factors { part_idx, a, b, rank, scale } in factors.iter().cloned() {
        let b = &adapter[b];
        let read = move |out: usize, row: &mut [f32]| {
            for (to, from) in row.iter_mut().zip(&b[out * rank..][..rank]) {
                *to = scale * from;
            }
        };
        let part = Part { n_out: b.len() / rank, read: Box::new(read) };
        let weights = Weights::pack(rank, &[part], Dtype::F32);
        ups.push(Up { part_idx, first_col: stacked.len(), weights });
        stacked.extend(adapter[a].chunks_exact(n_in));
    }
    let down = (!stacked.is_empty()).then(|| {
        let read = |out: usize, row: &mut [f32]| row.copy_from_slice(stacked[out]);
        Weights::pack(n_in, &[Part { n_out: stacked.len(), read: Box::new(read) }], Dtype::F32)
    });
    Lora { down, ups }
}

/// Adds `scale * B A` to one packed part: `panels` is (n_panels, n_in, 32) and holds n_out rows of
/// W, `a` is (rank, n_in), `b` is (n_out, rank).
pub fn add_low_rank(isa: Isa, panels: &mut [f32], n_in: usize, a: &[f32], b: &[f32], scale: f32) {
    if a.is_empty() {
        return;
    }
    let rank = a.len() / n_in;
    let n_out = b.len() / rank;
    let mut scaled = vec![[0.0; PANEL]; rank];
    for (panel, first_out) in panels.chunks_exact_mut(n_in * PANEL).zip((0..n_out).step_by(PANEL)) {
        for (r, row) in scaled.iter_mut().enumerate() {
            *row = [0.0; PANEL];
            for j in 0..PANEL.min(n_out - first_out) {
                row[j] = scale * b[(first_out + j) * rank + r];
            }
        }
        add_to_panel(isa, panel, a, n_in, &scaled);
    }
}

for_each_isa! {
    fn add_to_panel(panel: &mut [f32], a: &[f32], n_in: usize, scaled: &[[f32; PANEL]]) {
        let (rows, _) = panel.as_chunks_mut::<PANEL>();
        for (k, row) in rows.iter_mut().enumerate() {
            let mut sums = *row;
            for (r, scaled) in scaled.iter().enumerate() {
                let a_rk = a[r * n_in + k];
                for (sum, b_rj) in sums.iter_mut().zip(scaled) {
                    *sum = a_rk.mul_add(*b_rj, *sum);
                }
            }
            *row = sums;
        }
    }
}
