//! Numbers in a device's memory that are drawn there, and are known here without being read.

use half::bf16;
use model_swarms::backend::cuda::driver::{Arg, Launch, Tensor};
use model_swarms::tensors::Dtype;

use super::machine::Machine;

/// Numbers of a device.
pub struct Array<'a, M: Machine> {
    machine: &'a M,
    memory: M::Memory,
    dtype: Dtype,
    len: usize,
    stream: usize,
    spread: f32,
}

/// Number `i` of a stream, uniform in [-1, 1): as `noise` of peaks.cu has it.
fn noise(i: usize, stream: usize) -> f32 {
    let mut mixed =
        (i as u32).wrapping_mul(0x9e37_79b9) ^ (stream as u32).wrapping_mul(0x85eb_ca6b);
    mixed = (mixed ^ mixed >> 16).wrapping_mul(0x21f0_aaad);
    mixed = (mixed ^ mixed >> 15).wrapping_mul(0x735a_2d97);
    ((mixed ^ mixed >> 15) >> 8) as f32 / (1 << 23) as f32 - 1.0
}

impl<'a, M: Machine> Array<'a, M> {
    /// `len` numbers of a stream, uniform in -spread .. spread.
    pub fn drawn(machine: &'a M, dtype: Dtype, len: usize, stream: usize, spread: f32) -> Self {
        let memory = machine.allocate(len * dtype.n_bytes()).expect("memory for a case");
        let array = Self { machine, memory, dtype, len, stream, spread };
        array.draw();
        array
    }

    /// Draws the numbers again, over what kernels made of them.
    pub fn draw(&self) {
        let kernel = match self.dtype {
            Dtype::F32 => "noise_f32",
            Dtype::BF16 => "noise_bf16",
            Dtype::F16 => panic!("no case has f16"),
        };
        let grid = [self.len.div_ceil(1024), 1, 1];
        let what = Launch { kernel, grid, block: 256, shared_bytes: 0 };
        let args =
            [self.arg(), Arg::long(self.len), Arg::int(self.stream), Arg::float(self.spread)];
        self.machine.launch(what, &args).expect("a launch");
    }

    /// Numbers that a kernel writes: NaN until then, so that what is left out shows.
    pub fn unset(machine: &'a M, dtype: Dtype, len: usize) -> Self {
        let array = Self::drawn(machine, dtype, len, 0, f32::NAN);
        array.machine.wait();
        array
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Copies as many numbers of another array here as it has.
    pub fn copy(&self, from: &Self) {
        let n_bytes = from.len * from.dtype.n_bytes();
        self.machine.copy(&self.memory, &from.memory, n_bytes).expect("a copy");
    }

    /// Writes bytes here, from the first on.
    pub fn write(&self, bytes: &[u8]) {
        self.machine.write(&self.memory, 0, bytes).expect("memory for a case");
    }

    /// Where it begins, as kernels take it.
    pub fn arg(&self) -> Arg {
        self.arg_at(0)
    }

    /// Where number `i` stands.
    pub fn arg_at(&self, i: usize) -> Arg {
        Arg::address(self.address_of(i))
    }

    /// The same, for tables of pointers.
    pub fn address_of(&self, i: usize) -> u64 {
        self.machine.address(&self.memory) + (i * self.dtype.n_bytes()) as u64
    }

    /// The tensor map of it as a matrix (n_rows, n_cols) of bf16, in boxes of 64 columns.
    pub fn map(&self, n_rows: usize, n_cols: usize, box_rows: usize) -> Arg {
        assert!(self.dtype == Dtype::BF16 && n_rows * n_cols <= self.len);
        let (start, ld) = (self.address_of(0), n_cols);
        let tensor = Tensor { start, n_rows, n_cols, ld, box_rows, box_cols: 64 };
        self.machine.tensor_map(tensor).expect("a tensor map")
    }

    /// What number `i` was when it was drawn.
    pub fn drawn_at(&self, i: usize) -> f32 {
        assert!(i < self.len, "number {i} of {}", self.len);
        self.dtype.round(noise(i, self.stream) * self.spread)
    }

    /// What number `i` is now.
    pub fn read(&self, i: usize) -> f32 {
        self.read_some(i, 1)[0]
    }

    /// What `n` numbers from `first` on are now.
    pub fn read_some(&self, first: usize, n: usize) -> Vec<f32> {
        assert!(first + n <= self.len, "numbers {first}, {n} of them, of {}", self.len);
        let mut bytes = vec![0u8; n * self.dtype.n_bytes()];
        let offset = first * self.dtype.n_bytes();
        self.machine.read(&self.memory, offset, &mut bytes).expect("what a kernel wrote");
        match self.dtype {
            Dtype::F32 => {
                let words = bytes.as_chunks::<4>().0.iter();
                words.map(|word| f32::from_le_bytes(*word)).collect()
            }
            _ => {
                let words = bytes.as_chunks::<2>().0.iter();
                words.map(|word| bf16::from_le_bytes(*word).to_f32()).collect()
            }
        }
    }
}

/// Bytes of a device: indices, tables of pointers, results in f64.
pub struct Bytes<'a, M: Machine> {
    machine: &'a M,
    memory: M::Memory,
}

impl<'a, M: Machine> Bytes<'a, M> {
    /// Memory that holds these bytes.
    pub fn new(machine: &'a M, bytes: &[u8]) -> Self {
        let memory = machine.allocate(bytes.len()).expect("memory for a case");
        machine.write(&memory, 0, bytes).expect("memory for a case");
        Self { machine, memory }
    }

    /// Memory that holds these indices.
    pub fn of_ints(machine: &'a M, ints: impl IntoIterator<Item = usize>) -> Self {
        let bytes: Vec<u8> = ints.into_iter().flat_map(|i| (i as i32).to_le_bytes()).collect();
        Self::new(machine, &bytes)
    }

    /// Where it begins, as kernels take it.
    pub fn arg(&self) -> Arg {
        Arg::address(self.machine.address(&self.memory))
    }

    /// `n` words of four bytes from its start.
    pub fn read_ints(&self, n: usize) -> Vec<i32> {
        let mut bytes = vec![0u8; 4 * n];
        self.machine.read(&self.memory, 0, &mut bytes).expect("what a kernel wrote");
        bytes.as_chunks::<4>().0.iter().map(|word| i32::from_le_bytes(*word)).collect()
    }

    /// `n` words of eight bytes from its start.
    pub fn read_f64(&self, n: usize) -> Vec<f64> {
        let mut bytes = vec![0u8; 8 * n];
        self.machine.read(&self.memory, 0, &mut bytes).expect("what a kernel wrote");
        bytes.as_chunks::<8>().0.iter().map(|word| f64::from_le_bytes(*word)).collect()
    }
}
