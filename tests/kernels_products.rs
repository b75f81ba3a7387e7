//! The kernels that multiply matrices, against the CPU's products, bit for bit: the GEMM of
//! precision `exact`, LoRA beside it, and merging an adapter.
#![cfg(feature = "kernel-tests")]

mod kernels_common;

use half::{bf16, f16};
use kernels_common::cpu::product;
use kernels_common::values::{assert_bits, strided, tiny_values, unstrided, values};
use kernels_common::{Argument, Device, Launch, SEEDS, must_launch};
use model_swarms::backend::cpu::Isa;
use model_swarms::backend::cpu::gemm::Start;
use model_swarms::backend::cpu::low_rank::add_low_rank;
use model_swarms::backend::cpu::packed::{Part, Weights};
use model_swarms::tensors::Dtype;

const VERSIONS: [&str; 2] = ["v1", "v2"];

/// Rows, outputs and inputs around the tile of 64 x 64 x 16.
const SIZES: [[usize; 3]; 13] = [
    [0, 3, 5],
    [1, 0, 4],
    [1, 1, 0],
    [1, 1, 1],
    [3, 5, 15],
    [2, 64, 16],
    [63, 7, 17],
    [64, 65, 31],
    [65, 63, 32],
    [5, 130, 33],
    [129, 20, 48],
    [7, 66, 100],
    [70, 70, 7],
];

/// W as a file has it.
fn stored(w: &[f32], dtype: Dtype) -> Box<dyn Argument> {
    match dtype {
        Dtype::F32 => Box::new(Device::new(w)),
        Dtype::F16 => Box::new(Device::new(&map(w, |x| f16::from_f32(x).to_bits()))),
        Dtype::BF16 => Box::new(Device::new(&map(w, |x| bf16::from_f32(x).to_bits()))),
    }
}

fn map(w: &[f32], to_bits: fn(f32) -> u16) -> Vec<u16> {
    w.iter().map(|x| to_bits(*x)).collect()
}

struct Product<'a> {
    dtype: Dtype,
    sizes: [usize; 3],
    start: Start,
    a: &'a [f32],
    w: &'a [f32],
    c: &'a [f32],
}

impl Product<'_> {
    /// The product by a kernel: rows lie apart, at multiples of 16 bytes.
    fn run(&self, version: &str, seed: u64) -> Vec<f32> {
        let [n_rows, n_out, n_in] = self.sizes;
        let (lda, ldw, ldc) =
            (n_in.next_multiple_of(4) + 4, n_in.next_multiple_of(8) + 8, n_out + 3);
        let a = Device::new(&strided(self.a, n_in, lda));
        let w = stored(&strided(self.w, n_in, ldw), self.dtype);
        let c = Device::new(&strided(self.c, n_out, ldc));
        let tile = if version == "v1" { 16 } else { 64 };
        let what = Launch {
            name: &format!("gemm_exact_{}_{version}", self.dtype.to_string().to_lowercase()),
            grid: [n_out.div_ceil(tile), n_rows.div_ceil(tile), 1],
            block: if version == "v1" { 256 } else { 128 },
            shared_bytes: 0,
            seed,
        };
        let [n_rows_, n_out_, n_in_, lda, ldw, ldc_] =
            [n_rows, n_out, n_in, lda, ldw, ldc].map(|n| n as i32);
        let start = i32::from(self.start == Start::FromC);
        let sizes: [&dyn Argument; 7] = [&n_rows_, &n_out_, &n_in_, &lda, &ldw, &ldc_, &start];
        must_launch(what, &[&[&a as &dyn Argument, &*w, &c], &sizes[..]].concat());
        unstrided(&c.read(), n_rows, n_out, ldc)
    }
}

#[test]
fn products_are_the_cpus() {
    // Broken: precision `exact` gives other logits on a GPU than on a CPU.
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for sizes in SIZES {
            let [n_rows, n_out, n_in] = sizes;
            let a = values(1, n_rows * n_in);
            let w: Vec<f32> = values(2, n_out * n_in).iter().map(|x| dtype.round(*x)).collect();
            let c = values(3, n_rows * n_out);
            for start in [Start::Zero, Start::FromC] {
                let mut wanted = c.clone();
                product(&a, &w, &mut wanted, sizes, start);
                let run = Product { dtype, sizes, start, a: &a, w: &w, c: &c };
                for version in VERSIONS {
                    // Every schedule where the tile's edges are, one elsewhere.
                    let seeds =
                        if n_rows < 65 && dtype == Dtype::F32 { &SEEDS } else { &SEEDS[4..] };
                    for seed in seeds {
                        let case = format!("{version} {dtype} {sizes:?} {start:?} seed {seed}");
                        assert_bits(&run.run(version, *seed), &wanted, &case);
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_is_added_past_the_last_input() {
    // Broken: a sum of -0 becomes +0 where a tile is filled up with zeros.
    let sizes = [3, 3, 21];
    let (a, w, c) = (tiny_values(1, 63), tiny_values(2, 63), vec![-0.0; 9]);
    for start in [Start::Zero, Start::FromC] {
        let mut wanted = c.clone();
        product(&a, &w, &mut wanted, sizes, start);
        let run = Product { dtype: Dtype::F32, sizes, start, a: &a, w: &w, c: &c };
        for version in VERSIONS {
            assert_bits(&run.run(version, 0), &wanted, &format!("{version} {start:?}"));
        }
    }
}

#[test]
fn a_row_alone_is_the_row_in_any_batch() {
    // Broken: an answer depends on which prompts share its batch.
    let [n_rows, n_out, n_in] = [67, 9, 40];
    let (a, w, c) = (values(1, n_rows * n_in), values(2, n_out * n_in), vec![0.0; n_rows * n_out]);
    let dtype = Dtype::F32;
    let start = Start::Zero;
    for version in VERSIONS {
        let all = Product { dtype, sizes: [n_rows, n_out, n_in], start, a: &a, w: &w, c: &c };
        let all = all.run(version, 0);
        for row in [0, 31, 66] {
            let (a, c) = (&a[row * n_in..][..n_in], &c[..n_out]);
            let alone = Product { dtype, sizes: [1, n_out, n_in], start, a, w: &w, c };
            assert_bits(&alone.run(version, 0), &all[row * n_out..][..n_out], version);
        }
    }
}

/// Adapters of one module behind each other: A (rank, n_in), then B (n_out, rank), then a gap.
struct Adapters {
    data: Vec<f32>,
    stride: usize,
    sizes: [usize; 3], // rank, n_in, n_out
}

const SCALE: f32 = 0.7;

impl Adapters {
    fn new(n_adapters: usize, sizes: [usize; 3]) -> Self {
        let [rank, n_in, n_out] = sizes;
        let stride = rank * (n_in + n_out) + 5;
        Self { data: values(9, n_adapters * stride), stride, sizes }
    }

    fn a(&self, adapter: usize) -> &[f32] {
        let [rank, n_in, _] = self.sizes;
        &self.data[adapter * self.stride..][..rank * n_in]
    }

    fn b(&self, adapter: usize) -> &[f32] {
        let [rank, n_in, n_out] = self.sizes;
        &self.data[adapter * self.stride + rank * n_in..][..n_out * rank]
    }

    /// y += (scale B) (A x), row by row, as the CPU's forward pass has it.
    fn on_cpu(&self, x: &[f32], y: &mut [f32], adapter_of: &[i32]) {
        let [rank, n_in, n_out] = self.sizes;
        for (row, adapter) in adapter_of.iter().enumerate() {
            let Ok(adapter) = usize::try_from(*adapter) else { continue };
            let (x, y) = (&x[row * n_in..][..n_in], &mut y[row * n_out..][..n_out]);
            let mut shrunk = vec![0.0; rank];
            product(x, self.a(adapter), &mut shrunk, [1, rank, n_in], Start::Zero);
            let scaled: Vec<f32> = self.b(adapter).iter().map(|b| SCALE * b).collect();
            product(&shrunk, &scaled, y, [1, n_out, rank], Start::FromC);
        }
    }

    /// The same by two kernels.
    fn on_device(&self, x: &[f32], y: &[f32], adapter_of: &[i32], case: (&str, u64)) -> Vec<f32> {
        let ([rank, n_in, n_out], n_rows) = (self.sizes, adapter_of.len());
        let (version, seed) = case;
        let (ldx, ldy) = (n_in + 3, n_out + 5);
        let x = Device::new(&strided(x, n_in, ldx));
        let y = Device::new(&strided(y, n_out, ldy));
        let data = Device::new(&self.data);
        let adapter_of = Device::new(adapter_of);
        let shrunk = Device::unset(n_rows * rank);
        let [rows, inputs, outputs, ranks, ldx, ldy_] =
            [n_rows, n_in, n_out, rank, ldx, ldy].map(|n| n as i32);
        let stride = self.stride as i64;
        let (a, b) = (data.at(0), data.at(rank * n_in));
        let name = format!("lora_shrink_{version}");
        let name = name.as_str();
        if version == "v1" {
            let grid = [rank.div_ceil(32), n_rows, 1];
            let what = Launch { name, grid, block: 32, shared_bytes: 0, seed };
            must_launch(what, &[&x, &a, &adapter_of, &shrunk, &inputs, &ranks, &ldx, &stride]);
        } else {
            let grid = [rank.div_ceil(16), n_rows.div_ceil(16), 1];
            let what = Launch { name, grid, block: 256, shared_bytes: 0, seed };
            let args: [&dyn Argument; 9] =
                [&x, &a, &adapter_of, &shrunk, &rows, &inputs, &ranks, &ldx, &stride];
            must_launch(what, &args);
        }
        let name = format!("lora_expand_{version}");
        let name = name.as_str();
        let n_blocks = if version == "v1" { n_rows } else { n_rows.div_ceil(8) };
        let grid = [n_out.div_ceil(128), n_blocks, 1];
        let what = Launch { name, grid, block: 128, shared_bytes: 0, seed };
        let mut args: Vec<&dyn Argument> = vec![&shrunk, &b, &adapter_of, &SCALE, &y];
        if version == "v2" {
            args.push(&rows);
        }
        args.extend([&outputs as &dyn Argument, &ranks, &ldy_, &stride]);
        must_launch(what, &args);
        unstrided(&y.read(), n_rows, n_out, ldy)
    }
}

/// Which adapter each row belongs to: one for all, some side by side, all mixed, none.
fn assignments(n_rows: usize) -> [Vec<i32>; 4] {
    let by = |adapter: fn(usize) -> i32| (0..n_rows).map(adapter).collect();
    [by(|_| 1), by(|i| (i / 20) as i32 - 1), by(|i| (i * 7 % 4) as i32 - 1), by(|_| -1)]
}

#[test]
fn adapters_beside_the_base_are_the_cpus() {
    // Broken: particles that share a batch are evaluated with each other's adapters, or in another
    // order than on the CPU.
    for (n_rows, sizes) in [
        (0, [2, 3, 4]),
        (1, [1, 1, 1]),
        (15, [16, 31, 127]),
        (16, [15, 32, 128]),
        (17, [17, 33, 129]),
        (41, [8, 70, 5]),
        (5, [33, 64, 20]),
    ] {
        let [_, n_in, n_out] = sizes;
        let adapters = Adapters::new(3, sizes);
        let (x, y) = (values(1, n_rows * n_in), values(2, n_rows * n_out));
        for adapter_of in assignments(n_rows) {
            let mut wanted = y.clone();
            adapters.on_cpu(&x, &mut wanted, &adapter_of);
            for version in VERSIONS {
                for seed in SEEDS {
                    let ours = adapters.on_device(&x, &y, &adapter_of, (version, seed));
                    let case = format!("{version} {n_rows} {sizes:?} {adapter_of:?} seed {seed}");
                    assert_bits(&ours, &wanted, &case);
                }
            }
        }
    }
}

#[test]
fn a_row_alone_is_the_row_next_to_any_adapter() {
    // Broken: a particle's utility depends on which particles share its batch.
    let (n_rows, sizes) = (37, [16, 50, 40]);
    let adapters = Adapters::new(3, sizes);
    let (x, y) = (values(1, n_rows * 50), values(2, n_rows * 40));
    let adapter_of = &assignments(n_rows)[2];
    for version in VERSIONS {
        let all = adapters.on_device(&x, &y, adapter_of, (version, 0));
        for row in [0, 17, 36] {
            let (x, y) = (&x[row * 50..][..50], &y[row * 40..][..40]);
            let alone = adapters.on_device(x, y, &adapter_of[row..=row], (version, 0));
            assert_bits(&alone, &all[row * 40..][..40], version);
        }
    }
}

#[test]
fn a_merged_adapter_is_the_cpus() {
    // Broken: merged adapters give other answers on a GPU than on a CPU.
    for (n_out, n_in, rank) in [(1, 1, 1), (7, 127, 3), (8, 128, 16), (9, 129, 5), (33, 40, 0)] {
        let (w, a, b) = (values(1, n_out * n_in), values(2, rank * n_in), values(3, n_out * rank));
        let read = |out: usize, row: &mut [f32]| row.copy_from_slice(&w[out * n_in..][..n_in]);
        let mut packed = Weights::pack(n_in, &[Part { n_out, read: Box::new(read) }], Dtype::F32);
        let panels = packed.part_mut(0);
        add_low_rank(Isa::detect(), panels, n_in, &a, &b, SCALE);
        let wanted: Vec<f32> = (0..n_out * n_in)
            .map(|i| panels[(i / n_in / 32 * n_in + i % n_in) * 32 + i / n_in % 32])
            .collect();
        for version in VERSIONS {
            let ldw = n_in + 2;
            let device = Device::new(&strided(&w, n_in, ldw));
            let (a, b) = (Device::new(&a), Device::new(&b));
            let rows_per_block = if version == "v1" { 1 } else { 8 };
            let what = Launch {
                name: &format!("low_rank_{version}"),
                grid: [n_in.div_ceil(128), n_out.div_ceil(rows_per_block), 1],
                block: 128,
                shared_bytes: 0,
                seed: 1,
            };
            let [outputs, inputs, ranks, ldw_] = [n_out, n_in, rank, ldw].map(|n| n as i32);
            let mut args: Vec<&dyn Argument> = vec![&device, &a, &b, &SCALE];
            if version == "v2" {
                args.push(&outputs);
            }
            args.extend([&inputs as &dyn Argument, &ranks, &ldw_]);
            must_launch(what, &args);
            let ours = unstrided(&device.read(), n_out, n_in, ldw);
            assert_bits(&ours, &wanted, &format!("{version} {n_out} {n_in} {rank}"));
        }
    }
}
