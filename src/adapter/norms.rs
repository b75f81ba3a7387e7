//! How far an adapter moves a layer: the Frobenius norm of B A, without forming B A.
//!
//! ```text
//! ||B A||^2 = trace(A^T B^T B A) = sum over i, j of (B^T B)_ij (A A^T)_ij
//! ```
//!
//! Two Gram matrices of (rank, rank), in f64, instead of a product of (d_out, d_in).

use super::Adapter;

/// The norm of an adapter's whole update: the root of the sum over modules of ||scale B A||^2.
pub fn adapter_norm(adapter: &Adapter) -> f64 {
    let square = |module: &super::ModuleLayout| {
        let (a, b) = (&adapter.data[module.a.clone()], &adapter.data[module.b.clone()]);
        (f64::from(module.scale) * update_norm(a, b, module.rank)).powi(2)
    };
    adapter.layout.modules.iter().map(square).sum::<f64>().sqrt()
}

/// ||B A|| for `a` of shape (rank, d_in) and `b` of shape (d_out, rank), both row-major.
pub(super) fn update_norm(a: &[f32], b: &[f32], rank: usize) -> f64 {
    let d_in = a.len() / rank;
    let mut gram_a = vec![0.0; rank * rank]; // A A^T
    let mut column = vec![0.0; rank];
    for k in 0..d_in {
        column.iter_mut().zip(a.iter().skip(k).step_by(d_in)).for_each(|(to, &from)| *to = from);
        add_outer(&mut gram_a, &column);
    }
    let mut gram_b = vec![0.0; rank * rank]; // B^T B
    for row in b.chunks_exact(rank) {
        add_outer(&mut gram_b, row);
    }
    let square: f64 = gram_a.iter().zip(&gram_b).map(|(left, right)| left * right).sum();
    square.max(0.0).sqrt() // rounding may leave a tiny negative where B A is 0
}

/// gram += x x^T, in f64.
fn add_outer(gram: &mut [f64], x: &[f32]) {
    for (row, &left) in gram.chunks_exact_mut(x.len()).zip(x) {
        for (sum, &right) in row.iter_mut().zip(x) {
            *sum += f64::from(left) * f64::from(right);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::update_norm;

    #[test]
    fn equals_the_norm_of_the_formed_product() {
        // `inspect` would print norms that are not the update's.
        for (rank, d_in, d_out) in [(1, 1, 1), (2, 5, 3), (4, 3, 7), (8, 16, 16)] {
            let value = |i: usize| ((i * 37 + 11) % 23) as f32 / 7.0 - 1.5;
            let a: Vec<f32> = (0..rank * d_in).map(value).collect();
            let b: Vec<f32> = (0..d_out * rank).map(|i| value(i + 5)).collect();
            let mut square = 0.0;
            for row in 0..d_out {
                for column in 0..d_in {
                    let entry: f64 = (0..rank)
                        .map(|k| f64::from(b[row * rank + k]) * f64::from(a[k * d_in + column]))
                        .sum();
                    square += entry * entry;
                }
            }
            let (norm, wanted) = (update_norm(&a, &b, rank), square.sqrt());
            assert!((norm - wanted).abs() <= 1e-12 * wanted, "{norm} is not {wanted}");
        }
    }
}
