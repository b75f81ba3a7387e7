//! Calls of f: counted, checked and kept in order; and the rank of experts by f.

use std::cmp::Ordering;

use super::{Candidate, Found, Utility};
use crate::error::{Error, Result};

/// The indices of `utilities` from the highest to the lowest; equals keep their order.
pub fn ranked(utilities: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..utilities.len()).collect();
    order.sort_by(|&a, &b| descending(utilities[a], utilities[b]));
    order
}

/// The higher number first; 0 and -0 are equal.
pub(super) fn descending(a: f64, b: f64) -> Ordering {
    (b + 0.0).total_cmp(&(a + 0.0))
}

/// f, and what it has said so far.
pub(super) struct Trials<'f, 'u> {
    f: &'f mut Utility<'u>,
    utilities: Vec<f64>, // (n_calls)
    best: Option<(Candidate, f64)>,
}

/// The experts by f.
pub(super) struct Ranking {
    /// f of each expert, `(n)`.
    pub utilities: Vec<f64>,
    /// The experts, best first; ties keep the pool's order.
    pub order: Vec<usize>,
}

impl<'f, 'u> Trials<'f, 'u> {
    pub fn new(f: &'f mut Utility<'u>) -> Self {
        Self { f, utilities: Vec::new(), best: None }
    }

    /// The utilities of a batch.
    pub fn ask(&mut self, candidates: &[Candidate]) -> Result<Vec<f64>> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let utilities = (self.f)(candidates)?;
        assert_eq!(utilities.len(), candidates.len(), "one utility per candidate");
        for (candidate, &utility) in candidates.iter().zip(&utilities) {
            if !utility.is_finite() {
                return Err(Error::Usage(format!(
                    "the utility of call {} is {utility}; it must be a finite number",
                    self.utilities.len() + 1
                )));
            }
            self.utilities.push(utility);
            if self.best.as_ref().is_none_or(|(_, highest)| utility > *highest) {
                self.best = Some((candidate.clone(), utility));
            }
        }
        Ok(utilities)
    }

    /// How many utilities were asked for.
    pub fn n_calls(&self) -> u64 {
        self.utilities.len() as u64
    }

    /// Evaluates each of `n_experts` experts by itself.
    pub fn rank(&mut self, n_experts: usize) -> Result<Ranking> {
        assert!(n_experts > 0, "no experts");
        let experts: Vec<Candidate> =
            (0..n_experts).map(|expert_idx| Candidate::expert(n_experts, expert_idx)).collect();
        let utilities = self.ask(&experts)?;
        Ok(Ranking { order: ranked(&utilities), utilities })
    }

    /// Evaluates `candidates`, one of which is the result: the first with the highest f.
    pub fn choose(mut self, candidates: Vec<Candidate>) -> Result<Found> {
        assert!(!candidates.is_empty(), "nothing to choose from");
        self.best = None;
        self.ask(&candidates)?;
        Ok(self.found())
    }

    /// The best candidate of all calls; the earliest of equals.
    pub fn found(self) -> Found {
        let (candidate, utility) = self.best.expect("something has been evaluated");
        Found { candidate, utility, utilities: self.utilities }
    }
}
