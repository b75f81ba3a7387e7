//! LoRA of precision `fast` beside the base's products: to the bit where any order of additions is
//! exact, else within what its roundings may do; and a row's bits whatever its neighbours are.
#![cfg(feature = "kernel-tests")]

mod kernels_common;

use half::bf16;
use kernels_common::values::{assert_bits, strided, unstrided, values};
use kernels_common::{Argument, Device, Launch, SEEDS, must_launch};

const VERSIONS: [&str; 2] = ["v1", "v2"];
const SCALE: f32 = 0.7;

/// Rows, then rank, inputs and outputs: around tiles of 64 rows and 16 r, steps of 32 k for eight
/// warps, columns of 8, 32 and 128.
const SIZES: [(usize, [usize; 3]); 9] = [
    (0, [2, 3, 4]),
    (1, [1, 1, 1]),
    (15, [16, 31, 127]),
    (16, [15, 32, 128]),
    (63, [17, 33, 129]),
    (64, [8, 256, 40]),
    (65, [16, 260, 31]),
    (5, [33, 300, 9]),
    (130, [4, 72, 33]),
];

fn to_bits(values: &[f32]) -> Vec<u16> {
    values.iter().map(|x| bf16::from_f32(*x).to_bits()).collect()
}

fn from_bits(bits: &[u16]) -> Vec<f32> {
    bits.iter().map(|bits| bf16::from_bits(*bits).to_f32()).collect()
}

fn rounded(values: &[f32]) -> Vec<f32> {
    from_bits(&to_bits(values))
}

/// Adapters of one module behind each other: A (rank, n_in), then B (n_out, rank), then a gap.
struct Adapters {
    data: Vec<f32>,
    stride: usize,
    sizes: [usize; 3], // rank, n_in, n_out
    scale: f32,
}

impl Adapters {
    /// With a gap of `gap` numbers; three adapters.
    fn new(sizes: [usize; 3], gap: usize) -> Self {
        let [rank, n_in, n_out] = sizes;
        let stride = rank * (n_in + n_out) + gap;
        Self { data: values(9, 3 * stride), stride, sizes, scale: SCALE }
    }

    fn a(&self, adapter: usize) -> &[f32] {
        &self.data[adapter * self.stride..]
    }

    fn b(&self, adapter: usize) -> &[f32] {
        let [rank, n_in, _] = self.sizes;
        &self.data[adapter * self.stride + rank * n_in..]
    }

    /// (n_rows, rank) by a kernel; NaN in rows of the base alone.
    fn shrink(&self, x: &[f32], adapter_of: &[i32], version: &str, seed: u64) -> Vec<f32> {
        let ([rank, n_in, _], n_rows) = (self.sizes, adapter_of.len());
        let ldx = n_in.next_multiple_of(8) + 8;
        let x = Device::new(&to_bits(&strided(x, n_in, ldx)));
        let (data, adapter_of) = (Device::new(&self.data), Device::new(adapter_of));
        let shrunk = Device::unset(n_rows * rank);
        let [rows, inputs, ranks, ldx] = [n_rows, n_in, rank, ldx].map(|n| n as i32);
        let (grid, block) = match version {
            "v1" => ([rank.div_ceil(32), n_rows, 1], 32),
            _ => ([n_rows.div_ceil(64), rank.div_ceil(16), 3], 256),
        };
        let name = &format!("lora_shrink_fast_{version}");
        let mut args: Vec<&dyn Argument> = vec![&x, &data, &adapter_of, &shrunk];
        if version == "v2" {
            args.push(&rows);
        }
        let stride = self.stride as i64;
        args.extend([&inputs as &dyn Argument, &ranks, &ldx, &stride]);
        must_launch(Launch { name, grid, block, shared_bytes: 0, seed }, &args);
        shrunk.read()
    }

    /// y after the kernel.
    fn expand(&self, shrunk: &[f32], y: &[f32], adapter_of: &[i32], case: (&str, u64)) -> Vec<f32> {
        let ([rank, n_in, n_out], n_rows) = (self.sizes, adapter_of.len());
        let ldy = n_out.next_multiple_of(8) + 8;
        let y = Device::new(&to_bits(&strided(y, n_out, ldy)));
        let (data, shrunk) = (Device::new(&self.data), Device::new(shrunk));
        let (b, adapter_of) = (data.at(rank * n_in), Device::new(adapter_of));
        let [rows, outputs, ranks, ldy_] = [n_rows, n_out, rank, ldy].map(|n| n as i32);
        let (version, seed) = case;
        let (col_tiles, row_tiles) = (n_out.div_ceil(128), n_rows.div_ceil(64));
        let grid = match version {
            "v1" => [col_tiles, n_rows, 1],
            _ => [row_tiles, col_tiles, 3],
        };
        let name = &format!("lora_expand_fast_{version}");
        let mut args: Vec<&dyn Argument> = vec![&shrunk, &b, &adapter_of, &self.scale, &y];
        if version == "v2" {
            args.push(&rows);
        }
        let stride = self.stride as i64;
        args.extend([&outputs as &dyn Argument, &ranks, &ldy_, &stride]);
        must_launch(Launch { name, grid, block: 128, shared_bytes: 0, seed }, &args);
        unstrided(&from_bits(&y.read()), n_rows, n_out, ldy)
    }

    fn both(&self, x: &[f32], y: &[f32], adapter_of: &[i32], case: (&str, u64)) -> Vec<f32> {
        let shrunk = self.shrink(x, adapter_of, case.0, case.1);
        self.expand(&shrunk, y, adapter_of, case)
    }

    /// A x of one row, in f64, and the sum of its products' magnitudes.
    fn exact_shrunk(&self, x: &[f32], adapter: usize) -> Vec<(f64, f64)> {
        let [rank, n_in, _] = self.sizes;
        (0..rank).map(|r| dot(x, &self.a(adapter)[r * n_in..][..n_in])).collect()
    }

    /// (scale B) shrunk of one row, likewise; scale * B is rounded by itself.
    fn exact_added(&self, shrunk: &[f32], adapter: usize) -> Vec<(f64, f64)> {
        let [rank, _, n_out] = self.sizes;
        let scaled =
            |col: usize| self.b(adapter)[col * rank..][..rank].iter().map(|b| self.scale * b);
        (0..n_out).map(|col| dot(shrunk, &scaled(col).collect::<Vec<f32>>())).collect()
    }
}

fn dot(x: &[f32], y: &[f32]) -> (f64, f64) {
    let products = x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y));
    products.fold((0.0, 0.0), |(sum, magnitudes), p| (sum + p, magnitudes + p.abs()))
}

/// Which adapter each row belongs to: one for all, some side by side, all mixed, none.
fn assignments(n_rows: usize) -> [Vec<i32>; 4] {
    let by = |adapter: fn(usize) -> i32| (0..n_rows).map(adapter).collect();
    [by(|_| 1), by(|i| (i / 20 % 4) as i32 - 1), by(|i| (i * 7 % 4) as i32 - 1), by(|_| -1)]
}

#[test]
fn whole_numbers_come_out_whole() {
    // Broken: a number is taken for its neighbour's, a row for another adapter's, or a column is
    // touched that is not there.
    for (n_rows, sizes) in SIZES {
        let [rank, n_in, n_out] = sizes;
        let whole = |stream, n, most: f32| -> Vec<f32> {
            values(stream, n).iter().map(|x| (x * most).round()).collect()
        };
        let mut adapters = Adapters { scale: 0.5, ..Adapters::new(sizes, 4) };
        adapters.data = whole(9, adapters.data.len(), 1.6);
        let (x, y) = (whole(1, n_rows * n_in, 2.0), whole(2, n_rows * n_out, 60.0));
        for adapter_of in assignments(n_rows) {
            let mut wanted = y.clone();
            for (row, adapter) in adapter_of.iter().enumerate() {
                let Ok(adapter) = usize::try_from(*adapter) else { continue };
                let shrunk = adapters.exact_shrunk(&x[row * n_in..][..n_in], adapter);
                let shrunk: Vec<f32> = shrunk.iter().map(|(sum, _)| *sum as f32).collect();
                let added = adapters.exact_added(&shrunk, adapter);
                for (y, (sum, _)) in wanted[row * n_out..][..n_out].iter_mut().zip(added) {
                    *y += sum as f32;
                }
            }
            for version in VERSIONS {
                // Every schedule where adapters mix, one elsewhere.
                let seeds = if n_rows < 65 && rank > 4 { &SEEDS } else { &SEEDS[4..] };
                for seed in seeds {
                    let ours = adapters.both(&x, &y, &adapter_of, (version, *seed));
                    let case = format!("{version} {n_rows} {sizes:?} {adapter_of:?} seed {seed}");
                    assert_bits(&ours, &rounded(&wanted), &case);
                }
            }
        }
    }
}

#[test]
fn adapters_lie_within_what_rounding_may_do() {
    // Broken: adapters are rounded to bf16, and experts that differ by less become one.
    const UNIT: f64 = f32::EPSILON as f64;
    const SPLIT: f64 = 1.01 / (1 << 16) as f64;
    // Rows of A and B at multiples of 16 bytes, and elsewhere.
    for (n_rows, sizes, gap) in [(65, [16, 264, 48], 0), (20, [15, 75, 50], 5)] {
        let [rank, n_in, n_out] = sizes;
        let adapters = Adapters::new(sizes, gap);
        let x = rounded(&values(1, n_rows * n_in));
        let adapter_of = &assignments(n_rows)[1];
        for version in VERSIONS {
            let shrunk = adapters.shrink(&x, adapter_of, version, 2);
            for (row, adapter) in adapter_of.iter().enumerate() {
                let Ok(adapter) = usize::try_from(*adapter) else { continue };
                let ours = &shrunk[row * rank..][..rank];
                let wanted = adapters.exact_shrunk(&x[row * n_in..][..n_in], adapter);
                for (r, (ours, (wanted, magnitudes))) in ours.iter().zip(wanted).enumerate() {
                    // A's two parts leave 2^-16 of it; two additions for each k and one for each
                    // warp truncate, as tensor cores may: a unit of the sum of magnitudes each.
                    let most = magnitudes * (SPLIT + 1.01 * (2 * n_in + 8) as f64 * UNIT);
                    let error = (f64::from(*ours) - wanted).abs();
                    assert!(error <= most, "{version} {row} {r}: {ours}, wanted {wanted}");
                }
            }
            // y is what will be added, rounded, with the other sign: what is left shows what bf16
            // would hide.
            let mut y = vec![0.0; n_rows * n_out];
            let added = |row: usize, adapter: i32| match usize::try_from(adapter) {
                Ok(adapter) => adapters.exact_added(&shrunk[row * rank..][..rank], adapter),
                Err(_) => vec![(0.0, 0.0); n_out],
            };
            for (row, adapter) in adapter_of.iter().enumerate() {
                for (y, (sum, _)) in y[row * n_out..].iter_mut().zip(added(row, *adapter)) {
                    *y = -bf16::from_f64(sum).to_f32();
                }
            }
            let ours = adapters.expand(&shrunk, &y, adapter_of, (version, 3));
            for (row, adapter) in adapter_of.iter().enumerate() {
                for (col, (sum, magnitudes)) in added(row, *adapter).into_iter().enumerate() {
                    let (ours, y) = (ours[row * n_out + col], y[row * n_out + col]);
                    let wanted = f64::from(y) + sum;
                    // Both factors' parts and the product of what both leave: three times 2^-16;
                    // three additions for each r; then bf16 rounds the rest to eight bits.
                    let inner = magnitudes * (3.0 * SPLIT + 1.01 * (3 * rank + 1) as f64 * UNIT);
                    let most = inner + (wanted.abs() + inner) / 256.0;
                    let error = (f64::from(ours) - wanted).abs();
                    assert!(error <= most, "{version} {row} {col}: {ours}, wanted {wanted}");
                }
            }
        }
    }
}

#[test]
fn a_row_alone_is_the_row_next_to_any_adapter() {
    // Broken: a particle's utility depends on which particles share its batch.
    let (n_rows, sizes) = (70, [16, 300, 40]);
    let [_, n_in, n_out] = sizes;
    let adapters = Adapters::new(sizes, 0);
    let (x, y) = (rounded(&values(1, n_rows * n_in)), rounded(&values(2, n_rows * n_out)));
    let part = |all: &[f32], n: usize, first: usize, n_rows: usize| {
        all[first * n..][..n_rows * n].to_vec()
    };
    for version in VERSIONS {
        // All of one adapter; then the same row among others' and at other places.
        let [shared, _, mixed, _] = assignments(n_rows);
        let alike = adapters.both(&x, &y, &shared, (version, 0));
        let all = adapters.both(&x, &y, &mixed, (version, 1));
        for (row, adapter) in mixed.iter().enumerate() {
            if *adapter == 1 {
                let (alike, all) = (part(&alike, n_out, row, 1), part(&all, n_out, row, 1));
                assert_bits(&all, &alike, &format!("{version} row {row} among others"));
            }
        }
        for (first, n) in [(0, 1), (17, 1), (69, 1), (5, 40), (60, 10)] {
            let (x, y) = (part(&x, n_in, first, n), part(&y, n_out, first, n));
            let alone = adapters.both(&x, &y, &mixed[first..][..n], (version, 4));
            let wanted = part(&all, n_out, first, n);
            assert_bits(&alone, &wanted, &format!("{version} rows {first}, {n} of them"));
        }
    }
}
