//! From locations to adapters: rows of coefficients over the pool become weights.

use std::sync::Arc;

use super::{Adapter, Pool};
use crate::backend::cpu::Isa;
use crate::backend::cpu::combine::combine;

/// The adapters at the given locations, each a row of coefficients over the pool's experts. A and B
/// are combined separately, as the paper's method has it (`x = sum c_i x_i` on the raw tensors).
///
/// Coefficients are rounded to f32 once; the sums run in f32, experts in order.
pub fn materialise(isa: Isa, pool: &Pool, locations: &[&[f64]]) -> Vec<Adapter> {
    let layout = pool.layout();
    let coefficients: Vec<Vec<f32>> =
        locations.iter().map(|row| row.iter().map(|c| *c as f32).collect()).collect();
    let mut outs = vec![vec![0.0; layout.len]; locations.len()];
    let read = |expert_idx: usize, start: usize, values: &mut [f32]| {
        pool.experts[expert_idx].read(start, values);
    };
    combine(isa, &read, &coefficients, &mut outs);
    outs.into_iter().map(|data| Adapter::new(Arc::clone(layout), data)).collect()
}
