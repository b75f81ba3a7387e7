//! What stands between the launchers and a device: memory, and kernels started by name.
//!
//! A GPU through CUDA's driver is one; the tests' emulated machine, which runs the same kernels, is
//! another. Everything happens in the order in which it is asked for.

use crate::error::Result;

/// A device.
pub trait Driver: Send + Sync {
    /// Memory of the device, given back when it is dropped.
    type Memory: Send + Sync;

    /// Memory of so many bytes, on a 256-byte boundary; what it holds means nothing.
    fn allocate(&self, n_bytes: usize) -> Result<Self::Memory>;

    /// Where memory begins, as kernels take it.
    fn address(&self, memory: &Self::Memory) -> u64;

    /// Writes bytes into memory, from `offset` on.
    fn write(&self, memory: &Self::Memory, offset: usize, bytes: &[u8]) -> Result<()>;

    /// Reads bytes of memory, from `offset` on, when all that was asked for before is done.
    fn read(&self, memory: &Self::Memory, offset: usize, bytes: &mut [u8]) -> Result<()>;

    /// Copies the first bytes of `from` to `to`.
    fn copy(&self, to: &Self::Memory, from: &Self::Memory, n_bytes: usize) -> Result<()>;

    /// What it is.
    fn chip(&self) -> Chip;

    /// The tensor map of a matrix, as kernels take it. A matrix without elements has none: its
    /// kernels read no map.
    fn tensor_map(&self, tensor: Tensor) -> Result<Arg>;

    /// Starts a kernel.
    fn launch(&self, launch: Launch, args: &[Arg]) -> Result<()>;

    /// Bytes of memory that are free.
    fn free_bytes(&self) -> Result<usize>;
}

/// What decides which kernels a device is given, and on how many blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chip {
    /// Whose instructions it has.
    pub family: Family,
    /// Blocks that run side by side, each with a multiprocessor of its own.
    pub n_multiprocessors: usize,
    /// Shared memory that a block may have, in bytes, if it asks for it.
    pub shared_bytes: usize,
}

/// Bytes of shared memory of fixed size, at most, in kernels that also have some whose size the
/// launch chooses; a block's limit is for both together.
pub const FIXED_SHARED_BYTES: usize = 512;

/// Chips that have instructions of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// sm_90a, which is compute capability 9.0 and no other.
    Hopper,
    /// What sm_80 has is all that is used.
    Ampere,
}

/// A kernel and how many threads of it run.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// Its name.
    pub kernel: &'a str,
    /// Blocks in x, y and z, each at least 1.
    pub grid: [usize; 3],
    /// Threads of a block.
    pub block: usize,
    /// Bytes of shared memory whose size the launch chooses.
    pub shared_bytes: usize,
}

/// A matrix of bf16 that a kernel reads by tensor map, box by box; zeros for what lies outside.
#[derive(Debug, Clone, Copy)]
pub struct Tensor {
    /// Where it begins: a multiple of 16.
    pub start: u64,
    /// Rows.
    pub n_rows: usize,
    /// Columns; what lies behind them in a row is not read.
    pub n_cols: usize,
    /// From a row to the next, in numbers: a multiple of 8.
    pub ld: usize,
    /// Rows of a box.
    pub box_rows: usize,
    /// Columns of a box: 64, swizzled by 128 bytes, or 32, swizzled by 64.
    pub box_cols: usize,
}

/// One argument of a kernel.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Arg {
    /// The bytes that the kernel is given, then zeros; on the boundary that a tensor map needs.
    pub words: [u64; 16],
    /// How many bytes.
    pub n_bytes: usize,
}

impl Arg {
    /// Words, of which the kernel is given so many bytes.
    pub fn new(words: &[u64], n_bytes: usize) -> Self {
        let mut all = [0; 16];
        all[..words.len()].copy_from_slice(words);
        Self { words: all, n_bytes }
    }

    /// A size or an index.
    ///
    /// # Panics
    /// If it is too large for a kernel's `int`.
    pub fn int(value: usize) -> Self {
        Self::structure(&[], &[value])
    }

    /// A struct of addresses, then ints.
    ///
    /// # Panics
    /// If one of the ints is too large, or all are more than an argument holds.
    pub fn structure(addresses: &[u64], ints: &[usize]) -> Self {
        let mut all = Self::new(addresses, 8 * addresses.len() + 4 * ints.len());
        for (i, &value) in ints.iter().enumerate() {
            assert!(value <= i32::MAX as usize, "{value} is no int");
            all.words[addresses.len() + i / 2] |= (value as u64) << (i % 2 * 32);
        }
        all.n_bytes = all.n_bytes.next_multiple_of(if addresses.is_empty() { 4 } else { 8 });
        all
    }

    /// A `long long`.
    pub fn long(value: usize) -> Self {
        Self::new(&[value as u64], 8)
    }

    /// A `float`.
    pub fn float(value: f32) -> Self {
        Self::new(&[u64::from(value.to_bits())], 4)
    }

    /// An address; 0 is no memory.
    pub fn address(value: u64) -> Self {
        Self::new(&[value], 8)
    }

    /// `Heads` of attention.cuh: five ints, then the factor.
    ///
    /// # Panics
    /// If one of them is too large for a kernel's `int`.
    pub fn heads(sizes: [usize; 5], score_factor: f32) -> Self {
        assert!(sizes.iter().all(|size| *size <= i32::MAX as usize), "{sizes:?} are no ints");
        let [a, b, c, d, e] = sizes.map(|size| size as u64);
        let last = e | u64::from(score_factor.to_bits()) << 32;
        Self::new(&[a | b << 32, c | d << 32, last], 24)
    }
}
