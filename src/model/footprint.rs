//! What the parts of a decoder take of a device's memory, as `backend::cuda` lays them out.
//!
//! Precision `exact` keeps weights as the application asks and all else in f32; `fast` keeps
//! weights, activations, keys and values in bf16, the residual stream and the logits in f32, and
//! adapters in f32 until their factors have been made ready in bf16. Sums saturate, so that sizes
//! beyond all memory are never fewer bytes than they claim.

use super::config::{Config, Output};
use super::decoder::Application;
use super::lora::{PRODUCTS, sizes};
use super::weights::LINEARS;
use crate::backend::Precision;
use crate::error::Result;
use crate::tensors::Dtype;

/// Columns of activations are padded to so many, and positions of the cache.
const PADDING: usize = 32;
/// Flat vectors of adapters are padded to so many numbers.
const ROW: usize = 4;
/// Experts of which a device can make adapters.
pub(super) const MOST_EXPERTS: usize = 48;
/// In precision `fast`: where parts of a product begin, on the chip that has the widest tiles; what
/// ranks are padded to; rows of a tile, and inputs that a block takes of a product with A.
const TILE_COLS: usize = 256;
const RANKS: usize = 16;
const TILE_ROWS: usize = 128;
const SPLIT: usize = 4096;
#[cfg(any(feature = "cuda", feature = "kernel-tests"))]
const _: () = {
    use crate::backend::cuda::{adapters, fast, memory, rows};
    assert!(PADDING == memory::PADDING && ROW == adapters::ROW);
    assert!(MOST_EXPERTS == adapters::MOST_EXPERTS);
    assert!(TILE_COLS == fast::MOST_TILE_COLS && RANKS == fast::RANKS && SPLIT == fast::SPLIT);
    assert!(TILE_ROWS == rows::TILE_ROWS);
};

/// Bytes of the numbers that stay in f32 whatever the precision.
const WIDE: usize = size_of::<f32>();

/// A decoder as a device lays it out.
#[derive(Debug, Clone, Copy)]
pub struct Footprint<'a> {
    /// Its sizes.
    pub config: &'a Config,
    /// How exact it is.
    pub precision: Precision,
    /// How adapters are applied to it.
    pub application: Application,
}

impl Footprint<'_> {
    /// All weights; `dtype_of` tells the type of the tensor of a name and shape. A tied embedding
    /// is there once, as the output matrix.
    pub fn base_bytes(&self, dtype_of: impl Fn(&str, &[usize]) -> Result<Dtype>) -> Result<usize> {
        let Config { dim, vocab_size, n_layers, .. } = *self.config;
        let norms = product(&[2 * n_layers + 1, dim, WIDE]);
        let embedding = dtype_of("model.embed_tokens.weight", &[vocab_size, dim])?;
        let (output, table_bytes) = match self.config.output {
            Output::Tied => (embedding, 0),
            Output::Separate => {
                let output = dtype_of("lm_head.weight", &[vocab_size, dim])?;
                (output, product(&[vocab_size, dim, embedding.n_bytes()]))
            }
        };
        let output_bytes = self.weights_bytes(dim, &[vocab_size], self.storage(&[output]));
        let mut n_bytes = norms.saturating_add(table_bytes).saturating_add(output_bytes);
        for layer_idx in 0..n_layers {
            for linear_idxs in PRODUCTS {
                let mut dtypes = Vec::with_capacity(linear_idxs.len());
                for linear_idx in linear_idxs {
                    let name = format!("model.layers.{layer_idx}.{}.weight", LINEARS[*linear_idx]);
                    let (n_out, n_in) = sizes(self.config, *linear_idx);
                    dtypes.push(dtype_of(&name, &[n_out, n_in])?);
                }
                let of_product = self.product_bytes(linear_idxs, self.storage(&dtypes));
                n_bytes = n_bytes.saturating_add(of_product);
            }
        }
        Ok(n_bytes)
    }

    /// `n_adapters` of `len` numbers and this rank each: their flat vectors, and where they are
    /// merged, each one's copy of the linears.
    pub fn adapter_bytes(&self, n_adapters: usize, len: usize, rank: usize) -> usize {
        let copy = match self.application {
            Application::Unmerged => 0,
            Application::Merged => {
                let of_layer = PRODUCTS.iter().map(|idxs| self.product_bytes(idxs, Dtype::F32));
                product(&[self.config.n_layers, of_layer.fold(0, usize::saturating_add)])
            }
        };
        product(&[n_adapters, copy.saturating_add(self.beside_bytes(1, len, rank))])
    }

    /// The same where adapters stand beside the linears, however others are applied. Factors that
    /// were made ready are counted as if every linear had some.
    pub fn beside_bytes(&self, n_adapters: usize, len: usize, rank: usize) -> usize {
        let ready = match self.precision {
            Precision::Exact => 0,
            Precision::Fast => {
                let of_linear = |idx: &usize| {
                    let (n_out, n_in) = sizes(self.config, *idx);
                    up_to(n_in, 8).saturating_add(n_out)
                };
                let of_layer = PRODUCTS.iter().flat_map(|idxs| idxs.iter()).map(of_linear);
                let of_layer = of_layer.fold(0, usize::saturating_add);
                let narrow = self.activation_bytes();
                product(&[self.config.n_layers, of_layer, up_to(rank, RANKS), narrow])
            }
        };
        product(&[n_adapters, product(&[up_to(len, ROW), WIDE]).saturating_add(ready)])
    }

    /// Cosines and sines of so many positions.
    pub fn rotary_bytes(&self, n_positions: usize) -> usize {
        product(&[padded(n_positions), self.config.head_dim, WIDE])
    }

    /// Keys and values of a sequence.
    pub fn sequence_bytes(&self, n_positions: usize) -> usize {
        let Config { n_layers, n_kv_heads, head_dim, .. } = *self.config;
        let heads = product(&[n_layers, n_kv_heads, head_dim]);
        product(&[2, heads, padded(n_positions), self.activation_bytes()])
    }

    /// The logits of one row.
    pub fn logit_row_bytes(&self) -> usize {
        product(&[self.columns(&[self.config.vocab_size]), WIDE])
    }

    /// What `model::forward::State` keeps of a row, with what stands beside it in `backend::cuda`;
    /// `rank` is the largest of all adapters', of which a batch has `n_adapters` at most.
    pub fn row_bytes(&self, rank: usize, n_adapters: usize) -> usize {
        let config = self.config;
        let (narrow, dim) = (self.activation_bytes(), padded(config.dim));
        let q_dim = padded(product(&[config.n_heads, config.head_dim]));
        let x_bytes = product(&[dim, WIDE]);
        let attended_bytes = product(&[q_dim, narrow]);
        let side_by_side = |linear_idxs: &[usize]| {
            let n_out: Vec<usize> = linear_idxs.iter().map(|idx| sizes(config, *idx).0).collect();
            product(&[self.columns(&n_out), narrow])
        };
        // Token, and twice slot, position, adapter and a tile of three; the result in f64.
        const INTS: usize = (1 + 2 * (3 + 3)) * size_of::<i32>() + size_of::<f64>();
        let parts = [
            // x and attended, and the rows of each that wait: these grow to twice what is wanted,
            // and change places with the others; while one grows, it is there in both sizes.
            product(&[4, x_bytes.saturating_add(attended_bytes)]),
            x_bytes.max(attended_bytes),
            product(&[2, dim, narrow]), // normed, out
            side_by_side(PRODUCTS[0]),
            side_by_side(PRODUCTS[2]),
            self.shrunk_row_bytes(rank, n_adapters),
            INTS,
        ];
        parts.into_iter().fold(0, usize::saturating_add)
    }

    /// A x of a row, where adapters stand beside the linears. In precision `fast` a tile of rows
    /// has a slot for each of its adapters, and of wide inputs the sums of several blocks; half a
    /// tile, as few rows as there are, takes as much as a whole one.
    fn shrunk_row_bytes(&self, rank: usize, n_adapters: usize) -> usize {
        if self.precision == Precision::Exact {
            return product(&[padded(rank), WIDE]);
        }
        let slots = 2 * n_adapters.clamp(1, TILE_ROWS);
        let of_products = |bytes_of: &dyn Fn(usize) -> usize| {
            let of_product = |idxs: &&[usize]| product(&[idxs.len(), bytes_of(idxs[0])]);
            PRODUCTS.iter().map(of_product).max().unwrap_or(0)
        };
        let narrow = of_products(&|_| self.activation_bytes());
        let split = of_products(&|idx| match sizes(self.config, idx).1.div_ceil(SPLIT) {
            1 => 0,
            n_splits => product(&[n_splits, WIDE]),
        });
        // Two ints of a slot, and where the slots of a tile begin.
        let ints = (2 * slots + 2) * size_of::<i32>() / TILE_ROWS + 1;
        product(&[slots, up_to(rank, RANKS), narrow.saturating_add(split)]).saturating_add(2 * ints)
    }

    /// Bytes of a number of activations, keys and values.
    fn activation_bytes(&self) -> usize {
        match self.precision {
            Precision::Exact => WIDE,
            Precision::Fast => Dtype::BF16.n_bytes(),
        }
    }

    /// Columns of a row that a product makes, and rows of its weights: parts side by side.
    fn columns(&self, n_out: &[usize]) -> usize {
        let tile_cols = match self.precision {
            Precision::Exact => PADDING, // where parts begin
            Precision::Fast => TILE_COLS,
        };
        let add = |end, n_out: &usize| up_to(end, tile_cols).saturating_add(padded(*n_out));
        n_out.iter().fold(0, add)
    }

    /// The type of weights whose parts have these types in the file.
    fn storage(&self, of_parts: &[Dtype]) -> Dtype {
        match self.precision {
            Precision::Exact => self.application.keep().storage(of_parts),
            Precision::Fast => Dtype::BF16,
        }
    }

    fn product_bytes(&self, linear_idxs: &[usize], storage: Dtype) -> usize {
        let n_in = sizes(self.config, linear_idxs[0]).1;
        let n_out: Vec<usize> = linear_idxs.iter().map(|idx| sizes(self.config, *idx).0).collect();
        self.weights_bytes(n_in, &n_out, storage)
    }

    /// Matrices one below the other; rows begin at multiples of 16 bytes.
    fn weights_bytes(&self, n_in: usize, n_out: &[usize], storage: Dtype) -> usize {
        product(&[self.columns(n_out), up_to(product(&[n_in, storage.n_bytes()]), 16)])
    }
}

fn padded(n: usize) -> usize {
    up_to(n, PADDING)
}

fn up_to(n: usize, multiple: usize) -> usize {
    n.checked_next_multiple_of(multiple).unwrap_or(usize::MAX)
}

/// A product that saturates.
pub(super) fn product(factors: &[usize]) -> usize {
    // A factor of zero first, or the order would matter where others saturate.
    if factors.contains(&0) {
        return 0;
    }
    factors.iter().fold(1, |product, factor| product.saturating_mul(*factor))
}
