//! The rows of the table: what is run, what it must do at least, and what it is held against.

use std::fs;
use std::path::Path;
use std::time::Instant;

use model_swarms::model::decode::{Generated, Job, Report};
use model_swarms::model::{Adapted, Experts, Model};

use crate::common::testbed::Sizes;
use crate::common::{Size, Timed, history, median, results};
use crate::gpu::machine::Machine;
use crate::gpu::peaks::{Peak, Peaks};

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// The base's sizes.
    pub sizes: Sizes,
    /// The experts' rank.
    pub rank: usize,
    /// How many experts.
    pub n_experts: usize,
    /// Particles of an iteration.
    pub n_particles: usize,
    /// Prompts that each answers.
    pub n_prompts: usize,
    /// The least and the most tokens of one.
    pub lens: [usize; 2],
    /// New tokens of an answer.
    pub n_new: usize,
    /// Sequences of a step of decoding.
    pub n_sequences: usize,
    /// Steps that are measured.
    pub n_steps: usize,
    /// How often what is compared runs in turn.
    pub n_turns: usize,
    /// An iteration that would take longer is measured on fewer particles.
    pub most_seconds: f64,
}

/// A base, its experts and the prompts.
pub struct Swarm<'a> {
    /// The base.
    pub model: &'a Model,
    /// The experts, where the model makes adapters of them.
    pub experts: &'a Experts,
    /// What each particle answers.
    pub prompts: Vec<Vec<u32>>,
    /// How much is done.
    pub work: Work,
    /// Whether it is worth telling.
    pub size: Size,
}

impl Swarm<'_> {
    /// Into the history, and for a reader.
    fn keep(&self, row: &str, timed: &Timed, of: &str) {
        if self.size == Size::Full {
            history::append(&format!("swarm_gpu/{row}"), timed);
            println!("{row}: {:.4} s, {:.1} % {of}", timed.seconds, 100.0 * timed.share);
        }
    }

    /// Particles that a search has on the device at once.
    fn group(&self) -> usize {
        self.model.at_once(self.experts.pool().layout()).min(self.work.n_particles)
    }

    /// The first particle stands on the first expert, which peers can open; the others anywhere.
    fn location(&self, particle_idx: usize) -> Vec<f64> {
        let n = self.work.n_experts;
        if particle_idx == 0 {
            return (0..n).map(|i| f64::from(u8::from(i == 0))).collect();
        }
        let raw: Vec<f64> = (0..n).map(|i| ((particle_idx * 5 + 3 * i) % 7) as f64 - 1.0).collect();
        let sum: f64 = raw.iter().sum();
        raw.iter().map(|c| c / sum).collect()
    }

    /// Particles as the search puts them on the device.
    fn adapted(&self, particles: &[usize]) -> Adapted {
        let locations: Vec<Vec<f64>> = particles.iter().map(|i| self.location(*i)).collect();
        let locations: Vec<&[f64]> = locations.iter().map(Vec::as_slice).collect();
        self.model.adapt_at(self.experts, &locations).expect("adapters of the base")
    }

    /// Every prompt by each of some adapters, all or only the first of them.
    fn jobs(&self, n_adapters: usize, which: Which, n_new: usize) -> Vec<Job<'_>> {
        let of_adapter = |idx: usize| {
            let adapter_idx = if which == Which::Each { idx } else { 0 };
            let job = move |tokens| Job { adapter_idx, tokens, max_new_tokens: n_new };
            self.prompts.iter().map(Vec::as_slice).map(job)
        };
        (0..n_adapters).flat_map(of_adapter).collect()
    }

    /// No token ends an answer: so the work is known.
    fn generate(&self, set: &Adapted, jobs: &[Job], batch: Option<usize>) -> Vec<Generated> {
        self.model.generate(set, jobs, &[], batch, Report::Tokens).expect("answers")
    }

    /// Prompts up to their first new token, with and without adapters in turn; the seconds that a
    /// particle took.
    pub fn prefill<M: Machine>(&self, peaks: &mut Peaks<M>) -> f64 {
        let (n, Work { sizes, n_turns, .. }) = (self.group(), self.work);
        let particles: Vec<usize> = (0..n).collect();
        let adapted = self.adapted(&particles);
        let base = Adapted::base();
        let [with, without] = [(&adapted, Which::Each), (&base, Which::First)]
            .map(|(set, which)| (set, self.jobs(n, which, 1)));
        let seconds_of = |(set, jobs): &(&Adapted, Vec<Job>)| {
            seconds(|| {
                self.generate(set, jobs, None);
            })
        };
        seconds_of(&with); // memory is taken, clocks go up
        let (mut of_base, mut ours, mut peak) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..n_turns {
            of_base.push(seconds_of(&without));
            ours.push(seconds_of(&with));
            peak.push(peaks.measure(Peak::Matrix));
        }
        let [of_base, ours, peak] = [of_base, ours, peak].map(|seen| median(seen.into_iter()));
        let lens = self.prompts.iter().map(Vec::len);
        let n_tokens = n * lens.clone().sum::<usize>();
        let flop = n as f64 * lens.map(|len| sizes.flop(len, 1)).sum::<f64>();
        results::text("prefill_part", &format!("{n} of {} particles", self.work.n_particles));
        results::number("prefill_tokens_per_second", n_tokens as f64 / ours);
        results::number("prefill_flop_per_second", flop / ours);
        results::number("prefill_peak_flop_per_second", peak);
        results::number("prefill_seconds_with_adapters", ours);
        results::number("prefill_seconds_of_base", of_base);
        let share = flop / ours / peak;
        self.keep("prefill", &Timed { seconds: ours, share }, "of the matrix peak");
        self.keep(
            "base over adapters",
            &Timed { seconds: of_base, share: of_base / ours },
            "of the time",
        );
        ours / n as f64
    }

    /// The next token of many sequences: what a step takes after their prompts.
    pub fn decode<M: Machine>(&self, peaks: &mut Peaks<M>) {
        let (n, Work { sizes, n_sequences, n_steps, n_turns, .. }) = (self.group(), self.work);
        let particles: Vec<usize> = (0..n).collect();
        let adapted = self.adapted(&particles);
        let base = Adapted::base();
        // The first new token is the prompt's; then come the steps.
        let jobs = |which, n_new: usize| -> Vec<Job> {
            let mut jobs = self.jobs(n_sequences.div_ceil(self.prompts.len()), Which::First, n_new);
            jobs.truncate(n_sequences);
            for (i, job) in jobs.iter_mut().enumerate() {
                job.adapter_idx = if which == Which::Each { i * n / n_sequences } else { 0 };
                job.tokens = &job.tokens[..self.work.lens[0]];
            }
            jobs
        };
        let step = |set: &Adapted, which| {
            let run = |n_new| {
                seconds(|| {
                    self.generate(set, &jobs(which, n_new), Some(n_sequences));
                })
            };
            let prompts = run(1);
            (run(1 + n_steps) - prompts) / n_steps as f64
        };
        let of_base = step(&base, Which::First);
        let (mut ours, mut copy, mut peak) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..n_turns {
            ours.push(step(&adapted, Which::Each));
            copy.push(peaks.measure(Peak::Copy));
            peak.push(peaks.measure(Peak::Matrix));
        }
        let [ours, copy, peak] = [ours, copy, peak].map(|seen| median(seen.into_iter()));
        // In bf16: every linear and the output matrix, and all keys and values seen, on average.
        let n_linear: usize = sizes.linears().iter().map(|(_, n_out, n_in)| n_out * n_in).sum();
        let n_weights = n_linear * sizes.n_layers + sizes.vocab * sizes.dim;
        let n_seen = self.work.lens[0] as f64 + (n_steps + 1) as f64 / 2.0;
        let of_position = 2 * sizes.n_kv_heads * sizes.head_dim * sizes.n_layers;
        let bytes = 2.0 * (n_weights as f64 + n_sequences as f64 * n_seen * of_position as f64);
        let floor = bytes / copy;
        let flop = sizes.flop(self.work.lens[0], 1 + n_steps) - sizes.flop(self.work.lens[0], 1);
        let computing = n_sequences as f64 * flop / n_steps as f64 / peak;
        results::text("decode_part", &format!("{n_steps} steps of {n_sequences} sequences"));
        results::number("decode_seconds", ours);
        results::number("decode_seconds_of_base", of_base);
        results::number("decode_floor_seconds", floor);
        results::number("decode_operations_alone_seconds", computing);
        let share = floor / ours;
        self.keep("decode", &Timed { seconds: ours, share }, "of its bytes at copy bandwidth");
    }

    /// From locations to answers, as many particles as there is time for.
    pub fn iteration<M: Machine>(&self, peaks: &mut Peaks<M>, prefill_seconds: f64, folder: &Path) {
        let Work { sizes, n_particles, n_prompts, n_new, most_seconds, .. } = self.work;
        let group = self.group();
        let n =
            ((most_seconds / prefill_seconds) as usize).clamp(group.min(n_particles), n_particles);
        let particles: Vec<usize> = (0..n).collect();
        self.adapted(&particles[..group.min(n)]); // a search has their memory from the first on
        let answer = |particles: &[usize], batch: Option<usize>| -> Vec<Generated> {
            let mut answers = Vec::new();
            for group in particles.chunks(group) {
                let adapted = self.adapted(group);
                let jobs = self.jobs(group.len(), Which::Each, n_new);
                answers.extend(self.generate(&adapted, &jobs, batch));
            }
            answers
        };
        let mut answers = Vec::new();
        let seconds = seconds(|| answers = answer(&particles, None));
        let first: Vec<&Vec<u32>> = answers[..n_prompts].iter().map(|a| &a.tokens).collect();
        let text = serde_json::to_string(&first).expect("plain data");
        fs::write(folder.join("answers.json"), text).expect("room for the bench");

        let n_tokens: usize =
            n * self.prompts.iter().map(|prompt| prompt.len() + n_new).sum::<usize>();
        results::text("iteration_part", &format!("{n} of {n_particles} particles"));
        results::number("iteration_seconds_of_part", seconds);
        results::number("iteration_tokens_per_second", n_tokens as f64 / seconds);
        results::number("iteration_seconds_per_particle", seconds / n as f64);
        let n_prompt: usize = self.prompts.iter().map(Vec::len).sum();
        let flop: f64 = self.prompts.iter().map(|prompt| sizes.flop(prompt.len(), n_new)).sum();
        let share = n as f64 * flop / seconds / peaks.measure(Peak::Matrix);
        let row = format!("iteration, {n} particles, {n_prompt} prompt tokens each");
        self.keep(&row, &Timed { seconds, share }, "of the matrix peak");

        // A particle that is measured alone, in other batches, answers as it does among the others.
        let last = n - 1;
        let alone = answer(&[last], Some(64));
        assert_eq!(answers[last * n_prompts..], alone[..], "particle {last} alone");
    }
}

/// Whose prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Each adapter's.
    Each,
    /// As many, all by the first: the base is a set of one.
    First,
}

/// The answers are on the host when a call returns, so the device is done.
fn seconds(run: impl FnOnce()) -> f64 {
    let started = Instant::now();
    run();
    started.elapsed().as_secs_f64()
}
