//! What a search says about itself: one record per iteration, and how it ended.

use serde::{Deserialize, Serialize};

/// Where a best or worst location was found; written as `[particle, iteration]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(usize, u32)", into = "(usize, u32)")]
pub struct Origin {
    /// The particle that stood there.
    pub particle: usize,
    /// The iteration after whose step it did; 0 is before the first.
    pub iteration: u32,
}

impl From<(usize, u32)> for Origin {
    fn from((particle, iteration): (usize, u32)) -> Self {
        Self { particle, iteration }
    }
}

impl From<Origin> for (usize, u32) {
    fn from(origin: Origin) -> Self {
        (origin.particle, origin.iteration)
    }
}

/// One iteration of Algorithm 1. N is the number of particles, n of experts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IterationRecord {
    /// k; 0 is the evaluation of the initial swarm.
    pub iteration: u32,
    /// The particles that were evaluated; the others kept their previous utility (drop-K, drop-N).
    pub evaluated: Vec<usize>,
    /// f of each particle where its step led, `(N)`; where not evaluated, its last known value.
    pub f: Vec<f64>,
    /// f(p_i), `(N)`.
    pub f_p: Vec<f64>,
    /// f(g).
    pub f_g: f64,
    /// f(g_w).
    pub f_gw: f64,
    /// Where g was found.
    pub g_source: Origin,
    /// Where g_w was found.
    pub gw_source: Origin,
    /// The particles put back on their personal best: after this iteration's evaluation (restart
    /// `after-move`) or before its step (`before-move`).
    pub restarted: Vec<usize>,
    /// The normalised weights (a_v, a_p, a_g, a_w) of each particle's step, `(N, 4)`; empty at 0.
    pub weights: Vec<[f64; 4]>,
    /// lambda of this iteration's step; none at 0.
    pub step: Option<f64>,
    /// lambda of the next iteration.
    pub next_step: f64,
    /// Each particle's location where its step led, that is where it was evaluated and before it is
    /// put back, as coefficients over the experts, `(N, n)`.
    pub coefficients: Vec<Vec<f64>>,
}

/// Why a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// K iterations were run.
    MaxIterations,
    /// g did not change for the patience c.
    Patience,
}

/// A location found by a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoundLocation {
    /// f there.
    pub utility: f64,
    /// The particle and iteration that found it. It is still that particle's personal best.
    pub source: Origin,
    /// The location over the experts, `(n)`.
    pub coefficients: Vec<f64>,
}

/// The product of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The result, by `settings.result`; as weights it is `personal_best(best.source.particle)`.
    pub best: FoundLocation,
    /// Every particle's personal best, `(N)`.
    pub personal_bests: Vec<FoundLocation>,
    /// Why the search ended; none while it could go on.
    pub stop: Option<StopReason>,
    /// Iterations run, not counting iteration 0.
    pub n_iterations: u32,
    /// Evaluations of f, those of iteration 0 included.
    pub n_evaluations: u64,
}
