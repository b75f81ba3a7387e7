//! One iteration of a search as the paper has it: 20 particles, 200 validation prompts of about 60
//! tokens, 10 new tokens each, on the tiny model.
//!
//! From the particles' locations to their answers: adapters are materialised, merged and run. What
//! a task makes of the answers, and the swarm's step, take no time that could be seen beside it.

mod common;

use common::table::Table;
use common::testbed::{TINY, TOY, noise, write_adapter, write_base};
use common::{Bench, Size, Work};
use model_swarms::adapter::{Adapter, Pool, materialise_into};
use model_swarms::backend::cpu::Isa;
use model_swarms::backend::cpu::gemm::Workers;
use model_swarms::model::decode::{Generated, Job, Report};
use model_swarms::model::lora::Places;
use model_swarms::model::memory::Held;
use model_swarms::model::{Device, Model};
use model_swarms::tensors::Dtype;

const N_EXPERTS: usize = 10;
const N_NEW: usize = 10;
const RANK: usize = 8;

/// One iteration on all threads.
fn main() {
    let bench = &mut Bench::from_arguments();
    let (name, sizes, n_particles, n_prompts) = match bench.size() {
        Size::Small => ("toy", TOY, 3, 5),
        Size::Full => ("tiny", TINY, 20, 200),
    };
    let isa = Isa::from_environment().expect("an instruction set that this machine has");
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let (base, experts) = (folder.path().join("base"), folder.path().join("experts"));
    write_base(&base, &sizes, Dtype::F32);
    for i in 0..N_EXPERTS {
        write_adapter(&experts.join(format!("{i:02}")), &sizes, RANK, i as u64, Dtype::F32);
    }
    let model =
        Model::open(&base, Device::Cpu, isa, None, Held::default()).expect("the base just written");
    let pool = Pool::open(&experts).expect("the pool just written");
    let places = Places::find(pool.layout(), &model.config, &experts).expect("experts of the base");
    let prompts: Vec<Vec<u32>> = (0..n_prompts).map(|i| prompt(i, sizes.vocab)).collect();
    let locations: Vec<Vec<f64>> = (0..n_particles).map(location).collect();
    let locations: Vec<&[f64]> = locations.iter().map(Vec::as_slice).collect();

    let mut adapters = Vec::new();
    let mut iteration = |locations: &[&[f64]], batch: Option<usize>| -> Vec<Generated> {
        materialise_into(isa, &pool, locations, &mut adapters);
        let adapted: Vec<&Adapter> = adapters[..locations.len()].iter().collect();
        let adapted = model.adapt(&places, &adapted).expect("an adapter of the base");
        let jobs: Vec<Job> = (0..locations.len())
            .flat_map(|adapter_idx| {
                let job = move |tokens| Job { adapter_idx, tokens, max_new_tokens: N_NEW };
                prompts.iter().map(Vec::as_slice).map(job)
            })
            .collect();
        // No token ends an answer: so the work is known.
        let answers = model.generate(&adapted, &jobs, &[], batch, Report::Tokens);
        answers.expect("answers")
    };
    // A particle that is measured alone, in other batches, answers as it does among the others.
    let answers = iteration(&locations, None);
    let last = n_particles - 1;
    assert_eq!(answers[last * n_prompts..], iteration(&locations[last..], Some(7))[..], "{name}");

    let lens = prompts.iter().map(Vec::len);
    let n_tokens = n_particles * lens.clone().map(|len| len + N_NEW).sum::<usize>();
    let flop = n_particles as f64 * lens.map(|len| sizes.flop(len, N_NEW)).sum::<f64>();
    let row = format!("{name}: {n_particles} particles x {n_prompts} prompts, {n_tokens} tokens");
    let timed = bench.time("iteration", name, Work::Flop(flop), Workers::All, || {
        iteration(&locations, None);
    });
    let mut table = Table::new("iteration: materialise, merge, answer, on all threads");
    table.set(&row, "seconds", timed.map(|timed| format!("{:.2}", timed.seconds)));
    let rate = timed.map(|timed| format!("{:.0}", n_tokens as f64 / timed.seconds));
    table.set(&row, "tokens/s", rate);
    let rate = timed
        .map(|timed| format!("{:.0} {:3.0} %", flop / timed.seconds / 1e9, 100.0 * timed.share));
    table.set(&row, "GFLOP/s and share of the FMA peak", rate);
    table.print();
    bench.finish();
}

/// 40 to 80 random tokens.
fn prompt(prompt_idx: usize, vocab: usize) -> Vec<u32> {
    let below = |n: usize, i: usize| {
        let unit = 0.5 + 0.5 * noise(((3 << 50) + (prompt_idx << 20) + i) as u64);
        ((unit * n as f32) as usize).min(n - 1)
    };
    (1..=40 + below(41, 0)).map(|i| below(vocab, i) as u32).collect()
}

/// Coefficients that sum to 1, some of them negative.
fn location(particle_idx: usize) -> Vec<f64> {
    let raw: Vec<f64> =
        (0..N_EXPERTS).map(|i| ((particle_idx * 5 + 3 * i) % 7) as f64 - 1.0).collect();
    let sum: f64 = raw.iter().sum();
    raw.iter().map(|c| c / sum).collect()
}
