//! Adapters in a device's memory: uploaded, or made there of experts that lie beside them.
//!
//! All adapters of a set are one matrix, `(n_adapters, stride)`, whose rows are flat vectors in the
//! order of their layout. What is added to a product points into it: nothing is copied a second
//! time, and how the rows came about makes no difference.

use super::driver::{Arg, Driver};
use super::memory::{Factor, Fixed, size_of_dtype};
use super::ops::{Ops, suffix};
use crate::backend::Factors;
use crate::error::Result;
use crate::tensors::{Dtype, Tensor};

/// Experts that one launch can combine: it holds 2 KiB of each in shared memory, of which the
/// smallest of the chips that the kernels are made for has 99 KiB.
pub const MOST_EXPERTS: usize = 48;

/// Rows begin at multiples of so many numbers, 16 bytes.
pub const ROW: usize = 4;

/// Elements of every expert that a block of `combine_*_v2` works on.
const BLOCK: usize = 512;

/// Elements that are widened at a time where experts are of several types.
const PIECE: usize = 1 << 16;

/// Flat vectors of adapters.
pub struct Adapters<D: Driver> {
    values: Fixed<D>, // (n_adapters, stride)
    n_adapters: usize,
    stride: usize,
}

impl<D: Driver> Adapters<D> {
    fn unset(driver: &D, n_adapters: usize, len: usize) -> Result<Self> {
        let stride = len.next_multiple_of(ROW);
        let values = Fixed::unset(driver, n_adapters * stride * size_of::<f32>())?;
        Ok(Self { values, n_adapters, stride })
    }

    /// The host's, copied.
    pub fn new(driver: &D, data: &[&[f32]]) -> Result<Self> {
        let len = data.first().map_or(0, |adapter| adapter.len());
        let adapters = Self::unset(driver, data.len(), len)?;
        for (adapter_idx, adapter) in data.iter().enumerate() {
            assert_eq!(adapter.len(), len, "adapters of one length");
            let start = adapter_idx * adapters.stride * size_of::<f32>();
            adapters.values.write(driver, start, bytemuck::cast_slice(adapter))?;
        }
        Ok(adapters)
    }

    /// One of them, as a set.
    pub fn one(&self, adapter_idx: usize) -> Self {
        assert!(adapter_idx < self.n_adapters, "adapter {adapter_idx} of {}", self.n_adapters);
        let values = self.values.from(adapter_idx * self.stride * size_of::<f32>());
        Self { values, n_adapters: 1, stride: self.stride }
    }

    /// One part's factors of all adapters, where they stand.
    pub fn factor(&self, factors: &Factors) -> Factor<D> {
        let Factors { part_idx, a, b, rank, scale } = factors.clone();
        assert!(a.end <= self.stride && b.end <= self.stride, "{factors:?} of {}", self.stride);
        Factor {
            part_idx,
            n_adapters: self.n_adapters,
            n_out: b.len() / rank,
            n_in: a.len() / rank,
            rank,
            scale,
            a: self.values.from(a.start * size_of::<f32>()),
            b: self.values.from(b.start * size_of::<f32>()),
            stride: self.stride,
        }
    }
}

/// The experts of a pool: flat vectors in their files' type, or in f32 where that is not one.
pub struct Experts<D: Driver> {
    table: Fixed<D>, // (n_experts): where each of `flats` begins
    n_experts: usize,
    len: usize,
    dtype: Dtype,
    _flats: Vec<Fixed<D>>, // (len) each; held for the table
}

impl<D: Driver> Experts<D> {
    /// Copies every expert's tensors, which make up a flat vector in their order.
    pub fn new(driver: &D, tensors: &[Vec<Tensor>]) -> Result<Self> {
        let n_experts = tensors.first().map_or(0, Vec::len);
        assert!(n_experts <= MOST_EXPERTS, "{n_experts} experts, {MOST_EXPERTS} can be combined");
        assert!(tensors.iter().all(|experts| experts.len() == n_experts), "a tensor of each");
        let len = tensors.iter().map(|experts| experts[0].len()).sum();
        let mut dtypes = tensors.iter().flatten().map(|tensor| tensor.dtype);
        let first = dtypes.next().unwrap_or(Dtype::F32);
        let dtype = if dtypes.all(|dtype| dtype == first) { first } else { Dtype::F32 };

        let mut flats = Vec::with_capacity(n_experts);
        for expert_idx in 0..n_experts {
            let flat = Fixed::unset(driver, len * size_of_dtype(dtype))?;
            let mut start = 0;
            for experts in tensors {
                let tensor = &experts[expert_idx];
                upload(driver, tensor, dtype, &flat, start)?;
                start += tensor.len() * size_of_dtype(dtype);
            }
            assert_eq!(start, len * size_of_dtype(dtype), "expert {expert_idx} is as long");
            flats.push(flat);
        }
        let table: Vec<u64> = flats.iter().map(|flat| flat.address(driver)).collect();
        let table = Fixed::new(driver, bytemuck::cast_slice(&table))?;
        Ok(Self { table, n_experts, len, dtype, _flats: flats })
    }
}

/// Writes a tensor as numbers of type `dtype`, its own or f32, from byte `start` of `to` on.
fn upload<D: Driver>(
    driver: &D,
    tensor: &Tensor,
    dtype: Dtype,
    to: &Fixed<D>,
    start: usize,
) -> Result<()> {
    if tensor.dtype == dtype {
        return to.write(driver, start, tensor.bytes);
    }
    for first in (0..tensor.len()).step_by(PIECE) {
        let mut wide = vec![0.0f32; PIECE.min(tensor.len() - first)];
        tensor.read_f32(first, &mut wide);
        let at = start + first * size_of::<f32>();
        to.write(driver, at, bytemuck::cast_slice(&wide))?;
    }
    Ok(())
}

impl<D: Driver> Ops<'_, D> {
    /// `out[p] = sum over i of rows[p][i] * expert[i]`, all rows in one pass over the experts.
    pub fn combine(&self, experts: &Experts<D>, rows: &[Vec<f32>]) -> Result<Adapters<D>> {
        let Experts { n_experts, len, .. } = *experts;
        assert!(rows.iter().all(|row| row.len() == n_experts), "a coefficient for each expert");
        let out = Adapters::unset(self.0, rows.len(), len)?;
        let coefficients = Fixed::new(self.0, bytemuck::cast_slice(&rows.concat()))?;
        let args = [
            self.of(&experts.table),
            self.of(&coefficients),
            self.of(&out.values),
            Arg::int(n_experts),
            Arg::int(rows.len()),
            Arg::long(len),
            Arg::long(out.stride),
        ];
        let kernel = format!("combine_{}_v2", suffix(experts.dtype));
        let n_blocks = if rows.is_empty() { 0 } else { len.div_ceil(BLOCK) };
        let shared_bytes = n_experts * BLOCK * size_of::<f32>();
        self.start(&kernel, [n_blocks, 1, 1], 128, shared_bytes, &args)?;
        Ok(out)
    }
}
