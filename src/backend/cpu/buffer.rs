//! Vectors of f32 that start on a cache line, and matrices whose rows are padded to whole panels.

use std::ops::{Deref, DerefMut};

/// Columns of a panel: matrices are computed 32 columns at a time, and rows are padded to that.
pub const PANEL: usize = 32;

/// Rounds up to a whole number of panels.
pub fn padded(n: usize) -> usize {
    n.div_ceil(PANEL) * PANEL
}

/// Distance between rows of `n_cols` values: whole panels and one cache line.
fn stride(n_cols: usize) -> usize {
    padded(n_cols) + 16
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A zero-initialised vector of f32 that starts on a 64-byte boundary.
#[derive(Clone, Default)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); len.div_ceil(16)], len }
    }

    /// Makes the buffer at least `len` long; new elements are zero, old ones keep their value.
    pub fn grow(&mut self, len: usize) {
        if len > self.len {
            self.lines.resize(len.div_ceil(16), Line([0.0; 16]));
            self.len = len;
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `lines` holds at least `len` initialised f32 without padding between them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// A row-major matrix of activations; rows are padded to whole panels, so that a kernel may always
/// write 32 columns, and by one cache line more: rows that stand a power of two apart would share
/// the few lines of one cache set. What stands in the padding means nothing.
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
