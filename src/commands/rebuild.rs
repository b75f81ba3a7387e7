//! `model-swarms rebuild`: any particle of any iteration of a run, again, from the pool and the
//! journal.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;

use super::{Format, check_out, is_same, print_as};
use crate::adapter::{Adapter, Pool, materialise, save};
use crate::backend::cpu::Isa;
use crate::backend::cpu::buffer::Buffer;
use crate::cli::RebuildArgs;
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::run::fingerprint::check_experts;
use crate::swarm::settings::State;
use crate::swarm::{Recording, Search, Weights};

#[derive(Deserialize)]
struct RunFile {
    experts: PathBuf,
}

/// Runs the command.
pub fn run(args: RebuildArgs, format: Format) -> Result<()> {
    let isa = Isa::from_environment()?;
    let recording = Recording::read(&args.run.join("journal.jsonl"))?;
    let record = recording.record(args.iteration)?;
    let n_particles = record.f.len();
    if args.particle >= n_particles {
        let particle = args.particle;
        return Err(Error::Usage(format!(
            "there is no particle {particle}; the run has {n_particles}"
        )));
    }
    let experts = match args.experts {
        Some(experts) => experts,
        None => {
            let path = args.run.join("run.toml");
            let file: RunFile = toml::from_str(&read_text(&path)?)
                .map_err(|error| Error::input(&path, error.message().to_string()))?;
            file.experts
        }
    };
    let pool = Pool::open(&experts)?;
    check_experts(&pool, &experts, recording.header())?;
    check_out(&args.out, &pool.experts)?;
    if is_same(&args.run.join("best"), &args.out) {
        return Err(Error::input(&args.out, "is the run's result, wanted another folder"));
    }
    let row = &record.coefficients[args.particle];
    let adapter = match recording.header().settings.state {
        State::Coefficients => materialise(isa, &pool, &[row]).remove(0),
        State::Weights => replay(&args.out, &recording, &pool, args.iteration, args.particle)?,
    };
    let found = json!({
        "iteration": args.iteration, "particle": args.particle, "utility": record.f[args.particle],
        "coefficients": row, "adapter": args.out.to_string_lossy(),
    });
    let card = format!(
        "# Particle {} of iteration {} of a Model Swarms search\n\nUtility {} on the validation \
         split, at\n\n```\n{}```\n",
        args.particle,
        args.iteration,
        record.f[args.particle],
        location(&pool, row)
    );
    save(&args.out, &adapter, pool.experts[0].config(), pool.dtype(), &card)?;
    print_as(format, &found, |_| {
        format!("utility {:.4}, at\n{}", record.f[args.particle], location(&pool, row))
    })
}

fn location(pool: &Pool, row: &[f64]) -> String {
    pool.names().iter().zip(row).map(|(name, c)| format!("{c:>9.4} x {name}\n")).collect()
}

/// A run that kept weights is replayed in weights, so that the particle comes out to the bit.
fn replay(
    out: &std::path::Path,
    recording: &Recording,
    pool: &Pool,
    iteration: u32,
    particle: usize,
) -> Result<Adapter> {
    let header = recording.header();
    let n_experts = pool.experts.len();
    let n_particles = header.settings.n_particles(n_experts);
    let layout = pool.layout();
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    let scratch = out.with_file_name(format!(".{name}.state"));
    let replayed = (|| {
        let load = |expert_idx: usize, values: &mut [f32]| {
            pool.experts[expert_idx].read(0, values);
            Ok(())
        };
        let space = Weights::create(&scratch, n_experts, n_particles, layout.len, load)?;
        let mut search = Search::new(&header.settings, header.seed, space)?;
        recording.replay_to(&mut search, iteration)?;
        Ok(Adapter::new(layout.clone(), Buffer::from(search.space().location(particle))))
    })();
    let _ = std::fs::remove_dir_all(&scratch);
    replayed
}
