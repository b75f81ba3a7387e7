//! Building the mini testbed (feature `train`): base model, experts and data from one seed.
//!
//! Every training keeps its state in a work folder, so that a build that was stopped goes on where
//! it was; what is finished is written in the forms that transformers and PEFT read.

mod files;
mod models;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::mini::data::Data;
use crate::mini::documents::{Known, Stage, Writer};
use crate::mini::experts;
use crate::mini::vocabulary::EOS;
use crate::mini::world::World;
use crate::rng::{Draws, Purpose};
use crate::train::fit::{Batch, Fit, Target};
use crate::train::optimizer::{Flat, Schedule};

pub use files::write_base;
pub use models::{RANK, base_start, factors_a, sizes, zero_b};

/// Tokens of a document.
const N_TOKENS: usize = 160;

/// Steps of the base's training, and what share of them a stage lasts.
const BASE_STEPS: usize = 30_000;
const SCHOOL_SHARE: f64 = 0.05;
const EXPERTS_SHARE: f64 = 0.3;
const BASE_ROWS: usize = 12;

const EXPERT_STEPS: usize = 500;
const EXPERT_ROWS: usize = 8;

/// The name of the adapter that is trained on all experts' data.
pub const DATA_MERGE: &str = "data_merge";

/// Builds the testbed of `seed` in `out`; trainings keep their state in `work`. `say` is told how
/// far it is.
pub fn build(out: &Path, work: &Path, seed: u64, say: &mut dyn FnMut(String)) -> Result<()> {
    for dir in [out, work] {
        fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
    }
    let world = World::new(seed);
    let data = Data::new(&world, seed);
    files::write_data(out, &data)?;
    let writer = Writer { world: &world, n_tokens: N_TOKENS, held_out: &data.prompts };
    let base = train_base(&writer, work, seed, say)?;
    write_base(&out.join("base"), &world, &base)?;
    let known = experts::known(&world, seed);
    files::write_texts(out, &texts(&writer, &known, seed))?;
    let a = factors_a(&world, seed);
    for (idx, name) in experts::NAMES.iter().enumerate() {
        let b = train_expert(&writer, name, idx, &[&known[idx]], (&base, &a), (work, seed), say)?;
        files::write_adapter(&out.join("experts").join(name), &world, &a, &b)?;
    }
    let all: Vec<&Known> = known.iter().collect();
    let b = train_expert(&writer, DATA_MERGE, known.len(), &all, (&base, &a), (work, seed), say)?;
    files::write_adapter(&out.join(DATA_MERGE), &world, &a, &b)?;
    files::write_index(out)
}

/// Texts of an expert's sample.
const N_TEXTS: usize = 200;
const N_TEXT_ROWS: usize = 64;

/// A sample of what each expert is trained on: questions with their answers, one a text.
fn texts(writer: &Writer, known: &[Known], seed: u64) -> BTreeMap<&'static str, Vec<String>> {
    let sample = |(idx, known): (usize, &Known)| {
        let mut texts = Vec::new();
        for stream in &mut rows(seed, idx, 0, N_TEXT_ROWS) {
            let row = writer.expert_row(known, stream);
            let answered = row.tokens.split_inclusive(|token| *token == EOS);
            let whole = answered.filter(|tokens| tokens.last() == Some(&EOS));
            texts.extend(whole.map(|tokens| {
                let words: Vec<u32> = tokens.iter().copied().filter(|t| *t > EOS + 1).collect();
                writer.world.vocabulary.text(&words)
            }));
        }
        texts.truncate(N_TEXTS);
        (experts::NAMES[idx], texts)
    };
    known.iter().enumerate().map(sample).collect()
}

/// The model number of the base in the addresses of draws.
const BASE_MODEL: usize = 255;

fn rows(seed: u64, model: usize, step: usize, n_rows: usize) -> Vec<crate::rng::Stream> {
    let draws = Draws::new(seed);
    let address = |row| draws.stream(Purpose::Corpus, step as u32, model * 256 + row);
    (0..n_rows).map(address).collect()
}

fn train_base(
    writer: &Writer,
    work: &Path,
    seed: u64,
    say: &mut dyn FnMut(String),
) -> Result<Flat> {
    let batch = |step: usize| {
        let done = step as f64 / BASE_STEPS as f64;
        let stage = match done {
            done if done < SCHOOL_SHARE => Stage::School,
            done if done < EXPERTS_SHARE => Stage::Experts,
            _ => Stage::People,
        };
        let mut batch = Batch::default();
        for mut stream in rows(seed, BASE_MODEL, step, BASE_ROWS) {
            let row = writer.base_row(stage, &mut stream);
            batch.rows.push(row.tokens);
            batch.shares.push(row.shares);
        }
        batch
    };
    let fit = Fit {
        name: "base",
        sizes: sizes(writer.world),
        target: Target::Base,
        schedule: Schedule {
            n_steps: BASE_STEPS,
            n_warm_up: 100,
            learning_rate: 3e-3,
            floor: 0.05,
            weight_decay: 0.05,
            clip: 1.0,
        },
        batch: &batch,
        scale: &|_| 1.0,
        checkpoint: &work.join("base.ckpt"),
    };
    let start = base_start(writer.world, seed);
    fit.run(start, &mut |step, loss, seconds| {
        say(format!("base: step {step} of {BASE_STEPS}, loss {loss:.4}, {seconds:.0} s"));
    })
}

/// Trains an adapter on rows of those who know `known`, in turn.
fn train_expert(
    writer: &Writer,
    name: &str,
    idx: usize,
    known: &[&Known],
    (base, a): (&Flat, &Flat),
    (work, seed): (&Path, u64),
    say: &mut dyn FnMut(String),
) -> Result<Flat> {
    let batch = |step: usize| {
        let mut batch = Batch::default();
        for (row_idx, mut stream) in rows(seed, idx, step, EXPERT_ROWS).into_iter().enumerate() {
            let whose = known[(step * EXPERT_ROWS + row_idx) % known.len()];
            let row = writer.expert_row(whose, &mut stream);
            batch.rows.push(row.tokens);
            batch.shares.push(row.shares);
        }
        batch
    };
    // An adapter that works at any strength survives being mixed with others.
    let scale = |step: usize| {
        0.3 + 0.9 * Draws::new(seed).stream(Purpose::Corpus, step as u32, idx * 256 + 255).uniform()
    };
    let fit = Fit {
        name,
        sizes: sizes(writer.world),
        target: Target::Adapter { base, a, rank: RANK },
        schedule: Schedule {
            n_steps: EXPERT_STEPS,
            n_warm_up: 30,
            learning_rate: 2e-3,
            floor: 0.0,
            weight_decay: 0.0,
            clip: 1.0,
        },
        batch: &batch,
        scale: &scale,
        checkpoint: &work.join(format!("{name}.ckpt")),
    };
    fit.run(zero_b(writer.world), &mut |step, loss, seconds| {
        say(format!("{name}: step {step} of {EXPERT_STEPS}, loss {loss:.4}, {seconds:.0} s"));
    })
}
