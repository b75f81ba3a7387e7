//! The gradients are those of the loss, whichever positions are scored.
#![cfg(feature = "train")]

use model_swarms::backend::cpu::Isa;
use model_swarms::model::weights::LINEARS;
use model_swarms::train::backward::Score;
use model_swarms::train::decoder::{Decoder, Sizes, State};
use model_swarms::train::linear::Lora;
use model_swarms::train::optimizer::Flat;

/// Longer than a block of positions, and no whole number of tiles or panels in any direction.
const N_TOKENS: usize = 45;
const RANK: usize = 3;
const SIZES: Sizes = Sizes {
    vocab_size: 50,
    dim: 20,
    n_layers: 2,
    n_heads: 4,
    n_kv_heads: 2,
    head_dim: 6,
    ffn_dim: 35,
};

/// Numbers between -1 and 1 that look like chance.
fn noise(seed: usize, n: usize) -> Vec<f32> {
    let mixed = |i: usize| (seed * 1_000_003 + i) as u64;
    (0..n)
        .map(|i| (mixed(i).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / 8_388_608.0 - 1.0)
        .collect()
}

fn scaled(values: &[f32], factor: f32) -> Vec<f32> {
    values.iter().map(|value| value * factor).collect()
}

/// Base weights, factors A and factors B.
fn weights() -> [Flat; 3] {
    let (mut base, mut a, mut b) = (Flat::new(), Flat::new(), Flat::new());
    for (i, (name, shape)) in SIZES.tensors().into_iter().enumerate() {
        base.insert(name, scaled(&noise(i, shape.iter().product()), 0.4));
    }
    for layer in 0..SIZES.n_layers {
        for (i, linear) in LINEARS.iter().enumerate() {
            let ((n_out, n_in), seed) = (SIZES.linear(linear), 100 + 10 * layer + i);
            let name = format!("model.layers.{layer}.{linear}");
            a.insert(name.clone(), scaled(&noise(seed, RANK * n_in), 0.3));
            b.insert(name, scaled(&noise(seed + 50, n_out * RANK), 0.3));
        }
    }
    [base, a, b]
}

fn tokens() -> Vec<u32> {
    noise(7, N_TOKENS).iter().map(|x| ((x + 1.0) * 24.9) as u32).collect()
}

/// Weighted scores of the positions that `chosen` says; the last token predicts nothing.
fn scores(chosen: impl Fn(usize) -> bool) -> Vec<Score> {
    let (tokens, weights) = (tokens(), noise(8, N_TOKENS));
    let score = |position: usize| Score {
        position,
        target: tokens[position + 1],
        weight: (weights[position] + 1.5) / N_TOKENS as f32,
    };
    (0..N_TOKENS - 1).filter(|position| chosen(*position)).map(score).collect()
}

fn learn(decoder: &Decoder, scores: &[Score]) -> (f64, Flat) {
    let mut gradients = Flat::new();
    let loss = decoder.learn(&mut State::default(), &tokens(), scores, &mut gradients);
    (loss, gradients)
}

#[test]
fn gradients_are_differences_of_the_loss() {
    // If this fails, training goes another way than downhill.
    let [base, a, b] = weights();
    let isa = Isa::detect();
    let of_base = |weights: &Flat| learn(&Decoder::new(isa, SIZES, weights), &scores(|_| true));
    let of_b = |b: &Flat| {
        let lora = Lora { a: &a, b, rank: RANK, scale: 0.7 };
        learn(&Decoder::with_lora(isa, SIZES, &base, lora), &scores(|_| true))
    };
    for (start, learn) in [(&base, &of_base as &dyn Fn(&Flat) -> (f64, Flat)), (&b, &of_b)] {
        let (_, gradients) = learn(start);
        assert!(gradients.keys().eq(start.keys()));
        for (i, (name, gradient)) in gradients.iter().enumerate() {
            let direction = noise(500 + i, gradient.len());
            let moved = |by: f32| {
                let mut weights = start.clone();
                let values = weights.get_mut(name).unwrap();
                values.iter_mut().zip(&direction).for_each(|(value, d)| *value += by * d);
                learn(&weights).0
            };
            let slope = (moved(2e-3) - moved(-2e-3)) / 4e-3;
            let pairs = gradient.iter().zip(&direction);
            let told: f64 = pairs.map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            println!("{name}: {told} by the gradient, {slope} by differences");
            // Sums in f32 leave some 1e-6 in the loss; third derivatives some 1e-3 of the slope.
            assert!((told - slope).abs() < 1e-3 + 5e-3 * slope.abs(), "{name}: {told} {slope}");
        }
    }
}

#[test]
fn positions_that_are_not_scored_are_as_if_they_had_a_share_of_nothing() {
    // If this fails, skipping the output of unscored tokens has changed what is learnt.
    let [base, a, b] = weights();
    let lora = Lora { a: &a, b: &b, rank: RANK, scale: 0.7 };
    let isa = Isa::detect();
    let decoders = [Decoder::new(isa, SIZES, &base), Decoder::with_lora(isa, SIZES, &base, lora)];
    for decoder in decoders {
        let few = |position: usize| position == 3 || position == 31;
        // The same loss with every position run: those beside the few weigh exactly nothing.
        let mut all = scores(|_| true);
        all.iter_mut().filter(|score| !few(score.position)).for_each(|score| score.weight = 0.0);
        let (loss, gradients) = learn(&decoder, &scores(few));
        let (wanted_loss, wanted) = learn(&decoder, &all);
        assert!((loss - wanted_loss).abs() < 1e-6, "{loss} {wanted_loss}");
        assert!(gradients.keys().eq(wanted.keys()));
        for (name, gradient) in &gradients {
            let largest = wanted[name].iter().fold(0.0f32, |max, value| max.max(value.abs()));
            for (i, (found, wanted)) in gradient.iter().zip(&wanted[name]).enumerate() {
                let gap = (found - wanted).abs();
                assert!(gap < 1e-5 * largest, "{name}[{i}]: {found} {wanted}");
            }
        }
    }
}

#[test]
fn nothing_scored_means_nothing_learnt() {
    // If this fails, a row without an answer stops a training or moves its weights.
    let [base, ..] = weights();
    let (loss, gradients) = learn(&Decoder::new(Isa::detect(), SIZES, &base), &[]);
    assert!(loss == 0.0 && gradients.is_empty());
}

#[test]
fn instruction_sets_agree_bit_for_bit() {
    // If this fails, another machine trains another model.
    let [base, ..] = weights();
    let all = match Isa::detect() {
        Isa::Avx512 => vec![Isa::Avx512, Isa::Avx2, Isa::Scalar],
        Isa::Avx2 => vec![Isa::Avx2, Isa::Scalar],
        Isa::Scalar => vec![Isa::Scalar],
    };
    let learnt =
        all.into_iter().map(|isa| learn(&Decoder::new(isa, SIZES, &base), &scores(|_| true)));
    let learnt: Vec<(f64, Flat)> = learnt.collect();
    assert!(learnt.iter().all(|other| *other == learnt[0]));
}
