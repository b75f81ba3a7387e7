//! Adding a low-rank update to packed weights: `W += scale * B A`, one panel at a time.
//!
//! Element by element: `w = fma(a[r][k], scale * b[j][r], w)` for r = 0, 1, ... in order.

use super::buffer::PANEL;
use super::{Isa, for_each_isa};

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
