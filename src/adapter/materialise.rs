//! From locations to adapters: rows of coefficients over the pool become weights.

use std::sync::Arc;

use rayon::prelude::*;

use super::{Adapter, Pool};
use crate::backend::cpu::Isa;
use crate::backend::cpu::combine::combine;
use crate::tensors::Tensor;

/// The adapters at the given locations, each a row of coefficients over the pool's experts. A and B
/// are combined separately, as the paper's method has it (`x = sum c_i x_i` on the raw tensors).
///
/// Coefficients are rounded to f32 once; the sums run in f32, experts in order.
pub fn materialise(isa: Isa, pool: &Pool, locations: &[&[f64]]) -> Vec<Adapter> {
    let mut adapters = Vec::new();
    materialise_into(isa, pool, locations, &mut adapters);
    adapters
}

/// As [`materialise`], in the memory of the adapters that `adapters` holds: they give way to those
/// at the given locations, and more are added as needed. Fresh memory comes page by page from the
/// system, which costs several times what the sums do. If there were more than locations, those
/// behind stay as they were.
pub fn materialise_into(isa: Isa, pool: &Pool, locations: &[&[f64]], adapters: &mut Vec<Adapter>) {
    let layout = pool.layout();
    adapters.retain(|adapter| Arc::ptr_eq(&adapter.layout, layout));
    let n_missing = locations.len().saturating_sub(adapters.len());
    adapters.par_extend(rayon::iter::repeat_n(layout, n_missing).cloned().map(Adapter::zeros));
    let outs = adapters.iter_mut().take(locations.len()).map(|adapter| &mut *adapter.data);
    combine(isa, &halves(pool), &rounded(locations), outs.collect());
}

/// A and B of every module, in the order of the flat vector; of each, every expert's.
pub fn halves(pool: &Pool) -> Vec<Vec<Tensor<'_>>> {
    let halves = (0..pool.layout().modules.len()).flat_map(|module_idx| {
        let a: Vec<Tensor> = pool.experts.iter().map(|expert| expert.a(module_idx)).collect();
        let b = pool.experts.iter().map(|expert| expert.b(module_idx)).collect();
        [a, b]
    });
    halves.collect()
}

/// Coefficients as the sums take them.
pub fn rounded(locations: &[&[f64]]) -> Vec<Vec<f32>> {
    locations.iter().map(|row| row.iter().map(|c| *c as f32).collect()).collect()
}
