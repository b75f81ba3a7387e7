//! A CUDA device as what a decoder is computed with.
//!
//! Ops are asynchronous, as launches are: the first that fails is kept in the worker's scratch, and
//! is what the next result says.

use super::adapters::{Adapters, Experts};
use super::attention;
use super::driver::Driver;
use super::fast::tile_cols;
use super::memory::{
    Cache, Fixed, Matrix, PADDING, Table, Update, Vector, Weights, pack_rows, size_of_dtype,
};
use super::ops::Ops;
use super::products::{Between, Product};
use super::rows::Rows;
use crate::backend::cpu::device::rotary_tables;
use crate::backend::{
    Activation, Backend, Factors, Heads, Limits, Part, Phase, Precision, ReadRows, Room, Span,
    Workers,
};
use crate::error::{Error, Result};
use crate::tensors::{Dtype, Tensor};

/// A device, how it computes and how much it is given at once.
pub struct Cuda<D: Driver> {
    driver: D,
    precision: Precision,
    limits: Limits,
}

/// Working memory of a worker.
pub struct Scratch<D: Driver> {
    failure: Option<Error>,
    heads: [usize; 2], // n_heads, n_kv_heads
    between: Between<D>,
}

impl<D: Driver> Default for Scratch<D> {
    fn default() -> Self {
        Self { failure: None, heads: [1, 1], between: Between::default() }
    }
}

impl<D: Driver> Scratch<D> {
    /// Does something unless something failed before.
    fn attempt<T>(&mut self, op: impl FnOnce(&mut Between<D>) -> Result<T>) -> Option<T> {
        if self.failure.is_some() {
            return None;
        }
        op(&mut self.between).map_err(|failure| self.failure = Some(failure)).ok()
    }

    /// Reads a result, unless something failed before.
    fn result<T>(&mut self, read: impl FnOnce() -> Result<T>) -> Result<T> {
        self.failure.take().map_or_else(read, Err)
    }
}

impl<D: Driver> Cuda<D> {
    /// A device that is given as much at once as `limits` say.
    pub fn new(driver: D, precision: Precision, limits: Limits) -> Self {
        Self { driver, precision, limits }
    }

    /// The type of activations.
    fn dtype(&self) -> Dtype {
        match self.precision {
            Precision::Exact => Dtype::F32,
            Precision::Fast => Dtype::BF16,
        }
    }

    fn ops(&self) -> Ops<'_, D> {
        Ops(&self.driver)
    }
}

impl<D: Driver> Backend for Cuda<D> {
    type Matrix = Matrix<D>;
    type Vector = Vector<D>;
    type Table = Table<D>;
    type Weights = Weights<D>;
    type Update = Update<D>;
    type Adapters<'a> = Adapters<D>;
    type Experts = Experts<D>;
    type Rows = Option<Rows<D>>;
    type Cache = Cache<D>;
    type Scratch = Scratch<D>;

    fn limits(&self) -> Limits {
        self.limits
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn refusal(&self, heads: &Heads) -> Option<String> {
        attention::refusal(heads, self.dtype(), self.driver.chip())
    }

    fn in_parallel<T: Send>(&self, n: usize, run: impl Fn(usize, Workers) -> T + Sync) -> Vec<T> {
        (0..n).map(|idx| run(idx, Workers::All)).collect()
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vector<D>> {
        let there = Fixed::new(&self.driver, bytemuck::cast_slice(&values))?;
        Ok(Vector { values: there, len: values.len() })
    }

    fn table(
        &self,
        [n_rows, dim]: [usize; 2],
        storage: Dtype,
        read: Box<ReadRows>,
        tied: Option<&Weights<D>>,
    ) -> Result<Table<D>> {
        if let Some(output) = tied {
            let Weights { storage, ld, .. } = *output;
            return Ok(Table { values: output.values.from(0), storage, dim, ld });
        }
        let n_bytes_row = dim * size_of_dtype(storage);
        let mut bytes = vec![0u8; n_rows * n_bytes_row];
        pack_rows(&mut bytes, dim, n_bytes_row, storage, |token, row| {
            read(&[token as u32], dim, row);
        });
        Ok(Table { values: Fixed::new(&self.driver, &bytes)?, storage, dim, ld: dim })
    }

    fn weights(&self, n_in: usize, parts: &[Part], storage: Dtype) -> Result<Weights<D>> {
        let (storage, tile_cols) = match self.precision {
            Precision::Exact => (storage, PADDING),
            Precision::Fast => (Dtype::BF16, tile_cols(self.driver.chip())),
        };
        Weights::new(&self.driver, n_in, parts, storage, tile_cols)
    }

    fn adapters(&self, data: &[&[f32]]) -> Result<Adapters<D>> {
        Adapters::new(&self.driver, data)
    }

    fn experts(&self, tensors: &[Vec<Tensor>]) -> Result<Option<Experts<D>>> {
        Experts::new(&self.driver, tensors).map(Some)
    }

    fn combine(&self, experts: &Experts<D>, rows: &[Vec<f32>]) -> Result<Adapters<D>> {
        self.ops().combine(experts, rows)
    }

    fn merged(
        &self,
        base: &Weights<D>,
        factors: &[Factors],
        adapters: &Adapters<D>,
        adapter_idx: usize,
    ) -> Result<Weights<D>> {
        let merged = base.copy(&self.driver)?;
        let adapter = adapters.one(adapter_idx);
        for factors in factors {
            self.ops().add_low_rank(&merged, &adapter.factor(factors))?;
        }
        Ok(merged)
    }

    fn update(
        &self,
        n_in: usize,
        factors: &[Factors],
        adapters: &Adapters<D>,
    ) -> Result<Update<D>> {
        let factors: Vec<_> = factors.iter().map(|factors| adapters.factor(factors)).collect();
        Ok(match self.precision {
            Precision::Exact => Update::Exact(factors),
            Precision::Fast => Update::Fast(self.ops().prepare(n_in, &factors)?),
        })
    }

    fn prepare(
        &self,
        scratch: &mut Scratch<D>,
        cache: &mut Cache<D>,
        _: Workers,
        room: Room,
        frequencies: &[f32],
    ) {
        scratch.heads = [room.heads.n_heads, room.heads.n_kv_heads];
        let (dtype, chip) = (self.dtype(), self.driver.chip());
        let most = attention::most_positions(room.heads.head_dim, dtype, chip);
        scratch.attempt(|_| {
            if room.n_positions > most {
                let n = room.n_positions;
                let what = format!("a sequence has {n} tokens, on this GPU {most} can be decoded");
                return Err(Error::Usage(what));
            }
            cache.prepare(&self.driver, self.dtype(), room, |n_positions| {
                let (mut cos, mut sin) = (Vec::new(), Vec::new());
                rotary_tables(frequencies, n_positions, &mut cos, &mut sin);
                (cos, sin)
            })
        });
    }

    fn rows(&self, scratch: &mut Scratch<D>, spans: Vec<Span>, phase: Phase) -> Option<Rows<D>> {
        let [n_heads, n_kv_heads] = scratch.heads;
        let tile_rows = attention::query_rows(self.dtype()) / (n_heads / n_kv_heads);
        scratch.attempt(|_| Rows::new(&self.driver, spans, phase, tile_rows, self.precision))
    }

    fn embed(
        &self,
        scratch: &mut Scratch<D>,
        table: &Table<D>,
        tokens: &[u32],
        factor: Option<f32>,
        x: &mut Matrix<D>,
    ) {
        scratch.attempt(|_| {
            x.reshape(&self.driver, Dtype::F32, tokens.len(), table.dim)?;
            let tokens = Fixed::new(&self.driver, bytemuck::cast_slice(tokens))?;
            self.ops().embed(table, &tokens, factor.unwrap_or(1.0), x)
        });
    }

    fn add_norm(
        &self,
        scratch: &mut Scratch<D>,
        x: &mut Matrix<D>,
        y: Option<&Matrix<D>>,
        weight: &Vector<D>,
        eps: f32,
        out: &mut Matrix<D>,
    ) {
        scratch.attempt(|_| {
            out.reshape(&self.driver, self.dtype(), x.n_rows, weight.len)?;
            self.ops().add_norm(x, y, &weight.values, eps, out, weight.len)
        });
    }

    fn product(
        &self,
        scratch: &mut Scratch<D>,
        x: &Matrix<D>,
        weights: &Weights<D>,
        update: Option<(&Update<D>, &Option<Rows<D>>)>,
        out: &mut Matrix<D>,
    ) {
        scratch.attempt(|between| {
            out.reshape(&self.driver, x.dtype, x.n_rows, weights.n_cols())?;
            let update = update.and_then(|(update, rows)| Some((update, rows.as_ref()?)));
            self.ops().product(Product { x, weights, out }, update, between)
        });
    }

    fn logits(
        &self,
        scratch: &mut Scratch<D>,
        x: &Matrix<D>,
        weights: &Weights<D>,
        out: &mut Matrix<D>,
    ) {
        scratch.attempt(|between| {
            out.reshape(&self.driver, Dtype::F32, x.n_rows, weights.n_cols())?;
            self.ops().product(Product { x, weights, out }, None, between)
        });
    }

    fn rotate_append(
        &self,
        scratch: &mut Scratch<D>,
        qkv: &mut Matrix<D>,
        weights: &Weights<D>,
        rows: &Option<Rows<D>>,
        cache: &mut Cache<D>,
        layer_idx: usize,
    ) {
        let Some(rows) = rows else { return };
        scratch.attempt(|_| {
            let starts = [weights.start(1), weights.start(2)];
            self.ops().rotate_append(qkv, starts, rows, cache, layer_idx)
        });
    }

    fn attend(
        &self,
        scratch: &mut Scratch<D>,
        qkv: &Matrix<D>,
        rows: &Option<Rows<D>>,
        cache: &mut Cache<D>,
        layer_idx: usize,
        out: &mut Matrix<D>,
    ) {
        let Some(rows) = rows else { return };
        scratch.attempt(|_| {
            let heads = cache.heads();
            let n_rows = rows.spans.iter().map(|span| span.n_rows).sum();
            out.reshape(&self.driver, qkv.dtype, n_rows, heads.n_heads * heads.head_dim)?;
            match rows.phase {
                Phase::Prompt => self.ops().attend_prompts(qkv, rows, cache, layer_idx, out),
                Phase::Step => self.ops().attend_steps(qkv, rows, cache, layer_idx, out),
            }
        });
    }

    fn activate(
        &self,
        scratch: &mut Scratch<D>,
        kind: Activation,
        gate_up: &mut Matrix<D>,
        weights: &Weights<D>,
        ffn_dim: usize,
    ) {
        scratch.attempt(|_| self.ops().activate(kind, gate_up, weights.start(1), ffn_dim));
    }

    fn append(
        &self,
        scratch: &mut Scratch<D>,
        to: &mut Matrix<D>,
        x: &Matrix<D>,
        rows: Option<&Option<Rows<D>>>,
    ) {
        scratch.attempt(|_| {
            let idxs: Vec<u32> = match rows {
                None => (0..x.n_rows as u32).collect(),
                Some(rows) => {
                    let spans = rows.iter().flat_map(|rows| &rows.spans);
                    let rows = spans.flat_map(|span| span.row..span.row + span.n_rows);
                    rows.map(|row| row as u32).collect()
                }
            };
            let first = to.n_rows;
            to.extend(&self.driver, idxs.len(), x)?;
            let idxs_there = Fixed::new(&self.driver, bytemuck::cast_slice(&idxs))?;
            self.ops().gather(x, &idxs_there, idxs.len(), to, first)
        });
    }

    fn clear(&self, x: &mut Matrix<D>) {
        x.n_rows = 0;
    }

    fn largest(
        &self,
        scratch: &mut Scratch<D>,
        logits: &Matrix<D>,
        n_cols: usize,
    ) -> Result<Vec<u32>> {
        scratch.result(|| {
            let mut tokens = vec![0u32; logits.n_rows];
            let found = Fixed::unset(&self.driver, size_of_val(&tokens[..]))?;
            self.ops().largest(logits, n_cols, &found)?;
            found.read(&self.driver, bytemuck::cast_slice_mut(&mut tokens))?;
            Ok(tokens)
        })
    }

    fn log_probabilities(
        &self,
        scratch: &mut Scratch<D>,
        logits: &Matrix<D>,
        n_cols: usize,
        wanted: &[(usize, u32)],
    ) -> Result<Vec<f64>> {
        scratch.result(|| {
            let mut tokens = vec![0u32; logits.n_rows];
            wanted.iter().for_each(|&(row_idx, token)| tokens[row_idx] = token);
            let tokens = Fixed::new(&self.driver, bytemuck::cast_slice(&tokens))?;
            let mut found = vec![0.0f64; logits.n_rows];
            let there = Fixed::unset(&self.driver, size_of_val(&found[..]))?;
            self.ops().log_probabilities(logits, n_cols, &tokens, &there)?;
            there.read(&self.driver, bytemuck::cast_slice_mut(&mut found))?;
            Ok(wanted.iter().map(|&(row_idx, _)| found[row_idx]).collect())
        })
    }

    fn each_row(
        &self,
        scratch: &mut Scratch<D>,
        x: &Matrix<D>,
        n_cols: usize,
        visit: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        let values = scratch.result(|| x.read(&self.driver))?;
        let rows = values.chunks_exact(x.stride.max(PADDING));
        rows.enumerate().for_each(|(row_idx, row)| visit(row_idx, &row[..n_cols]));
        Ok(())
    }
}
