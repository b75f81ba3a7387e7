//! An adapter's place in the decoder, and the two ways to apply it.
//!
//! *Merged*: each linear's packed weights plus `scale * B A`, in f32, made once per adapter. Costs
//! rank multiply-adds per weight and a copy of the linears; then a token costs what the base costs.
//! *Unmerged*: `y = W x + scale * B (A x)`, as PEFT computes it, with the base shared by all.

use std::path::Path;

use super::config::Config;
use super::weights::{LINEARS, Layer, Linears};
use crate::adapter::Layout;
use crate::backend::{Backend, Factors};
use crate::error::{Error, Result};

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
pub(super) fn sizes(config: &Config, linear_idx: usize) -> (usize, usize) {
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

/// The linears of every layer as the adapters of a set make them.
pub enum Adapted<B: Backend> {
    /// No adapter: a set of one.
    Base,
    /// For each adapter, copies of the base's linears with the update added.
    Merged(Vec<Vec<Linears<B>>>),
    /// The updates' factors, applied beside the base's linears.
    Unmerged {
        /// How many adapters.
        n_adapters: usize,
        /// For each layer, what stands beside its four products.
        layers: Vec<[Option<B::Update>; 4]>,
    },
}

/// Which linears share a product.
pub const PRODUCTS: [&[usize]; 4] = [&[0, 1, 2], &[3], &[4, 5], &[6]];

impl<B: Backend> Adapted<B> {
    /// Adds the updates of each of `n_adapters`, which have this layout, to copies of the base's
    /// linears, which must be kept in f32.
    pub fn merge(
        backend: &B,
        base: &[Layer<B>],
        places: &Places,
        layout: &Layout,
        adapters: &B::Adapters<'_>,
        n_adapters: usize,
    ) -> Result<Self> {
        let merge = |adapter_idx: usize| -> Result<Vec<Linears<B>>> {
            let layer = |(layer, places): (&Layer<B>, &[Option<usize>; 7])| {
                let merged = |product: usize, weights: &B::Weights| {
                    let factors = factors(places, PRODUCTS[product], layout);
                    backend.merged(weights, &factors, adapters, adapter_idx)
                };
                let Linears { qkv, o, gate_up, down } = &layer.linears;
                Ok(Linears {
                    qkv: merged(0, qkv)?,
                    o: merged(1, o)?,
                    gate_up: merged(2, gate_up)?,
                    down: merged(3, down)?,
                })
            };
            base.iter().zip(&places.0).map(layer).collect()
        };
        let merged = backend.in_parallel(n_adapters, |idx, _| merge(idx));
        Ok(Self::Merged(merged.into_iter().collect::<Result<_>>()?))
    }

    /// Makes the factors of `n_adapters`, which have this layout, ready for use beside the base's
    /// linears.
    pub fn beside(
        backend: &B,
        config: &Config,
        places: &Places,
        layout: &Layout,
        adapters: &B::Adapters<'_>,
        n_adapters: usize,
    ) -> Result<Self> {
        let update = |places: &[Option<usize>; 7], linear_idxs: &[usize]| {
            let factors = factors(places, linear_idxs, layout);
            let n_in = sizes(config, linear_idxs[0]).1;
            let update = || backend.update(n_in, &factors, adapters);
            (!factors.is_empty()).then(update).transpose()
        };
        let layer = |places: &[Option<usize>; 7]| -> Result<[Option<B::Update>; 4]> {
            let [qkv, o, gate_up, down] = PRODUCTS;
            Ok([
                update(places, qkv)?,
                update(places, o)?,
                update(places, gate_up)?,
                update(places, down)?,
            ])
        };
        let layers = places.0.iter().map(layer).collect::<Result<_>>()?;
        Ok(Self::Unmerged { n_adapters, layers })
    }

    /// How many adapters the set holds.
    pub fn n_adapters(&self) -> usize {
        match self {
            Self::Base => 1,
            Self::Merged(adapters) => adapters.len(),
            Self::Unmerged { n_adapters, .. } => *n_adapters,
        }
    }

    /// Whether rows of one batch may belong to different adapters of the set.
    pub fn mixes(&self) -> bool {
        !matches!(self, Self::Merged(_))
    }
}

/// Where the factors of the adapted ones of these linears stand.
fn factors(places: &[Option<usize>; 7], linear_idxs: &[usize], layout: &Layout) -> Vec<Factors> {
    let of = |(part_idx, linear_idx): (usize, &usize)| {
        let module = &layout.modules[places[*linear_idx]?];
        let (a, b) = (module.a.clone(), module.b.clone());
        Some(Factors { part_idx, a, b, rank: module.rank, scale: module.scale })
    };
    linear_idxs.iter().enumerate().filter_map(of).collect()
}
