//! The baselines that search or choose (appendix C, "Baseline Details"), on a utility f that the
//! caller gives: a function from a batch of candidates to their utilities.
//!
//! A method proposes a batch, is told its utilities and goes on from there; every batch is as large
//! as the method allows, so that it can be one job. Candidates are data: how an adapter is made of
//! one, in which space, and what f measures is known to the caller, who may also remember utilities
//! between methods (a candidate's JSON is exact). Draws depend on the seed alone.

mod choose;
mod evol_merge;
mod genetic;
mod lora_hub;
mod prompts;
mod trials;
mod vote;

use serde::Serialize;

use crate::error::Result;

pub use choose::{best_single, dare_ties, greedy_soup, model_stocks, slerp, uniform_soup};
pub use evol_merge::evol_merge;
pub use genetic::Genetic;
pub use lora_hub::{LoraHub, lora_hub};
pub use prompts::{PromptWeights, cbtm, centre, pack_of_llms, prompt_weights, unit};
pub use trials::ranked;
pub use vote::plurality;

/// f on the validation examples, of a batch of candidates: one finite utility each, in their order,
/// higher is better. An error of it ends the search.
pub type Utility<'a> = dyn FnMut(&[Candidate]) -> Result<Vec<f64>> + 'a;

/// A model made of n experts, which are meant by their index in the pool.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Candidate {
    /// The sum of the experts, each times its coefficient `(n)`. An expert by itself is a row with
    /// a single 1; a row of zeros is the base model.
    Linear(Vec<f64>),
    /// The same with a row for each decoder layer, `(n_layers, n)`.
    Layered(Vec<Vec<f64>>),
    /// Spherical interpolation from the first expert (t = 0) to the second (t = 1).
    Slerp {
        /// The two experts.
        experts: [usize; 2],
        /// How far, 0 to 1.
        t: f64,
    },
    /// Random entries of each expert, of the sign that the experts elect.
    DareTies {
        /// The experts, best first.
        experts: Vec<usize>,
        /// The share of entries that is kept, above 0 and up to 1.
        density: f64,
        /// The weight of every expert.
        weight: f64,
    },
    /// The mean of the experts, drawn towards the base by their angles.
    ModelStock {
        /// The experts, best first.
        experts: Vec<usize>,
    },
    /// cBTM: the next-token probabilities of the experts, mixed by [`prompt_weights`].
    Mixture {
        /// How many experts speak for a prompt.
        top: usize,
    },
}

/// What a method found, and what it cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// The method's result.
    pub candidate: Candidate,
    /// Its f.
    pub utility: f64,
    /// f of every candidate that was evaluated, in that order, `(n_calls)`. Where a method ranks
    /// the experts, the first n are theirs.
    pub utilities: Vec<f64>,
}

impl Found {
    /// How many utilities were asked for.
    pub fn n_calls(&self) -> usize {
        self.utilities.len()
    }

    /// The highest f after each call, `(n_calls)`. Its end is above the result's f where a method
    /// that may not report a lone expert found nothing better than one.
    pub fn best_so_far(&self) -> Vec<f64> {
        let mut best = f64::NEG_INFINITY;
        let rise = |&utility: &f64| {
            best = best.max(utility);
            best
        };
        self.utilities.iter().map(rise).collect()
    }
}

impl Candidate {
    /// Expert `expert_idx` of `n_experts` by itself.
    pub fn expert(n_experts: usize, expert_idx: usize) -> Self {
        assert!(expert_idx < n_experts, "expert {expert_idx} of {n_experts}");
        Self::mean(n_experts, &[expert_idx])
    }

    /// The mean of `experts` out of `n_experts`: 1/k for each of k, 0 for the others.
    pub fn mean(n_experts: usize, experts: &[usize]) -> Self {
        let mut row = vec![0.0; n_experts];
        let share = 1.0 / experts.len() as f64;
        experts.iter().for_each(|&expert_idx| row[expert_idx] = share);
        Self::Linear(row)
    }
}
