//! LoRA of precision `fast` up to the product: factors made ready, A x of a batch; to the bit where
//! any order of additions is exact, else within what its roundings may do. Then all of it with the
//! product, where adapters that hold what is not finite spoil their own rows alone.
#![cfg(feature = "kernel-tests")]

mod kernels_common;

use kernels_common::products::{Kept, Kernel, Product};
use kernels_common::updates::{Part, Update, depth_of, slots_of};
use kernels_common::values::{
    assert_bits, from_bits, rounded, strided, to_bits, unstrided, values, whole,
};
use kernels_common::{Argument, Device, Launch, SEEDS, must_launch};
use model_swarms::backend::cpu::gemm::Start;

const VERSIONS: [&str; 2] = ["v1", "v3"];
const N_ADAPTERS: usize = 4;
const SCALE: f32 = 0.7;
const NAN: u16 = 0x7fff;

/// Inputs, then outputs and rank of each part: around chunks of 8, steps of 64 k in four stages, 48
/// columns of a block and 2048 numbers of a warp that narrows.
type Sizes = (usize, &'static [(usize, usize)]);
const SIZES: [Sizes; 8] = [
    (1, &[(1, 1)]),
    (63, &[(5, 8)]),
    (64, &[(130, 16)]),
    (65, &[(9, 17), (7, 3)]),
    (191, &[(4, 64)]),
    (193, &[(3, 15), (40, 16), (31, 1)]),
    (256, &[(8, 33), (2, 20)]),
    (300, &[(140, 16), (6, 16)]),
];

/// Adapters of one product behind each other: A (rank, n_in) and B (n_out, rank) of each part, then
/// a gap.
struct Adapters {
    data: Vec<f32>,
    stride: usize,
    n_in: usize,
    parts: Vec<Part>,
    scale: f32,
}

/// The factors as the products take them.
struct Prepared {
    a: Vec<u16>, // (n_adapters, n_parts, depth, lda)
    b: Vec<u16>, // the parts' one behind the other, each (n_adapters, n_out, depth)
    lda: usize,
    depth: usize,
}

impl Adapters {
    fn new((n_in, outputs): Sizes, scale: f32, numbers: impl Fn(u32, usize) -> Vec<f32>) -> Self {
        let (mut parts, mut len) = (Vec::new(), 3);
        for (idx, &(n_out, rank)) in outputs.iter().enumerate() {
            parts.push(Part { first_col: 256 * idx, n_out, rank });
            len += rank * (n_in + n_out);
        }
        Self { data: numbers(9, N_ADAPTERS * len), stride: len, n_in, parts, scale }
    }

    /// Where a part's A and B begin in an adapter.
    fn places(&self, idx: usize) -> [usize; 2] {
        let before = self.parts[..idx].iter();
        let a = before.map(|part| part.rank * (self.n_in + part.n_out)).sum();
        [a, a + self.parts[idx].rank * self.n_in]
    }

    /// A number of A or B, of one adapter's part.
    fn number(&mut self, adapter: usize, idx: usize, is_b: usize, at: usize) -> &mut f32 {
        let place = self.places(idx)[is_b];
        &mut self.data[adapter * self.stride + place + at]
    }

    fn prepare(&self, seed: u64) -> Prepared {
        let (depth, lda) = (depth_of(&self.parts), self.n_in.next_multiple_of(8));
        let a_stride = self.parts.len() * depth * lda;
        let data = Device::new(&self.data);
        let a = Device::new(&vec![7u16; N_ADAPTERS * a_stride]);
        let mut b = Vec::new();
        for (idx, &Part { n_out, rank, .. }) in self.parts.iter().enumerate() {
            let [a_place, b_place] = self.places(idx);
            let (part_a, part_b) =
                (a.at(idx * depth * lda), Device::new(&vec![7u16; N_ADAPTERS * n_out * depth]));
            let (stride, a_stride) = (self.stride as i64, a_stride as i64);
            let [n_in, n_out_, rank, depth_, lda_] =
                &[self.n_in, n_out, rank, depth, lda].map(|n| n as i32);
            let on = |name, n: usize| {
                let grid = [n.div_ceil(2048), N_ADAPTERS, 1];
                Launch { name, grid, block: 32, shared_bytes: 0, seed }
            };
            let args: [&dyn Argument; 8] =
                [&data.at(a_place), &part_a, n_in, rank, depth_, lda_, &stride, &a_stride];
            must_launch(on("lora_prepare_a_fast_v1", depth * lda), &args);
            let args: [&dyn Argument; 9] = [
                &data.at(b_place),
                &part_b,
                &part_a,
                &self.scale,
                n_out_,
                rank,
                depth_,
                &stride,
                &a_stride,
            ];
            must_launch(on("lora_prepare_b_fast_v1", n_out * depth), &args);
            b.extend(part_b.read());
        }
        Prepared { a: a.read(), b, lda, depth }
    }

    /// A x for the slots of a batch: (n_slots, n_parts, 128, depth).
    fn shrink(
        &self,
        prepared: &Prepared,
        x: &[f32],
        adapter_of: &[i32],
        (version, seed): (&str, u64),
    ) -> Vec<u16> {
        let (n_rows, n_in, n_parts) = (adapter_of.len(), self.n_in, self.parts.len());
        let Prepared { depth, lda, .. } = *prepared;
        let ldx = n_in.next_multiple_of(8) + 8;
        let (x, a) = (Device::new(&to_bits(&strided(x, n_in, ldx))), Device::new(&prepared.a));
        let (slots, _) = slots_of(adapter_of);
        let (n_slots, n_cols) = (slots.len(), n_parts * depth);
        let (adapter_of, slots) = (Device::new(adapter_of), Device::new(slots.as_flattened()));
        let shrunk = Device::new(&vec![7u16; n_slots * n_cols * 128]);
        let n_splits = n_in.div_ceil(4096);
        let sums = Device::unset(n_splits * n_slots * n_cols * 128);
        let [rows, inputs, parts, depth_, ldx, lda, splits] =
            &[n_rows, n_in, n_parts, depth, ldx, lda, n_splits].map(|n| n as i32);
        let on = |name, grid, shared_bytes| Launch { name, grid, block: 128, shared_bytes, seed };
        if version == "v1" {
            let what = on("lora_shrink_fast_v1", [n_cols, n_slots, 1], 0);
            let args: [&dyn Argument; 11] =
                [&x, &a, &adapter_of, &slots, &shrunk, rows, inputs, parts, depth_, ldx, lda];
            must_launch(what, &args);
            return shrunk.read();
        }
        let what = on("lora_shrink_fast_v3", [2 * n_slots, n_cols.div_ceil(48), n_splits], 57_344);
        let args: [&dyn Argument; 12] =
            [&x, &a, &adapter_of, &slots, &shrunk, &sums, rows, inputs, parts, depth_, ldx, lda];
        must_launch(what, &args);
        if n_splits > 1 {
            let args: [&dyn Argument; 8] =
                [&sums, &adapter_of, &slots, &shrunk, rows, splits, parts, depth_];
            must_launch(on("lora_sum_fast_v1", [n_cols / 2, n_slots, 1], 0), &args);
        }
        shrunk.read()
    }

    /// `x W^T` with what the adapters add, by every kernel that multiplies, of bf16's numbers.
    fn product(
        &self,
        x: &[f32],
        w: &[f32],
        adapter_of: &[i32],
        (kernel, seed): (Kernel, u64),
    ) -> Vec<f32> {
        let prepared = self.prepare(seed);
        let version = if kernel == Kernel::V1 { "v1" } else { "v3" };
        let shrunk = self.shrink(&prepared, x, adapter_of, (version, seed));
        let (parts, adapter_of) = (self.parts.clone(), adapter_of.to_vec());
        let (n_rows, n_out) = (adapter_of.len(), self.n_out());
        let b = prepared.b;
        let update = Update { parts, n_adapters: N_ADAPTERS, adapter_of, shrunk, b };
        let (sizes, c) = ([n_rows, n_out, self.n_in], vec![0.0; n_rows * n_out]);
        let (kept, start, update) = (Kept::F32, Start::Zero, Some(&update));
        Product { sizes, kept, start, a: x, w, c: &c, update }.run(kernel, seed)
    }

    /// Columns of the product.
    fn n_out(&self) -> usize {
        self.parts.last().map_or(0, |part| part.first_col + part.n_out)
    }
}

/// Which adapter each row belongs to: one for all, some side by side, all mixed, none.
fn assignments(n_rows: usize) -> [Vec<i32>; 4] {
    let by = |adapter: fn(usize) -> i32| (0..n_rows).map(adapter).collect();
    [by(|_| 1), by(|i| (i / 50 % 4) as i32 - 1), by(|i| (i * 7 % 5) as i32 - 1), by(|_| -1)]
}

/// A x of one row of a slot, of all its adapter's numbers: the sum in f64, and the sum of the
/// products' magnitudes.
fn exact_shrunk(adapters: &Adapters, a: &[u16], lda: usize, x: &[f32], row: usize) -> (f64, f64) {
    let a = from_bits(&a[row * lda..][..adapters.n_in]);
    let products = x.iter().zip(a).map(|(x, a)| f64::from(*x) * f64::from(a));
    products.fold((0.0, 0.0), |(sum, magnitudes), p| (sum + p, magnitudes + p.abs()))
}

/// Shows each number of `shrunk` with what it should be: of A x in rows of the slot's adapter, of 0
/// in others.
fn each_shrunk(
    adapters: &Adapters,
    prepared: &Prepared,
    x: &[f32],
    adapter_of: &[i32],
    mut visit: impl FnMut(usize, (f64, f64)),
) {
    let n_cols = adapters.parts.len() * prepared.depth;
    for (slot, [tile, adapter]) in slots_of(adapter_of).0.into_iter().enumerate() {
        for (i, r) in (0..128).flat_map(|i| (0..n_cols).map(move |r| (i, r))) {
            let (part, row) = (r / prepared.depth, tile as usize * 128 + i);
            let at = ((slot * adapters.parts.len() + part) * 128 + i) * prepared.depth;
            let wanted = if adapter_of.get(row) == Some(&adapter) {
                let x = &x[row * adapters.n_in..][..adapters.n_in];
                let a_row = adapter as usize * n_cols + r;
                exact_shrunk(adapters, &prepared.a, prepared.lda, x, a_row)
            } else {
                (0.0, 0.0)
            };
            visit(at + r % prepared.depth, wanted);
        }
    }
}

#[test]
fn factors_are_narrowed_once() {
    // Broken: an adapter is taken for its neighbour, or has numbers where its rank ends.
    for sizes in SIZES {
        let mut adapters = Adapters::new(sizes, SCALE, values);
        let prepared = adapters.prepare(2);
        let Prepared { lda, depth, .. } = prepared;
        let (n_in, parts) = (adapters.n_in, adapters.parts.clone());
        let (mut wanted_a, mut wanted_b) = (Vec::new(), Vec::new());
        for adapter in 0..N_ADAPTERS {
            for (idx, part) in parts.iter().enumerate() {
                for (r, k) in (0..depth).flat_map(|r| (0..lda).map(move |k| (r, k))) {
                    let is_there = r < part.rank && k < n_in;
                    let mut number = || *adapters.number(adapter, idx, 0, r * n_in + k);
                    wanted_a.push(if is_there { number() } else { 0.0 });
                }
            }
        }
        for (idx, part) in parts.iter().enumerate() {
            for (adapter, j) in (0..N_ADAPTERS).flat_map(|g| (0..part.n_out).map(move |j| (g, j))) {
                for r in 0..depth {
                    let at = j * part.rank + r;
                    let mut number = || SCALE * *adapters.number(adapter, idx, 1, at);
                    wanted_b.push(if r < part.rank { number() } else { 0.0 });
                }
            }
        }
        assert_eq!(prepared.a, to_bits(&wanted_a), "A of {sizes:?}");
        assert_eq!(prepared.b, to_bits(&wanted_b), "B of {sizes:?}");
    }
}

#[test]
fn what_is_not_finite_stays_with_its_adapter_and_part() {
    // Broken: a B that diverged spoils the rows of other adapters, or hides.
    let sizes: Sizes = (20, &[(300, 17), (30, 2)]);
    // In the first and the last number, of several; and what overflows with the scale, or as bf16.
    for (scale, bad) in [(SCALE, f32::INFINITY), (SCALE, f32::NAN), (2.0, 2e38), (1.0, 3.4e38)] {
        for (part, at) in [(0, 0), (0, 300 * 17 - 1), (1, 59)] {
            let mut adapters = Adapters::new(sizes, scale, values);
            let clean = adapters.prepare(0);
            *adapters.number(2, part, 1, at) = bad;
            *adapters.number(2, part, 1, 30) = -bad;
            let ours = adapters.prepare(3);
            let Prepared { a: mut wanted_a, b: mut wanted_b, depth, lda } = clean;
            wanted_a[(2 * 2 + part) * depth * lda] = NAN;
            let (n_out, rank) = sizes.1[part];
            let first_b_row = [0, N_ADAPTERS * 300][part] + 2 * n_out;
            for at in [at, 30] {
                wanted_b[(first_b_row + at / rank) * depth + at % rank] = 0;
            }
            assert_eq!(ours.a, wanted_a, "A, {bad} in part {part} at {at}");
            assert_eq!(ours.b, wanted_b, "B, {bad} in part {part} at {at}");
        }
    }
}

#[test]
fn whole_numbers_come_out_whole() {
    // Broken: a number is taken for its neighbour's, a row for another adapter's, or the sum of a
    // split is left out.
    let wide: [Sizes; 4] =
        [(4095, &[(1, 1)]), (4096, &[(1, 20), (1, 16)]), (4097, &[(1, 16)]), (8200, &[(1, 3)])];
    let n_rows = [0, 1, 63, 64, 65, 127, 128, 130];
    for (sizes, n_rows) in SIZES.into_iter().zip(n_rows).chain(wide.map(|sizes| (sizes, 65))) {
        let adapters = Adapters::new(sizes, 1.0, |stream, len| whole(stream, len, 1.6));
        let prepared = adapters.prepare(0);
        let x = whole(1, n_rows * adapters.n_in, 1.6);
        // Of many inputs, adapters that mix alone: these take long.
        let idxs = if adapters.n_in > 1000 { 2..3 } else { 0..4 };
        for idx in idxs {
            let adapter_of = &assignments(n_rows)[idx];
            let mut wanted = Vec::new();
            each_shrunk(&adapters, &prepared, &x, adapter_of, |at, (sum, _)| {
                wanted.resize(wanted.len().max(at + 1), 0.0);
                wanted[at] = sum as f32;
            });
            for version in VERSIONS {
                // Every schedule where adapters mix, one elsewhere.
                let seeds = if sizes.0 == 65 && idx == 2 { &SEEDS } else { &SEEDS[4..] };
                for &seed in seeds {
                    let ours = adapters.shrink(&prepared, &x, adapter_of, (version, seed));
                    let what = format!("{version} {n_rows} rows {sizes:?} {idx} seed {seed}");
                    assert_bits(&from_bits(&ours), &rounded(&wanted), &what);
                }
            }
        }
    }
}

#[test]
fn sums_lie_within_what_rounding_may_do() {
    // Broken: A x is summed in less than f32, or rounded more than once.
    for (n_rows, sizes) in [(65, SIZES[7]), (20, (4100, &[(1, 16)]))] {
        let adapters = Adapters::new(sizes, SCALE, values);
        let prepared = adapters.prepare(0);
        let x = rounded(&values(1, n_rows * adapters.n_in));
        let adapter_of = &assignments(n_rows)[2];
        for version in VERSIONS {
            let ours = from_bits(&adapters.shrink(&prepared, &x, adapter_of, (version, 2)));
            each_shrunk(&adapters, &prepared, &x, adapter_of, |at, (wanted, magnitudes)| {
                // Products of bf16 are exact; each of n + 2 additions truncates, as tensor cores
                // may, by a unit of the sum of magnitudes; bf16 rounds to eight bits.
                let n_sums = (adapters.n_in + 2) as f64;
                let inner = 1.01 * n_sums * f64::from(f32::EPSILON) * magnitudes;
                let most = inner + (wanted.abs() + inner) / 256.0;
                let error = (f64::from(ours[at]) - wanted).abs();
                assert!(error <= most, "{version} {sizes:?} {at}: {}, wanted {wanted}", ours[at]);
            });
        }
    }
}

#[test]
fn all_of_it_is_the_sum_that_it_should_be() {
    // Broken: what is laid out for the product is not what the product reads.
    let sizes: Sizes = (70, &[(30, 8), (257, 17), (9, 1)]);
    let mut adapters = Adapters::new(sizes, 0.5, |stream, len| whole(stream, len, 1.2));
    let (n_rows, n_out, n_in) = (140, adapters.n_out(), adapters.n_in);
    let (x, w) = (whole(1, n_rows * n_in, 1.2), whole(2, n_out * n_in, 1.2));
    for adapter_of in assignments(n_rows) {
        let mut wanted = vec![0.0; n_rows * n_out];
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
        for (row, adapter) in adapter_of.iter().enumerate() {
            let x = &x[row * n_in..][..n_in];
            for (idx, part) in adapters.parts.clone().iter().enumerate() {
                let Part { first_col, n_out: n_out_part, rank } = *part;
                for col in first_col..first_col + n_out_part {
                    wanted[row * n_out + col] = dot(x, &w[col * n_in..][..n_in]);
                }
                let Ok(adapter) = usize::try_from(*adapter) else { continue };
                for r in 0..rank {
                    let a: Vec<f32> = (0..n_in)
                        .map(|k| *adapters.number(adapter, idx, 0, r * n_in + k))
                        .collect();
                    for j in 0..n_out_part {
                        let b = 0.5 * *adapters.number(adapter, idx, 1, j * rank + r);
                        wanted[row * n_out + first_col + j] += dot(x, &a) * b;
                    }
                }
            }
        }
        for kernel in Kernel::all() {
            let ours = adapters.product(&x, &w, &adapter_of, (kernel, 1));
            for part in &adapters.parts {
                let of = |out: &[f32]| unstrided(&out[part.first_col..], n_rows, part.n_out, n_out);
                // Padding up to the next part is nobody's.
                let (mut ours, mut wanted) = (ours.clone(), wanted.clone());
                ours.resize(ours.len() + n_out, 0.0);
                wanted.resize(wanted.len() + n_out, 0.0);
                assert_bits(&of(&ours), &of(&wanted), &format!("{kernel:?} {part:?}"));
            }
        }
    }
}

#[test]
fn a_spoilt_adapter_spoils_its_own_rows_alone() {
    // Broken: one particle that diverged takes the utilities of all others with it.
    let sizes: Sizes = (40, &[(30, 8), (9, 16)]);
    let clean = Adapters::new(sizes, SCALE, values);
    let mut spoilt = Adapters::new(sizes, SCALE, values);
    *spoilt.number(1, 0, 1, 77) = f32::INFINITY; // B of part 0
    *spoilt.number(2, 1, 0, 133) = f32::NAN; // A of part 1
    *spoilt.number(3, 1, 1, 5) = f32::NEG_INFINITY;
    *spoilt.number(3, 0, 0, 1) = f32::INFINITY;
    // Adapter and part whose rows are NaN.
    let is_spoilt =
        |adapter: i32, part: usize| matches!((adapter, part), (1, 0) | (2, 1) | (3, 0 | 1));
    let (n_rows, n_out, n_in) = (140, clean.n_out(), clean.n_in);
    let (x, w) = (rounded(&values(1, n_rows * n_in)), rounded(&values(2, n_out * n_in)));
    for adapter_of in assignments(n_rows) {
        for kernel in Kernel::all() {
            let wanted = clean.product(&x, &w, &adapter_of, (kernel, 0));
            let ours = spoilt.product(&x, &w, &adapter_of, (kernel, 2));
            for (row, &adapter) in adapter_of.iter().enumerate() {
                for (idx, part) in clean.parts.iter().enumerate() {
                    let of =
                        |out: &[f32]| out[row * n_out + part.first_col..][..part.n_out].to_vec();
                    let what = format!("{kernel:?} row {row} of adapter {adapter}, part {idx}");
                    if is_spoilt(adapter, idx) {
                        assert!(of(&ours).iter().all(|y| !y.is_finite()), "{what} looks sound");
                    } else {
                        assert_bits(&of(&ours), &of(&wanted), &what);
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_alone_is_the_row_next_to_any_adapter() {
    // Broken: a particle's utility depends on which particles share its batch.
    for sizes in [SIZES[5], (4200, &[(3, 16)])] {
        let adapters = Adapters::new(sizes, SCALE, values);
        let (n_rows, n_out, n_in) = (140, adapters.n_out(), adapters.n_in);
        let (x, w) = (rounded(&values(1, n_rows * n_in)), rounded(&values(2, n_out * n_in)));
        let mixed = &assignments(n_rows)[2];
        for kernel in [Kernel::V1, Kernel::V2] {
            let all = adapters.product(&x, &w, mixed, (kernel, 0));
            for (first, n) in [(0, 1), (17, 1), (128, 1), (139, 1), (60, 10), (5, 130)] {
                let (x, adapter_of) = (&x[first * n_in..][..n * n_in], &mixed[first..][..n]);
                let alone = adapters.product(x, &w, adapter_of, (kernel, 4));
                for part in &adapters.parts {
                    for row in 0..n {
                        let of = |out: &[f32], row: usize| {
                            out[row * n_out + part.first_col..][..part.n_out].to_vec()
                        };
                        let what = format!("{kernel:?} rows {first}, {n} of them: row {row}");
                        assert_bits(&of(&alone, row), &of(&all, first + row), &what);
                    }
                }
            }
        }
    }
}
