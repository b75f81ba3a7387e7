//! Updates dW = scale * B A of one module: formed, or compared without being formed.

use rayon::prelude::*;

use super::slerp::dot;
use crate::adapter::Expert;

/// scale * B A of a module, given by its index in the expert's layout, added to `base` where there
/// is one: (d_out, d_in), each entry summed in f64 and rounded once.
pub fn update(expert: &Expert, module_idx: usize, base: Option<&[f32]>) -> Vec<f32> {
    let module = &expert.layout().modules[module_idx];
    let (a, b) = (expert.a(module_idx).to_f32(), expert.b(module_idx).to_f32());
    let (scale, d_in) = (f64::from(module.scale), module.d_in);
    let mut out = vec![0.0; module.d_out * d_in];
    out.par_chunks_mut(d_in).zip(b.par_chunks(module.rank)).enumerate().for_each(
        |(row_idx, (out, b_row))| {
            let mut sums = vec![0.0; d_in];
            for (&b, a_row) in b_row.iter().zip(a.chunks_exact(d_in)) {
                let b = f64::from(b);
                sums.iter_mut().zip(a_row).for_each(|(sum, &a)| *sum += b * f64::from(a));
            }
            let base = base.map(|base| &base[row_idx * d_in..][..d_in]);
            for (column, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
                let base = base.map_or(0.0, |base| f64::from(base[column]));
                *out = (base + scale * sum) as f32;
            }
        },
    );
    out
}

/// The inner product of two experts' updates of a module, as vectors of d_out * d_in:
///
/// ```text
/// <s B A, s' B' A'> = s s' sum over k, l of (B^T B')_kl (A A'^T)_kl
/// ```
///
/// The experts' layouts name the same modules, of the same shapes; ranks and scales may differ.
pub fn inner_product(left: &Expert, right: &Expert, module_idx: usize) -> f64 {
    let (ours, theirs) = (&left.layout().modules[module_idx], &right.layout().modules[module_idx]);
    assert_eq!((ours.d_in, ours.d_out), (theirs.d_in, theirs.d_out), "module {}", ours.name);
    let (a, b) = (left.a(module_idx).to_f32(), left.b(module_idx).to_f32());
    let (their_a, their_b) = (right.a(module_idx).to_f32(), right.b(module_idx).to_f32());
    let mut gram_b = vec![0.0; ours.rank * theirs.rank]; // B^T B'
    for (row, their_row) in b.chunks_exact(ours.rank).zip(their_b.chunks_exact(theirs.rank)) {
        for (sums, &left) in gram_b.chunks_exact_mut(theirs.rank).zip(row) {
            for (sum, &right) in sums.iter_mut().zip(their_row) {
                *sum += f64::from(left) * f64::from(right);
            }
        }
    }
    let mut sum = 0.0;
    for (a_row, gram_b) in a.chunks_exact(ours.d_in).zip(gram_b.chunks_exact(theirs.rank)) {
        for (their_a_row, gram_b) in their_a.chunks_exact(ours.d_in).zip(gram_b) {
            sum += gram_b * dot(a_row, their_a_row);
        }
    }
    f64::from(ours.scale) * f64::from(theirs.scale) * sum
}
