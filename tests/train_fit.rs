//! Training, seen from outside: what it learns, what the decoder computes, going on after a stop.
#![cfg(feature = "train")]

use std::path::Path;

use model_swarms::model::weights::LINEARS;
use model_swarms::train::decoder::Sizes;
use model_swarms::train::fit::{Batch, Fit, Target};
use model_swarms::train::optimizer::{Flat, Schedule};

const SIZES: Sizes = Sizes {
    vocab_size: 40,
    dim: 32,
    n_layers: 2,
    n_heads: 4,
    n_kv_heads: 1,
    head_dim: 8,
    ffn_dim: 64,
};

/// A number below `n` that looks like chance.
fn pick(step: usize, at: usize, n: u32) -> u32 {
    let mixed = (step as u64 * 1_000_003 + at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed >> 33) % u64::from(n)) as u32
}

fn start() -> Flat {
    let values = |name: &str, n: usize| -> Vec<f32> {
        let spread = if name.ends_with("norm.weight") { 0.0 } else { 0.08 };
        let value = |i| (pick(name.len() + n, i, 2001) as f32 / 1000.0 - 1.0) * spread;
        (0..n).map(value).collect()
    };
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let values = values(&name, shape.iter().product());
        (name, values)
    };
    SIZES.tensors().into_iter().map(tensor).collect()
}

/// Rows of `a b a b a b ...`: from the third token on each follows from those before it.
fn echoes(step: usize) -> Batch {
    let row = |row: usize| -> Vec<u32> {
        let pair = [pick(step, 2 * row, 40), pick(step, 2 * row + 1, 40)];
        (0..12).map(|i| pair[i % 2]).collect()
    };
    let shares = (0..12).map(|i| if i < 2 { 0.0 } else { 1.0 }).collect();
    Batch { rows: (0..8).map(row).collect(), shares: vec![shares; 8] }
}

fn fit<'a>(checkpoint: &'a Path, target: Target<'a>) -> Fit<'a> {
    let schedule = Schedule {
        n_steps: 600,
        n_warm_up: 10,
        learning_rate: 5e-3,
        floor: 0.1,
        weight_decay: 0.01,
        clip: 1.0,
    };
    let scale = &|_| 2.0;
    Fit { name: "echoes", sizes: SIZES, target, schedule, batch: &echoes, scale, checkpoint }
}

/// What a training comes to, run through and stopped after 200 steps, with its losses.
fn run_and_resume(start: &Flat, target: Target) -> (Flat, Vec<f64>) {
    let dir = tempfile::tempdir().unwrap();
    let (whole, halfway) = (dir.path().join("whole"), dir.path().join("halfway"));
    let mut losses = Vec::new();
    let trained = fit(&whole, target)
        .run(start.clone(), &mut |step, loss, _| {
            losses.push(loss);
            if step == 200 {
                std::fs::copy(&whole, &halfway).unwrap();
            }
        })
        .unwrap();
    let resumed = fit(&halfway, target).run(start.clone(), &mut |_, _, _| ()).unwrap();
    assert_eq!(trained, resumed, "a training that was stopped after 200 steps");
    (trained, losses)
}

#[test]
fn a_simple_pattern_is_learnt_and_a_stop_leaves_no_trace() {
    // If this fails, the base model is not what its seed says.
    let (_, losses) = run_and_resume(&start(), Target::Base);
    assert!(losses[2] < 0.5, "losses {losses:?}; chance is {}", 40f64.ln());
}

#[test]
fn an_adapter_learns_on_a_base_that_stays() {
    // If this fails, an expert is not what its seed says, or is worth nothing on its base.
    let (base, rank) = (start(), 4);
    let (mut a, mut b) = (Flat::new(), Flat::new());
    for (layer, linear) in (0..SIZES.n_layers).flat_map(|layer| LINEARS.map(|name| (layer, name))) {
        let (n_out, n_in) = SIZES.linear(linear);
        let name = format!("model.layers.{layer}.{linear}");
        let value = |i| (pick(layer + n_in, i, 2001) as f32 / 1000.0 - 1.0) * 0.3;
        a.insert(name.clone(), (0..rank * n_in).map(value).collect());
        b.insert(name, vec![0.0; n_out * rank]);
    }
    let kept = (base.clone(), a.clone());
    let (trained, losses) = run_and_resume(&b, Target::Adapter { base: &base, a: &a, rank });
    assert!(losses[2] < 3.0, "losses {losses:?}; chance is {}", 40f64.ln());
    assert!(trained.keys().eq(a.keys()), "only factors B are trained");
    assert!(trained.values().flatten().any(|b| *b != 0.0));
    assert!(kept == (base, a), "base or A has moved");
}

#[test]
fn the_number_of_threads_leaves_no_trace() {
    // If this fails, another machine builds another testbed from the same seed.
    let trained = [1, 2, 3].map(|n_threads| {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = dir.path().join("state");
        let mut fit = fit(&checkpoint, Target::Base);
        fit.schedule.n_steps = 20;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        pool.install(|| fit.run(start(), &mut |_, _, _| ()).unwrap())
    });
    assert!(trained[0] == trained[1] && trained[0] == trained[2]);
}
