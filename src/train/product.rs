//! Matrix products for training: `out (+)= A B`, with A in either order and B packed in panels.
//!
//! A tile of the result stays in registers while the inner dimension runs in order, one fused
//! multiply-add a step; vectorised across columns. Written over plain arrays and compiled for each
//! instruction set, so that the same bits come from each.

use std::ops::Range;

use crate::backend::cpu::{Isa, for_each_isa};

/// Columns of a panel, and of a tile.
pub const PANEL: usize = 32;

/// A right-hand matrix, (n_steps, n_cols), as panels of 32 columns, filled up with zeros.
#[derive(Debug, Clone, Default)]
pub struct Panels {
    data: Vec<[f32; PANEL]>, // (n_panels, n_steps)
    n_steps: usize,
    n_cols: usize,
}

impl Panels {
    /// Packs the matrix whose rows stand `stride` apart.
    pub fn pack(&mut self, data: &[f32], stride: usize, (n_steps, n_cols): (usize, usize)) {
        self.resize(n_steps, n_cols);
        for (panel, packed) in self.data.chunks_mut(n_steps.max(1)).enumerate() {
            let n = PANEL.min(n_cols - panel * PANEL);
            for (step, packed) in packed.iter_mut().enumerate() {
                packed[..n].copy_from_slice(&data[step * stride + panel * PANEL..][..n]);
                packed[n..].fill(0.0);
            }
        }
    }

    /// Packs the transpose of the matrix (n_cols, n_steps) whose rows stand `stride` apart.
    pub fn pack_transposed(
        &mut self,
        data: &[f32],
        stride: usize,
        (n_steps, n_cols): (usize, usize),
    ) {
        self.resize(n_steps, n_cols);
        self.data.fill([0.0; PANEL]);
        for col in 0..n_cols {
            let packed = &mut self.data[col / PANEL * n_steps..][..n_steps];
            for (packed, value) in packed.iter_mut().zip(&data[col * stride..][..n_steps]) {
                packed[col % PANEL] = *value;
            }
        }
    }

    fn resize(&mut self, n_steps: usize, n_cols: usize) {
        (self.n_steps, self.n_cols) = (n_steps, n_cols);
        self.data.resize(n_cols.div_ceil(PANEL) * n_steps, [0.0; PANEL]);
    }

    /// (n_steps, n_cols)
    pub fn shape(&self) -> (usize, usize) {
        (self.n_steps, self.n_cols)
    }
}

/// How a left-hand matrix lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Element (row, step) at `row * stride + step`.
    Rows,
    /// Element (row, step) at `step * stride + row`: the transpose of what is stored.
    Columns,
}

/// A left-hand matrix, (n_rows, as many steps as the product takes).
#[derive(Debug, Clone, Copy)]
pub struct Left<'a> {
    /// Its elements.
    pub data: &'a [f32],
    /// From one stored row or column to the next.
    pub stride: usize,
    /// How it lies.
    pub order: Order,
    /// Rows of the result.
    pub n_rows: usize,
}

/// What a product does with what stood in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It is forgotten.
    Zero,
    /// It is added to.
    Add,
}

/// `out (+)= A B[steps]`, the first `n_cols` columns; the rows of `out` stand `stride` apart.
#[allow(clippy::too_many_arguments)] // two operands, which part of them, and the result
pub fn product(
    isa: Isa,
    left: Left,
    right: &Panels,
    steps: Range<usize>,
    n_cols: usize,
    out: &mut [f32],
    stride: usize,
    start: Start,
) {
    assert!(steps.end <= right.n_steps && n_cols <= right.n_cols, "{steps:?}, {n_cols} columns");
    let steps = (steps.start, steps.end);
    let mut first = 0;
    while first < left.n_rows {
        let mut n_rows = max_rows(isa);
        while n_rows > left.n_rows - first {
            n_rows /= 2;
        }
        let strip = Strip { left, first, right, steps, n_cols, start };
        let out = &mut out[first * stride..];
        match n_rows {
            8 => strip_of_8(isa, &strip, out, stride),
            4 => strip_of_4(isa, &strip, out, stride),
            2 => strip_of_2(isa, &strip, out, stride),
            _ => strip_of_1(isa, &strip, out, stride),
        }
        first += n_rows;
    }
}

/// Rows of a tile: with 32 columns they fill the vector registers, and not more.
fn max_rows(isa: Isa) -> usize {
    if isa == Isa::Avx512 { 8 } else { 2 }
}

/// Some rows of a product, from `first` on.
struct Strip<'a> {
    left: Left<'a>,
    first: usize,
    right: &'a Panels,
    steps: (usize, usize),
    n_cols: usize,
    start: Start,
}

for_each_isa! {
    fn strip_of_8(strip: &Strip, out: &mut [f32], stride: usize) {
        by_order::<8>(strip, out, stride)
    }
}
for_each_isa! {
    fn strip_of_4(strip: &Strip, out: &mut [f32], stride: usize) {
        by_order::<4>(strip, out, stride)
    }
}
for_each_isa! {
    fn strip_of_2(strip: &Strip, out: &mut [f32], stride: usize) {
        by_order::<2>(strip, out, stride)
    }
}
for_each_isa! {
    fn strip_of_1(strip: &Strip, out: &mut [f32], stride: usize) {
        by_order::<1>(strip, out, stride)
    }
}

#[inline(always)]
fn by_order<const ROWS: usize>(strip: &Strip, out: &mut [f32], stride: usize) {
    match strip.left.order {
        Order::Rows => {
            let n_steps = strip.steps.1 - strip.steps.0;
            let rows: [&[f32]; ROWS] = std::array::from_fn(|row| {
                &strip.left.data[(strip.first + row) * strip.left.stride..][..n_steps]
            });
            panels::<ROWS>(strip, out, stride, |step, row| rows[row][step]);
        }
        Order::Columns => {
            // A product over no steps has a left side without elements, and is zeros.
            let columns = strip.left.data.get(strip.first..).unwrap_or_default();
            let from = strip.left.stride;
            panels::<ROWS>(strip, out, stride, |step, row| columns[step * from..][..ROWS][row]);
        }
    }
}

/// One tile after the other. The compiler keeps a tile's sums in registers only where they are
/// vectors of 16 and the rows are written out.
#[inline(always)]
fn panels<const ROWS: usize>(
    strip: &Strip,
    out: &mut [f32],
    stride: usize,
    left: impl Fn(usize, usize) -> f32,
) {
    for panel in 0..strip.n_cols.div_ceil(PANEL) {
        let right = &strip.right.data[panel * strip.right.n_steps..];
        let right = &right[strip.steps.0..strip.steps.1];
        let columns = panel * PANEL..strip.n_cols.min((panel + 1) * PANEL);
        let mut low = [[0.0f32; 16]; ROWS];
        let mut high = [[0.0f32; 16]; ROWS];
        for (step, right) in right.iter().enumerate() {
            let (right, _) = right.as_chunks::<16>();
            macro_rules! add {
                ($($row:literal)*) => {
                    $(if $row < ROWS {
                        let left = left(step, $row);
                        add_multiple(&mut low[$row], left, &right[0]);
                        add_multiple(&mut high[$row], left, &right[1]);
                    })*
                };
            }
            add!(0 1 2 3 4 5 6 7);
        }
        macro_rules! write {
            ($($row:literal)*) => {
                $(if $row < ROWS {
                    let out = &mut out[$row * stride..][columns.clone()];
                    write_row(low[$row], high[$row], out, strip.start);
                })*
            };
        }
        write!(0 1 2 3 4 5 6 7);
    }
}

#[inline(always)]
fn add_multiple(sums: &mut [f32; 16], left: f32, right: &[f32; 16]) {
    for i in 0..16 {
        sums[i] = left.mul_add(right[i], sums[i]);
    }
}

#[inline(always)]
fn write_row(low: [f32; 16], high: [f32; 16], out: &mut [f32], start: Start) {
    let sums = [low, high];
    for (out, sum) in out.iter_mut().zip(sums.as_flattened()) {
        *out = if start == Start::Add { *out + sum } else { *sum };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, factor: f32) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + 11) % 101) as f32 * factor - 1.0).collect()
    }

    #[test]
    fn a_product_is_the_sums_of_its_products() {
        // If this fails, every layer or every gradient is wrong: at an odd size, in one order, or
        // with one instruction set.
        let all = [Isa::Avx512, Isa::Avx2, Isa::Scalar];
        let best = all.iter().position(|isa| *isa == Isa::detect()).expect("one of them");
        let sizes = [(1, 1, 1), (7, 5, 31), (8, 0, 32), (9, 33, 33), (20, 40, 70)];
        let cases = all[best..].iter().flat_map(|isa| sizes.map(|sizes| (*isa, sizes)));
        for (isa, (n_rows, n_steps, n_cols)) in cases {
            let a = numbers(n_rows * n_steps, 0.021);
            let b = numbers(n_steps * n_cols, 0.013);
            let at = |row: usize, step: usize, order| match order {
                Order::Rows => a[row * n_steps + step],
                Order::Columns => a[step * n_rows + row],
            };
            let b_transposed: Vec<f32> =
                (0..n_steps * n_cols).map(|i| b[i % n_steps * n_cols + i / n_steps]).collect();
            let (mut packed, mut packed_back) = (Panels::default(), Panels::default());
            packed.pack(&b, n_cols, (n_steps, n_cols));
            packed_back.pack_transposed(&b_transposed, n_steps, (n_steps, n_cols));
            assert_eq!(packed.data, packed_back.data);
            for (order, stride) in [(Order::Rows, n_steps), (Order::Columns, n_rows)] {
                for (start, before) in [(Start::Zero, 0.0), (Start::Add, 3.0)] {
                    let steps = n_steps / 3..n_steps;
                    let from =
                        if order == Order::Rows { steps.start } else { steps.start * stride };
                    let left = Left { data: &a[from..], stride, order, n_rows };
                    let mut out = vec![3.0; n_rows * n_cols];
                    product(isa, left, &packed, steps.clone(), n_cols, &mut out, n_cols, start);
                    for (i, found) in out.iter().enumerate() {
                        let (row, col) = (i / n_cols, i % n_cols);
                        let sum = steps.clone().fold(0.0f32, |sum, step| {
                            at(row, step, order).mul_add(b[step * n_cols + col], sum)
                        });
                        let case = format!("{isa:?} {n_rows} {n_steps} {n_cols} {order:?}");
                        assert_eq!(*found, before + sum, "{case}");
                    }
                }
            }
        }
    }
}
