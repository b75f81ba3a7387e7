//! What a decoder takes of a GPU's memory, counted before anything is allocated.
//!
//! `total = base + adapters + rotary tables + workspace(rows) + cache(sequences)`, as
//! `backend::cuda::memory` lays them out: weights in their own types, all else in f32. What the
//! first three leave is given to rows in flight and to sequences. Sums saturate, so that sizes
//! beyond all memory are never fewer bytes than they claim. Knows no driver.

use super::config::{Config, Output};
use super::decoder::Application;
use super::lora::{PRODUCTS, sizes};
use super::weights::{Keep, LINEARS};
use crate::adapter::Layout;
use crate::backend::Limits;
use crate::error::{Error, Result};
use crate::tensors::Dtype;

/// Columns, and rows of weights, are padded to so many.
const PADDING: usize = 32;
#[cfg(any(feature = "cuda", feature = "kernel-tests"))]
const _: () = assert!(PADDING == crate::backend::cuda::memory::PADDING);

/// One byte in so many is left to the driver: its own state, the kernels' code, and the ends of
/// allocations, which it rounds up.
const RESERVE: usize = 16;

/// Rows in flight come in steps of a product's tile, up to where more no longer fill a GPU better.
const ROWS_STEP: usize = 64;
const MOST_ROWS: usize = 8192;

/// Sequences of a batch, and rows of logits held together, at most: a row of them is a row of the
/// vocabulary.
const MOST_SEQUENCES: usize = 256;

/// Of what the smallest batch leaves, one part in so many goes to rows, the rest to sequences.
const ROWS_SHARE: usize = 4;

/// The adapters that are held at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// How many.
    pub n_adapters: usize,
    /// Numbers in all factors of one.
    pub len: usize,
    /// The largest rank.
    pub rank: usize,
}

impl Held {
    /// `n_adapters` of this layout.
    pub fn of(layout: &Layout, n_adapters: usize) -> Self {
        let rank = layout.modules.iter().map(|module| module.rank).max().unwrap_or(0);
        Self { n_adapters, len: layout.len, rank }
    }
}

/// What a device is to hold.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// The decoder's sizes.
    pub config: &'a Config,
    /// Bytes of all its weights: [`base_bytes`].
    pub base_bytes: usize,
    /// How adapters are applied to it.
    pub application: Application,
    /// Those that are held at once.
    pub held: Held,
    /// Tokens of a sequence, prompt and answer.
    pub n_positions: usize,
    /// The device's free memory.
    pub free_bytes: usize,
}

/// How a device's memory is used.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The device's free memory.
    pub free_bytes: usize,
    /// Of it, what is left to the driver.
    pub reserve_bytes: usize,
    /// All weights, the embedding's and the output matrix's each on its own even where tied.
    pub base_bytes: usize,
    /// Merged copies of the linears, or factors, of all adapters.
    pub adapter_bytes: usize,
    /// The rotary embedding's cosines and sines.
    pub rotary_bytes: usize,
    /// Activations of the rows in flight, and logits.
    pub workspace_bytes: usize,
    /// Of it, the activations of one row.
    pub row_bytes: usize,
    /// Of it, the logits of one row.
    pub logit_row_bytes: usize,
    /// Keys and values of one sequence.
    pub sequence_bytes: usize,
    /// What follows: how much is done at once. `cache_bytes` are those of all sequences.
    pub limits: Limits,
}

impl Plan {
    /// Divides a device's memory.
    ///
    /// # Errors
    /// The device cannot hold even one sequence and the fewest rows: every part with its size.
    pub fn new(demand: &Demand) -> Result<Self> {
        let smallest = Self::of(demand, ROWS_STEP, cache_bytes(demand.config, demand.n_positions));
        let most = demand.free_bytes - smallest.reserve_bytes;
        let Some(left) = most.checked_sub(smallest.total_bytes()) else {
            return Err(smallest.refusal(demand));
        };
        let for_rows = smallest.workspace_bytes + left / ROWS_SHARE;
        let n_steps = (1..=MOST_ROWS / ROWS_STEP)
            .rfind(|n_steps| smallest.workspace(n_steps * ROWS_STEP) <= for_rows);
        let n_rows = n_steps.unwrap_or(1) * ROWS_STEP;
        // With all rows that there may be, sequences get what is over.
        let for_rows = if n_rows == MOST_ROWS { smallest.workspace(n_rows) } else { for_rows };
        let cache_bytes = smallest.sequence_bytes + left + smallest.workspace_bytes - for_rows;
        Ok(Self::of(demand, n_rows, cache_bytes))
    }

    /// Bytes of all parts but the reserve.
    pub fn total_bytes(&self) -> usize {
        self.parts().into_iter().fold(0, usize::saturating_add)
    }

    /// Base, adapters, rotary tables, workspace, cache.
    pub fn parts(&self) -> [usize; 5] {
        let Self { base_bytes, adapter_bytes, rotary_bytes, workspace_bytes, .. } = *self;
        [base_bytes, adapter_bytes, rotary_bytes, workspace_bytes, self.limits.cache_bytes]
    }

    fn of(demand: &Demand, n_rows: usize, all_cache_bytes: usize) -> Self {
        let Demand { config, base_bytes, application, held, n_positions, free_bytes } = *demand;
        let sequence_bytes = cache_bytes(config, n_positions);
        let fit = all_cache_bytes / sequence_bytes.max(1);
        let mut plan = Self {
            free_bytes,
            reserve_bytes: free_bytes / RESERVE,
            base_bytes,
            adapter_bytes: adapter_bytes(config, application, held),
            rotary_bytes: product(&[padded(n_positions), config.head_dim, size_of::<f32>()]),
            workspace_bytes: 0,
            row_bytes: row_bytes(config, application, held),
            logit_row_bytes: product(&[padded(config.vocab_size), size_of::<f32>()]),
            sequence_bytes,
            limits: Limits {
                prefill_rows: n_rows,
                logit_rows: n_rows.min(MOST_SEQUENCES),
                cache_bytes: all_cache_bytes,
                batch: n_rows.min(MOST_SEQUENCES).min(fit).max(1),
                max_batch: n_rows.min(MOST_SEQUENCES),
                mixes_adapters: true,
            },
        };
        plan.workspace_bytes = plan.workspace(n_rows);
        plan
    }

    /// Bytes that go with `n_rows` in flight.
    fn workspace(&self, n_rows: usize) -> usize {
        let logits = product(&[n_rows.min(MOST_SEQUENCES), self.logit_row_bytes]);
        product(&[n_rows, self.row_bytes]).saturating_add(logits)
    }

    fn refusal(&self, demand: &Demand) -> Error {
        let [base, adapters, rotary, workspace, cache] = self.parts().map(readable);
        let needed = self.total_bytes().saturating_add(self.reserve_bytes);
        let adapters = match demand.held.n_adapters {
            0 => String::new(),
            1 => format!("one adapter {adapters}, "),
            n => format!("{n} adapters {adapters}, "),
        };
        Error::Usage(format!(
            "the device's memory is too small: the base takes {base}, {adapters}the rotary tables \
             {rotary}, the workspace of {} rows {workspace}, the key-value cache of one sequence \
             of {} tokens {cache}, and {} stay free for the driver; the device has {} free, {} \
             are missing",
            self.limits.prefill_rows,
            demand.n_positions,
            readable(self.reserve_bytes),
            readable(self.free_bytes),
            readable(needed - self.free_bytes),
        ))
    }
}

/// Bytes of all weights on a device; `dtype_of` tells the type of the tensor of a name and shape.
pub fn base_bytes(
    config: &Config,
    keep: Keep,
    dtype_of: impl Fn(&str, &[usize]) -> Result<Dtype>,
) -> Result<usize> {
    let Config { dim, vocab_size, .. } = *config;
    let norms = product(&[2 * config.n_layers + 1, dim, size_of::<f32>()]);
    let embedding_name = "model.embed_tokens.weight";
    let embedding = dtype_of(embedding_name, &[vocab_size, dim])?;
    let output = match config.output {
        Output::Tied => embedding,
        Output::Separate => dtype_of("lm_head.weight", &[vocab_size, dim])?,
    };
    let mut n_bytes = norms
        .saturating_add(product(&[vocab_size, dim, embedding.n_bytes()]))
        .saturating_add(weights_bytes(dim, &[vocab_size], keep.storage(&[output])));
    for layer_idx in 0..config.n_layers {
        for linear_idxs in PRODUCTS {
            let mut dtypes = Vec::with_capacity(linear_idxs.len());
            for linear_idx in linear_idxs {
                let name = format!("model.layers.{layer_idx}.{}.weight", LINEARS[*linear_idx]);
                let (n_out, n_in) = sizes(config, *linear_idx);
                dtypes.push(dtype_of(&name, &[n_out, n_in])?);
            }
            let of_product = product_bytes(config, linear_idxs, keep.storage(&dtypes));
            n_bytes = n_bytes.saturating_add(of_product);
        }
    }
    Ok(n_bytes)
}

/// Bytes of the key-value cache of a sequence of `n_positions`.
pub fn cache_bytes(config: &Config, n_positions: usize) -> usize {
    let per_head = config.head_dim.saturating_add(padded(config.head_dim));
    let heads = [config.n_layers, config.n_kv_heads, per_head];
    product(&[product(&heads), padded(n_positions), size_of::<f32>()])
}

/// A number of bytes as a person says it: "17.4 GiB".
pub fn readable(n_bytes: usize) -> String {
    let (unit, name) = match n_bytes {
        0..0x400 => return format!("{n_bytes} B"),
        0x400..0x10_0000 => (0x400, "KiB"),
        0x10_0000..0x4000_0000 => (0x10_0000, "MiB"),
        _ => (0x4000_0000, "GiB"),
    };
    format!("{:.1} {name}", n_bytes as f64 / f64::from(unit))
}

/// Merged: each adapter's copy of the linears, and the factors of the one that is being added.
fn adapter_bytes(config: &Config, application: Application, held: Held) -> usize {
    let factors = product(&[held.len, size_of::<f32>()]);
    match application {
        Application::Unmerged => product(&[held.n_adapters, factors]),
        Application::Merged if held.n_adapters == 0 => 0,
        Application::Merged => {
            let of_layer = PRODUCTS.iter().map(|idxs| product_bytes(config, idxs, Dtype::F32));
            let of_layer = of_layer.fold(0, usize::saturating_add);
            product(&[held.n_adapters, config.n_layers, of_layer]).saturating_add(factors)
        }
    }
}

/// What `model::forward::State` keeps of a row, with what stands beside it in `backend::cuda`.
fn row_bytes(config: &Config, application: Application, held: Held) -> usize {
    let (dim, q_dim) = (padded(config.dim), padded(product(&[config.n_heads, config.head_dim])));
    let side_by_side = |linear_idxs: &[usize]| {
        linear_idxs.iter().map(|idx| padded(sizes(config, *idx).0)).fold(0, usize::saturating_add)
    };
    let rank = match application {
        Application::Unmerged => padded(held.rank),
        Application::Merged => 0,
    };
    let values = [
        // x and attended, and the rows of each that wait: these grow to twice what is wanted, and
        // change places with the others; while one grows, it is there in both sizes.
        product(&[4, dim.saturating_add(q_dim)]),
        dim.max(q_dim),
        product(&[2, dim]), // normed, out
        side_by_side(PRODUCTS[0]),
        side_by_side(PRODUCTS[2]),
        rank, // A x
    ];
    // Token, and twice slot, position, adapter and a tile of three; the result in f64.
    const INTS: usize = (1 + 2 * (3 + 3)) * size_of::<i32>() + size_of::<f64>();
    let values = values.into_iter().fold(0, usize::saturating_add);
    product(&[values, size_of::<f32>()]).saturating_add(INTS)
}

fn product_bytes(config: &Config, linear_idxs: &[usize], storage: Dtype) -> usize {
    let n_in = sizes(config, linear_idxs[0]).1;
    let n_out: Vec<usize> = linear_idxs.iter().map(|idx| sizes(config, *idx).0).collect();
    weights_bytes(n_in, &n_out, storage)
}

/// Matrices one below the other, each padded; rows begin at multiples of 16 bytes.
fn weights_bytes(n_in: usize, n_out: &[usize], storage: Dtype) -> usize {
    let n_rows = n_out.iter().map(|n_out| padded(*n_out)).fold(0, usize::saturating_add);
    let row_bytes = up_to(product(&[n_in, storage.n_bytes()]), 16);
    product(&[n_rows, row_bytes])
}

fn padded(n: usize) -> usize {
    up_to(n, PADDING)
}

fn up_to(n: usize, multiple: usize) -> usize {
    n.checked_next_multiple_of(multiple).unwrap_or(usize::MAX)
}

fn product(factors: &[usize]) -> usize {
    // A factor of zero first, or the order would matter where others saturate.
    if factors.contains(&0) {
        return 0;
    }
    factors.iter().fold(1, |product, factor| product.saturating_mul(*factor))
}
