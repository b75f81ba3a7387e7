//! An adapter's place in the decoder, and the two ways to apply it.
//!
//! *Merged*: each linear's packed weights plus `scale * B A`, in f32, made once per adapter. Costs
//! rank multiply-adds per weight and a copy of the linears; then a token costs what the base costs.
//! *Unmerged*: `y = W x + scale * B (A x)`, as PEFT computes it, with the base shared by all.

use std::path::Path;

use super::config::Config;
use super::weights::{LINEARS, Layer, Linears};
use crate::adapter::{Adapter, Layout};
use crate::backend::cpu::Isa;
use crate::backend::cpu::low_rank::add_low_rank;
use crate::backend::cpu::packed::{Part, Weights};
use crate::error::{Error, Result};
use crate::tensors::Dtype;

/// For each layer and each of the seven linears: the adapter's module there, as an index into its
/// layout.
#[derive(Debug, Clone)]
pub struct Places(Vec<[Option<usize>; LINEARS.len()]>);

impl Places {
    /// Finds every module of the layout in the decoder.
    ///
    /// # Errors
    /// A module that the decoder does not have, or one of other sizes; `source` is where it stands.
    pub fn find(layout: &Layout, config: &Config, source: &Path) -> Result<Self> {
        let mut places = vec![[None; LINEARS.len()]; config.n_layers];
        for (module_idx, module) in layout.modules.iter().enumerate() {
            let Some((layer_idx, linear_idx)) = place_of(&module.name, config.n_layers) else {
                let what =
                    format!("module {:?} is not a linear layer of the base model", module.name);
                return Err(Error::input(source, what));
            };
            let wanted = sizes(config, linear_idx);
            if (module.d_out, module.d_in) != wanted {
                let what = format!(
                    "module {:?} maps {} to {} values, the base model's maps {} to {}",
                    module.name, module.d_in, module.d_out, wanted.1, wanted.0
                );
                return Err(Error::input(source, what));
            }
            places[layer_idx][linear_idx] = Some(module_idx);
        }
        Ok(Self(places))
    }
}

/// "model.layers.3.mlp.up_proj" -> (3, 5)
fn place_of(name: &str, n_layers: usize) -> Option<(usize, usize)> {
    let (layer, linear) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let layer_idx = layer.parse().ok().filter(|idx| *idx < n_layers)?;
    Some((layer_idx, LINEARS.iter().position(|known| *known == linear)?))
}

/// (outputs, inputs) of a linear.
fn sizes(config: &Config, linear_idx: usize) -> (usize, usize) {
    let q_dim = config.n_heads * config.head_dim;
    let kv_dim = config.n_kv_heads * config.head_dim;
    match linear_idx {
        0 => (q_dim, config.dim),
        1 | 2 => (kv_dim, config.dim),
        3 => (config.dim, q_dim),
        4 | 5 => (config.ffn_dim, config.dim),
        _ => (config.dim, config.ffn_dim),
    }
}

/// The linears of every layer as one adapter makes them.
pub enum Adapted {
    /// No adapter.
    Base,
    /// Copies of the base's linears with the update added.
    Merged(Vec<Linears>),
    /// The update's factors, applied beside the base's linears.
    Unmerged(Vec<[Lora; 4]>),
}

/// The updates beside one product (qkv, o, gate and up, or down).
#[derive(Default)]
pub struct Lora {
    /// All A's that read this input, stacked: (sum of ranks, n_in).
    pub down: Option<Weights>,
    /// One per adapted part.
    pub ups: Vec<Up>,
}

/// One part's B.
pub struct Up {
    /// Which part of the product it adds to.
    pub part_idx: usize,
    /// Its first column in the stacked A's output.
    pub first_col: usize,
    /// scale * B: (n_out, rank)
    pub weights: Weights,
}

/// Which linears share a product.
pub const PRODUCTS: [&[usize]; 4] = [&[0, 1, 2], &[3], &[4, 5], &[6]];

impl Adapted {
    /// Adds the adapter's updates to copies of the base's linears, which must be kept in f32.
    pub fn merge(isa: Isa, base: &[Layer], places: &Places, adapter: &Adapter) -> Self {
        let merged = base.iter().zip(&places.0).map(|(layer, places)| {
            let mut linears = layer.linears.clone();
            for (weights, linear_idxs) in linears.products_mut().into_iter().zip(PRODUCTS) {
                let n_in = weights.n_in();
                for (part_idx, &linear_idx) in linear_idxs.iter().enumerate() {
                    let Some(module_idx) = places[linear_idx] else { continue };
                    let module = &adapter.layout.modules[module_idx];
                    let a = &adapter.data[module.a.clone()];
                    let b = &adapter.data[module.b.clone()];
                    add_low_rank(isa, weights.part_mut(part_idx), n_in, a, b, module.scale);
                }
            }
            linears
        });
        Self::Merged(merged.collect())
    }

    /// Packs the adapter's factors for use beside the base's linears.
    pub fn beside(places: &Places, adapter: &Adapter) -> Self {
        let layers = places.0.iter().map(|places| PRODUCTS.map(|idxs| lora(places, idxs, adapter)));
        Self::Unmerged(layers.collect())
    }
}

fn lora(places: &[Option<usize>; 7], linear_idxs: &[usize], adapter: &Adapter) -> Lora {
    let mut stacked: Vec<&[f32]> = Vec::new(); // rows of A, all of one length
    let mut ups = Vec::new();
    for (part_idx, &linear_idx) in linear_idxs.iter().enumerate() {
        let Some(module_idx) = places[linear_idx] else { continue };
        let module = &adapter.layout.modules[module_idx];
        let (rank, scale) = (module.rank, module.scale);
        let b = &adapter.data[module.b.clone()];
        let read = move |out: usize, row: &mut [f32]| {
            for (to, from) in row.iter_mut().zip(&b[out * rank..][..rank]) {
                *to = scale * from;
            }
        };
        let part = Part { n_out: module.d_out, read: Box::new(read) };
        let weights = Weights::pack(rank, &[part], Dtype::F32);
        ups.push(Up { part_idx, first_col: stacked.len(), weights });
        stacked.extend(adapter.data[module.a.clone()].chunks_exact(module.d_in));
    }
    let down = stacked.first().map(|first| {
        let (n_in, n_out) = (first.len(), stacked.len());
        let read = |out: usize, row: &mut [f32]| row.copy_from_slice(stacked[out]);
        Weights::pack(n_in, &[Part { n_out, read: Box::new(read) }], Dtype::F32)
    });
    Lora { down, ups }
}
