//! Attention: its launches, and the sizes that its kernels can compute.

use super::driver::{Arg, Chip, Driver, FIXED_SHARED_BYTES, Family};
use super::memory::{Cache, Matrix, size_of_dtype};
use super::ops::{Ops, is_fast};
use super::rows::{Addresses, Rows};
use crate::backend::Heads;
use crate::error::Result;
use crate::tensors::Dtype;

/// Values of a head, at most.
const MAX_HEAD_DIM: usize = 256;

/// Query rows of a tile, of all heads that share a key head.
pub fn query_rows(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F32 => 32,
        Dtype::F16 | Dtype::BF16 => 64,
    }
}

/// Why attention of these sizes, of activations of a type, cannot be computed on a chip, if it
/// cannot.
pub fn refusal(heads: &Heads, dtype: Dtype, chip: Chip) -> Option<String> {
    let Heads { n_heads, n_kv_heads, head_dim, .. } = *heads;
    let chunk = 16 / size_of_dtype(dtype);
    if head_dim > MAX_HEAD_DIM || !head_dim.is_multiple_of(chunk) {
        return Some(format!(
            "head_dim {head_dim}, wanted a multiple of {chunk}, at most {MAX_HEAD_DIM}"
        ));
    }
    let (group, most) = (n_heads / n_kv_heads, query_rows(dtype));
    if group > most {
        return Some(format!("{group} query heads share a key head, wanted at most {most}"));
    }
    let (wanted, most) = (exact_prompt_bytes(head_dim), most_shared_bytes(chip));
    (dtype == Dtype::F32 && wanted > most).then(|| {
        format!("head_dim {head_dim} takes {wanted} bytes of shared memory, its blocks have {most}")
    })
}

/// Positions of a sequence, at most, whose next token a chip can decode.
pub fn most_positions(head_dim: usize, dtype: Dtype, chip: Chip) -> usize {
    match dtype {
        Dtype::F32 => most_shared_bytes(chip) / size_of::<f32>() - head_dim,
        Dtype::F16 | Dtype::BF16 => usize::MAX,
    }
}

/// Shared memory that a launch may choose.
fn most_shared_bytes(chip: Chip) -> usize {
    chip.shared_bytes - FIXED_SHARED_BYTES
}

/// Of attention_prefill_*_v2: queries, keys and scores of a tile.
fn exact_prompt_bytes(head_dim: usize) -> usize {
    (96 * head_dim + 1024) * size_of::<f32>()
}

/// Of attention_decode_v2: a query, and a score for each position.
fn exact_step_bytes(head_dim: usize, n_positions: usize) -> usize {
    (head_dim + n_positions) * size_of::<f32>()
}

/// The size of heads that attention's kernels are compiled for, at least `head_dim`.
fn template_of(head_dim: usize) -> usize {
    match head_dim {
        0..=64 => 64,
        65..=128 => 128,
        _ => MAX_HEAD_DIM,
    }
}

impl<D: Driver> Ops<'_, D> {
    fn heads(&self, cache: &Cache<D>) -> Arg {
        let Heads { n_heads, n_kv_heads, head_dim, window, score_factor } = cache.heads();
        let window = window.unwrap_or(0);
        Arg::heads([n_heads, n_kv_heads, head_dim, cache.capacity, window], score_factor)
    }

    pub fn rotate_append(
        &self,
        qkv: &Matrix<D>,
        [k_col, v_col]: [usize; 2],
        rows: &Rows<D>,
        cache: &Cache<D>,
        layer_idx: usize,
    ) -> Result<()> {
        assert_eq!(qkv.n_rows, rows.n_rows, "a position for each row");
        let col = |col: usize| Arg::address(qkv.at(self.0, 0, col));
        let Addresses { slots, positions, .. } = rows.addresses(self.0);
        let [slots, positions] = [slots, positions].map(Arg::address);
        let [cos, sin] = cache.angles(self.0).map(Arg::address);
        let [keys, values] = cache.layer(self.0, layer_idx).map(Arg::address);
        let args = [
            col(0),
            col(k_col),
            col(v_col),
            cos,
            sin,
            slots,
            positions,
            keys,
            values,
            self.heads(cache),
            Arg::int(qkv.stride),
        ];
        let kernel = if is_fast(qkv) { "rope_append_fast_v1" } else { "rope_append_v1" };
        self.start(kernel, [rows.n_rows, 1, 1], 128, 0, &args)
    }

    pub fn attend_prompts(
        &self,
        qkv: &Matrix<D>,
        rows: &Rows<D>,
        cache: &Cache<D>,
        layer_idx: usize,
        out: &Matrix<D>,
    ) -> Result<()> {
        let Heads { n_kv_heads, head_dim, .. } = cache.heads();
        assert!(head_dim.is_multiple_of(4) && head_dim <= MAX_HEAD_DIM, "{head_dim} values");
        let template = template_of(head_dim);
        let Addresses { slots, positions, tiles, .. } = rows.addresses(self.0);
        let [slots, positions, tiles] = [slots, positions, tiles].map(Arg::address);
        let [keys, values] = cache.layer(self.0, layer_idx).map(Arg::address);
        let args = [
            self.at(qkv),
            keys,
            values,
            slots,
            positions,
            tiles,
            self.at(out),
            self.heads(cache),
            Arg::int(qkv.stride),
            Arg::int(out.stride),
        ];
        let (kernel, shared_bytes) = match self.0.chip().family {
            _ if !is_fast(qkv) => {
                (format!("attention_prefill_{template}_v2"), exact_prompt_bytes(head_dim))
            }
            Family::Hopper => {
                (format!("attention_prefill_hopper_{template}_v3"), 384 * template + 1024)
            }
            Family::Ampere => {
                let shared_bytes = [24576, 49152, 65536][template / 128];
                (format!("attention_prefill_fast_{template}_v2"), shared_bytes)
            }
        };
        self.start(&kernel, [rows.n_tiles, n_kv_heads, 1], 128, shared_bytes, &args)
    }

    pub fn attend_steps(
        &self,
        qkv: &Matrix<D>,
        rows: &Rows<D>,
        cache: &Cache<D>,
        layer_idx: usize,
        out: &Matrix<D>,
    ) -> Result<()> {
        let Heads { n_heads, n_kv_heads, head_dim, .. } = cache.heads();
        assert!(head_dim <= MAX_HEAD_DIM, "heads of {head_dim} values");
        let longest = rows.spans.iter().map(|span| span.first + 1).max().unwrap_or(0);
        let Addresses { slots, positions, .. } = rows.addresses(self.0);
        let [slots, positions] = [slots, positions].map(Arg::address);
        let [keys, values] = cache.layer(self.0, layer_idx).map(Arg::address);
        let args = [
            self.at(qkv),
            keys,
            values,
            slots,
            positions,
            self.at(out),
            self.heads(cache),
            Arg::int(qkv.stride),
            Arg::int(out.stride),
        ];
        if is_fast(qkv) {
            let template = template_of(head_dim);
            let grid = [n_kv_heads, rows.n_rows, (n_heads / n_kv_heads).div_ceil(16)];
            let kernel = format!("attention_decode_fast_{template}_v2");
            return self.start(&kernel, grid, 128, 65536 + 32 * template, &args);
        }
        let shared_bytes = exact_step_bytes(head_dim, longest);
        self.start("attention_decode_v2", [n_heads, rows.n_rows, 1], 128, shared_bytes, &args)
    }
}
