//! What the benches share: timing a case beside its peak, and the table at the end.
//!
//! A machine's speed changes while one looks: its clock, its other guests. So a case and its peak
//! are measured in turns, peak, case, peak, and the share reported is the median of these pairs.
#![allow(dead_code)] // each bench uses its own part

pub mod history;
pub mod peaks;
pub mod results;
pub mod table;
pub mod testbed;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use model_swarms::backend::cpu::gemm::Workers;

use peaks::Peaks;

/// Samples of a case.
const N_SAMPLES: usize = 10;
/// A sample takes this long at least.
const SAMPLE_SECONDS: f64 = 0.02;

/// The sizes of a bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Each case once, at sizes that take no time: a test.
    Small,
    /// The sizes that are reported.
    Full,
}

/// What one run of a case does, whatever way it takes.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// Floating-point operations; a multiply-add is two.
    Flop(f64),
    /// Bytes that have to be read or written.
    Bytes(f64),
}

impl Work {
    /// In operations or bytes.
    pub fn amount(self) -> f64 {
        match self {
            Self::Flop(amount) | Self::Bytes(amount) => amount,
        }
    }
}

/// Medians over a case's samples.
#[derive(Debug, Clone, Copy)]
pub struct Timed {
    /// Time of one run.
    pub seconds: f64,
    /// Its rate as a share of the peak.
    pub share: f64,
}

/// Runs cases: under criterion, or once each.
pub struct Bench {
    criterion: Option<Criterion>,
    peaks: Peaks,
}

impl Bench {
    /// As cargo's arguments have it: `cargo bench` measures, anything else is a test.
    pub fn from_arguments() -> Self {
        let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
        if !has("--bench") || has("--test") {
            return Self::once();
        }
        let criterion = Criterion::default()
            .without_plots()
            .sample_size(N_SAMPLES)
            .nresamples(1001)
            .warm_up_time(Duration::from_millis(1))
            .measurement_time(Duration::from_millis(1))
            .configure_from_args();
        Self { criterion: Some(criterion), peaks: Peaks::default() }
    }

    /// Every case once.
    pub fn once() -> Self {
        Self { criterion: None, peaks: Peaks::default() }
    }

    /// Which sizes are wanted.
    pub fn size(&self) -> Size {
        if self.criterion.is_some() { Size::Full } else { Size::Small }
    }

    /// Whether a case is asked for, so that what it needs is worth making.
    pub fn wants(&self, group: &str, name: &str) -> bool {
        let full_name = format!("{group}/{name}");
        let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
        self.criterion.is_none() || filter.is_none_or(|filter| full_name.contains(&filter))
    }

    /// Times `run`. Nothing where it ran as a test, or was filtered out.
    pub fn time(
        &mut self,
        group: &str,
        name: &str,
        work: Work,
        workers: Workers,
        mut run: impl FnMut(),
    ) -> Option<Timed> {
        let mut peaks = std::mem::take(&mut self.peaks);
        let floor = || work.amount() / peaks.measure(work, workers).rate();
        let timed = self.time_beside(group, name, work, floor, |n| (0..n).for_each(|_| run()));
        self.peaks = peaks;
        timed
    }

    /// Times `run`, which runs so many times and waits for the last, beside `floor`: the seconds
    /// that one run would take at the peaks, as they are when it is asked. Nothing where it ran as
    /// a test, or was filtered out.
    pub fn time_beside(
        &mut self,
        group: &str,
        name: &str,
        work: Work,
        mut floor: impl FnMut() -> f64,
        mut run: impl FnMut(u64),
    ) -> Option<Timed> {
        let Some(criterion) = &mut self.criterion else {
            run(1);
            return None;
        };
        let mut n_at_least = None;
        let samples = RefCell::new(Vec::new()); // seconds of one run, share of the peak
        let case = format!("{group}/{name}");
        let mut group = criterion.benchmark_group(group);
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(match work {
            Work::Flop(flop) => Throughput::Elements(flop as u64),
            Work::Bytes(bytes) => Throughput::BytesDecimal(bytes as u64),
        });
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            let n_at_least = *n_at_least.get_or_insert_with(|| runs_of_a_sample(&mut run));
            bencher.iter_custom(|n_wanted| {
                let n_runs = n_wanted.max(n_at_least);
                let before = floor();
                let started = Instant::now();
                run(n_runs);
                let seconds = started.elapsed().as_secs_f64() / n_runs as f64;
                samples.borrow_mut().push((seconds, 0.5 * (before + floor()) / seconds));
                Duration::from_secs_f64(seconds * n_wanted as f64)
            });
        });
        group.finish();
        // Those before the last ones warmed the machine up.
        let samples = samples.into_inner();
        let samples = &samples[samples.len().saturating_sub(N_SAMPLES)..];
        let timed = (!samples.is_empty()).then(|| Timed {
            seconds: median(samples.iter().map(|sample| sample.0)),
            share: median(samples.iter().map(|sample| sample.1)),
        });
        timed.inspect(|timed| history::append(&case, timed))
    }

    /// Criterion's last words, and the peaks that were met on the way.
    pub fn finish(&mut self) {
        if let Some(criterion) = &mut self.criterion {
            criterion.final_summary();
            print!("{}", self.peaks);
        }
    }
}

/// Runs that take `SAMPLE_SECONDS`: so many that the peak's measurement, which empties the caches,
/// is forgotten.
fn runs_of_a_sample(run: &mut impl FnMut(u64)) -> u64 {
    run(1);
    let started = Instant::now();
    run(1);
    let seconds = started.elapsed().as_secs_f64();
    (SAMPLE_SECONDS / seconds.max(1e-9)).ceil() as u64
}

/// The middle one of some numbers.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
