//! What adapters add within the products of precision `fast`, against a plain statement of it on
//! whole numbers; and a row's bits whatever adapters its neighbours have.
#![cfg(feature = "kernel-tests")]

mod kernels_common;

use kernels_common::SEEDS;
use kernels_common::cpu::product;
use kernels_common::products::{Kept, Kernel, Product};
use kernels_common::updates::{Part, Update};
use kernels_common::values::{assert_bits, rounded, values, whole};
use model_swarms::backend::cpu::gemm::Start;

/// Adapters of a set.
const N_ADAPTERS: usize = 25;

/// Rows and inputs, then outputs and rank of each part, 0 for one that has no adapter: around tiles
/// of 128 rows, 128 and 256 columns; 16, 32 and 64 r; and steps of 32 and 64 k in all stages.
type Case = ([usize; 2], &'static [(usize, usize)]);
const CASES: [Case; 11] = [
    ([0, 5], &[(4, 3)]),
    ([1, 0], &[(1, 1)]),
    ([1, 1], &[(1, 1)]),
    ([127, 33], &[(127, 8)]),
    ([128, 64], &[(128, 16)]),
    ([129, 65], &[(129, 17)]),
    ([5, 31], &[(257, 64)]),
    ([30, 130], &[(9, 65), (255, 1)]),
    ([131, 20], &[(40, 15), (300, 0), (17, 33)]),
    ([7, 200], &[(3, 0), (5, 16), (256, 130)]),
    ([260, 9], &[(30, 0), (31, 32)]),
];

/// A product in which some parts have adapters.
struct World {
    parts: Vec<Part>,
    sizes: [usize; 3],
    a: Vec<f32>,
    w: Vec<f32>,
    c: Vec<f32>,
    shrunk: Vec<f32>, // (n_rows, n_parts, most ranks): A x of each row's own adapter
    b: Vec<f32>,      // scale * B, the parts' one behind the other, each (n_adapters, n_out, rank)
}

impl World {
    fn new(([n_rows, n_in], outputs): Case, numbers: fn(u32, usize) -> Vec<f32>) -> Self {
        let (mut parts, mut n_out) = (Vec::new(), 0usize);
        for &(n_out_part, rank) in outputs {
            let first_col = n_out.next_multiple_of(256);
            n_out = first_col + n_out_part;
            if rank > 0 {
                parts.push(Part { first_col, n_out: n_out_part, rank });
            }
        }
        let most = parts.iter().map(|part| part.rank).max().unwrap();
        let n_b: usize = parts.iter().map(|part| N_ADAPTERS * part.n_out * part.rank).sum();
        Self {
            sizes: [n_rows, n_out, n_in],
            a: numbers(1, n_rows * n_in),
            w: numbers(2, n_out * n_in),
            c: numbers(3, n_rows * n_out),
            shrunk: numbers(4, n_rows * parts.len() * most),
            b: numbers(5, n_b),
            parts,
        }
    }

    /// What an adapter adds to a row: the number that belongs to each column, 0 where none does.
    fn added(&self, row: usize, adapter: usize) -> Vec<f32> {
        let mut added = vec![0.0; self.sizes[1]];
        let most = self.parts.iter().map(|part| part.rank).max().unwrap();
        let mut b = &self.b[..];
        for (idx, &Part { first_col, n_out, rank }) in self.parts.iter().enumerate() {
            let shrunk = &self.shrunk[(row * self.parts.len() + idx) * most..][..rank];
            for j in 0..n_out {
                let b = &b[(adapter * n_out + j) * rank..][..rank];
                added[first_col + j] = shrunk.iter().zip(b).map(|(x, b)| x * b).sum();
            }
            b = &b[N_ADAPTERS * n_out * rank..];
        }
        added
    }

    /// Rows `first..first + n` as a batch of their own, whose adapters are these.
    fn run(&self, case: (Kernel, u64), first: usize, adapter_of: &[i32], form: Form) -> Vec<f32> {
        let ([n_rows, n_out, n_in], n) = (self.sizes, adapter_of.len());
        let n_shrunk = self.shrunk.len() / n_rows.max(1);
        let shrunk = &self.shrunk[first * n_shrunk..][..n * n_shrunk];
        let update = Update::new(&self.parts, adapter_of, shrunk, N_ADAPTERS, &self.b);
        let (start, kept) = form;
        let product = Product {
            sizes: [n, n_out, n_in],
            kept,
            start,
            a: &self.a[first * n_in..][..n * n_in],
            w: &self.w,
            c: &self.c[first * n_out..][..n * n_out],
            update: Some(&update),
        };
        let mut out = product.run(case.0, case.1);
        self.forget_gaps(&mut out);
        out
    }

    /// Columns that lie behind a part that has adapters, up to the next part, are nobody's.
    fn forget_gaps(&self, out: &mut [f32]) {
        for row in out.chunks_mut(self.sizes[1].max(1)) {
            for part in &self.parts {
                let end = part.first_col + part.n_out;
                let gap = end.min(row.len())..end.next_multiple_of(256).min(row.len());
                row[gap].fill(0.0);
            }
        }
    }
}

type Form = (Start, Kept);

/// Which adapter each row belongs to: one for all, some side by side, all mixed, some twice with
/// none between, none.
fn assignments(n_rows: usize) -> [Vec<i32>; 5] {
    let by = |adapter: fn(usize) -> i32| (0..n_rows).map(adapter).collect();
    let mixed = |i: usize| (i * 7 % (N_ADAPTERS + 1)) as i32 - 1;
    let twice = |i: usize| if i % 3 == 1 { -1 } else { (i % 2 * 20) as i32 };
    [by(|_| 1), by(|i| (i / 50 % 3 + 22) as i32), by(mixed), by(twice), by(|_| -1)]
}

#[test]
fn whole_numbers_come_out_whole() {
    // Broken: a row gets another adapter's update, or one of another part or tile, or a part that
    // has no adapter gets one.
    for case in CASES {
        let world = World::new(case, |stream, len| whole(stream, len, 3.0));
        let [n_rows, n_out, _] = world.sizes;
        for (idx, adapter_of) in assignments(n_rows).iter().enumerate() {
            for kernel in Kernel::all() {
                // Every schedule where slots are many and rows few.
                let seeds = if idx == 2 && n_rows < 128 { &SEEDS } else { &SEEDS[3..4] };
                let forms =
                    [((Start::Zero, Kept::F32), seeds), ((Start::FromC, Kept::Bf16), &SEEDS[4..])];
                for (form, seeds) in forms.into_iter().take(if idx == 2 { 2 } else { 1 }) {
                    let mut wanted = world.c.clone();
                    product(&world.a, &world.w, &mut wanted, world.sizes, form.0);
                    for (row, adapter) in adapter_of.iter().enumerate() {
                        let Ok(adapter) = usize::try_from(*adapter) else { continue };
                        let added = world.added(row, adapter);
                        let wanted = wanted[row * n_out..][..n_out].iter_mut();
                        wanted.zip(added).for_each(|(wanted, added)| *wanted += added);
                    }
                    world.forget_gaps(&mut wanted);
                    if form.1 == Kept::Bf16 {
                        wanted = rounded(&wanted);
                    }
                    for &seed in seeds {
                        let ours = world.run((kernel, seed), 0, adapter_of, form);
                        let what = format!("{kernel:?} {case:?} {form:?} assignment {idx} {seed}");
                        assert_bits(&ours, &wanted, &what);
                    }
                }
            }
        }
    }
}

/// Numbers of bf16, of which every third is so small that its products with others like it
/// underflow, so that zeros have signs.
fn small_ones_among(stream: u32, len: usize) -> Vec<f32> {
    let small = |(i, x): (usize, f32)| if i / 5 % 3 == 0 { x * 1e-30 } else { x };
    rounded(&values(stream, len).into_iter().enumerate().map(small).collect::<Vec<f32>>())
}

#[test]
fn a_row_alone_is_the_row_next_to_any_adapter() {
    // Broken: a particle's utility depends on which particles share its batch.
    let case: Case = ([140, 5], &[(20, 16), (40, 17)]);
    let world = World::new(case, small_ones_among);
    let n_out = world.sizes[1];
    let form = (Start::Zero, Kept::F32);
    for kernel in Kernel::all() {
        let [shared, _, mixed, twice, none] = assignments(world.sizes[0]);
        let all = world.run((kernel, 0), 0, &mixed, form);
        // The same adapter's row among its like, and the base's among no adapters.
        for (others, own) in [(shared, 1), (none, -1), (twice, 20)] {
            let alike = world.run((kernel, 1), 0, &others, form);
            for (row, (adapter, other)) in mixed.iter().zip(&others).enumerate() {
                if *adapter == own && *other == own {
                    let of = |x: &[f32]| x[row * n_out..][..n_out].to_vec();
                    let what = format!("{kernel:?} row {row} of adapter {own} among others");
                    assert_bits(&of(&all), &of(&alike), &what);
                }
            }
        }
        for (first, n) in [(0, 1), (17, 1), (127, 1), (128, 1), (139, 1), (5, 40), (100, 40)] {
            let alone = world.run((kernel, 4), first, &mixed[first..][..n], form);
            let wanted = &all[first * n_out..][..n * n_out];
            assert_bits(&alone, wanted, &format!("{kernel:?} rows {first}, {n} of them"));
        }
    }
}
