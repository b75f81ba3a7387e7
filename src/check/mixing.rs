//! How the experts mix: random mixtures as a search draws them, and how far a mean reaches.

use serde::Serialize;

use crate::adapter::{Adapter, Expert, Pool, adapter_norm, materialise};
use crate::backend::cpu::Isa;
use crate::rng::{Draws, Purpose, Stream};

/// What averaging does to the experts' updates.
#[derive(Debug, Clone, Serialize)]
pub struct Mixing {
    /// The lowest cosine between two experts' factors A, over all modules together.
    pub lowest_cosine_a: f64,
    /// Norms of the experts' updates BA, over all modules together, `(n)`.
    pub norms: Vec<f64>,
    /// The norm of the update of their mean, taken factor by factor.
    pub uniform_norm: f64,
}

/// Measures how the experts of a pool mix.
pub fn mixing(isa: Isa, pool: &Pool) -> Mixing {
    let experts: Vec<Adapter> = pool.experts.iter().map(Expert::to_adapter).collect();
    let n = experts.len();
    let factors_a = |adapter: &Adapter| -> Vec<f32> {
        let modules = adapter.layout.modules.iter();
        modules.flat_map(|module| adapter.data[module.a.clone()].iter().copied()).collect()
    };
    let flat: Vec<Vec<f32>> = experts.iter().map(factors_a).collect();
    let mut lowest_cosine_a = 1.0f64;
    for (idx, left) in flat.iter().enumerate() {
        for right in &flat[idx + 1..] {
            let cosine = dot(left, right) / (dot(left, left) * dot(right, right)).sqrt();
            lowest_cosine_a = lowest_cosine_a.min(cosine);
        }
    }
    let uniform = materialise(isa, pool, &[&vec![1.0 / n as f64; n]]);
    Mixing {
        lowest_cosine_a,
        norms: experts.iter().map(adapter_norm).collect(),
        uniform_norm: adapter_norm(&uniform[0]),
    }
}

fn dot(left: &[f32], right: &[f32]) -> f64 {
    left.iter().zip(right).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// `n_rows` locations over `n` experts: mixtures of two experts, a swarm's first particles, each
/// moved up to three steps by the paper's rule with g, g_w and v drawn at random.
pub fn locations(n: usize, n_rows: usize, seed: u64) -> Vec<Vec<f64>> {
    let draws = Draws::new(seed);
    let location = |row| {
        let stream = &mut draws.stream(Purpose::Check, 0, row);
        let mut x = child(n, stream);
        let mut velocity: Vec<f64> = difference(&child(n, stream), &x);
        for _ in 0..stream.below(4) {
            let best = child(n, stream);
            let worst = child(n, stream);
            let [inertia, social, repel] = [0.2, 0.4, 0.05].map(|phi| phi * stream.uniform());
            let total = inertia + social + repel;
            let (to_best, from_worst) = (difference(&best, &x), difference(&x, &worst));
            let step = 0.5 + 0.5 * stream.uniform();
            for (idx, v) in velocity.iter_mut().enumerate() {
                *v = (inertia * *v + social * to_best[idx] + repel * from_worst[idx]) / total;
                x[idx] += step * *v;
            }
        }
        x
    };
    (0..n_rows).map(location).collect()
}

fn child(n: usize, stream: &mut Stream) -> Vec<f64> {
    let (a, b, t) = (stream.below(n), stream.below(n), stream.uniform());
    let mut x = vec![0.0; n];
    x[a] += t;
    x[b] += 1.0 - t;
    x
}

fn difference(to: &[f64], from: &[f64]) -> Vec<f64> {
    to.iter().zip(from).map(|(to, from)| to - from).collect()
}
