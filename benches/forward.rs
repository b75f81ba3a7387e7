//! A batch of prompts through the decoder and ten steps of decoding, with an adapter merged into
//! the weights or computed beside them: the measurement behind `MERGE_LIMIT`.
//!
//! Each thread has a batch of its own, as in a search. Merging is timed apart, since it is done
//! once for an adapter and all of its prompts; "prompts to pay for it" is how many of them must
//! follow before merging has saved the time that it took.

mod common;

use std::path::Path;

use common::table::Table;
use common::testbed::{SMALL, Sizes, TINY, TOY, noise, write_adapter, write_base};
use common::{Bench, Size, Timed, Work};
use model_swarms::adapter::Expert;
use model_swarms::backend::cpu::Isa;
use model_swarms::backend::cpu::gemm::Workers;
use model_swarms::model::decode::{Generated, Job, Report};
use model_swarms::model::lora::Places;
use model_swarms::model::memory::Held;
use model_swarms::model::{Adapted, Application, Device, Model};
use model_swarms::tensors::Dtype;

const N_PROMPT: usize = 60;
/// The first comes from the prompt's logits, the others from ten steps.
const N_NEW: usize = 11;

/// Both sizes, ranks 8 and 64, merged and unmerged.
fn main() {
    let bench = &mut Bench::from_arguments();
    // Sizes, and sequences of a thread's batch.
    let models: &[(&str, Sizes, usize)] = match bench.size() {
        Size::Small => &[("toy", TOY, 3)],
        Size::Full => &[("tiny", TINY, 64), ("small", SMALL, 32)],
    };
    let mut table = Table::new("forward: tokens/s and share of the FMA peak, on all threads");
    for (name, sizes, batch) in models {
        for rank in [8, 64] {
            let row = format!("{name}, rank {rank}");
            let names = [Application::Merged, Application::Unmerged]
                .map(|application| format!("{row} {application:?}"));
            if !names.iter().any(|name| bench.wants("forward", name)) {
                continue;
            }
            let folder = tempfile::tempdir().expect("a folder for temporary files");
            write_base(&folder.path().join("base"), sizes, Dtype::F32);
            write_adapter(&folder.path().join("adapter"), sizes, rank, 1, Dtype::F32);
            rank_case(bench, &mut table, folder.path(), &row, sizes, *batch);
        }
    }
    table.print();
    bench.finish();
}

fn rank_case(
    bench: &mut Bench,
    table: &mut Table,
    folder: &Path,
    row: &str,
    sizes: &Sizes,
    batch: usize,
) {
    let isa = Isa::from_environment().expect("an instruction set that this machine has");
    let expert = Expert::open(&folder.join("adapter")).expect("the adapter just written");
    let adapter = expert.to_adapter();
    let n_sequences = batch * rayon::current_num_threads();
    let prompts: Vec<Vec<u32>> = (0..n_sequences).map(|i| prompt(i, sizes.vocab)).collect();
    let jobs: Vec<Job> = prompts
        .iter()
        .map(|tokens| Job { adapter_idx: 0, tokens, max_new_tokens: N_NEW })
        .collect();
    let flop = n_sequences as f64 * sizes.flop(N_PROMPT, N_NEW);
    let mut answers: Vec<Vec<Generated>> = Vec::new();
    let mut seconds: Vec<Timed> = Vec::new();
    let mut merging = None;
    for application in [Application::Merged, Application::Unmerged] {
        let model =
            Model::open(&folder.join("base"), Device::Cpu, isa, Some(application), Held::default())
                .expect("a base");
        let places = Places::find(expert.layout(), &model.config, folder).expect("its adapter");
        let adapted = model.adapt(&places, &[&adapter]).expect("an adapter of the base");
        let run = |adapted: &Adapted| {
            let answers = model.generate(adapted, &jobs, &[], Some(batch), Report::Logits);
            answers.expect("answers")
        };
        answers.push(run(&adapted));
        let name = format!("{row} {application:?}");
        let timed = bench.time("forward", &name, Work::Flop(flop), Workers::All, || {
            run(&adapted);
        });
        let text = timed.map(|timed| {
            let rate = (n_sequences * (N_PROMPT + N_NEW)) as f64 / timed.seconds;
            format!("{rate:.0} {:3.0} %", 100.0 * timed.share)
        });
        table.set(row, &format!("{application:?}"), text);
        seconds.extend(timed);
        if application == Application::Merged {
            let merge = || {
                model.adapt(&places, &[&adapter]).expect("an adapter of the base");
            };
            let name = format!("{row} Merged merging");
            let bytes = 2 * model.adapted_bytes(); // the base's read, the copy written
            merging = bench.time("forward", &name, Work::Bytes(bytes as f64), Workers::One, merge);
            table.set(row, "merging", merging.map(|t| format!("{:.1} ms", 1e3 * t.seconds)));
        }
    }
    check(row, &answers[0], &answers[1]);
    if let ([merged, unmerged], Some(merging)) = (&seconds[..], merging) {
        // Merging runs on one thread for each adapter, prompts on all.
        let saved = (unmerged.seconds - merged.seconds) / n_sequences as f64;
        let cost = merging.seconds / rayon::current_num_threads() as f64;
        let text = if saved > 0.0 { format!("{:.0}", cost / saved) } else { "never".into() };
        table.set(row, "prompts to pay for it", Some(text));
    }
}

/// Random tokens.
fn prompt(prompt_idx: usize, vocab: usize) -> Vec<u32> {
    let token = |i: usize| {
        let unit = 0.5 + 0.5 * noise(((3 << 50) + (prompt_idx << 20) + i) as u64);
        ((unit * vocab as f32) as u32).min(vocab as u32 - 1)
    };
    (0..N_PROMPT).map(token).collect()
}

/// Both ways are the same function, up to rounding.
fn check(row: &str, merged: &[Generated], unmerged: &[Generated]) {
    for (i, (merged, unmerged)) in merged.iter().zip(unmerged).enumerate() {
        let (Some(merged), Some(unmerged)) = (&merged.logits, &unmerged.logits) else {
            panic!("{row}: prompt {i} has no logits")
        };
        let largest = merged.iter().fold(0.0f32, |largest, logit| largest.max(logit.abs()));
        for (token, (m, u)) in merged.iter().zip(unmerged).enumerate() {
            // The first tolerance is for the sums over a thousand terms, each of them rounded.
            let error = (m - u).abs();
            assert!(error <= 1e-3 * largest, "{row}: prompt {i} token {token}: {m} and {u}");
        }
    }
}
