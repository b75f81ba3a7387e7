//! The CPU backend's products on plain matrices, to hold the kernels to.

use model_swarms::backend::cpu::Isa;
use model_swarms::backend::cpu::buffer::{Matrix, padded};
use model_swarms::backend::cpu::gemm::{Rows, Scratch, Start, Workers, gemm};
use model_swarms::backend::cpu::packed::{Part, Weights};
use model_swarms::tensors::Dtype;

/// `c (+)= a w^T` for a (n_rows, n_in), w (n_out, n_in) and c (n_rows, n_out).
pub fn product(a: &[f32], w: &[f32], c: &mut [f32], [n_rows, n_out, n_in]: [usize; 3], on: Start) {
    let mut rows = Matrix::zeros(n_rows, n_in);
    for (i, row) in a.chunks(n_in.max(1)).enumerate().take(n_rows) {
        rows.row_mut(i)[..n_in].copy_from_slice(row);
    }
    let read = |out: usize, row: &mut [f32]| row.copy_from_slice(&w[out * n_in..][..n_in]);
    let weights = Weights::pack(n_in, &[Part { n_out, read: Box::new(read) }], Dtype::F32);
    let mut sums = Matrix::zeros(n_rows, padded(n_out));
    for i in 0..n_rows {
        sums.row_mut(i)[..n_out].copy_from_slice(&c[i * n_out..][..n_out]);
    }
    let a = Rows { data: rows.data(), stride: rows.stride(), n_rows };
    let (stride, panels) = (sums.stride(), weights.panels_of(0..1));
    let out = sums.data_mut();
    gemm(
        Isa::detect(),
        Workers::One,
        a,
        &weights,
        panels,
        out,
        stride,
        on,
        &mut Scratch::default(),
    );
    for i in 0..n_rows {
        c[i * n_out..][..n_out].copy_from_slice(&sums.row(i)[..n_out]);
    }
}
