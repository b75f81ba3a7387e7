//! The product of precision `fast` for sm_90a, against the CPU's: exactly where any order of
//! additions is exact, else within what f32 sums of bf16 products may differ by; and a row's bits
//! against the same row's in other batches and on other grids.
#![cfg(feature = "kernel-tests")]

mod kernels_common;

use half::bf16;
use kernels_common::cpu::product;
use kernels_common::values::{assert_bits, strided, unstrided, values};
use kernels_common::{Argument, Device, Launch, Map, SEEDS, must_launch};
use model_swarms::backend::cpu::gemm::Start;

/// Rows, outputs and inputs around the tile of 128 x 256, steps of 64 in four stages, and chunks of
/// 8; then more rows than follow one another before the next column begins.
const SIZES: [[usize; 3]; 14] = [
    [0, 3, 5],
    [1, 0, 4],
    [1, 1, 0],
    [1, 1, 1],
    [3, 5, 15],
    [65, 63, 31],
    [127, 1, 64],
    [1, 255, 65],
    [128, 257, 63],
    [129, 256, 128],
    [7, 66, 257],
    [64, 250, 256],
    [130, 513, 330],
    [2177, 257, 8],
];

/// How C is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kept {
    F32,
    Bf16,
}

struct Product<'a> {
    sizes: [usize; 3],
    kept: Kept,
    start: Start,
    a: &'a [f32],
    w: &'a [f32],
    c: &'a [f32],
}

fn to_bits(values: &[f32]) -> Vec<u16> {
    values.iter().map(|x| bf16::from_f32(*x).to_bits()).collect()
}

fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|x| bf16::from_f32(*x).to_f32()).collect()
}

impl Product<'_> {
    /// The product by the kernel, as many blocks as `most_blocks` allows: rows lie apart as far as
    /// it demands, NaN between them.
    fn run(&self, most_blocks: usize, seed: u64) -> Vec<f32> {
        let [n_rows, n_out, n_in] = self.sizes;
        let (ld, ldc) = (n_in.next_multiple_of(8) + 8, n_out.next_multiple_of(2) + 2);
        let a = Device::new(&to_bits(&strided(self.a, n_in, ld)));
        let w = Device::new(&to_bits(&strided(self.w, n_in, ld)));
        let c = strided(self.c, n_out, ldc);
        let (wide, narrow) = (Device::new(&c), Device::new(&to_bits(&c)));
        let (name, c): (_, &dyn Argument) = match self.kept {
            Kept::F32 => ("gemm_hopper_f32_v3", &wide),
            Kept::Bf16 => ("gemm_hopper_bf16_v3", &narrow),
        };
        let n_tiles = n_rows.div_ceil(128) * n_out.div_ceil(256);
        let grid = [n_tiles.min(most_blocks), 1, 1];
        let what = Launch { name, grid, block: 288, shared_bytes: 197_696, seed };
        let map = |device, n_rows, box_rows| Map {
            device,
            n_rows,
            n_cols: n_in,
            ld,
            box_rows,
            box_cols: 64,
        };
        let (a, w) = (map(&a, n_rows, 128), map(&w, n_out, 256));
        let [n_rows_, n_out_, n_in_, ldc_] = &[n_rows, n_out, n_in, ldc].map(|n| n as i32);
        let start = i32::from(self.start == Start::FromC);
        must_launch(what, &[&a, &w, c, n_rows_, n_out_, n_in_, ldc_, &start]);
        let out = match self.kept {
            Kept::F32 => wide.read(),
            Kept::Bf16 => {
                narrow.read().iter().map(|bits| bf16::from_bits(*bits).to_f32()).collect()
            }
        };
        unstrided(&out, n_rows, n_out, ldc)
    }
}

#[test]
fn products_of_whole_numbers_are_exact() {
    // Broken: an element of A, W or C is lost, read twice or put in another's place.
    let whole = |stream, len| -> Vec<f32> {
        values(stream, len).iter().map(|x| (x * 8.0).round() + 0.0).collect()
    };
    for sizes in SIZES {
        let [n_rows, n_out, n_in] = sizes;
        let (a, w, c) = (whole(1, n_rows * n_in), whole(2, n_out * n_in), whole(3, n_rows * n_out));
        for (start, kept) in [
            (Start::Zero, Kept::F32),
            (Start::FromC, Kept::F32),
            (Start::Zero, Kept::Bf16),
            (Start::FromC, Kept::Bf16),
        ] {
            let mut wanted = c.clone();
            product(&a, &w, &mut wanted, sizes, start);
            if kept == Kept::Bf16 {
                wanted = rounded(&wanted);
            }
            let run = Product { sizes, kept, start, a: &a, w: &w, c: &c };
            // Every schedule where copies, stages and barriers are, one for what differs after.
            let is_first = start == Start::Zero && kept == Kept::F32;
            let seeds = if n_rows > 1000 || !is_first { &SEEDS[4..] } else { &SEEDS };
            for seed in seeds {
                let case = format!("{sizes:?} {kept:?} {start:?} seed {seed}");
                // Blocks that take several tiles, where there are several.
                assert_bits(&run.run(3, *seed), &wanted, &case);
            }
        }
    }
}

#[test]
fn products_lie_within_what_rounding_may_do() {
    // Broken: sums are kept in less than f32, or rounded more than once on their way to C.
    for sizes in [[3, 5, 15], [40, 70, 300], [129, 10, 97]] {
        let [n_rows, n_out, n_in] = sizes;
        let (a, w) = (rounded(&values(1, n_rows * n_in)), rounded(&values(2, n_out * n_in)));
        let c = rounded(&values(3, n_rows * n_out));
        let magnitudes = |x: &[f32]| x.iter().map(|x| x.abs()).collect::<Vec<f32>>();
        let mut sums_of_magnitudes = magnitudes(&c);
        let (a_abs, w_abs) = (magnitudes(&a), magnitudes(&w));
        product(&a_abs, &w_abs, &mut sums_of_magnitudes, sizes, Start::FromC);
        let mut wanted = c.clone();
        product(&a, &w, &mut wanted, sizes, Start::FromC);
        let run = |kept, start| Product { sizes, kept, start, a: &a, w: &w, c: &c }.run(132, 2);
        let ours = run(Kept::F32, Start::FromC);
        for (i, (ours, wanted)) in ours.iter().zip(&wanted).enumerate() {
            // Products of bf16 are exact in f32. Each of n additions, in any order, errs by at most
            // 2^-23 of the sum of magnitudes where it truncates, as tensor cores may; the CPU's
            // round to nearest, by half of it. 1 % is for the errors' own errors.
            let per_addition = 1.5 * 1.01 * f32::EPSILON * sums_of_magnitudes[i];
            let most = (n_in + 1) as f32 * per_addition;
            let error = (ours - wanted).abs();
            let case = format!("{sizes:?} element {i}: {ours}, wanted {wanted}");
            assert!(error <= most, "{case}: {error:e} is more than {most:e}");
        }
        // bf16 is the f32 result rounded once; and what C held comes last.
        assert_bits(&run(Kept::Bf16, Start::FromC), &rounded(&ours), "rounded");
        let sums = run(Kept::F32, Start::Zero);
        let added: Vec<f32> = sums.iter().zip(&c).map(|(sum, c)| c + sum).collect();
        assert_bits(&ours, &added, "added once");
    }
}

#[test]
fn a_row_alone_is_the_row_in_any_batch() {
    // Broken: an answer depends on which prompts share its batch.
    let [n_rows, n_out, n_in] = [131, 9, 75];
    let (a, w) = (rounded(&values(1, n_rows * n_in)), rounded(&values(2, n_out * n_in)));
    let c = rounded(&values(3, n_rows * n_out));
    for kept in [Kept::F32, Kept::Bf16] {
        // Rows `first..first + n` as a batch of their own.
        let run = |first: usize, n: usize, seed| {
            let (a, c) = (&a[first * n_in..][..n * n_in], &c[first * n_out..][..n * n_out]);
            let (sizes, start) = ([n, n_out, n_in], Start::FromC);
            Product { sizes, kept, start, a, w: &w, c }.run(132, seed)
        };
        let all = run(0, n_rows, 0);
        for (first, n) in [(0, 1), (9, 1), (63, 2), (64, 1), (127, 3), (130, 1), (40, 90)] {
            for seed in [0, 3] {
                let wanted = &all[first * n_out..][..n * n_out];
                let case = format!("{kept:?} rows {first}, {n} of them, seed {seed}");
                assert_bits(&run(first, n, seed), wanted, &case);
            }
        }
    }
}

#[test]
fn any_number_of_blocks_gives_the_same_bits() {
    // Broken: an answer depends on how many multiprocessors a chip has.
    let [n_rows, n_out, n_in] = [260, 520, 140];
    let (a, w) = (rounded(&values(1, n_rows * n_in)), rounded(&values(2, n_out * n_in)));
    let c = rounded(&values(3, n_rows * n_out));
    let (sizes, kept, start) = ([n_rows, n_out, n_in], Kept::F32, Start::FromC);
    let run = Product { sizes, kept, start, a: &a, w: &w, c: &c };
    let alone = run.run(9, 0);
    for (n_blocks, seed) in [(1, 1), (2, 2), (4, 3), (8, 4)] {
        assert_bits(&run.run(n_blocks, seed), &alone, &format!("{n_blocks} blocks"));
    }
}
