//! The operations that the forward pass and the swarm need. Knows neither Gemma nor tasks.
//!
//! [`Backend`] is what a decoder is computed with, on whatever device: the order of norms,
//! residuals and updates is written once above it (`model::forward`), and each op's arithmetic in
//! each backend. Ops of one worker run one after the other. Where an op cannot be done (a device's
//! memory is full, a launch fails), later ops of the worker do nothing, and the next result that is
//! asked for is the error.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::tensors::{Dtype, Tensor};

pub mod cpu;
#[cfg(any(feature = "cuda", feature = "kernel-tests"))]
pub mod cuda;

/// Sizes of the attention of one layer.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; `n_heads` is a multiple of it.
    pub n_kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// How many positions back a row sees, itself included; all where absent.
    pub window: Option<usize>,
    /// The factor on the scores: 1 / sqrt(head_dim).
    pub score_factor: f32,
}

/// The feed-forward network's gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    GeluTanh,
    /// `x / (1 + exp(-x))`.
    Silu,
}

/// Who computes on the CPU: the calling thread, or all threads of the pool. The bits are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Workers {
    /// The calling thread; other threads have rows of their own.
    #[default]
    One,
    /// All threads share a product; for few rows against large weights.
    All,
}

/// How exact results are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32, summed in one order: the same bits on every device.
    Exact,
    /// bf16 on tensor cores, summed in f32; the residual stream and the logits in f32. Adapters
    /// stand beside the weights, their factors and A x in bf16 too.
    Fast,
}

/// Rows of one sequence, one below the other in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first of them in the batch.
    pub row: usize,
    /// How many.
    pub n_rows: usize,
    /// The sequence's slot in the cache.
    pub slot: usize,
    /// The first row's position in its sequence.
    pub first: usize,
    /// The adapter, by its index in the set that is applied.
    pub adapter_idx: usize,
}

/// What a batch is. It may decide how an op adds up, so that what a row's neighbours are does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Pieces of prompts, of any length.
    Prompt,
    /// The next token of each sequence: one row each, one below the other.
    Step,
}

/// Reads row `out_idx` of a matrix into the slice, which is (n_in).
pub type ReadRow<'a> = dyn Fn(usize, &mut [f32]) + Send + Sync + 'a;

/// Reads rows of the embedding into the slice, so many values apart.
pub type ReadRows = dyn Fn(&[u32], usize, &mut [f32]) + Send + Sync;

/// One matrix of a file, of which several may stand side by side in one product.
pub struct Part<'a> {
    /// Number of outputs.
    pub n_out: usize,
    /// Reads a row, widened to f32.
    pub read: Box<ReadRow<'a>>,
}

/// Where one linear's factors stand in the data of every adapter of a set.
#[derive(Debug, Clone)]
pub struct Factors {
    /// The part of the product that they update.
    pub part_idx: usize,
    /// A: (rank, n_in).
    pub a: Range<usize>,
    /// B: (n_out, rank).
    pub b: Range<usize>,
    /// The rank.
    pub rank: usize,
    /// The factor on B A.
    pub scale: f32,
}

/// The sizes of a key-value cache.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// The attention's sizes.
    pub heads: Heads,
    /// Layers.
    pub n_layers: usize,
    /// Sequences.
    pub n_slots: usize,
    /// Tokens of a sequence, at most.
    pub n_positions: usize,
}

/// How much is done at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Tokens of prompts that run through the decoder together.
    pub prefill_rows: usize,
    /// Rows whose logits are held together where every token's probability is asked for.
    pub logit_rows: usize,
    /// Bytes of a batch's key-value cache, unless it is of one sequence.
    pub cache_bytes: usize,
    /// Sequences of a batch where nobody says otherwise.
    pub batch: usize,
    /// Sequences of a batch, whoever says otherwise.
    pub max_batch: usize,
    /// Whether rows of one batch may belong to different adapters.
    pub mixes_adapters: bool,
}

/// What a decoder is computed with. A row's results depend on its own sequence and adapter alone.
pub trait Backend: Sync + Sized {
    /// Rows of activations. An op gives its result the shape that it needs.
    type Matrix: Default + Send;
    /// One value for each column of a matrix.
    type Vector: Send + Sync;
    /// The embedding.
    type Table: Send + Sync;
    /// Matrices that share their input, side by side.
    type Weights: Send + Sync;
    /// What the adapters of a set add to one product.
    type Update: Send + Sync;
    /// Flat vectors of adapters, of one length, where `merged` and `update` read them.
    type Adapters<'a>: Sync;
    /// The experts of a pool, in a device's own memory.
    type Experts: Send + Sync;
    /// The spans of a batch as ops take them.
    type Rows: Send;
    /// Keys and values of a batch's sequences, with the rotary tables.
    type Cache: Default + Send;
    /// Working memory of one worker.
    type Scratch: Default + Send;

    /// How much is done at once.
    fn limits(&self) -> Limits;

    /// How exact results are.
    fn precision(&self) -> Precision;

    /// Why attention of these sizes cannot be computed, if it cannot.
    fn refusal(&self, heads: &Heads) -> Option<String>;

    /// Runs `run` for 0..n, in parallel where the device has several workers; results in order.
    fn in_parallel<T: Send>(&self, n: usize, run: impl Fn(usize, Workers) -> T + Sync) -> Vec<T>;

    /// A vector that holds `values`.
    fn vector(&self, values: Vec<f32>) -> Result<Self::Vector>;

    /// The embedding, (n_rows, dim), whose rows `read` reads; values of type `storage`. Where the
    /// output matrix has the same rows it is `tied`, and a device need not keep them twice.
    fn table(
        &self,
        shape: [usize; 2],
        storage: Dtype,
        read: Box<ReadRows>,
        tied: Option<&Self::Weights>,
    ) -> Result<Self::Table>;

    /// The parts, each (n_out, n_in), as values of type `storage`, which must hold them exactly.
    fn weights(&self, n_in: usize, parts: &[Part], storage: Dtype) -> Result<Self::Weights>;

    /// Adapters that the host holds.
    fn adapters<'a>(&self, data: &[&'a [f32]]) -> Result<Self::Adapters<'a>>;

    /// The experts of a pool, copied to where `combine` reads them: their tensors in the order in
    /// which they make up a flat vector, and of each tensor, every expert's. None where the host's
    /// memory is the device's: there adapters are made of what is mapped.
    fn experts(&self, tensors: &[Vec<Tensor>]) -> Result<Option<Self::Experts>>;

    /// The sums of the experts weighted by each of the rows of coefficients: experts in order, one
    /// fused multiply-add each.
    fn combine(
        &self,
        experts: &Self::Experts,
        rows: &[Vec<f32>],
    ) -> Result<Self::Adapters<'static>>;

    /// A copy of weights kept in f32, to which `scale * B A` of one of the adapters is added.
    fn merged(
        &self,
        base: &Self::Weights,
        factors: &[Factors],
        adapters: &Self::Adapters<'_>,
        adapter_idx: usize,
    ) -> Result<Self::Weights>;

    /// The adapters' factors for use beside a product of `n_in` inputs.
    fn update(
        &self,
        n_in: usize,
        factors: &[Factors],
        adapters: &Self::Adapters<'_>,
    ) -> Result<Self::Update>;

    /// Makes room for sequences; `frequencies` are those of the rotary embedding, (head_dim / 2).
    fn prepare(
        &self,
        scratch: &mut Self::Scratch,
        cache: &mut Self::Cache,
        workers: Workers,
        room: Room,
        frequencies: &[f32],
    );

    /// Spans as ops take them.
    fn rows(&self, scratch: &mut Self::Scratch, spans: Vec<Span>, phase: Phase) -> Self::Rows;

    /// x = the embedding of every token, times `factor`.
    fn embed(
        &self,
        scratch: &mut Self::Scratch,
        table: &Self::Table,
        tokens: &[u32],
        factor: Option<f32>,
        x: &mut Self::Matrix,
    );

    /// `x += y` where there is a y, then `out = x / sqrt(mean(x^2) + eps) * weight`.
    fn add_norm(
        &self,
        scratch: &mut Self::Scratch,
        x: &mut Self::Matrix,
        y: Option<&Self::Matrix>,
        weight: &Self::Vector,
        eps: f32,
        out: &mut Self::Matrix,
    );

    /// `out = x W^T`, and each row's update beside it.
    fn product(
        &self,
        scratch: &mut Self::Scratch,
        x: &Self::Matrix,
        weights: &Self::Weights,
        update: Option<(&Self::Update, &Self::Rows)>,
        out: &mut Self::Matrix,
    );

    /// `out = x W^T` in f32, for the output matrix.
    fn logits(
        &self,
        scratch: &mut Self::Scratch,
        x: &Self::Matrix,
        weights: &Self::Weights,
        out: &mut Self::Matrix,
    );

    /// Rotary embedding of queries and keys; keys and values go to the cache of layer `layer_idx`.
    /// `qkv` is the product with `weights`, whose parts are q, k and v.
    fn rotate_append(
        &self,
        scratch: &mut Self::Scratch,
        qkv: &mut Self::Matrix,
        weights: &Self::Weights,
        rows: &Self::Rows,
        cache: &mut Self::Cache,
        layer_idx: usize,
    );

    /// Causal attention of `rows`, which are some of qkv's, over the cache; `out` holds these rows
    /// alone: (n_rows, n_heads * head_dim).
    fn attend(
        &self,
        scratch: &mut Self::Scratch,
        qkv: &Self::Matrix,
        rows: &Self::Rows,
        cache: &mut Self::Cache,
        layer_idx: usize,
        out: &mut Self::Matrix,
    );

    /// The feed-forward network's inner state, (n_rows, ffn_dim), over the gate. `gate_up` is the
    /// product with `weights`, whose parts are gate and up.
    fn activate(
        &self,
        scratch: &mut Self::Scratch,
        kind: Activation,
        gate_up: &mut Self::Matrix,
        weights: &Self::Weights,
        ffn_dim: usize,
    );

    /// Adds rows of x, or all of them, below what `to` holds.
    fn append(
        &self,
        scratch: &mut Self::Scratch,
        to: &mut Self::Matrix,
        x: &Self::Matrix,
        rows: Option<&Self::Rows>,
    );

    /// Takes all rows out of a matrix.
    fn clear(&self, x: &mut Self::Matrix);

    /// The column of each row's largest value among the first `n_cols`, the first of equals.
    fn largest(
        &self,
        scratch: &mut Self::Scratch,
        logits: &Self::Matrix,
        n_cols: usize,
    ) -> Result<Vec<u32>>;

    /// `ln softmax(logits[i])[token]` over the first `n_cols` columns, for each (i, token); NaN
    /// where the sum of the exponentials is no normal number.
    fn log_probabilities(
        &self,
        scratch: &mut Self::Scratch,
        logits: &Self::Matrix,
        n_cols: usize,
        wanted: &[(usize, u32)],
    ) -> Result<Vec<f64>>;

    /// Shows `visit` the first `n_cols` values of each row in turn, with the row's index.
    fn each_row(
        &self,
        scratch: &mut Self::Scratch,
        x: &Self::Matrix,
        n_cols: usize,
        visit: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()>;
}
