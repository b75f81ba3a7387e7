//! The probes of sm_90a that take tensor maps: what they are given, and what they must give. A map
//! is of a matrix and a box, 64 columns swizzled by 128 bytes, or 32 by 64.

use half::bf16;

use super::table::UNIT;
use super::{hash, moderate, pair, whole};

/// The operations of `hopper.cuh` that these prove.
pub const PROVES: &[&str] = &[
    "shared_address(const void*)",
    "aligned_1024(unsigned char*)",
    "publish_barriers()",
    "arrive_expecting(Barrier*)",
    "copy_tile(void*)",
    "fence_tiles()",
    "matrix_at(const void*)",
    "descriptor_of(const void*)",
    "turned_descriptor_of(const void*)",
    "pin(float)",
    "pin(unsigned)",
    "fence_products(float)",
    "multiply_add_tiles(float)",
    "multiply_add_turned(float)",
    "commit_products()",
    "wait_products(float)",
];

/// What no probe can run: it ends the launch, and the context with it.
pub const UNPROVED: &[&str] = &["trap()"];

/// Dynamic shared memory of `probe_tile`.
pub const TILE_BYTES: usize = 64 * 128 + 8 + 1024;

/// A probe of products.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub name: &'static str,
    pub n_k: usize,
    pub n_cols: usize,
    /// Whether k are the rows of b.
    pub is_turned: bool,
}

const fn sizes(name: &'static str, n_k: usize, n_cols: usize, is_turned: bool) -> Sizes {
    Sizes { name, n_k, n_cols, is_turned }
}

pub const PRODUCTS: [Sizes; 6] = [
    sizes("probe_product_128", 64, 256, false),
    sizes("probe_product_64", 32, 256, false),
    sizes("probe_product_narrow", 64, 64, false),
    sizes("probe_turned_64", 64, 64, true),
    sizes("probe_turned_128", 64, 128, true),
    sizes("probe_turned_256", 64, 256, true),
];

impl Sizes {
    /// Dynamic shared memory.
    pub const fn shared_bytes(&self) -> usize {
        let n_rows = if self.is_turned { self.n_cols } else { 64 + self.n_cols };
        n_rows * self.n_k * 2 + 8 + 1024
    }
}

/// A matrix of bf16, rows `ld` apart.
pub struct Matrix {
    pub n_rows: usize,
    pub n_cols: usize,
    pub ld: usize,
    pub bits: Vec<u16>,
}

/// Matrices larger and smaller than a box of 64 rows, any bits in them and between their rows.
pub fn matrices(seed: u32) -> Vec<Matrix> {
    let matrix = |(n_rows, n_cols, ld): (usize, usize, usize)| {
        let bits = (0..n_rows * ld).map(|i| hash([seed, i as u32, ld as u32, 0]) as u16).collect();
        Matrix { n_rows, n_cols, ld, bits }
    };
    [(150, 135, 144), (3, 5, 8), (64, 64, 64), (65, 1, 16)].map(matrix).into()
}

/// Corners, column and row, of boxes that lie within a matrix, up to its edge, across each edge by
/// one and by more, across two, and outside.
pub fn corners(matrix: &Matrix, box_cols: usize) -> Vec<[i32; 2]> {
    let along = |n: usize, n_box: usize| {
        let (n, n_box) = (n as i32, n_box as i32);
        [0, 1, n - n_box, n - n_box + 1, n - 1, n, 3 * n, -1, 1 - n_box, -n_box, -1000]
    };
    let (cols, rows) = (along(matrix.n_cols, box_cols), along(matrix.n_rows, 64));
    cols.into_iter().flat_map(|col| rows.map(|row| [col, row])).collect()
}

/// A tile's words: row by row, zeros outside of the matrix; the eight, or four, 16-byte chunks of a
/// row in an order of its own.
pub fn tile(matrix: &Matrix, corner: [i32; 2], box_cols: usize) -> Vec<u32> {
    let mut halves = vec![0u16; 64 * box_cols];
    for i in 0..64 {
        for j in 0..box_cols {
            let chunk = match box_cols {
                64 => (j / 8) ^ (i % 8),
                _ => (j / 8) ^ (i / 2 % 4),
            };
            let (col, row) = (corner[0] + j as i32, corner[1] + i as i32);
            let is_inside = (0..matrix.n_cols as i32).contains(&col)
                && (0..matrix.n_rows as i32).contains(&row);
            if is_inside {
                halves[i * box_cols + chunk * 8 + j % 8] =
                    matrix.bits[row as usize * matrix.ld + col as usize];
            }
        }
    }
    halves.chunks(2).map(|two| u32::from(two[0]) | u32::from(two[1]) << 16).collect()
}

/// Numbers that a product is given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Whole: every order of additions is exact.
    Wholes,
    /// The same, where one side is denormal.
    TinyWholes,
    /// Of moderate size, all rows alike: so must all sums be.
    Alike,
}

/// a (64, n_k), b (n_cols, n_k) or its transpose, and what is added to their product, (64, n_cols).
pub struct Product {
    pub sizes: Sizes,
    pub a: Matrix,
    pub b: Matrix,
    pub sums: Vec<f32>,
}

pub fn product(sizes: Sizes, kind: Kind, seed: u32) -> Product {
    let Sizes { n_k, n_cols, is_turned, .. } = sizes;
    let power = |exponent: u32| f32::from_bits(exponent << 23);
    let (units, unit) = match kind {
        Kind::TinyWholes => ([f32::from_bits(1 << 16), power(127 + 100)], UNIT),
        _ => ([1.0; 2], 1.0),
    };
    let matrix = |side: usize, n_rows: usize, n_cols: usize, k_of: &dyn Fn(usize) -> usize| {
        let number = |i: usize| {
            let i = if kind == Kind::Alike { k_of(i) } else { i };
            let number = match kind {
                Kind::Alike => moderate,
                _ => |bits| whole(bits, 8),
            };
            pair(hash([seed, i as u32, side as u32, 1]), 0, |bits| number(bits) * units[side])
        };
        let bits = (0..n_rows * n_cols).map(|i| number(i) as u16).collect();
        Matrix { n_rows, n_cols, ld: n_cols, bits }
    };
    let sum = |i: u32| match kind {
        Kind::Alike => moderate(hash([seed, 0, 0, 2])),
        _ => whole(hash([seed, i, 0, 2]), 1000) * unit,
    };
    let b = match is_turned {
        true => matrix(1, n_k, n_cols, &|i| i / n_cols),
        false => matrix(1, n_cols, n_k, &|i| i % n_k),
    };
    let sums = (0..64 * n_cols as u32).map(sum).collect();
    Product { sizes, a: matrix(0, 64, n_k, &|i| i % n_k), b, sums }
}

impl Product {
    /// The sums in f64, the numbers passed through a function first.
    fn add(&self, number: fn(f64) -> f64) -> Vec<f64> {
        let Sizes { n_k, n_cols, is_turned, .. } = self.sizes;
        let wide = |bits: &u16| number(bf16::from_bits(*bits).to_f64());
        let [a, b] = [&self.a, &self.b].map(|side| side.bits.iter().map(wide).collect::<Vec<_>>());
        let sum = |i: usize| {
            let (row, col) = (i / n_cols, i % n_cols);
            let of_b = |k| if is_turned { b[k * n_cols + col] } else { b[col * n_k + k] };
            let products = (0..n_k).map(|k| a[row * n_k + k] * of_b(k));
            products.sum::<f64>() + number(f64::from(self.sums[i]))
        };
        (0..64 * n_cols).map(sum).collect()
    }

    /// Whether these are the sums; else the first that is not.
    pub fn check(&self, kind: Kind, ours: &[f32]) -> Result<(), String> {
        let (right, magnitudes) = (self.add(|x| x), self.add(f64::abs));
        let n_added = (self.sizes.n_k + 1) as f64;
        for (i, ours_) in ours.iter().enumerate() {
            let most = match kind {
                // Each addition errs by at most a unit of the magnitudes' sum, as it may truncate.
                Kind::Alike => n_added * f64::from(f32::EPSILON) * magnitudes[i],
                _ => 0.0,
            };
            let is_near = (f64::from(*ours_) - right[i]).abs() <= most;
            if !is_near || kind == Kind::Alike && ours_.to_bits() != ours[0].to_bits() {
                let (row, col) = (i / self.sizes.n_cols, i % self.sizes.n_cols);
                return Err(format!("row {row}, column {col}: {ours_:e}, wanted {:e}", right[i]));
            }
        }
        Ok(())
    }
}
