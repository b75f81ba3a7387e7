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

    /// Starts a kernel.
    fn launch(&self, launch: Launch, args: &[Arg]) -> Result<()>;

    /// Bytes of memory that are free.
    fn free_bytes(&self) -> Result<usize>;
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

/// One argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub struct Arg {
    /// The bytes that the kernel is given, then zeros.
    pub words: [u64; 4],
    /// How many bytes.
    pub n_bytes: usize,
}

impl Arg {
    /// A size or an index.
    ///
    /// # Panics
    /// If it is too large for a kernel's `int`.
    pub fn int(value: usize) -> Self {
        assert!(value <= i32::MAX as usize, "{value} is no int");
        Self { words: [value as u64, 0, 0, 0], n_bytes: 4 }
    }

    /// A `long long`.
    pub fn long(value: usize) -> Self {
        Self { words: [value as u64, 0, 0, 0], n_bytes: 8 }
    }

    /// A `float`.
    pub fn float(value: f32) -> Self {
        Self { words: [u64::from(value.to_bits()), 0, 0, 0], n_bytes: 4 }
    }

    /// An address; 0 is no memory.
    pub fn address(value: u64) -> Self {
        Self { words: [value, 0, 0, 0], n_bytes: 8 }
    }

    /// `Heads` of attention.cuh: five ints, then the factor.
    ///
    /// # Panics
    /// If one of them is too large for a kernel's `int`.
    pub fn heads(sizes: [usize; 5], score_factor: f32) -> Self {
        assert!(sizes.iter().all(|size| *size <= i32::MAX as usize), "{sizes:?} are no ints");
        let [a, b, c, d, e] = sizes.map(|size| size as u64);
        let last = e | u64::from(score_factor.to_bits()) << 32;
        Self { words: [a | b << 32, c | d << 32, last, 0], n_bytes: 24 }
    }
}
