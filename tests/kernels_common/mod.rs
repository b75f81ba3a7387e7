//! The CUDA kernels as tests see them: launched by name, on the emulated machine of `kernels/host`.
//!
//! Arguments are values and device memory, as cuLaunchKernel has them. Device memory stands between
//! guards, which every launch looks at afterwards; under AddressSanitizer its red zones do that.
#![allow(dead_code)] // each test uses its own part

pub mod attention_fast;
pub mod cpu;
mod device;
pub mod emulated;
mod gpu;
mod machine;
pub mod probes;
pub mod products;
pub mod updates;
pub mod values;

pub use device::Device;
pub use gpu::has_hopper;
use model_swarms::backend::cuda::driver::Tensor;

/// Orders of threads: the lowest first, drawn where one must wait, drawn wherever it can be seen.
pub const SEEDS: [u64; 5] = [0, 1, 2, 3, 4];

/// The sanitizer of this build: `address`, `thread` or none.
pub const SANITIZER: &str = env!("KERNELS_SANITIZER");

/// What a check of the harness found.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The name of the check.
    pub check: String,
    /// Where and what.
    pub message: String,
}

/// A kernel and how many threads of it run.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    pub name: &'a str,
    pub grid: [usize; 3],
    pub block: usize,
    pub shared_bytes: usize,
    pub seed: u64,
}

/// One argument of a kernel.
pub trait Argument {
    /// The bytes that the kernel is given.
    fn words(&self) -> ([u64; 16], usize);
    /// Whether the memory behind it was overrun.
    fn overrun(&self) -> Option<String> {
        None
    }
    /// The matrix behind it, where a GPU wants a tensor map of it.
    fn tensor(&self) -> Option<Tensor> {
        None
    }
}

/// An argument that is bytes.
#[derive(Debug, Clone, Copy)]
pub struct Plain {
    pub words: [u64; 16],
    pub n_bytes: usize,
}

impl Argument for Plain {
    fn words(&self) -> ([u64; 16], usize) {
        (self.words, self.n_bytes)
    }
}

/// Runs a kernel to its end. A grid without blocks is no launch.
pub fn launch(launch: Launch, args: &[&dyn Argument]) -> Result<(), Failure> {
    if launch.grid.contains(&0) {
        return Ok(());
    }
    if gpu::is_meant() {
        gpu::launch(launch, args);
    } else {
        machine::launch(launch, args)?;
    }
    match args.iter().find_map(|arg| arg.overrun()) {
        Some(message) => Err(Failure { check: "global-overrun".into(), message }),
        None => Ok(()),
    }
}

/// As [`launch`], where nothing may be found.
#[track_caller]
pub fn must_launch(what: Launch, args: &[&dyn Argument]) {
    if let Err(failure) = launch(what, args) {
        panic!("{what:?}: {}: {}", failure.check, failure.message);
    }
}

/// A tensor map of a matrix (n_rows, n_cols) of 16-bit numbers, rows `ld` apart, in boxes of
/// 64 columns, swizzled by 128 bytes, or of 32, by 64: `TensorMap` of hopper.h. A GPU's has 64.
pub struct Map<'a> {
    pub device: &'a Device<u16>,
    pub n_rows: usize,
    pub n_cols: usize,
    pub ld: usize,
    pub box_rows: usize,
    pub box_cols: usize,
}

impl Argument for Map<'_> {
    fn words(&self) -> ([u64; 16], usize) {
        (map_words(self.tensor().unwrap()), 128)
    }

    fn tensor(&self) -> Option<Tensor> {
        let Self { n_rows, n_cols, ld, box_rows, box_cols, .. } = *self;
        Some(Tensor { start: self.device.address(), n_rows, n_cols, ld, box_rows, box_cols })
    }

    fn overrun(&self) -> Option<String> {
        self.device.overrun()
    }
}

/// The emulated machine's tensor map.
fn map_words(tensor: Tensor) -> [u64; 16] {
    let Tensor { start, n_rows, n_cols, ld, box_rows, box_cols } = tensor;
    let swizzle = match box_cols {
        64 => 3, // CU_TENSOR_MAP_SWIZZLE_128B
        32 => 2, // CU_TENSOR_MAP_SWIZZLE_64B
        n => panic!("a box of {n} columns"),
    };
    let [n_rows, n_cols, ld, box_rows, box_cols] =
        [n_rows, n_cols, ld, box_rows, box_cols].map(|n| n as u64);
    padded(&[start, n_cols, n_rows, 2 * ld, box_cols | box_rows << 32, swizzle])
}

/// No memory: an argument that is optional.
pub struct Null;

impl Argument for Null {
    fn words(&self) -> ([u64; 16], usize) {
        (one(0), 8)
    }
}

/// Words, then zeros.
fn padded(words: &[u64]) -> [u64; 16] {
    let mut all = [0; 16];
    all[..words.len()].copy_from_slice(words);
    all
}

fn one(word: u64) -> [u64; 16] {
    padded(&[word])
}

impl Argument for i32 {
    fn words(&self) -> ([u64; 16], usize) {
        (one(u64::from(*self as u32)), 4)
    }
}

impl Argument for i64 {
    fn words(&self) -> ([u64; 16], usize) {
        (one(*self as u64), 8)
    }
}

impl Argument for f32 {
    fn words(&self) -> ([u64; 16], usize) {
        (one(u64::from(self.to_bits())), 4)
    }
}

impl Argument for f64 {
    fn words(&self) -> ([u64; 16], usize) {
        (one(self.to_bits()), 8)
    }
}

/// `Heads` of attention.cuh: n_heads, n_kv_heads, head_dim, capacity, window, then the factor.
#[derive(Debug, Clone, Copy)]
pub struct DeviceHeads {
    pub sizes: [i32; 5],
    pub score_factor: f32,
}

impl Argument for DeviceHeads {
    fn words(&self) -> ([u64; 16], usize) {
        let [a, b, c, d, e] = self.sizes.map(|size| u64::from(size as u32));
        let last = e | u64::from(self.score_factor.to_bits()) << 32;
        (padded(&[a | b << 32, c | d << 32, last]), 24)
    }
}
