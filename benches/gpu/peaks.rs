//! What a device can do at most, measured when asked: copies of memory, multiply-adds on registers,
//! products on tensor cores (`kernels/probes/peaks.cu`). Each probe's answer is checked first.
//!
//! Copy: from one buffer to another, both larger than any second-level cache; bytes read and
//! written both count. Matrix: random bf16, since zeros would cost less power and run faster; by
//! wgmma where the chip has it, else by mma.sync.

use std::fmt;
use std::time::Instant;

use half::bf16;
use model_swarms::backend::cuda::driver::{Arg, Launch};
use model_swarms::tensors::Dtype;

use super::array::Array;
use super::machine::Machine;
use crate::common::{Size, median, results};

/// What a case may be bound by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peak {
    /// Bytes a second.
    Copy,
    /// Operations a second on tensor cores, bf16.
    Matrix,
    /// Operations a second on f32 cores.
    Fma,
}

impl Peak {
    /// As results name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Matrix => "matrix",
            Self::Fma => "fma",
        }
    }
}

/// The instructions of a product.
#[derive(Debug, Clone, Copy)]
enum By {
    Mma,
    Wgmma,
}

/// Numbers of each buffer of the copy: 2 GiB.
const COPY_LEN: usize = 1 << 29;
/// Copies of one measurement: 5 ms on an H200.
const N_COPIES: usize = 5;
/// Rounds of the matrix probe: 1024 cycles each on sm_90a, so 3 ms.
const MATRIX_ROUNDS: usize = 5000;
/// Rounds of the FMA probe: 128 cycles each where eight blocks share a multiprocessor.
const FMA_ROUNDS: usize = 40_000;

/// Shared memory of `peak_wgmma`.
const WGMMA_BYTES: usize = 49_160 + 1024;
/// Chains of a thread of `peak_fma`.
const CHAINS: usize = 8;

/// A device's peaks.
pub struct Peaks<'a, M: Machine> {
    machine: &'a M,
    size: Size,
    from: Array<'a, M>,
    to: Array<'a, M>,
    a: Array<'a, M>, // (128, 64)
    b: Array<'a, M>, // (256, 64)
    sums: Array<'a, M>,
    seen: Vec<(Peak, f64)>,
}

impl<'a, M: Machine> Peaks<'a, M> {
    /// Checks the probes.
    pub fn new(machine: &'a M, size: Size) -> Self {
        let n = if size == Size::Full { COPY_LEN } else { 5000 };
        let draw = |len, stream, dtype| Array::drawn(machine, dtype, len, stream, 1.0);
        let peaks = Self {
            machine,
            size,
            from: draw(n, 1, Dtype::F32),
            to: Array::unset(machine, Dtype::F32, n),
            a: draw(128 * 64, 2, Dtype::BF16),
            b: draw(256 * 64, 3, Dtype::BF16),
            sums: Array::unset(machine, Dtype::F32, 256 * 8 * machine.n_processors()),
            seen: Vec::new(),
        };
        peaks.check_copy();
        peaks.check_fma();
        peaks.check_matrix();
        peaks
    }

    /// Measures a peak, in bytes or operations a second.
    pub fn measure(&mut self, peak: Peak) -> f64 {
        let is_full = self.size == Size::Full;
        let (n_rounds, n_times) = match peak {
            Peak::Copy => (1, N_COPIES),
            Peak::Matrix => (MATRIX_ROUNDS, 1),
            Peak::Fma => (FMA_ROUNDS, 1),
        };
        let (n_rounds, n_times) = if is_full { (n_rounds, n_times) } else { (1, 1) };
        self.run(peak, 1); // what was asked for before, and a clock that has gone up
        self.machine.wait();
        let started = Instant::now();
        let amount: f64 = (0..n_times).map(|_| self.run(peak, n_rounds)).sum();
        self.machine.wait();
        let rate = amount / started.elapsed().as_secs_f64();
        self.seen.push((peak, rate));
        rate
    }

    /// The median of what was measured.
    pub fn median(&self, peak: Peak) -> Option<f64> {
        let rates: Vec<f64> =
            self.seen.iter().filter(|seen| seen.0 == peak).map(|seen| seen.1).collect();
        (!rates.is_empty()).then(|| median(rates.into_iter()))
    }

    /// Measures all peaks and adds them to the results, before anything else can fail.
    pub fn keep(&mut self) {
        const N: usize = 5;
        for peak in [Peak::Copy, Peak::Matrix, Peak::Fma] {
            let rates: Vec<f64> = (0..N).map(|_| self.measure(peak)).collect();
            results::number(&format!("peaks.{}", peak.name()), median(rates.into_iter()));
        }
        let how = if self.machine.is_hopper() { "wgmma" } else { "mma.sync" };
        results::text("peaks.matrix_by", how);
    }

    /// Starts a probe; how many bytes or operations it has.
    fn run(&self, peak: Peak, n_rounds: usize) -> f64 {
        let n = self.machine.n_processors();
        let rounds = Arg::int(n_rounds);
        match peak {
            Peak::Copy => {
                self.to.copy(&self.from);
                (8 * self.from.len()) as f64
            }
            Peak::Fma => {
                let args = [self.sums.arg(), Arg::float(0.999_999), Arg::float(1e-7), rounds];
                self.launch("peak_fma", 8 * n, 0, &args);
                (8 * n * 256 * CHAINS * n_rounds * 2) as f64
            }
            Peak::Matrix if self.machine.is_hopper() => self.multiply(By::Wgmma, n_rounds),
            Peak::Matrix => self.multiply(By::Mma, n_rounds),
        }
    }

    fn multiply(&self, by: By, n_rounds: usize) -> f64 {
        let (n, rounds) = (self.machine.n_processors(), Arg::int(n_rounds));
        match by {
            By::Wgmma => {
                let (a, b) = (self.a.map(128, 64, 128), self.b.map(256, 64, 256));
                let args = [a, b, self.sums.arg(), rounds];
                self.launch("peak_wgmma", n, WGMMA_BYTES, &args);
                (n * 128 * 256 * 64 * n_rounds * 2) as f64
            }
            By::Mma => {
                self.launch("peak_mma", n, 0, &[self.a.arg(), self.sums.arg(), rounds]);
                (n * 8 * 64 * 64 * 16 * n_rounds * 2) as f64
            }
        }
    }

    fn launch(&self, kernel: &str, n_blocks: usize, shared_bytes: usize, args: &[Arg]) {
        let what = Launch { kernel, grid: [n_blocks, 1, 1], block: 256, shared_bytes };
        self.machine.launch(what, args).expect("a launch");
    }

    /// Broken copies would make everything that is bound by memory look slow or fast.
    fn check_copy(&self) {
        self.to.copy(&self.from);
        for i in [0, self.to.len() / 2, self.to.len() - 1] {
            assert_eq!(self.to.read(i), self.from.drawn_at(i), "copied number {i}");
        }
    }

    fn check_fma(&self) {
        const N_ROUNDS: usize = 21;
        self.run(Peak::Fma, N_ROUNDS);
        for thread in [0, 31, 255, self.sums.len() - 1] {
            let chain = |i: usize| {
                let step = |x: f32, _| x.mul_add(0.999_999, 1e-7);
                (0..N_ROUNDS).fold((thread % 256 + i) as f32, step)
            };
            let wanted = (1..CHAINS).fold(chain(0), |sum, i| sum + chain(i));
            assert_eq!(self.sums.read(thread), wanted, "peak_fma, thread {thread}");
        }
    }

    /// Whole numbers, whose sums are exact in any order: a warp, or a warpgroup, together has the
    /// sum of its whole product, once for each round.
    fn check_matrix(&self) {
        const N_ROUNDS: usize = 3;
        let whole = |array: &Array<M>, n_rows: usize, n_cols: usize| -> Vec<f64> {
            let numbers = (0..n_rows * n_cols).map(|i| (4.0 * array.drawn_at(i)).round());
            let numbers: Vec<f32> = numbers.collect();
            let bytes: Vec<u8> =
                numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect();
            array.write(&bytes);
            numbers.into_iter().map(f64::from).collect()
        };
        let (a, b) = (whole(&self.a, 128, 64), whole(&self.b, 256, 64));
        // Rows of the first times rows of the second, `n_cols` long, all sums together.
        let product = |left: &[f64], right: &[f64], n_cols: usize| -> f64 {
            let column =
                |rows: &[f64], k: usize| -> f64 { rows.chunks(n_cols).map(|row| row[k]).sum() };
            (0..n_cols).map(|k| column(left, k) * column(right, k)).sum()
        };
        let read = |first: usize, n: usize| -> f64 {
            let last = 256 * (self.machine.n_processors() - 1); // the last block's
            self.sums.read_some(last + first, n).into_iter().map(f64::from).sum()
        };
        self.multiply(By::Mma, N_ROUNDS);
        let wanted = N_ROUNDS as f64 * product(&a[..64 * 16], &a[64 * 16..128 * 16], 16);
        for warp in 0..8 {
            assert_eq!(read(32 * warp, 32), wanted, "peak_mma, warp {warp}");
        }
        if self.machine.is_hopper() {
            self.multiply(By::Wgmma, N_ROUNDS);
            for (group, rows) in a.chunks(64 * 64).enumerate() {
                let wanted = N_ROUNDS as f64 * product(rows, &b, 64);
                assert_eq!(read(128 * group, 128), wanted, "peak_wgmma, warpgroup {group}");
            }
        }
        self.a.draw();
        self.b.draw();
    }
}

/// What was met on the way.
impl<M: Machine> fmt::Display for Peaks<'_, M> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (peak, unit) in
            [(Peak::Copy, "GB/s"), (Peak::Matrix, "GFLOP/s"), (Peak::Fma, "GFLOP/s")]
        {
            if let Some(rate) = self.median(peak) {
                writeln!(out, "peak: {:.1} {unit} ({})", rate / 1e9, peak.name())?;
            }
        }
        Ok(())
    }
}
