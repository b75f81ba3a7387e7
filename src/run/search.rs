//! A search from inputs to a finished run directory: `run.toml`, `journal.jsonl`, `best/`,
//! `predictions-*.jsonl`, `results.json`, `table.txt`.
//!
//! Everything is opened and checked before anything is written. The journal is the truth: killed
//! anywhere, a resumed run goes on to the same bytes.

use std::path::{Path, PathBuf};

use super::candidates::Candidates;
use super::evaluate::{Base, Evaluator, Options};
use super::fingerprint::{RunFile, hashes, prepare_directory};
use super::progress::{Progress, Source};
use super::table::{Results, Row};
use crate::adapter::{Adapter, Pool, save};
use crate::backend::cpu::buffer::Buffer;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::mode::Mode;
use crate::model::Experts;
use crate::model::locate::locate;
use crate::model::lora::Places;
use crate::model::memory::Held;
use crate::swarm::settings::{Settings, State};
use crate::swarm::{
    Coefficients, Header, IterationRecord, Journal, Outcome, Search, Space, Start, Weights,
};
use crate::task::{Kind, Score, Split, Task};

/// What the user asked for.
pub struct Request {
    /// The base model: a directory or an id in the local cache.
    pub base: String,
    /// The folder of experts.
    pub experts: PathBuf,
    /// The task file.
    pub task: PathBuf,
    /// The run directory.
    pub out: PathBuf,
    /// The seed of all draws.
    pub seed: u64,
    /// Whose procedure.
    pub mode: Mode,
    /// All choices of the search.
    pub settings: Settings,
    /// Whether a run that is there goes on.
    pub start: Start,
    /// How the base is opened.
    pub options: Options,
}

/// Everything that a search reads, opened and checked.
pub struct Inputs {
    experts: Experts,
    evaluator: Evaluator,
}

impl Inputs {
    /// Opens the inputs and checks that they fit each other.
    pub fn open(request: &Request) -> Result<Self> {
        let pool = Pool::open(&request.experts)?;
        let settings = &request.settings;
        settings.check(pool.experts.len())?;
        let task = Task::open(&request.task, request.mode)?;
        let n_particles = settings.n_particles(pool.experts.len());
        let held = match settings.state {
            State::Coefficients => Held::made_of(&pool, n_particles),
            State::Weights => Held::of(pool.layout(), n_particles),
        };
        let base = Base::open(&locate(&request.base)?, request.options, held)?;
        let places = Places::find(pool.layout(), &base.model.config, &request.experts)?;
        let experts = base.model.experts(pool, places)?;
        let evaluator = Evaluator::new(base, task, request.options.batch);
        evaluator.check(Split::Dev)?;
        if evaluator.task.n_examples(Split::Test) > 0 {
            evaluator.check(Split::Test)?;
        }
        Ok(Self { experts, evaluator })
    }

    fn pool(&self) -> &Pool {
        self.experts.pool()
    }

    /// The utilities of adapters in memory, or at locations, on the validation split.
    fn utilities(&self, candidates: &Candidates) -> Result<Vec<f64>> {
        let scores = self.evaluator.scores(candidates, Split::Dev)?;
        Ok(scores.into_iter().map(|score| score.utility).collect())
    }

    fn candidates<'a>(&'a self, adapters: &'a [Adapter]) -> Candidates<'a> {
        let (pool, places) = (self.pool(), self.experts.places());
        let config = pool.experts[0].config();
        Candidates::Adapters { adapters, places, config, dtype: pool.dtype() }
    }

    /// Particles that are under evaluation at once.
    fn group(&self) -> usize {
        self.evaluator.base.model.at_once(self.pool().layout())
    }
}

/// Runs or resumes the search and writes its results.
pub fn search(request: &Request) -> Result<Results> {
    let inputs = Inputs::open(request)?;
    let base = &inputs.evaluator.base;
    let weight_files = base.model.paths();
    let task_files = &inputs.evaluator.task.inputs;
    let run_file = RunFile {
        version: env!("CARGO_PKG_VERSION"),
        seed: request.seed,
        mode: request.mode,
        precision: request.options.device.precision(),
        base: request.base.clone(),
        experts: request.experts.display().to_string(),
        task: request.task.display().to_string(),
        settings: request.settings.clone(),
        sha256: hashes(base.dir(), &weight_files, inputs.pool(), task_files)?,
    };
    let names: Vec<String> = inputs.pool().names().into_iter().map(String::from).collect();
    let fingerprint = serde_json::json!({
        "version": run_file.version, "precision": run_file.precision, "sha256": run_file.sha256,
    });
    let header =
        Header::new(request.seed, request.mode, request.settings.clone(), names, fingerprint);
    prepare_directory(&request.out)?;
    let journal = Journal::open(&request.out.join("journal.jsonl"), &header, request.start)?;
    run_file.write(&request.out.join("run.toml"))?;

    let n_experts = inputs.pool().experts.len();
    let n_particles = request.settings.n_particles(n_experts);
    match request.settings.state {
        State::Coefficients => {
            let space = Coefficients::new(n_experts, n_particles);
            let f = |space: &Coefficients, particles: &[usize]| {
                let rows: Vec<&[f64]> = particles.iter().map(|i| space.location(*i)).collect();
                let experts = &inputs.experts;
                inputs.utilities(&Candidates::Locations { experts, rows: &rows })
            };
            let best =
                |space: &Coefficients, i: usize| inputs.experts.adapter(space.personal_best(i));
            run(request, &inputs, journal, space, f, best)
        }
        State::Weights => {
            let layout = inputs.pool().layout();
            let scratch = request.out.join("state");
            let load = |expert_idx: usize, out: &mut [f32]| {
                inputs.pool().experts[expert_idx].read(0, out);
                Ok(())
            };
            let adapter = |values: &[f32]| Adapter::new(layout.clone(), Buffer::from(values));
            let f = |space: &Weights, particles: &[usize]| {
                let locations = particles.iter().map(|i| adapter(space.location(*i)));
                inputs.utilities(&inputs.candidates(&locations.collect::<Vec<_>>()))
            };
            let best = |space: &Weights, i: usize| adapter(space.personal_best(i));
            let searched = Weights::create(&scratch, n_experts, n_particles, layout.len, load)
                .and_then(|space| run(request, &inputs, journal, space, f, best));
            let removed = std::fs::remove_dir_all(&scratch);
            let results = searched?;
            removed.map_err(Error::io(&scratch, "remove"))?;
            Ok(results)
        }
    }
}

/// The search in one of the two spaces: `f` measures particles, as many as may be under evaluation
/// at once, and `best` makes an adapter of a personal best.
fn run<S: Space>(
    request: &Request,
    inputs: &Inputs,
    mut journal: Journal,
    space: S,
    f: impl Fn(&S, &[usize]) -> Result<Vec<f64>>,
    best: impl Fn(&S, usize) -> Adapter,
) -> Result<Results> {
    let mut search = Search::new(&request.settings, request.seed, space)?;
    let mut progress = Progress::new(request.settings.max_iterations);
    let mut first: Option<IterationRecord> = None;
    loop {
        let mut source = Source::Replayed;
        let record = journal.advance(&mut search, |space, particles| {
            source = Source::Measured;
            let mut utilities = Vec::with_capacity(particles.len());
            for group in particles.chunks(inputs.group()) {
                utilities.extend(f(space, group)?);
            }
            Ok(utilities)
        })?;
        let Some(record) = record else { break };
        progress.iteration(&record, source);
        first.get_or_insert(record);
    }
    progress.finish();
    let outcome = search.outcome();
    let adapter = best(search.space(), outcome.best.source.particle);
    let experts = first.expect("iteration 0 always runs");
    finish(request, inputs, &outcome, &adapter, &experts.f[..inputs.pool().experts.len()])
}

/// Measures the result on the test split and writes everything beside the journal.
fn finish(
    request: &Request,
    inputs: &Inputs,
    outcome: &Outcome,
    best: &Adapter,
    expert_utilities: &[f64],
) -> Result<Results> {
    let evaluator = &inputs.evaluator;
    let n_test = evaluator.task.n_examples(Split::Test);
    let splits = if n_test > 0 { vec![Split::Dev, Split::Test] } else { vec![Split::Dev] };
    let best_single = first_highest(expert_utilities);
    let single = inputs.pool().experts[best_single].to_adapter();
    let single_name = format!("best single expert: {}", inputs.pool().experts[best_single].name);
    let mut rows = Vec::new();
    let command = evaluator.task.parts.iter().any(|part| part.kind == Kind::Command);
    if !command {
        rows.push(row("base model alone", &score(evaluator, &Candidates::Base, &splits)?));
    }
    let single = score(evaluator, &inputs.candidates(std::slice::from_ref(&single)), &splits)?;
    rows.push(row(&single_name, &single));
    let found = score(evaluator, &inputs.candidates(std::slice::from_ref(best)), &splits)?;
    rows.push(row("Model Swarms", &found));

    let results = Results {
        task: evaluator.task.name.clone(),
        n_dev: evaluator.task.n_examples(Split::Dev),
        n_test,
        rows,
        experts: inputs.pool().names().into_iter().map(String::from).collect(),
        expert_utilities: expert_utilities.to_vec(),
        coefficients: outcome.best.coefficients.clone(),
        found_by: (outcome.best.source.particle, outcome.best.source.iteration),
        particles: outcome.personal_bests.len(),
        iterations: outcome.n_iterations,
        evaluations: outcome.n_evaluations,
        stop: outcome.stop,
        seed: request.seed,
        mode: request.mode.name().into(),
    };
    let out = &request.out;
    for (split, score) in splits.iter().zip(&found) {
        write_predictions(&out.join(format!("predictions-{}.jsonl", split.name())), score)?;
    }
    let config = inputs.pool().experts[0].config();
    save(&out.join("best"), best, config, inputs.pool().dtype(), &model_card(&results))?;
    let json = serde_json::to_string_pretty(&results).expect("plain data");
    write_atomic(&out.join("results.json"), |file| writeln!(file, "{json}"))?;
    write_atomic(&out.join("table.txt"), |file| file.write_all(results.to_text().as_bytes()))?;
    Ok(results)
}

fn score(evaluator: &Evaluator, who: &Candidates, splits: &[Split]) -> Result<Vec<Score>> {
    splits.iter().map(|split| Ok(evaluator.scores(who, *split)?.remove(0))).collect()
}

fn row(name: &str, scores: &[Score]) -> Row {
    let test = scores.get(1).map(|score| score.utility);
    Row { name: name.into(), dev: scores[0].utility, test }
}

fn first_highest(values: &[f64]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// Writes one prediction a line.
pub fn write_predictions(path: &Path, score: &Score) -> Result<()> {
    write_atomic(path, |file| {
        for prediction in &score.predictions {
            let line = serde_json::to_string(prediction).expect("plain data");
            writeln!(file, "{line}")?;
        }
        Ok(())
    })
}

/// How the adapter came about, for people who meet it later.
fn model_card(results: &Results) -> String {
    format!(
        "# An adapter found by Model Swarms\n\nThis LoRA adapter is an affine combination of {} \
         experts, found by swarm search over their weights on the task `{}`. `model-swarms \
         rebuild` makes it again from the experts and the run's journal.\n\n```\n{}```\n",
        results.experts.len(),
        results.task,
        results.to_text()
    )
}
