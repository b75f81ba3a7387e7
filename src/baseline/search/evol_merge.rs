//! EvolMerge: a genetic search over one interpolation coefficient per layer between the two best
//! experts.
//!
//! A genome t in [0, 1]^L describes the model whose layer l is t_l x_a + (1 - t_l) x_b, a being the
//! best expert and b the second. A child has s_l t_l of one parent and (1 - s_l) t_l of the other,
//! s_l ~ U(0, 1): crossing models layer by layer never leaves the segment from a to b, so genomes
//! lose nothing. There is no mutation.

use super::genetic::{Chance, Genetic, Species, evolve};
use super::trials::Trials;
use super::{Candidate, Found, Utility};
use crate::error::{Error, Result};
use crate::rng::{Draws, Stream};

/// The search's number among the genetic ones, for its draws.
const SEARCH: usize = 0;

/// Searches `n_layers` coefficients, starting from both experts and random genomes, and returns the
/// best model of all calls. At most n + (population - 2) + (generations - 1)(population - keep)
/// calls: the two experts' f are known from the ranking.
pub fn evol_merge(
    n_experts: usize,
    n_layers: usize,
    sizes: &Genetic,
    seed: u64,
    f: &mut Utility,
) -> Result<Found> {
    assert!(n_layers > 0, "no layers");
    if n_experts < 2 {
        let what = format!("evolmerge crosses the two best experts, and the pool has {n_experts}");
        return Err(Error::Usage(what));
    }
    sizes.check("evolmerge", n_experts, 2)?;
    let mut trials = Trials::new(f);
    let ranking = trials.rank(n_experts)?;
    let (a, b) = (ranking.order[0], ranking.order[1]);
    let species = Layers { n_experts, n_layers, experts: [a, b] };
    let known = vec![
        (vec![1.0; n_layers], ranking.utilities[a]),
        (vec![0.0; n_layers], ranking.utilities[b]),
    ];
    let chance = Chance::new(Draws::new(seed), SEARCH);
    let n_left = sizes.calls - n_experts as u64;
    evolve(&species, sizes, known, &chance, n_left, &mut trials)?;
    Ok(trials.found())
}

/// Genomes `(n_layers)`: the share of the first expert in each layer.
struct Layers {
    n_experts: usize,
    n_layers: usize,
    experts: [usize; 2],
}

impl Species for Layers {
    fn founder(&self, _: usize, draws: &mut Stream) -> Vec<f64> {
        (0..self.n_layers).map(|_| draws.uniform()).collect()
    }

    fn child(&self, [p, q]: [&[f64]; 2], draws: &mut Stream) -> Vec<f64> {
        let cross = |(t_p, t_q): (&f64, &f64)| {
            let s = draws.uniform();
            s * t_p + (1.0 - s) * t_q
        };
        p.iter().zip(q).map(cross).collect()
    }

    fn model(&self, genome: &[f64]) -> Candidate {
        let row = |t: &f64| {
            let mut row = vec![0.0; self.n_experts];
            row[self.experts[0]] = *t;
            row[self.experts[1]] = 1.0 - t;
            row
        };
        Candidate::Layered(genome.iter().map(row).collect())
    }

    fn fitness(&self, _: &[f64], utility: f64) -> f64 {
        utility
    }
}
