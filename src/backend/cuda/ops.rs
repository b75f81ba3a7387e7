//! The launches, a kernel each. What a kernel demands of sizes and addresses is asserted here.

use super::driver::{Arg, Driver, Launch};
use super::memory::{Factor, Fixed, Matrix, Table, Weights};
use super::products::Product;
use super::rows::{Addresses, Rows};
use crate::backend::Activation;
use crate::error::Result;
use crate::tensors::Dtype;

/// The launches on a device.
pub struct Ops<'a, D: Driver>(pub &'a D);

/// Whether these are the activations of precision `fast`.
pub(super) fn is_fast<D: Driver>(x: &Matrix<D>) -> bool {
    x.dtype == Dtype::BF16
}

pub(super) fn suffix(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "f32",
        Dtype::F16 => "f16",
        Dtype::BF16 => "bf16",
    }
}

impl<D: Driver> Ops<'_, D> {
    /// Starts a kernel; a grid without blocks is nothing to do.
    pub(super) fn start(
        &self,
        kernel: &str,
        grid: [usize; 3],
        block: usize,
        shared_bytes: usize,
        args: &[Arg],
    ) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        assert!(grid[1] <= 65535 && grid[2] <= 65535, "{kernel}: a grid of {grid:?}");
        self.0.launch(Launch { kernel, grid, block, shared_bytes }, args)
    }

    pub(super) fn at(&self, matrix: &Matrix<D>) -> Arg {
        Arg::address(matrix.at(self.0, 0, 0))
    }

    pub(super) fn of(&self, fixed: &Fixed<D>) -> Arg {
        Arg::address(fixed.address(self.0))
    }

    pub fn embed(
        &self,
        table: &Table<D>,
        tokens: &Fixed<D>,
        factor: f32,
        x: &Matrix<D>,
    ) -> Result<()> {
        let kernel = format!("embed_{}_v1", suffix(table.storage));
        let args = [
            self.of(&table.values),
            self.of(tokens),
            Arg::float(factor),
            self.at(x),
            Arg::int(table.dim),
            Arg::int(table.ld),
            Arg::int(x.stride),
        ];
        self.start(&kernel, [x.n_rows, 1, 1], 256, 0, &args)
    }

    pub fn add_norm(
        &self,
        x: &Matrix<D>,
        y: Option<&Matrix<D>>,
        weight: &Fixed<D>,
        eps: f32,
        out: &Matrix<D>,
        dim: usize,
    ) -> Result<()> {
        assert_eq!(x.stride, out.stride, "rms_norm: rows as far apart");
        let mut args = vec![
            self.at(x),
            y.map_or(Arg::address(0), |y| self.at(y)),
            self.of(weight),
            Arg::float(eps),
            self.at(out),
            Arg::int(dim),
            Arg::int(x.stride),
            Arg::int(y.map_or(0, |y| y.stride)),
        ];
        let kernel = if is_fast(out) {
            args.push(Arg::int(out.stride));
            "rms_norm_fast_v1"
        } else {
            "rms_norm_v2"
        };
        let shared_bytes = dim * size_of::<f32>();
        self.start(kernel, [x.n_rows, 1, 1], 256, shared_bytes, &args)
    }

    /// `out = x W^T` in precision exact.
    pub fn exact_product(&self, Product { x, weights, out }: Product<D>) -> Result<()> {
        assert!(!is_fast(x), "f32 alone is summed in the CPU's order");
        let n_out = weights.n_cols();
        assert!(weights.n_in <= x.stride && n_out <= out.stride && x.n_rows == out.n_rows);
        let args = [
            self.at(x),
            self.of(&weights.values),
            self.at(out),
            Arg::int(x.n_rows),
            Arg::int(n_out),
            Arg::int(weights.n_in),
            Arg::int(x.stride),
            Arg::int(weights.ld),
            Arg::int(out.stride),
            Arg::int(0), // START_ZERO
        ];
        let kernel = format!("gemm_exact_{}_v2", suffix(weights.storage));
        let grid = [n_out.div_ceil(64), x.n_rows.div_ceil(64), 1];
        self.start(&kernel, grid, 128, 0, &args)
    }

    /// `W += scale * B A`, of one adapter.
    pub fn add_low_rank(&self, weights: &Weights<D>, factor: &Factor<D>) -> Result<()> {
        assert!(weights.storage == Dtype::F32, "weights kept in 16 bits are read only");
        let first = weights.start(factor.part_idx) * weights.ld * size_of::<f32>();
        let args = [
            Arg::address(weights.values.address(self.0) + first as u64),
            self.of(&factor.a),
            self.of(&factor.b),
            Arg::float(factor.scale),
            Arg::int(factor.n_out),
            Arg::int(weights.n_in),
            Arg::int(factor.rank),
            Arg::int(weights.ld),
        ];
        let grid = [weights.n_in.div_ceil(128), factor.n_out.div_ceil(8), 1];
        self.start("low_rank_v2", grid, 128, 0, &args)
    }

    /// Adds each row's adapter's `(scale B) (A x)` to the part of `out` that begins at `start`, in
    /// precision exact.
    pub fn add_update(
        &self,
        x: &Matrix<D>,
        factor: &Factor<D>,
        rows: &Rows<D>,
        shrunk: &Matrix<D>,
        out: &Matrix<D>,
        start: usize,
    ) -> Result<()> {
        let (n_rows, rank) = (x.n_rows, factor.rank);
        assert_eq!(n_rows, rows.n_rows, "an adapter for each row");
        let Addresses { adapters, .. } = rows.addresses(self.0);
        let args = [
            self.at(x),
            self.of(&factor.a),
            Arg::address(adapters),
            self.at(shrunk),
            Arg::int(n_rows),
            Arg::int(factor.n_in),
            Arg::int(rank),
            Arg::int(x.stride),
            Arg::long(factor.stride),
        ];
        let grid = [rank.div_ceil(16), n_rows.div_ceil(16), 1];
        self.start("lora_shrink_v2", grid, 256, 0, &args)?;
        let args = [
            self.at(shrunk),
            self.of(&factor.b),
            Arg::address(adapters),
            Arg::float(factor.scale),
            Arg::address(out.at(self.0, 0, start)),
            Arg::int(n_rows),
            Arg::int(factor.n_out),
            Arg::int(rank),
            Arg::int(out.stride),
            Arg::long(factor.stride),
        ];
        let grid = [factor.n_out.div_ceil(128), n_rows.div_ceil(8), 1];
        self.start("lora_expand_v2", grid, 128, 0, &args)
    }

    pub fn activate(
        &self,
        kind: Activation,
        gate_up: &Matrix<D>,
        up_col: usize,
        ffn_dim: usize,
    ) -> Result<()> {
        let (kernel, block_cols) = match (kind, is_fast(gate_up)) {
            (Activation::GeluTanh, false) => ("gelu_tanh_times_v1", 256),
            (Activation::Silu, false) => ("silu_times_v1", 256),
            (Activation::GeluTanh, true) => ("gelu_tanh_times_fast_v1", 2048),
            (Activation::Silu, true) => ("silu_times_fast_v1", 2048),
        };
        let args = [
            self.at(gate_up),
            Arg::address(gate_up.at(self.0, 0, up_col)),
            Arg::int(ffn_dim),
            Arg::int(gate_up.stride),
        ];
        self.start(kernel, [ffn_dim.div_ceil(block_cols), gate_up.n_rows, 1], 256, 0, &args)
    }

    /// `to[first + i] = x[idxs[i]]`
    pub fn gather(
        &self,
        x: &Matrix<D>,
        idxs: &Fixed<D>,
        n_rows: usize,
        to: &Matrix<D>,
        first: usize,
    ) -> Result<()> {
        assert_eq!((x.dtype, x.stride), (to.dtype, to.stride), "gather_rows: rows of one kind");
        let args = [
            self.at(x),
            self.of(idxs),
            Arg::address(to.at(self.0, first, 0)),
            Arg::int(x.stride),
            Arg::int(x.stride),
        ];
        let kernel = if is_fast(x) { "gather_rows_fast_v1" } else { "gather_rows_v1" };
        self.start(kernel, [n_rows, 1, 1], 256, 0, &args)
    }

    pub fn largest(&self, logits: &Matrix<D>, n_cols: usize, found: &Fixed<D>) -> Result<()> {
        let args = [self.at(logits), self.of(found), Arg::int(n_cols), Arg::int(logits.stride)];
        self.start("argmax_v2", [logits.n_rows, 1, 1], 256, 0, &args)
    }

    pub fn log_probabilities(
        &self,
        logits: &Matrix<D>,
        n_cols: usize,
        tokens: &Fixed<D>,
        found: &Fixed<D>,
    ) -> Result<()> {
        let args = [
            self.at(logits),
            self.of(tokens),
            self.of(found),
            Arg::int(n_cols),
            Arg::int(logits.stride),
        ];
        self.start("log_probability_v2", [logits.n_rows, 1, 1], 256, 0, &args)
    }
}
