//! The products of precision `fast` as tests run them, and what every one of them must do: be exact
//! where any order of additions is, else lie within what f32 sums of bf16 products may differ by;
//! and give a row the bits that it has in other batches.

use model_swarms::backend::cpu::gemm::Start;

use super::cpu::product;
use super::updates::Update;
use super::values::{assert_bits, from_bits, rounded, strided, to_bits, unstrided, values, whole};
use super::{Argument, Device, Launch, Map, SEEDS, has_hopper, must_launch};

/// The kernels that multiply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kernel {
    V1,
    V2,
    /// On as many blocks at most.
    Hopper(usize),
}

impl Kernel {
    /// All that this machine runs.
    pub fn all() -> Vec<Self> {
        let all = [Self::V1, Self::V2, Self::Hopper(3)];
        all.into_iter().filter(|kernel| kernel.runs()).collect()
    }

    /// Whether this machine runs it.
    pub fn runs(&self) -> bool {
        !matches!(self, Self::Hopper(_)) || has_hopper()
    }
}

/// How C is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kept {
    F32,
    Bf16,
}

/// `c = a w^T` or `c += a w^T`, and what adapters add.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    pub sizes: [usize; 3], // n_rows, n_out, n_in
    pub kept: Kept,
    pub start: Start,
    pub a: &'a [f32],
    pub w: &'a [f32],
    pub c: &'a [f32],
    pub update: Option<&'a Update>,
}

impl Product<'_> {
    /// The product by a kernel: rows lie apart as far as it demands, NaN between them.
    pub fn run(&self, kernel: Kernel, seed: u64) -> Vec<f32> {
        let [n_rows, n_out, n_in] = self.sizes;
        let (ld, ldc) = (n_in.next_multiple_of(8) + 8, n_out.next_multiple_of(2) + 2);
        let a = Device::new(&to_bits(&strided(self.a, n_in, ld)));
        let w = Device::new(&to_bits(&strided(self.w, n_in, ld)));
        let c = strided(self.c, n_out, ldc);
        let (wide, narrow) = (Device::new(&c), Device::new(&to_bits(&c)));
        let (kept, c): (_, &dyn Argument) = match self.kept {
            Kept::F32 => ("f32", &wide),
            Kept::Bf16 => ("bf16", &narrow),
        };
        let start = i32::from(self.start == Start::FromC);
        let [n_rows_, n_out_, n_in_, ld_, ldc_] = &[n_rows, n_out, n_in, ld, ldc].map(|n| n as i32);
        let update = self.update.cloned().unwrap_or_default().on_device();
        let n_tiles = |cols: usize| n_rows.div_ceil(128) * n_out.div_ceil(cols);
        let version = match kernel {
            Kernel::V1 => "v1",
            Kernel::V2 => "v2",
            Kernel::Hopper(_) => "v3",
        };
        let family = if version == "v3" { "hopper" } else { "fast" };
        let name = &format!("gemm_{family}_{kept}_{version}");
        if let Kernel::Hopper(most_blocks) = kernel {
            let map = |device, n_rows, box_rows| Map {
                device,
                n_rows,
                n_cols: n_in,
                ld,
                box_rows,
                box_cols: 64,
            };
            let (a, w) = (map(&a, n_rows, 128), map(&w, n_out, 256));
            let [shrunk, b] = update.maps();
            let grid = [n_tiles(256).min(most_blocks), 1, 1];
            let what = Launch { name, grid, block: 288, shared_bytes: 197_696, seed };
            let args: [&dyn Argument; 11] =
                [&a, &w, c, n_rows_, n_out_, n_in_, ldc_, &start, &shrunk, &b, &update];
            must_launch(what, &args);
        } else {
            let (grid, block) = match kernel {
                Kernel::V1 => ([n_out.div_ceil(16), n_rows.div_ceil(16), 1], 256),
                _ => ([n_tiles(128), 1, 1], 128),
            };
            let what = Launch { name, grid, block, shared_bytes: 0, seed };
            let args: [&dyn Argument; 11] =
                [&a, &w, c, n_rows_, n_out_, n_in_, ld_, ld_, ldc_, &start, &update];
            must_launch(what, &args);
        }
        let out = match self.kept {
            Kept::F32 => wide.read(),
            Kept::Bf16 => from_bits(&narrow.read()),
        };
        unstrided(&out, n_rows, n_out, ldc)
    }
}

/// What a product starts from, and how its result is kept.
pub type Form = (Start, Kept);

/// Products of whole numbers, which no rounding touches; `seeds_of` gives the schedules of the
/// first form, the others are run on one.
pub fn check_whole(
    kernel: Kernel,
    all_sizes: &[[usize; 3]],
    forms: &[Form],
    seeds_of: fn([usize; 3]) -> &'static [u64],
) {
    for &sizes in all_sizes {
        let [n_rows, n_out, n_in] = sizes;
        let (a, w) = (whole(1, n_rows * n_in, 8.0), whole(2, n_out * n_in, 8.0));
        let c = whole(3, n_rows * n_out, 8.0);
        for (idx, &(start, kept)) in forms.iter().enumerate() {
            let mut wanted = c.clone();
            product(&a, &w, &mut wanted, sizes, start);
            if kept == Kept::Bf16 {
                wanted = rounded(&wanted);
            }
            let run = Product { sizes, kept, start, a: &a, w: &w, c: &c, update: None };
            for seed in if idx == 0 { seeds_of(sizes) } else { &SEEDS[4..] } {
                let case = format!("{kernel:?} {sizes:?} {kept:?} {start:?} seed {seed}");
                assert_bits(&run.run(kernel, *seed), &wanted, &case);
            }
        }
    }
}

/// The most that a sum of `n` bf16 products may be off by, in any order, where the CPU's sum of
/// their magnitudes is this. Products of bf16 are exact in f32. Each addition errs by at most 2^-23
/// of the sum of magnitudes where it truncates, as tensor cores may; the CPU's round to nearest, by
/// half of it. 1 % is for the errors' own errors.
pub fn most_error(n: usize, sum_of_magnitudes: f32) -> f32 {
    n as f32 * 1.5 * 1.01 * f32::EPSILON * sum_of_magnitudes
}

/// Any numbers, in both forms of C.
pub fn check_rounding(kernel: Kernel) {
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
        let run = |kept, start| {
            let update = None;
            Product { sizes, kept, start, a: &a, w: &w, c: &c, update }.run(kernel, 2)
        };
        let ours = run(Kept::F32, Start::FromC);
        for (i, (ours, wanted)) in ours.iter().zip(&wanted).enumerate() {
            let most = most_error(n_in + 1, sums_of_magnitudes[i]);
            let error = (ours - wanted).abs();
            let case = format!("{kernel:?} {sizes:?} element {i}: {ours}, wanted {wanted}");
            assert!(error <= most, "{case}: {error:e} is more than {most:e}");
        }
        // bf16 is the f32 result rounded once; and what C held comes last.
        assert_bits(&run(Kept::Bf16, Start::FromC), &rounded(&ours), "rounded");
        let sums = run(Kept::F32, Start::Zero);
        let added: Vec<f32> = sums.iter().zip(&c).map(|(sum, c)| c + sum).collect();
        assert_bits(&ours, &added, "added once");
    }
}

/// Rows by themselves, and some of them, have the bits that they have among all.
pub fn check_batches(kernel: Kernel) {
    let [n_rows, n_out, n_in] = [131, 9, 75];
    let (a, w) = (rounded(&values(1, n_rows * n_in)), rounded(&values(2, n_out * n_in)));
    let c = rounded(&values(3, n_rows * n_out));
    for kept in [Kept::F32, Kept::Bf16] {
        // Rows `first..first + n` as a batch of their own.
        let run = |first: usize, n: usize, seed| {
            let (a, c) = (&a[first * n_in..][..n * n_in], &c[first * n_out..][..n * n_out]);
            let (sizes, start, update) = ([n, n_out, n_in], Start::FromC, None);
            Product { sizes, kept, start, a, w: &w, c, update }.run(kernel, seed)
        };
        let all = run(0, n_rows, 0);
        for (first, n) in [(0, 1), (9, 1), (63, 2), (64, 1), (127, 3), (130, 1), (40, 90)] {
            for seed in [0, 3] {
                let wanted = &all[first * n_out..][..n * n_out];
                let case = format!("{kernel:?} {kept:?} rows {first}, {n} of them, seed {seed}");
                assert_bits(&run(first, n, seed), wanted, &case);
            }
        }
    }
}
