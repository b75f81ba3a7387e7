//! Experts that come and go (appendix B, "Modularity"): injection into a search, removal from a
//! location.

use super::record::Origin;
use super::search::{Extreme, Search, Standing};
use super::space::Space;
use crate::error::{Error, Result};

/// A location must keep at least this much of the other experts for one to be removed.
const LEAST_REMAINDER: f64 = 1e-3;

/// Which newcomers join a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Those that become the global best: f(z) > f(g). The paper.
    IfBest,
    /// All.
    Always,
}

impl<S: Space> Search<S> {
    /// Offers expert z with f(z) = `utility` to a search that has run iteration 0. Where
    /// `admission` lets it in, `append` must append it to the space, and it joins as a particle
    /// with p = z and v = x_j - z for a random particle j. The step length goes on as it was, the
    /// patience starts anew, and a search that was over goes on for up to another K iterations.
    /// Returns the index of the new particle, none where z stays out.
    pub fn inject(
        &mut self,
        utility: f64,
        admission: Admission,
        append: impl FnOnce(&mut S) -> Result<()>,
    ) -> Result<Option<usize>> {
        assert!(self.next > 0, "newcomers are compared with g, which iteration 0 finds");
        if !utility.is_finite() {
            return Err(Error::Usage(format!(
                "the utility of a new expert is {utility}; it must be a finite number"
            )));
        }
        self.n_evaluations += 1;
        if admission == Admission::IfBest && utility <= self.best.f {
            return Ok(None);
        }
        let (particle, iteration) = (self.standings.len(), self.next - 1);
        if self.stop_reason().is_some() {
            self.last = iteration.saturating_add(self.settings.max_iterations);
        }
        append(&mut self.space)?;
        assert_eq!(self.space.coefficients().n_particles(), particle + 1, "one expert is appended");
        self.standings.push(Standing { f: utility, f_p: utility, since: iteration });
        let host = self.chance.host(iteration, particle);
        self.space.aim(particle, host);
        let newcomer = Extreme { f: utility, source: Origin { particle, iteration } };
        if utility > self.best.f {
            self.best = newcomer;
            self.space.mark_global_best(particle);
        }
        if utility < self.worst.f {
            self.worst = newcomer;
            self.space.mark_global_worst(particle);
        }
        self.patient_since = iteration;
        Ok(Some(particle))
    }
}

/// The location `row` without expert `expert`: its column is deleted and the others are divided by
/// 1 - c_e, so the result, over n - 1 experts, holds nothing of it and still sums to 1. Refused
/// where |1 - c_e| < 1e-3.
pub fn remove_expert(row: &[f64], expert: usize) -> Result<Vec<f64>> {
    assert!(expert < row.len(), "expert {expert} of {}", row.len());
    let remainder = 1.0 - row[expert];
    if remainder.abs() < LEAST_REMAINDER {
        return Err(Error::Usage(format!(
            "expert {expert} cannot be removed: the others make up only {remainder:e} of the \
             location, at least {LEAST_REMAINDER:e} is needed"
        )));
    }
    let others = row.iter().enumerate().filter(|&(j, _)| j != expert);
    Ok(others.map(|(_, c)| c / remainder).collect())
}

/// The step that led to x_t, as the printed removal formula needs it.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// (a_v, a_p, a_g, a_w): r phi, divided by C or not.
    pub weights: [f64; 4],
    /// lambda.
    pub step: f64,
}

/// The printed formula for a step whose g and g_w both came from a removed expert, kept for
/// comparison: x~_t = C \[x_t - lambda a_g g + lambda a_w g_w\], where C is
/// (1 + lambda a_v + 2 lambda a_w) / (1 + lambda (a_v - a_g + a_w)).
///
/// Its position weights do not sum to 1 and it leaves earlier steps as they were, so
/// [`remove_expert`] is the one to use.
pub fn paper_step(x_t: &[f64], g: &[f64], g_w: &[f64], taken: Step) -> Vec<f64> {
    let [a_v, _, a_g, a_w] = taken.weights;
    let lambda = taken.step;
    let c = (1.0 + lambda * a_v + 2.0 * lambda * a_w) / (1.0 + lambda * (a_v - a_g + a_w));
    let without = |j: usize| x_t[j] - lambda * a_g * g[j] + lambda * a_w * g_w[j];
    (0..x_t.len()).map(|j| c * without(j)).collect()
}
