//! The products of precision fast, with what adapters add to them: launches of gemm_fast.cu,
//! gemm_hopper.cu, lora_fast.cu and lora_prepare_fast.cu.

use super::driver::{Arg, Chip, Driver, Family, Tensor};
use super::memory::{Factor, Fixed, Matrix, Weights};
use super::ops::{Ops, suffix};
use super::products::{Between, Product};
use super::rows::{Addresses, Rows, TILE_ROWS};
use crate::error::Result;
use crate::tensors::Dtype;

/// Ranks are padded to so many: what a tensor core takes at a time.
pub const RANKS: usize = 16;

/// Parts of a product that may have adapters.
const MOST_PARTS: usize = 3;

/// Inputs that a block of lora_shrink_fast_v3 takes; several blocks' sums are added afterwards.
pub const SPLIT: usize = 4096;

/// Inputs that gemm_hopper.cu takes at a time: the columns of its boxes.
const BOX_COLS: usize = 64;

/// Columns of the widest tile of any chip's product.
pub const MOST_TILE_COLS: usize = 256;

/// Columns of a tile of the product on a chip: parts that have adapters begin at multiples of it.
pub fn tile_cols(chip: Chip) -> usize {
    match chip.family {
        Family::Hopper => MOST_TILE_COLS,
        Family::Ampere => 128,
    }
}

/// The factors of all adapters for one product, in bf16.
pub struct Prepared<D: Driver> {
    a: Fixed<D>, // (n_adapters, n_parts, depth, lda)
    b: Fixed<D>, // the parts' one behind the other, each (n_adapters, n_out, depth): scale * B
    parts: Vec<PreparedPart>,
    n_b_rows: usize,
    depth: usize, // the largest rank, a multiple of 16
    lda: usize,
}

/// One part of it.
struct PreparedPart {
    part_idx: usize,
    n_out: usize,
    rank: usize,
    first_b_row: usize,
}

impl<D: Driver> Ops<'_, D> {
    /// The factors of a product of `n_in` inputs, made ready.
    pub fn prepare(&self, n_in: usize, factors: &[Factor<D>]) -> Result<Prepared<D>> {
        assert!(n_in > 0 && factors.len() <= MOST_PARTS, "{} parts of {n_in}", factors.len());
        let n_adapters = factors.first().map_or(0, |factor| factor.n_adapters);
        let rank = factors.iter().map(|factor| factor.rank).max().unwrap_or(0);
        let (depth, lda) = (rank.next_multiple_of(RANKS), n_in.next_multiple_of(8));
        let (mut parts, mut n_b_rows) = (Vec::new(), 0);
        for &Factor { part_idx, n_out, rank, .. } in factors {
            parts.push(PreparedPart { part_idx, n_out, rank, first_b_row: n_b_rows });
            n_b_rows += n_adapters * n_out;
        }
        let bytes = |n: usize| n * size_of::<u16>();
        let a_stride = factors.len() * depth * lda;
        let a = Fixed::unset(self.0, bytes(n_adapters * a_stride))?;
        let b = Fixed::unset(self.0, bytes(n_b_rows * depth))?;
        for (idx, (factor, part)) in factors.iter().zip(&parts).enumerate() {
            let part_a = Arg::address(a.address(self.0) + bytes(idx * depth * lda) as u64);
            let part_b = Arg::address(b.address(self.0) + bytes(part.first_b_row * depth) as u64);
            let [n_in, n_out, rank] = [n_in, factor.n_out, factor.rank].map(Arg::int);
            let (a_stride, depth_) = (Arg::long(a_stride), Arg::int(depth));
            let own_stride = Arg::long(factor.stride);
            let grid = [(depth * lda).div_ceil(2048), n_adapters, 1];
            let args = [
                self.of(&factor.a),
                part_a,
                n_in,
                rank,
                depth_,
                Arg::int(lda),
                own_stride,
                a_stride,
            ];
            self.start("lora_prepare_a_fast_v1", grid, 32, 0, &args)?;
            let grid = [(factor.n_out * depth).div_ceil(2048), n_adapters, 1];
            let args = [
                self.of(&factor.b),
                part_b,
                part_a,
                Arg::float(factor.scale),
                n_out,
                rank,
                depth_,
                own_stride,
                a_stride,
            ];
            self.start("lora_prepare_b_fast_v1", grid, 32, 0, &args)?;
        }
        Ok(Prepared { a, b, parts, n_b_rows, depth, lda })
    }

    /// `out = x W^T`, and what its adapter adds to each row.
    pub fn fast_product(
        &self,
        product: Product<D>,
        update: Option<(&Prepared<D>, &Rows<D>)>,
        between: &mut Between<D>,
    ) -> Result<()> {
        let Product { x, weights, out } = product;
        let n_out = weights.n_cols();
        assert!(x.dtype == Dtype::BF16 && weights.storage == Dtype::BF16, "all is kept in bf16");
        assert!(weights.n_in <= x.stride && n_out <= out.stride && x.n_rows == out.n_rows);
        if let Some((prepared, rows)) = update {
            self.shrink(x, weights.n_in, prepared, rows, between)?;
        }
        let added = self.added(weights, update, &between.shrunk);
        let sizes = [x.n_rows, n_out, weights.n_in].map(Arg::int);
        let [n_rows_, n_out_, n_in_] = sizes;
        let (start_zero, ldc, out_dtype) = (Arg::int(0), Arg::int(out.stride), suffix(out.dtype));
        let chip = self.0.chip();
        let n_tiles = x.n_rows.div_ceil(TILE_ROWS) * n_out.div_ceil(tile_cols(chip));
        match chip.family {
            Family::Ampere => {
                let kernel = format!("gemm_fast_{out_dtype}_v2");
                let (lda, ldw) = (Arg::int(x.stride), Arg::int(weights.ld));
                let (x, w, c) = (self.at(x), self.of(&weights.values), self.at(out));
                let args = [x, w, c, n_rows_, n_out_, n_in_, lda, ldw, ldc, start_zero, added];
                self.start(&kernel, [n_tiles, 1, 1], 128, 0, &args)
            }
            Family::Hopper => {
                let kernel = format!("gemm_hopper_{out_dtype}_v3");
                let map = |start, [n_rows, n_cols, ld]: [usize; 3], box_rows| {
                    let tensor = Tensor { start, n_rows, n_cols, ld, box_rows, box_cols: BOX_COLS };
                    self.0.tensor_map(tensor)
                };
                let (tile_cols, n_in) = (tile_cols(chip), weights.n_in);
                let x_map = map(x.at(self.0, 0, 0), [x.n_rows, n_in, x.stride], TILE_ROWS)?;
                let w = weights.values.address(self.0);
                let w_map = map(w, [n_out, n_in, weights.ld], tile_cols)?;
                let [shrunk, b] = match update {
                    None => [map(0, [0; 3], TILE_ROWS)?, map(0, [0; 3], tile_cols)?],
                    Some((prepared, rows)) => {
                        let Prepared { depth, n_b_rows, ref parts, .. } = *prepared;
                        let n_shrunk = rows.n_slots * parts.len() * TILE_ROWS;
                        let shrunk = between.shrunk.at(self.0, 0, 0);
                        let b = prepared.b.address(self.0);
                        [
                            map(shrunk, [n_shrunk, depth, depth], TILE_ROWS)?,
                            map(b, [n_b_rows, depth, depth], tile_cols)?,
                        ]
                    }
                };
                let c = self.at(out);
                let args =
                    [x_map, w_map, c, n_rows_, n_out_, n_in_, ldc, start_zero, shrunk, b, added];
                let n_blocks = n_tiles.min(chip.n_multiprocessors);
                self.start(&kernel, [n_blocks, 1, 1], 288, 197_696, &args)
            }
        }
    }

    /// A x for the slots of a batch, of all parts.
    fn shrink(
        &self,
        x: &Matrix<D>,
        n_in: usize,
        prepared: &Prepared<D>,
        rows: &Rows<D>,
        between: &mut Between<D>,
    ) -> Result<()> {
        assert_eq!(x.n_rows, rows.n_rows, "an adapter for each row");
        let Prepared { depth, lda, ref parts, .. } = *prepared;
        let (n_parts, n_slots) = (parts.len(), rows.n_slots);
        let n_splits = n_in.div_ceil(SPLIT);
        let (n_tiles, tile) = (n_slots * n_parts, TILE_ROWS * depth);
        between.shrunk.reshape(self.0, Dtype::BF16, n_tiles, tile)?;
        if n_splits > 1 {
            between.split_sums.reshape(self.0, Dtype::F32, n_splits * n_tiles, tile)?;
        }
        let (shrunk, sums) = (self.at(&between.shrunk), self.at(&between.split_sums));
        let Addresses { adapters, update_slots, .. } = rows.addresses(self.0);
        let [adapters, slots] = [adapters, update_slots].map(Arg::address);
        let [n_rows, n_in, ldx, lda] = [x.n_rows, n_in, x.stride, lda].map(Arg::int);
        let [parts_, depth_] = [n_parts, depth].map(Arg::int);
        let a = self.of(&prepared.a);
        let args =
            [self.at(x), a, adapters, slots, shrunk, sums, n_rows, n_in, parts_, depth_, ldx, lda];
        let grid = [2 * n_slots, (n_parts * depth).div_ceil(48), n_splits];
        self.start("lora_shrink_fast_v3", grid, 128, 57_344, &args)?;
        if n_splits == 1 {
            return Ok(());
        }
        let n_splits = Arg::int(n_splits);
        let args = [sums, adapters, slots, shrunk, n_rows, n_splits, parts_, depth_];
        let grid = [n_parts * depth / 2, n_slots, 1];
        self.start("lora_sum_fast_v1", grid, 128, 0, &args)
    }

    /// `Update` of gemm_fast.cuh.
    fn added(
        &self,
        weights: &Weights<D>,
        update: Option<(&Prepared<D>, &Rows<D>)>,
        shrunk: &Matrix<D>,
    ) -> Arg {
        let mut ints = [0; 2 + 4 * MOST_PARTS];
        let Some((prepared, rows)) = update else { return Arg::structure(&[0; 4], &ints) };
        (ints[0], ints[1]) = (prepared.parts.len(), prepared.depth);
        for (idx, part) in prepared.parts.iter().enumerate() {
            let first_col = weights.start(part.part_idx);
            assert!(first_col.is_multiple_of(tile_cols(self.0.chip())), "a tile is of one part");
            let n_k = part.rank.next_multiple_of(RANKS);
            let of_part = [first_col, first_col + part.n_out, part.first_b_row, n_k];
            for (i, value) in of_part.into_iter().enumerate() {
                ints[2 + i * MOST_PARTS + idx] = value;
            }
        }
        let Addresses { update_slots, first_update_slots, .. } = rows.addresses(self.0);
        let (shrunk, b) = (shrunk.at(self.0, 0, 0), prepared.b.address(self.0));
        Arg::structure(&[shrunk, b, first_update_slots, update_slots], &ints)
    }
}
