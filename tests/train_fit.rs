//! Training, seen from outside: what it learns, what the decoder computes, going on after a stop.
#![cfg(feature = "train")]

use std::path::Path;

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

fn fit<'a>(checkpoint: &'a Path) -> Fit<'a> {
    let schedule = Schedule {
        n_steps: 600,
        n_warm_up: 10,
        learning_rate: 5e-3,
        floor: 0.1,
        weight_decay: 0.01,
        clip: 1.0,
    };
    Fit {
        name: "echoes",
        sizes: SIZES,
        target: Target::Base,
        schedule,
        batch: &echoes,
        scale: &|_| 1.0,
        checkpoint,
    }
}

#[test]
fn a_simple_pattern_is_learnt_and_a_stop_leaves_no_trace() {
    // If this fails, the base model or the experts are not what their seed says.
    let dir = tempfile::tempdir().unwrap();
    let (whole, halfway) = (dir.path().join("whole"), dir.path().join("halfway"));
    let mut losses = Vec::new();
    let trained = fit(&whole)
        .run(start(), &mut |step, loss, _| {
            losses.push(loss);
            if step == 200 {
                std::fs::copy(&whole, &halfway).unwrap();
            }
        })
        .unwrap();
    assert!(losses[2] < 0.5, "losses {losses:?}; chance is {}", 40f64.ln());
    let resumed = fit(&halfway).run(start(), &mut |_, _, _| ()).unwrap();
    assert_eq!(trained, resumed, "a training that was stopped after 200 steps");
}
