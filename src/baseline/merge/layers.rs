//! One row of coefficients for each layer: EvolMerge's interpolation of two experts is
//! `[t_l, 1 - t_l]` in layer l, for both factors of all its modules.

use super::Tensors;
use super::linear::{Divide, linear};
use crate::adapter::{Adapter, Layout, Pool};
use crate::error::{Error, Result};

/// The adapter of which layer l is `sum_i rows[l][i] x_i`, factor by factor; each row has one
/// coefficient for each expert of the pool.
///
/// # Errors
/// A module that is in no layer, or in one that has no row.
pub fn merge_layers(pool: &Pool, rows: &[&[f64]]) -> Result<Adapter> {
    let layout = pool.layout();
    let mut adapter = Adapter::zeros(layout.clone());
    for (module_idx, module) in layout.modules.iter().enumerate() {
        let Some(row) = layer_of(&module.name).and_then(|layer_idx| rows.get(layer_idx)) else {
            let n_rows = rows.len();
            let what = format!("module {:?} is in none of {n_rows} layers", module.name);
            return Err(Error::input(pool.experts[0].dir(), what));
        };
        let a: Vec<_> = pool.experts.iter().map(|expert| expert.a(module_idx).to_f32()).collect();
        let b: Vec<_> = pool.experts.iter().map(|expert| expert.b(module_idx).to_f32()).collect();
        for (half, range) in [(a, &module.a), (b, &module.b)] {
            let half: Vec<&[f32]> = half.iter().map(Vec::as_slice).collect();
            let merged = linear(Tensors::new(&half), row, Divide::ByNothing);
            adapter.data[range.clone()].copy_from_slice(&merged);
        }
    }
    Ok(adapter)
}

/// The layer that a module is in: the first number between dots in its name.
pub fn layer_of(module: &str) -> Option<usize> {
    module.split('.').find_map(|part| part.parse().ok())
}

/// The number of layers up to the last that is adapted; `None` where a module is in no layer.
pub fn n_layers(layout: &Layout) -> Option<usize> {
    let layers: Option<Vec<usize>> =
        layout.modules.iter().map(|module| layer_of(&module.name)).collect();
    layers?.into_iter().max()?.checked_add(1)
}
