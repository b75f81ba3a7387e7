//! Vectors of f32 that start on a cache line, and matrices whose rows are padded to whole panels.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Columns of a panel: matrices are computed 32 columns at a time, and rows are padded to that.
pub const PANEL: usize = 32;

/// Rounds up to a whole number of panels.
pub fn padded(n: usize) -> usize {
    n.div_ceil(PANEL) * PANEL
}

/// Distance between rows of `n_cols` values: whole panels and some cache lines more, so that rows
/// of one tile do not share the few lines of one cache set. Of long rows, 12 stretches of 16 lines
/// each spread evenly over the 64 sets of a first-level cache if they begin 17 lines apart.
fn stride(n_cols: usize) -> usize {
    const LINE: usize = 16; // f32
    let n_lines = padded(n_cols) / LINE;
    let n_padded = match n_lines {
        0..64 => n_lines + 1,
        _ => n_lines.next_multiple_of(32) + 17,
    };
    n_padded * LINE
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A zero-initialised vector of f32 that starts on a 64-byte boundary.
///
/// A large one is mapped from the operating system, which zeroes its pages when they are first
/// used, and asked for in huge pages: a forward pass walks through more memory than the processor
/// has translations for in pages of 4 KiB.
#[derive(Debug)]
pub struct Buffer {
    storage: Storage,
    len: usize,
}

#[derive(Debug)]
enum Storage {
    Lines(Vec<Line>),
    Pages(MmapMut),
}

/// Buffers of this many bytes or more are mapped.
const MAPPED_FROM: usize = 4 << 20;

impl Buffer {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let n_bytes = len * size_of::<f32>();
        if n_bytes >= MAPPED_FROM
            && let Ok(pages) = MmapMut::map_anon(n_bytes)
        {
            // Huge pages are a wish; without them the buffer works as well.
            #[cfg(target_os = "linux")]
            let _ = pages.advise(memmap2::Advice::HugePage);
            return Self { storage: Storage::Pages(pages), len };
        }
        Self { storage: Storage::Lines(vec![Line([0.0; 16]); len.div_ceil(16)]), len }
    }

    /// Makes the buffer at least `len` long. Where it was too short, its values are zero after.
    pub fn grow(&mut self, len: usize) {
        if len > self.len {
            *self = Self::zeros(len);
        }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::zeros(0)
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

/// A copy of the values.
impl From<&[f32]> for Buffer {
    fn from(values: &[f32]) -> Self {
        let mut buffer = Self::zeros(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        let start = match &self.storage {
            Storage::Lines(lines) => lines.as_ptr().cast(),
            Storage::Pages(pages) => pages.as_ptr().cast(),
        };
        // SAFETY: the storage holds at least `len` f32, zeroed when it was made, and starts on a
        // 64-byte boundary.
        unsafe { std::slice::from_raw_parts(start, self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        let start = match &mut self.storage {
            Storage::Lines(lines) => lines.as_mut_ptr().cast(),
            Storage::Pages(pages) => pages.as_mut_ptr().cast(),
        };
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(start, self.len) }
    }
}

/// A row-major matrix of activations; rows are padded to whole panels, so that a kernel may always
/// write 32 columns, and by a few cache lines more (`stride`). What stands in the padding means
/// nothing.
#[derive(Clone, Default)]
pub struct Matrix {
    data: Buffer, // (n_rows, stride)
    n_rows: usize,
    stride: usize,
}

impl Matrix {
    /// A matrix of zeros.
    pub fn zeros(n_rows: usize, n_cols: usize) -> Self {
        let stride = stride(n_cols);
        Self { data: Buffer::zeros(n_rows * stride), n_rows, stride }
    }

    /// Gives the matrix another shape, reusing its memory; its content means nothing afterwards.
    pub fn reshape(&mut self, n_rows: usize, n_cols: usize) {
        self.n_rows = n_rows;
        self.stride = stride(n_cols);
        self.data.grow(n_rows * self.stride);
    }

    /// Adds a row, which is given with its padding; what stands before stays.
    pub fn push(&mut self, row: &[f32]) {
        if self.n_rows == 0 {
            self.stride = row.len();
        }
        assert_eq!(row.len(), self.stride, "rows of one matrix");
        let end = (self.n_rows + 1) * self.stride;
        if end > self.data.len() {
            let mut longer = Buffer::zeros(2 * end);
            longer[..self.n_rows * self.stride].copy_from_slice(self.data());
            self.data = longer;
        }
        self.n_rows += 1;
        let last = self.n_rows - 1;
        self.row_mut(last).copy_from_slice(row);
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Distance between rows.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// All elements, padding included: (n_rows, stride).
    pub fn data(&self) -> &[f32] {
        &self.data[..self.n_rows * self.stride]
    }

    /// All elements, padding included: (n_rows, stride).
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.n_rows * self.stride]
    }

    /// One row with its padding.
    pub fn row(&self, row_idx: usize) -> &[f32] {
        &self.data()[row_idx * self.stride..][..self.stride]
    }

    /// One row with its padding.
    pub fn row_mut(&mut self, row_idx: usize) -> &mut [f32] {
        let stride = self.stride;
        &mut self.data_mut()[row_idx * stride..][..stride]
    }
}
