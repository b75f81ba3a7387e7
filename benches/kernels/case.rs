//! A kernel, or some that follow one another, at one shape: what is launched, what it must move and
//! compute at least, and how its answer is known to be right.

use model_swarms::backend::cuda::driver::{Arg, Launch};

use crate::common::table::Table;
use crate::common::testbed::Sizes;
use crate::common::{Bench, Timed, Work, results};
use crate::gpu::array::Array;
use crate::gpu::machine::Machine;
use crate::gpu::peaks::{Peak, Peaks};

/// The shapes of all cases: those of one layer of a decoder, and of a pool.
#[derive(Debug, Clone, Copy)]
pub struct Shapes {
    /// The decoder.
    pub sizes: Sizes,
    /// Rows of prompts that run through it together.
    pub n_rows: usize,
    /// Tokens of a prompt.
    pub n_prompt: usize,
    /// Sequences of a step of decoding.
    pub n_steps: usize,
    /// Adapters whose rows share a batch.
    pub n_adapters: usize,
    /// Their rank.
    pub rank: usize,
    /// Experts of the pool.
    pub n_experts: usize,
    /// Particles of the swarm.
    pub n_particles: usize,
    /// Numbers of an adapter, for the swarm's arithmetic.
    pub adapter_len: usize,
}

/// One launch.
pub struct Step {
    kernel: String,
    grid: [usize; 3],
    block: usize,
    shared_bytes: usize,
    args: Vec<Arg>,
}

/// A launch without shared memory whose size it chooses.
pub fn step(kernel: &str, grid: [usize; 3], block: usize, args: Vec<Arg>) -> Step {
    Step { kernel: kernel.into(), grid, block, shared_bytes: 0, args }
}

impl Step {
    /// With so much.
    pub fn sharing(self, shared_bytes: usize) -> Self {
        Self { shared_bytes, ..self }
    }
}

/// What is launched and measured as one.
pub struct Case<'a> {
    steps: Vec<Step>,
    bytes: f64,
    flop: Option<(Peak, f64)>,
    check: Box<dyn FnMut() + 'a>,
}

impl<'a> Case<'a> {
    /// These launches, which have to read and write so many bytes; after them `check` must pass. It
    /// owns the memory.
    pub fn new(steps: Vec<Step>, bytes: usize, check: impl FnMut() + 'a) -> Self {
        Self { steps, bytes: bytes as f64, flop: None, check: Box::new(check) }
    }

    /// And so many operations, each multiply-add two, on the units of this peak.
    pub fn computing(self, peak: Peak, flop: usize) -> Self {
        Self { flop: Some((peak, flop as f64)), ..self }
    }

    fn launch<M: Machine>(&self, machine: &M) {
        for Step { kernel, grid, block, shared_bytes, args } in &self.steps {
            let (grid, block, shared_bytes) = (*grid, *block, *shared_bytes);
            let what = Launch { kernel, grid, block, shared_bytes };
            machine.launch(what, args).expect("a launch");
        }
    }

    /// The seconds that it takes at least, and which of the peaks says so.
    fn floor<M: Machine>(&self, peaks: &mut Peaks<M>) -> (f64, Peak) {
        let moving = self.bytes / peaks.measure(Peak::Copy);
        let Some((peak, flop)) = self.flop else { return (moving, Peak::Copy) };
        let computing = flop / peaks.measure(peak);
        if computing > moving { (computing, peak) } else { (moving, Peak::Copy) }
    }
}

/// Where the answers are read.
pub fn some_of(n: usize) -> impl Iterator<Item = usize> {
    const N: usize = 24;
    // Both ends, then anywhere.
    (0..N.min(n)).map(move |sample| match sample {
        0 => 0,
        1 => n - 1,
        _ => sample * 7_368_787 % n,
    })
}

/// A case's name, and what makes it.
pub type Named<'a> = (String, Box<dyn Fn() -> Case<'a> + 'a>);

/// How far a result may lie from the same in f64: `abs + rel * |wanted|`.
#[derive(Debug, Clone, Copy)]
pub struct Within {
    /// For sums: of their terms' magnitudes.
    pub abs: f64,
    /// Of the result.
    pub rel: f64,
}

/// A result in bf16 is rounded once.
pub const BF16: f64 = 1.0 / 256.0;
/// One in f32, after a chain of a few roundings.
pub const F32: f64 = 1e-5;

/// Holds number `i` to what it must be.
pub fn hold<M: Machine>(what: &str, out: &Array<M>, i: usize, wanted: f64, within: Within) {
    let ours = f64::from(out.read(i));
    let most = within.abs + within.rel * wanted.abs();
    // A NaN is not within anything.
    assert!((ours - wanted).abs() <= most, "{what}, number {i}: {ours}, wanted {wanted} +- {most}");
}

/// Makes, checks and times a case, if it is asked for.
pub fn run<'a, M: Machine>(
    bench: &mut Bench,
    peaks: &mut Peaks<M>,
    machine: &'a M,
    table: &mut Table,
    name: &str,
    make: &dyn Fn() -> Case<'a>,
) -> Option<Timed> {
    const GROUP: &str = "kernels";
    if !bench.wants(GROUP, name) {
        return None;
    }
    let mut case = make();
    case.launch(machine);
    machine.wait();
    (case.check)();
    let mut bound = Peak::Copy;
    let work = match case.flop {
        Some((_, flop)) => Work::Flop(flop),
        None => Work::Bytes(case.bytes),
    };
    let floor = || {
        let (seconds, peak) = case.floor(peaks);
        bound = peak;
        seconds
    };
    let timed = bench.time_beside(GROUP, name, work, floor, |n| {
        (0..n).for_each(|_| case.launch(machine));
        machine.wait();
    })?;
    results::kernel(name, &timed, bound.name());
    table.set(name, "us", Some(format!("{:.1}", 1e6 * timed.seconds)));
    table.set(name, "of the floor", Some(format!("{:.0} %", 100.0 * timed.share)));
    table.set(name, "bound by", Some(bound.name().into()));
    Some(timed)
}
