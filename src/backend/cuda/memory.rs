//! What lies in a device's memory: activations, weights, factors, caches.

use std::sync::Arc;

use half::{bf16, f16};
use rayon::prelude::*;

use super::driver::Driver;
use super::fast::Prepared;
use crate::backend::{Heads, Part, Room};
use crate::error::Result;
use crate::tensors::Dtype;

/// Columns are padded to so many, so that rows begin where kernels want them.
pub const PADDING: usize = 32;

/// Rows of activations in f32, or in bf16.
pub struct Matrix<D: Driver> {
    memory: Option<D::Memory>,
    n_bytes: usize,
    pub(super) dtype: Dtype,
    pub(super) n_rows: usize,
    pub(super) stride: usize,
}

impl<D: Driver> Default for Matrix<D> {
    fn default() -> Self {
        Self { memory: None, n_bytes: 0, dtype: Dtype::F32, n_rows: 0, stride: 0 }
    }
}

impl<D: Driver> Matrix<D> {
    /// Gives the matrix another shape; its content means nothing afterwards.
    pub fn reshape(
        &mut self,
        driver: &D,
        dtype: Dtype,
        n_rows: usize,
        n_cols: usize,
    ) -> Result<()> {
        let stride = n_cols.next_multiple_of(PADDING);
        let n_bytes = n_rows * stride * size_of_dtype(dtype);
        if n_bytes > self.n_bytes {
            self.memory = None; // first, so that both need not fit
            self.n_bytes = 0;
            self.memory = Some(driver.allocate(n_bytes)?);
            self.n_bytes = n_bytes;
        }
        (self.dtype, self.n_rows, self.stride) = (dtype, n_rows, stride);
        Ok(())
    }

    /// Makes room for more rows, which are as those of `like`, behind those that are there.
    pub fn extend(&mut self, driver: &D, n_more: usize, like: &Self) -> Result<()> {
        if self.n_rows == 0 {
            (self.dtype, self.stride) = (like.dtype, like.stride);
        }
        assert_eq!((self.dtype, self.stride), (like.dtype, like.stride), "rows of one matrix");
        let n_bytes_row = self.stride * size_of_dtype(self.dtype);
        let n_bytes = (self.n_rows + n_more) * n_bytes_row;
        if n_bytes > self.n_bytes {
            let longer = driver.allocate(2 * n_bytes)?;
            if let Some(memory) = &self.memory {
                driver.copy(&longer, memory, self.n_rows * n_bytes_row)?;
            }
            (self.memory, self.n_bytes) = (Some(longer), 2 * n_bytes);
        }
        self.n_rows += n_more;
        Ok(())
    }

    /// Where column `col` of row `row` stands.
    pub fn at(&self, driver: &D, row: usize, col: usize) -> u64 {
        let at = ((row * self.stride + col) * size_of_dtype(self.dtype)) as u64;
        self.memory.as_ref().map_or(0, |memory| driver.address(memory) + at)
    }

    /// All elements, padding included: (n_rows, stride).
    pub fn read(&self, driver: &D) -> Result<Vec<f32>> {
        match self.dtype {
            Dtype::F32 => self.numbers(driver, 0.0f32),
            Dtype::F16 => Ok(widened(self.numbers(driver, f16::ZERO)?, f16::to_f32)),
            Dtype::BF16 => Ok(widened(self.numbers(driver, bf16::ZERO)?, bf16::to_f32)),
        }
    }

    fn numbers<T: bytemuck::Pod>(&self, driver: &D, zero: T) -> Result<Vec<T>> {
        let mut values = vec![zero; self.n_rows * self.stride];
        if let Some(memory) = &self.memory {
            driver.read(memory, 0, bytemuck::cast_slice_mut(&mut values))?;
        }
        Ok(values)
    }
}

fn widened<T>(values: Vec<T>, widen: fn(T) -> f32) -> Vec<f32> {
    values.into_iter().map(widen).collect()
}

/// Numbers in memory that are written once, or those from a place on in others.
pub struct Fixed<D: Driver> {
    memory: Option<Arc<D::Memory>>,
    start: usize, // in bytes
}

impl<D: Driver> Fixed<D> {
    /// Memory that holds these bytes; none where there are none.
    pub fn new(driver: &D, bytes: &[u8]) -> Result<Self> {
        let fixed = Self::unset(driver, bytes.len())?;
        fixed.write(driver, 0, bytes)?;
        Ok(fixed)
    }

    /// Memory that will be written.
    pub fn unset(driver: &D, n_bytes: usize) -> Result<Self> {
        let memory = (n_bytes > 0).then(|| driver.allocate(n_bytes)).transpose()?;
        Ok(Self { memory: memory.map(Arc::new), start: 0 })
    }

    /// The same memory from byte `start` on.
    pub fn from(&self, start: usize) -> Self {
        Self { memory: self.memory.clone(), start: self.start + start }
    }

    /// Where it begins.
    pub fn address(&self, driver: &D) -> u64 {
        let start = self.start as u64;
        self.memory.as_ref().map_or(0, |memory| driver.address(memory) + start)
    }

    /// Writes bytes, from `offset` on.
    pub fn write(&self, driver: &D, offset: usize, bytes: &[u8]) -> Result<()> {
        let write = |memory: &Arc<D::Memory>| driver.write(memory, self.start + offset, bytes);
        self.memory.as_ref().map_or(Ok(()), write)
    }

    /// What it holds, from its start.
    pub fn read(&self, driver: &D, bytes: &mut [u8]) -> Result<()> {
        self.memory.as_ref().map_or(Ok(()), |memory| driver.read(memory, self.start, bytes))
    }
}

/// One value for each column of a matrix.
pub struct Vector<D: Driver> {
    pub(super) values: Fixed<D>,
    pub(super) len: usize,
}

/// The embedding, (n_rows, ld), as the file has it; a tied one is the output matrix, as that is.
pub struct Table<D: Driver> {
    pub(super) values: Fixed<D>,
    pub(super) storage: Dtype,
    pub(super) dim: usize,
    pub(super) ld: usize,
}

/// Matrices that share their input, (n_cols, ld), one below the other; each begins where a tile of
/// the product does, and what lies between is zero.
pub struct Weights<D: Driver> {
    pub(super) values: Fixed<D>,
    pub(super) storage: Dtype,
    pub(super) n_in: usize,
    pub(super) ld: usize,
    starts: Vec<usize>, // first column of each part in an output row, then the total
}

impl<D: Driver> Weights<D> {
    /// The parts, each (n_out, n_in), as values of type `storage`, which must hold them exactly.
    /// They begin at multiples of `tile_cols`, and the last ends at one of [`PADDING`].
    pub fn new(
        driver: &D,
        n_in: usize,
        parts: &[Part],
        storage: Dtype,
        tile_cols: usize,
    ) -> Result<Self> {
        let (mut starts, mut end) = (Vec::new(), 0usize);
        for part in parts {
            starts.push(end.next_multiple_of(tile_cols));
            end = starts[starts.len() - 1] + part.n_out.next_multiple_of(PADDING);
        }
        starts.push(end);
        let ld = n_in.next_multiple_of(16 / size_of_dtype(storage));
        let n_bytes_row = ld * size_of_dtype(storage);
        let mut bytes = vec![0u8; starts[parts.len()] * n_bytes_row];
        for (part, start) in parts.iter().zip(&starts) {
            let of_part = &mut bytes[start * n_bytes_row..][..part.n_out * n_bytes_row];
            pack_rows(of_part, n_in, n_bytes_row, storage, &part.read);
        }
        Ok(Self { values: Fixed::new(driver, &bytes)?, storage, n_in, ld, starts })
    }

    /// A copy to which something will be added.
    pub fn copy(&self, driver: &D) -> Result<Self> {
        let n_bytes = self.n_cols() * self.ld * size_of_dtype(self.storage);
        let values = Fixed::unset(driver, n_bytes)?;
        if let (Some(to), Some(from)) = (&values.memory, &self.values.memory) {
            driver.copy(to, from, n_bytes)?;
        }
        let (storage, n_in, ld) = (self.storage, self.n_in, self.ld);
        Ok(Self { values, storage, n_in, ld, starts: self.starts.clone() })
    }

    /// Length of an output row: all parts, each padded.
    pub fn n_cols(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }

    /// The first column of part `part_idx` in an output row.
    pub fn start(&self, part_idx: usize) -> usize {
        self.starts[part_idx]
    }
}

/// Bytes of a number.
pub fn size_of_dtype(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F32 => 4,
        Dtype::F16 | Dtype::BF16 => 2,
    }
}

/// Writes rows of `n_cols` values, which `read` reads, as numbers of type `storage`.
pub fn pack_rows(
    bytes: &mut [u8],
    n_cols: usize,
    n_bytes_row: usize,
    storage: Dtype,
    read: impl Fn(usize, &mut [f32]) + Sync,
) {
    bytes.par_chunks_mut(n_bytes_row.max(1)).enumerate().for_each(|(row_idx, bytes)| {
        let mut row = vec![0.0; n_cols];
        read(row_idx, &mut row);
        narrow(&row, storage, bytes);
    });
}

/// Writes values as numbers of type `storage`.
fn narrow(values: &[f32], storage: Dtype, bytes: &mut [u8]) {
    match storage {
        Dtype::F32 => bytes[..size_of_val(values)].copy_from_slice(bytemuck::cast_slice(values)),
        Dtype::F16 => {
            for (to, value) in bytes.chunks_exact_mut(2).zip(values) {
                to.copy_from_slice(&f16::from_f32(*value).to_le_bytes());
            }
        }
        Dtype::BF16 => {
            for (to, value) in bytes.chunks_exact_mut(2).zip(values) {
                to.copy_from_slice(&bf16::from_f32(*value).to_le_bytes());
            }
        }
    }
}

/// What the adapters of a set add to one product.
pub enum Update<D: Driver> {
    /// In precision exact, each part's factors.
    Exact(Vec<Factor<D>>),
    /// In precision fast, all parts'.
    Fast(Prepared<D>),
}

/// One part's factors, of all adapters: places in their flat vectors.
pub struct Factor<D: Driver> {
    pub(super) part_idx: usize,
    pub(super) n_adapters: usize,
    pub(super) n_out: usize,
    pub(super) rank: usize,
    pub(super) scale: f32,
    pub(super) n_in: usize,
    pub(super) a: Fixed<D>,   // (n_adapters, stride), of which (rank, n_in)
    pub(super) b: Fixed<D>,   // (n_adapters, stride), of which (n_out, rank)
    pub(super) stride: usize, // of the flat vectors
}

/// Keys and values of a batch's sequences, and the rotary tables.
pub struct Cache<D: Driver> {
    room: Option<Room>,
    pub(super) dtype: Dtype,
    pub(super) capacity: usize, // positions per sequence, a multiple of 32
    n_bytes: usize,
    // in f32 (n_layers, n_slots, n_kv_heads, capacity / 32, head_dim, 32), in bf16 as the values
    keys: Option<D::Memory>,
    values: Option<D::Memory>, // (n_layers, n_slots, n_kv_heads, capacity, head_dim)
    angles: Option<D::Memory>, // cos, then sin: (n_positions, head_dim / 2)
    n_angles: usize,
}

impl<D: Driver> Default for Cache<D> {
    fn default() -> Self {
        Self {
            room: None,
            dtype: Dtype::F32,
            capacity: 0,
            n_bytes: 0,
            keys: None,
            values: None,
            angles: None,
            n_angles: 0,
        }
    }
}

impl<D: Driver> Cache<D> {
    /// Makes room; `tables` gives cosine and sine of that many positions, (n, head_dim / 2).
    pub fn prepare(
        &mut self,
        driver: &D,
        dtype: Dtype,
        room: Room,
        tables: impl FnOnce(usize) -> (Vec<f32>, Vec<f32>),
    ) -> Result<()> {
        let Room { heads, n_layers, n_slots, n_positions } = room;
        (self.room, self.dtype) = (Some(room), dtype);
        self.capacity = n_positions.next_multiple_of(32);
        let n_heads = n_layers * n_slots * heads.n_kv_heads;
        let n_bytes = n_heads * heads.head_dim * self.capacity * size_of_dtype(dtype);
        if n_bytes > self.n_bytes {
            (self.keys, self.values, self.n_bytes) = (None, None, 0);
            self.keys = Some(driver.allocate(n_bytes)?);
            self.values = Some(driver.allocate(n_bytes)?);
            self.n_bytes = n_bytes;
        }
        let half = heads.head_dim / 2;
        if self.capacity * half > self.n_angles {
            (self.angles, self.n_angles) = (None, 0);
            let (cos, sin) = tables(self.capacity);
            let memory = driver.allocate((cos.len() + sin.len()) * size_of::<f32>())?;
            driver.write(&memory, 0, bytemuck::cast_slice(&cos))?;
            driver.write(&memory, size_of_val(&cos[..]), bytemuck::cast_slice(&sin))?;
            (self.angles, self.n_angles) = (Some(memory), cos.len());
        }
        Ok(())
    }

    /// The sizes that it was made for.
    pub fn heads(&self) -> Heads {
        self.room.as_ref().expect("a cache is prepared before it is used").heads
    }

    /// Where a layer's keys and its values begin.
    pub fn layer(&self, driver: &D, layer_idx: usize) -> [u64; 2] {
        let Room { heads, n_slots, .. } =
            *self.room.as_ref().expect("a cache is prepared before it is used");
        let len = n_slots * heads.n_kv_heads * heads.head_dim * self.capacity;
        let at = (layer_idx * len * size_of_dtype(self.dtype)) as u64;
        [&self.keys, &self.values]
            .map(|memory| memory.as_ref().map_or(0, |memory| driver.address(memory) + at))
    }

    /// Where the cosines and the sines begin.
    pub fn angles(&self, driver: &D) -> [u64; 2] {
        let start = self.angles.as_ref().map_or(0, |memory| driver.address(memory));
        [start, start + (self.n_angles * size_of::<f32>()) as u64]
    }
}
