//! Building the mini testbed (feature `train`): base model, experts and data from one seed.
//!
//! Every training keeps its state in a work folder, so that a build that was stopped goes on where
//! it was; what is finished is written in the forms that transformers and PEFT read.

mod batches;
mod files;
mod models;

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::mini::data::Data;
use crate::mini::documents::{Known, Writer};
use crate::mini::experts;
use crate::mini::world::World;
use crate::rng::{Draws, Purpose};
use crate::train::fit::{Fit, Target};
use crate::train::optimizer::{Flat, Schedule};

use batches::{BASE_STEPS, EXPERT_STEPS, N_TOKENS, base_batch, compare, expert_batch, texts};
pub use files::write_base;
pub use models::{RANK, base_start, factors_a, sizes, zero_b};

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
    say(compare(&writer, &known, seed)?);
    files::write_index(out)
}

fn train_base(
    writer: &Writer,
    work: &Path,
    seed: u64,
    say: &mut dyn FnMut(String),
) -> Result<Flat> {
    let batch = |step| base_batch(writer, seed, step);
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
    let batch = |step| expert_batch(writer, known, idx, seed, step);
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
