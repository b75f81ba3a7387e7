//! The CUDA kernels as tests see them: launched by name, on the emulated machine of `kernels/host`.
//!
//! Arguments are values and device memory, as cuLaunchKernel has them. Device memory stands between
//! guards, which every launch looks at afterwards; under AddressSanitizer its red zones do that.
#![allow(dead_code)] // each test uses its own part

use std::alloc::{Layout, alloc, dealloc};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;

pub mod attention_fast;
pub mod cpu;
pub mod emulated;
pub mod values;

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

#[repr(C)]
struct RawLaunch {
    name: *const c_char,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: usize,
    args: *const *mut c_void,
    arg_bytes: *const usize,
    n_args: usize,
    seed: u64,
}

#[repr(C)]
struct RawFailure {
    check: [c_char; 32],
    message: [c_char; 512],
}

unsafe extern "C" {
    fn kernels_launch(launch: *const RawLaunch, failure: *mut RawFailure) -> c_int;
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
    fn words(&self) -> ([u64; 8], usize);
    /// Whether the memory behind it was overrun.
    fn overrun(&self) -> Option<String> {
        None
    }
}

/// An argument that is bytes.
#[derive(Debug, Clone, Copy)]
pub struct Plain {
    pub words: [u64; 8],
    pub n_bytes: usize,
}

impl Argument for Plain {
    fn words(&self) -> ([u64; 8], usize) {
        (self.words, self.n_bytes)
    }
}

/// An argument's bytes, with the room and on the boundary that a tensor map needs.
#[repr(C, align(64))]
struct Value([u64; 8], [u64; 8]);

/// Runs a kernel to its end. A grid without blocks is no launch.
pub fn launch(launch: Launch, args: &[&dyn Argument]) -> Result<(), Failure> {
    if launch.grid.contains(&0) {
        return Ok(());
    }
    let words: Vec<([u64; 8], usize)> = args.iter().map(|arg| arg.words()).collect();
    let arg_bytes: Vec<usize> = words.iter().map(|(_, n_bytes)| *n_bytes).collect();
    let mut values: Vec<Value> = words.iter().map(|(words, _)| Value(*words, [0; 8])).collect();
    let pointers: Vec<*mut c_void> =
        values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
    let name = CString::new(launch.name).unwrap();
    let raw = RawLaunch {
        name: name.as_ptr(),
        grid: launch.grid.map(|n| n as u32),
        block: [launch.block as u32, 1, 1],
        shared_bytes: launch.shared_bytes,
        args: pointers.as_ptr(),
        arg_bytes: arg_bytes.as_ptr(),
        n_args: args.len(),
        seed: launch.seed,
    };
    let mut failure = RawFailure { check: [0; 32], message: [0; 512] };
    // SAFETY: the arguments live until the call returns, and the harness holds their number and
    // sizes against the kernel's; strings end with a zero. What a kernel does to memory that is not
    // its own is what these tests are about.
    let code = unsafe { kernels_launch(&raw, &mut failure) };
    if code != 0 {
        // SAFETY: the harness ends both strings with a zero.
        let text =
            |text: &[c_char]| unsafe { CStr::from_ptr(text.as_ptr()) }.to_str().unwrap().into();
        return Err(Failure { check: text(&failure.check), message: text(&failure.message) });
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

/// Device memory of `len` values, on a 64-byte boundary, between guards.
pub struct Device<T> {
    allocation: *mut u8,
    layout: Layout,
    len: usize,
    values: PhantomData<T>,
}

/// Bytes of a guard: of a NaN, and of an index out of any range.
const GUARD: usize = if matches!(SANITIZER.as_bytes(), b"address") { 0 } else { 256 };
const UNSET: u8 = 0xff;

impl<T: Copy> Device<T> {
    /// Memory that holds these values.
    pub fn new(values: &[T]) -> Self {
        let n_bytes = size_of_val(values);
        // A vector's memory is asked for to the byte, so that red zones follow at once.
        let layout = Layout::from_size_align((n_bytes + 2 * GUARD).max(1), 64).unwrap();
        // SAFETY: the layout has a size.
        let allocation = unsafe { alloc(layout) };
        assert!(!allocation.is_null());
        let device = Self { allocation, layout, len: values.len(), values: PhantomData };
        // SAFETY: the allocation has room for the guards and the values.
        unsafe {
            allocation.write_bytes(UNSET, layout.size());
            device.start().copy_from_nonoverlapping(values.as_ptr(), values.len());
        }
        device
    }

    fn start(&self) -> *mut T {
        // SAFETY: the allocation begins with a guard.
        unsafe { self.allocation.add(GUARD).cast() }
    }

    /// What the memory holds.
    pub fn read(&self) -> Vec<T> {
        // SAFETY: `new` wrote all values; no kernel runs now.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }.to_vec()
    }

    /// The address of element `idx`, as kernels take it.
    pub fn at(&self, idx: usize) -> Pointer<'_, T> {
        assert!(idx <= self.len);
        Pointer { device: self, idx }
    }

    /// The address of its start, for tables of pointers.
    pub fn address(&self) -> u64 {
        self.start() as u64
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
        // SAFETY: the range lies within the values; no kernel runs now.
        unsafe { self.start().add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// Reads bytes from `offset` on.
    pub fn read_at(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset + bytes.len() <= self.len, "a read past {} bytes", self.len);
        // SAFETY: the range lies within the values; no kernel runs now.
        unsafe { self.start().add(offset).copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
    }
}

// SAFETY: the memory belongs to the device alone, and nobody runs two kernels on it at once.
unsafe impl<T: Send> Send for Device<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Device<T> {}

impl<T> Drop for Device<T> {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout.
        unsafe { dealloc(self.allocation, self.layout) };
    }
}

impl<T: Copy> Argument for Device<T> {
    fn words(&self) -> ([u64; 8], usize) {
        (one(self.address()), 8)
    }

    fn overrun(&self) -> Option<String> {
        // SAFETY: both guards lie within the allocation; no kernel runs now.
        let guard =
            |start| unsafe { std::slice::from_raw_parts(self.allocation.add(start), GUARD) };
        let n_bytes = self.len * size_of::<T>();
        for (place, start) in [("in front of", 0), ("behind", GUARD + n_bytes)] {
            if guard(start).iter().any(|byte| *byte != UNSET) {
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
    fn words(&self) -> ([u64; 8], usize) {
        (one(self.device.address() + (self.idx * size_of::<T>()) as u64), 8)
    }

    fn overrun(&self) -> Option<String> {
        self.device.overrun()
    }
}

/// A tensor map of a matrix (n_rows, n_cols) of 16-bit numbers, rows `ld` apart, in boxes of 64
/// columns, swizzled by 128 bytes: `TensorMap` of hopper.h.
pub struct Map<'a> {
    pub device: &'a Device<u16>,
    pub n_rows: usize,
    pub n_cols: usize,
    pub ld: usize,
    pub box_rows: usize,
}

impl Argument for Map<'_> {
    fn words(&self) -> ([u64; 8], usize) {
        let [n_rows, n_cols, ld, box_rows] =
            [self.n_rows, self.n_cols, self.ld, self.box_rows].map(|n| n as u64);
        let (box_cols, swizzle) = (64, 3); // CU_TENSOR_MAP_SWIZZLE_128B
        let start = self.device.address();
        ([start, n_cols, n_rows, 2 * ld, box_cols | box_rows << 32, swizzle, 0, 0], 128)
    }

    fn overrun(&self) -> Option<String> {
        self.device.overrun()
    }
}

/// No memory: an argument that is optional.
pub struct Null;

impl Argument for Null {
    fn words(&self) -> ([u64; 8], usize) {
        (one(0), 8)
    }
}

fn one(word: u64) -> [u64; 8] {
    [word, 0, 0, 0, 0, 0, 0, 0]
}

impl Argument for i32 {
    fn words(&self) -> ([u64; 8], usize) {
        (one(u64::from(*self as u32)), 4)
    }
}

impl Argument for i64 {
    fn words(&self) -> ([u64; 8], usize) {
        (one(*self as u64), 8)
    }
}

impl Argument for f32 {
    fn words(&self) -> ([u64; 8], usize) {
        (one(u64::from(self.to_bits())), 4)
    }
}

impl Argument for f64 {
    fn words(&self) -> ([u64; 8], usize) {
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
    fn words(&self) -> ([u64; 8], usize) {
        let [a, b, c, d, e] = self.sizes.map(|size| u64::from(size as u32));
        let last = e | u64::from(self.score_factor.to_bits()) << 32;
        ([a | b << 32, c | d << 32, last, 0, 0, 0, 0, 0], 24)
    }
}
