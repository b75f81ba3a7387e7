//! LoraHub: a genetic search over one coefficient per expert.
//!
//! A genome w in [-bound, bound]^n describes the model sum w_i x_i; w need not sum to 1, and w = 0
//! is the base. Survival is decided by f - alpha (1/n) sum |w_i|, the result by f. The first
//! generation holds the experts, their mean, and random genomes: by turns uniform over the bounds
//! and uniform over the mixtures of experts (w >= 0, sum 1). A child has u w_i of one parent and
//! (1 - u) w_i of the other, u ~ U(0, 1) for each i, now and then with Gaussian noise, clamped.

use super::genetic::{Chance, Genetic, Species, evolve};
use super::trials::Trials;
use super::{Candidate, Found, Utility};
use crate::backend::cpu::math::{ln_f64, sin_cos_f64};
use crate::error::{Error, Result};
use crate::rng::{Draws, Stream};
use crate::suite::Mutation;

/// The first alpha's number among the genetic searches, for its draws; the others follow.
const FIRST_SEARCH: usize = 1;

/// The parameters of LoraHub.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraHub {
    /// The sizes of one search; `calls` is what all alphas together may take.
    pub sizes: Genetic,
    /// The coefficients lie between minus and plus this; at least 1, so that experts are inside.
    pub bound: f64,
    /// The weights of the mean |coefficient|, one search for each.
    pub alphas: Vec<f64>,
    /// How children are varied.
    pub mutation: Mutation,
}

/// Searches once for each alpha and returns the model with the highest f of all calls. At most
/// n + |alphas| ((population - n) + (generations - 1)(population - keep)) calls: the experts' f are
/// known from the ranking. What the sizes allow is shared among the alphas; one that ends early
/// leaves its rest to the next.
pub fn lora_hub(n_experts: usize, hub: &LoraHub, seed: u64, f: &mut Utility) -> Result<Found> {
    assert!(!hub.alphas.is_empty(), "no alpha");
    hub.sizes.check("lorahub", n_experts, n_experts)?;
    if !(hub.bound >= 1.0 && hub.bound.is_finite()) {
        let what = format!("lorahub: coefficients bounded by {}, wanted 1 or more", hub.bound);
        return Err(Error::Usage(what));
    }
    let mut trials = Trials::new(f);
    let ranking = trials.rank(n_experts)?;
    for (alpha_idx, &alpha) in hub.alphas.iter().enumerate() {
        let species = Sums { n_experts, bound: hub.bound, alpha, mutation: hub.mutation };
        let one_hot = |i: usize| (0..n_experts).map(|j| f64::from(u8::from(i == j))).collect();
        let known = (0..n_experts).map(|i| (one_hot(i), ranking.utilities[i])).collect();
        let chance = Chance::new(Draws::new(seed), FIRST_SEARCH + alpha_idx);
        let n_left = hub.sizes.calls - trials.n_calls();
        let share = n_left / (hub.alphas.len() - alpha_idx) as u64;
        evolve(&species, &hub.sizes, known, &chance, share, &mut trials)?;
    }
    Ok(trials.found())
}

/// Genomes `(n)`: the coefficients themselves.
struct Sums {
    n_experts: usize,
    bound: f64,
    alpha: f64,
    mutation: Mutation,
}

impl Species for Sums {
    fn founder(&self, idx: usize, draws: &mut Stream) -> Vec<f64> {
        let n = self.n_experts;
        match idx {
            0 => vec![1.0 / n as f64; n],
            _ if idx % 2 == 1 => {
                (0..n).map(|_| (2.0 * draws.uniform() - 1.0) * self.bound).collect()
            }
            _ => mixture(n, draws),
        }
    }

    fn child(&self, [p, q]: [&[f64]; 2], draws: &mut Stream) -> Vec<f64> {
        let cross = |(w_p, w_q): (&f64, &f64)| {
            let u = draws.uniform();
            let mut w = u * w_p + (1.0 - u) * w_q;
            if draws.uniform() < self.mutation.probability {
                w += self.mutation.sigma * gaussian(draws);
            }
            w.clamp(-self.bound, self.bound)
        };
        p.iter().zip(q).map(cross).collect()
    }

    fn model(&self, genome: &[f64]) -> Candidate {
        Candidate::Linear(genome.to_vec())
    }

    fn fitness(&self, genome: &[f64], utility: f64) -> f64 {
        let sum: f64 = genome.iter().map(|w| w.abs()).sum();
        utility - self.alpha * (sum / genome.len() as f64)
    }
}

/// A point of the simplex, all alike (Dirichlet with parameters 1): exponential numbers over their
/// sum.
fn mixture(n: usize, draws: &mut Stream) -> Vec<f64> {
    loop {
        let parts: Vec<f64> = (0..n).map(|_| -ln_f64(1.0 - draws.uniform())).collect();
        let sum: f64 = parts.iter().sum();
        if sum > 0.0 {
            return parts.into_iter().map(|part| part / sum).collect();
        }
    }
}

/// A number from the standard normal distribution, by Box and Muller's transform.
fn gaussian(draws: &mut Stream) -> f64 {
    let radius = (-2.0 * ln_f64(1.0 - draws.uniform())).sqrt();
    let (_, cosine) = sin_cos_f64(std::f64::consts::TAU * draws.uniform());
    radius * cosine
}
