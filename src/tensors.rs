//! Memory-mapped safetensors files, and writing them in one piece.
//!
//! The header is checked whole when a file is opened: afterwards every tensor's bytes exist and
//! have the size that its shape says. Data may start at any address, so values are read byte by
//! byte and never through a cast pointer. This file knows nothing of models or adapters: names are
//! strings.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;

use crate::error::{Error, Result};
use crate::files::write_atomic;

mod header;

/// The element types that weights may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    BF16,
}

impl Dtype {
    /// Bytes per element.
    pub fn n_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// The type that the header calls `dtype`, if it is one that weights may have.
    fn of_weights(dtype: safetensors::Dtype) -> Option<Self> {
        match dtype {
            safetensors::Dtype::F32 => Some(Self::F32),
            safetensors::Dtype::F16 => Some(Self::F16),
            safetensors::Dtype::BF16 => Some(Self::BF16),
            _ => None,
        }
    }

    /// `value` rounded to this type (to nearest, ties to even) and widened again.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::BF16 => bf16::from_f32(value).to_f32(),
        }
    }
}

/// The name used in a safetensors header: `F32`, `F16` or `BF16`.
impl fmt::Display for Dtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
        })
    }
}

/// One memory-mapped safetensors file, its header checked whole.
#[derive(Debug)]
pub struct Tensors {
    path: PathBuf,
    map: Mmap,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

/// Where one tensor lies.
#[derive(Debug)]
struct Entry {
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    /// In bytes, within the map.
    range: Range<usize>,
}

impl Tensors {
    /// Maps the file at `path` and checks its header: sizes, offsets, names. The values are not
    /// read.
    ///
    /// Refused, naming the tensor: a truncated file, a header that is longer than the file or not
    /// JSON, offsets that overlap, leave a hole or pass the end, a size that is not shape x dtype,
    /// a name given twice.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        if !file.metadata().map_err(Error::io(path, "inspect"))?.is_file() {
            return Err(Error::input(path, "not a regular file, wanted a safetensors file"));
        }
        // SAFETY: the map is private and read-only. Whoever changes or shortens a file of weights
        // while a run reads it breaks the run; files written by this program are replaced by
        // rename, which leaves the mapped ones as they were.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path, "map"))?;
        let header = header::parse(&map).map_err(|what| Error::input(path, what))?;
        let (entries, metadata) = (header.entries, header.metadata);
        Ok(Self { path: path.to_path_buf(), map, entries, metadata })
    }

    /// The file, as it was given to [`Tensors::open`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The shape of the tensor `name`, if there is one.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// The type of the tensor `name`, if there is one and it is a type that weights may have.
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        self.entries.get(name).and_then(|entry| Dtype::of_weights(entry.dtype))
    }

    /// The free text of the header (`__metadata__`), empty if there is none.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensor `name`, which must have this `shape` and be F32, F16 or BF16.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor<'_>> {
        self.find(name, shape).map(|slot| self.at(&slot))
    }

    /// As [`Tensors::get`], for a tensor that is asked for again and again: its place in this map.
    pub(crate) fn find(&self, name: &str, shape: &[usize]) -> Result<Slot> {
        let refuse = |what: String| Err(Error::input(&self.path, what));
        let Some(entry) = self.entries.get(name) else {
            return refuse(format!("no tensor {name:?}, wanted one of shape {shape:?}"));
        };
        let Some(dtype) = Dtype::of_weights(entry.dtype) else {
            let found = entry.dtype;
            return refuse(format!("tensor {name:?} is {found}, wanted F32, F16 or BF16"));
        };
        if entry.shape != shape {
            let found = &entry.shape;
            return refuse(format!("tensor {name:?} has shape {found:?}, wanted {shape:?}"));
        }
        Ok(Slot { dtype, range: entry.range.clone() })
    }

    /// The tensor at a `slot` that this map's [`Tensors::find`] gave.
    pub(crate) fn at(&self, slot: &Slot) -> Tensor<'_> {
        Tensor { dtype: slot.dtype, bytes: &self.map[slot.range.clone()] }
    }
}

/// The place of one checked tensor in the map it was found in.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub dtype: Dtype,
    /// In bytes.
    range: Range<usize>,
}

/// The values of one tensor, as they lie in the file: little-endian, perhaps unaligned.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// What the bytes are.
    pub dtype: Dtype,
    /// `len() * dtype.n_bytes()` bytes, row-major.
    pub bytes: &'a [u8],
}

impl Tensor<'_> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.n_bytes()
    }

    /// Whether the tensor has no element.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Fills `out` with the elements from `start` on, widened to f32 (which is exact).
    #[inline(always)] // so that each caller has it in vectors of its own width
    pub fn read_f32(&self, start: usize, out: &mut [f32]) {
        let (n_wanted, n_elements) = (out.len(), self.len());
        assert!(
            start <= n_elements && n_wanted <= n_elements - start,
            "{n_wanted} elements from {start} of a tensor of {n_elements}"
        );
        let size = self.dtype.n_bytes();
        let bytes = &self.bytes[start * size..(start + n_wanted) * size];
        match self.dtype {
            Dtype::F32 => {
                let (words, _) = bytes.as_chunks::<4>();
                out.iter_mut().zip(words).for_each(|(out, word)| *out = f32::from_le_bytes(*word));
            }
            Dtype::F16 => {
                let (words, _) = bytes.as_chunks::<2>();
                let widen = |word: &[u8; 2]| widen_f16(u16::from_le_bytes(*word));
                out.iter_mut().zip(words).for_each(|(out, word)| *out = widen(word));
            }
            Dtype::BF16 => {
                let (words, _) = bytes.as_chunks::<2>();
                let widen =
                    |word: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*word)) << 16);
                out.iter_mut().zip(words).for_each(|(out, word)| *out = widen(word));
            }
        }
    }

    /// `n_elements` elements from `start` on, as a tensor of their own.
    pub fn part(&self, start: usize, n_elements: usize) -> Self {
        let size = self.dtype.n_bytes();
        Self { dtype: self.dtype, bytes: &self.bytes[start * size..(start + n_elements) * size] }
    }

    /// All elements, widened to f32.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.len()];
        self.read_f32(0, &mut values);
        values
    }

    /// The first element that is NaN or infinite: its index and value.
    pub fn first_non_finite(&self) -> Option<(usize, f32)> {
        let mut block = [0.0; 4096];
        for start in (0..self.len()).step_by(block.len()) {
            let n_here = block.len().min(self.len() - start);
            let values = &mut block[..n_here];
            self.read_f32(start, values);
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return Some((start + at, values[at]));
            }
        }
        None
    }
}

/// The half-precision number with these bits: in selects rather than branches, so that it
/// vectorises.
///
/// Shifted into place, the exponent still lacks the difference of the two biases, 127 - 15. Twice
/// that for infinity and NaN, whose exponent is all ones in both. A subnormal is one bit above the
/// normal that it looks like, and subtracting the smallest normal takes away what it does not have.
#[inline(always)]
fn widen_f16(half: u16) -> f32 {
    const BIAS: u32 = 112 << 23;
    let magnitude = u32::from(half & 0x7FFF) << 13;
    let exponent = magnitude & 0x0F80_0000;
    let subnormal = f32::from_bits(magnitude + BIAS + (1 << 23)) - f32::from_bits(BIAS + (1 << 23));
    let bits = match exponent {
        0 => subnormal.to_bits(),
        0x0F80_0000 => magnitude + 2 * BIAS,
        _ => magnitude + BIAS,
    };
    f32::from_bits(bits | u32::from(half & 0x8000) << 16)
}

/// Writes a safetensors file in one piece, tensors sorted by name, values rounded to `dtype`.
///
/// Each tensor is (name, shape, values in row-major order). A value that is not finite, or no
/// longer is once rounded, is an error naming tensor and index, and nothing is written.
pub fn write(
    path: &Path,
    tensors: &[(String, Vec<usize>, &[f32])],
    dtype: Dtype,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by(|left, right| left.0.cmp(&right.0));
    for (name, shape, values) in &sorted {
        let n_elements: usize = shape.iter().product();
        assert_eq!(n_elements, values.len(), "tensor {name} of shape {shape:?}");
        let lost = values.iter().position(|&value| !dtype.round(value).is_finite());
        if let Some(at) = lost {
            let value = values[at];
            let what = format!("tensor {name:?}: {value} at index {at} has no finite {dtype}");
            return Err(Error::input(path, what));
        }
    }
    let shapes = sorted.iter().map(|(name, shape, _)| (name.as_str(), shape.as_slice()));
    let header = header::render(shapes, dtype, metadata);
    write_atomic(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        sorted.iter().try_for_each(|(_, _, values)| write_values(out, values, dtype))
    })
}

fn write_values(out: &mut dyn Write, values: &[f32], dtype: Dtype) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(4096 * dtype.n_bytes());
    for block in values.chunks(4096) {
        bytes.clear();
        for &value in block {
            match dtype {
                Dtype::F32 => bytes.extend_from_slice(&value.to_le_bytes()),
                Dtype::F16 => bytes.extend_from_slice(&f16::from_f32(value).to_le_bytes()),
                Dtype::BF16 => bytes.extend_from_slice(&bf16::from_f32(value).to_le_bytes()),
            }
        }
        out.write_all(&bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this fails, some 16-bit weight is not the number that its bits mean.
    #[test]
    fn every_16_bit_number_is_widened_exactly() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let wide = |dtype| Tensor { dtype, bytes: &bytes }.to_f32();
        for (bits, (half, brain)) in wide(Dtype::F16).iter().zip(wide(Dtype::BF16)).enumerate() {
            let wanted =
                [f16::from_bits(bits as u16).to_f32(), bf16::from_bits(bits as u16).to_f32()];
            for (ours, wanted) in [*half, brain].into_iter().zip(wanted) {
                let same = ours.to_bits() == wanted.to_bits() || ours.is_nan() && wanted.is_nan();
                assert!(same, "{bits:#06x}: {ours}, wanted {wanted}");
            }
        }
    }
}
