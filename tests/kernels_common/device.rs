//! Memory of the device that tests run kernels on, between guards.

use std::alloc::{Layout, alloc, dealloc};
use std::marker::PhantomData;

use super::{Argument, SANITIZER, gpu, one};

/// Device memory of `len` values, on a 64-byte boundary, between guards.
pub struct Device<T> {
    block: Block,
    len: usize,
    values: PhantomData<T>,
}

/// Bytes of a guard: of a NaN, and of an index out of any range.
const GUARD: usize = if matches!(SANITIZER.as_bytes(), b"address") { 0 } else { 256 };
const UNSET: u8 = 0xff;

/// Memory with its guards.
enum Block {
    /// The emulated machine's.
    Host { start: *mut u8, layout: Layout },
    /// A GPU's.
    Gpu(gpu::Block),
}

// SAFETY: the memory belongs to the device alone, and nobody runs two kernels on it at once.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    fn new(n_bytes: usize) -> Self {
        if gpu::is_meant() {
            return Self::Gpu(gpu::Block::new(n_bytes));
        }
        // A vector's memory is asked for to the byte, so that red zones follow at once.
        let layout = Layout::from_size_align(n_bytes.max(1), 64).unwrap();
        // SAFETY: the layout has a size.
        let start = unsafe { alloc(layout) };
        assert!(!start.is_null());
        Self::Host { start, layout }
    }

    fn address(&self) -> u64 {
        match self {
            Self::Host { start, .. } => *start as u64,
            Self::Gpu(block) => block.address(),
        }
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        match self {
            Self::Host { start, layout } => {
                assert!(offset + bytes.len() <= layout.size());
                // SAFETY: the range lies within the allocation; no kernel runs now.
                unsafe {
                    start.add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                }
            }
            Self::Gpu(block) => block.write(offset, bytes),
        }
    }

    fn read(&self, offset: usize, bytes: &mut [u8]) {
        match self {
            Self::Host { start, layout } => {
                assert!(offset + bytes.len() <= layout.size());
                // SAFETY: the range lies within the allocation; no kernel runs now.
                unsafe {
                    start.add(offset).copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len());
                }
            }
            Self::Gpu(block) => block.read(offset, bytes),
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Self::Host { start, layout } = self {
            // SAFETY: it was allocated with this layout.
            unsafe { dealloc(*start, *layout) };
        }
    }
}

impl<T: Copy> Device<T> {
    /// Memory that holds these values.
    pub fn new(values: &[T]) -> Self {
        let n_bytes = size_of_val(values);
        let block = Block::new(n_bytes + 2 * GUARD);
        block.write(0, &[UNSET; GUARD]);
        block.write(GUARD + n_bytes, &[UNSET; GUARD]);
        // SAFETY: numbers are made of bytes.
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), n_bytes) };
        block.write(GUARD, bytes);
        Self { block, len: values.len(), values: PhantomData }
    }

    /// What the memory holds.
    pub fn read(&self) -> Vec<T> {
        let mut values: Vec<T> = Vec::with_capacity(self.len);
        // SAFETY: the values are numbers, whose bytes may be anything, and all are read.
        unsafe {
            let n_bytes = self.len * size_of::<T>();
            let bytes = std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), n_bytes);
            self.block.read(GUARD, bytes);
            values.set_len(self.len);
        }
        values
    }

    /// The address of element `idx`, as kernels take it.
    pub fn at(&self, idx: usize) -> Pointer<'_, T> {
        assert!(idx <= self.len);
        Pointer { device: self, idx }
    }
}

impl<T> Device<T> {
    /// The address of its start, for tables of pointers.
    pub fn address(&self) -> u64 {
        self.block.address() + GUARD as u64
    }
}

impl Device<f32> {
    /// Memory that nobody has written: NaN.
    pub fn unset(len: usize) -> Self {
        Self::new(&vec![f32::from_bits(u32::MAX); len])
    }
}

impl Device<u8> {
    /// Writes bytes from `offset` on.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len, "a write past {} bytes", self.len);
        self.block.write(GUARD + offset, bytes);
    }

    /// Reads bytes from `offset` on.
    pub fn read_at(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset + bytes.len() <= self.len, "a read past {} bytes", self.len);
        self.block.read(GUARD + offset, bytes);
    }
}

impl<T: Copy> Argument for Device<T> {
    fn words(&self) -> ([u64; 16], usize) {
        (one(self.address()), 8)
    }

    fn overrun(&self) -> Option<String> {
        let n_bytes = self.len * size_of::<T>();
        for (place, start) in [("in front of", 0), ("behind", GUARD + n_bytes)] {
            let mut guard = [0; GUARD];
            self.block.read(start, &mut guard);
            if guard.iter().any(|byte| *byte != UNSET) {
                return Some(format!("memory was written {place} {} values", self.len));
            }
        }
        None
    }
}

/// An address within device memory.
pub struct Pointer<'a, T> {
    device: &'a Device<T>,
    idx: usize,
}

impl<T: Copy> Argument for Pointer<'_, T> {
    fn words(&self) -> ([u64; 16], usize) {
        (one(self.device.address() + (self.idx * size_of::<T>()) as u64), 8)
    }

    fn overrun(&self) -> Option<String> {
        self.device.overrun()
    }
}
