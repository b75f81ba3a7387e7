//! Algorithm 1: the loop. What a location is stands in [`super::space`], what is drawn in
//! [`super::chance`]; what a utility measures is known to the caller alone.
//!
//! All particles of an iteration use the g and g_w of the previous one. Ties for g go to the lowest
//! index.

use super::chance::Chance;
use super::record::{FoundLocation, IterationRecord, Origin, Outcome, StopReason};
use super::settings::{PatienceRule, Restart, ResultRule, Settings, Tie, Velocity};
use super::space::Space;
use super::start::{aim, populate};
use super::walk::step_weights;
use crate::error::{Error, Result};

/// A search that stands between two iterations.
#[derive(Debug)]
pub struct Search<S> {
    pub(super) settings: Settings,
    pub(super) chance: Chance,
    pub(super) space: S,
    pub(super) standings: Vec<Standing>, // (N)
    pub(super) best: Extreme,
    pub(super) worst: Extreme,
    pub(super) n_evaluations: u64,
    /// The iteration that `advance` runs next.
    pub(super) next: u32,
    /// The last iteration that may run.
    pub(super) last: u32,
    /// The iteration since which patience is counted: the last change of g.
    pub(super) patient_since: u32,
    /// lambda of the next iteration.
    step: f64,
}

/// How one particle stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub f: f64,
    pub f_p: f64,
    /// The iteration that found p.
    pub since: u32,
}

/// The global best or worst.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extreme {
    pub f: f64,
    pub source: Origin,
}

impl<S: Space> Search<S> {
    /// A search over the experts on which the first particles of `space` stand: populates and aims,
    /// evaluates nothing. `space` must have `settings.n_particles(n)` particles.
    pub fn new(settings: &Settings, seed: u64, space: S) -> Result<Self> {
        Self::with_chance(settings, Chance::new(settings, seed), space)
    }

    /// The same with a given source of draws.
    pub fn with_chance(settings: &Settings, chance: Chance, space: S) -> Result<Self> {
        let rows = space.coefficients();
        settings.check(rows.n_experts())?;
        let n_particles = settings.n_particles(rows.n_experts());
        assert_eq!(rows.n_particles(), n_particles, "the space holds the settings' particles");
        let source = Origin { particle: 0, iteration: 0 };
        let unknown = Standing { f: f64::NEG_INFINITY, f_p: f64::NEG_INFINITY, since: 0 };
        let mut search = Self {
            settings: settings.clone(),
            chance,
            space,
            standings: vec![unknown; n_particles],
            best: Extreme { f: f64::NEG_INFINITY, source },
            worst: Extreme { f: f64::INFINITY, source },
            n_evaluations: 0,
            next: 0,
            last: settings.max_iterations,
            patient_since: 0,
            step: settings.step,
        };
        populate(settings, &mut search.chance, &mut search.space);
        aim(settings, &mut search.chance, &mut search.space);
        Ok(search)
    }

    /// Runs to the end. `evaluate` is given the space and the particles to evaluate, and returns
    /// their utilities in that order; `observe` sees each iteration, 0 included. An error of either
    /// ends the search.
    pub fn run(
        &mut self,
        mut evaluate: impl FnMut(&S, &[usize]) -> Result<Vec<f64>>,
        mut observe: impl FnMut(&IterationRecord) -> Result<()>,
    ) -> Result<Outcome> {
        while let Some(record) = self.advance(&mut evaluate)? {
            observe(&record)?;
        }
        Ok(self.outcome())
    }

    /// Runs one iteration, at first iteration 0, which evaluates all particles where they stand;
    /// none once the search is over. After an error the search must not be used further.
    pub fn advance(
        &mut self,
        evaluate: impl FnOnce(&S, &[usize]) -> Result<Vec<f64>>,
    ) -> Result<Option<IterationRecord>> {
        if self.stop_reason().is_some() {
            return Ok(None);
        }
        let record = match self.next {
            0 => self.begin(evaluate)?,
            k => self.iterate(k, evaluate)?,
        };
        self.next += 1;
        Ok(Some(record))
    }

    /// Iteration 0: every f(x_i), so p_i = x_i and the first g and g_w.
    fn begin(
        &mut self,
        evaluate: impl FnOnce(&S, &[usize]) -> Result<Vec<f64>>,
    ) -> Result<IterationRecord> {
        let all: Vec<usize> = (0..self.standings.len()).collect();
        self.measure(0, &all, evaluate)?;
        self.keep_bests(0, &all);
        if self.settings.velocity == Velocity::Best {
            all.iter().for_each(|&particle| self.space.aim_at_global_best(particle));
        }
        Ok(self.record(0, all, Vec::new(), Vec::new(), None))
    }

    /// Iteration k of the search.
    fn iterate(
        &mut self,
        k: u32,
        evaluate: impl FnOnce(&S, &[usize]) -> Result<Vec<f64>>,
    ) -> Result<IterationRecord> {
        // If p_i did not change in c_r iterations: x_i = p_i, v_i = 0. The paper ends an iteration
        // with this; nothing looks at x_i in between, so both modes do it here.
        let put_back = match self.settings.restart {
            Restart::Off => Vec::new(),
            Restart::AfterMove => self.strays(k - 1),
            Restart::BeforeMove => self.strays(k),
        };
        put_back.iter().for_each(|&particle| self.space.restart(particle));
        // Draw r; v_i = (1 / C) [...]; x_i = x_i + lambda v_i.
        let weights = self.walk(k)?;
        let step = self.step;
        // f(x_i), then p_i, g and g_w where they improve.
        let dropped = self.chance.dropped(&self.settings, k, self.standings.len());
        let evaluated: Vec<usize> = (0..dropped.len()).filter(|&i| !dropped[i]).collect();
        self.measure(k, &evaluated, evaluate)?;
        self.keep_bests(k, &evaluated);
        // lambda = lambda phi_lambda.
        self.step = (step * self.settings.step_factor).max(self.settings.step_min);
        let restarted = match self.settings.restart {
            Restart::AfterMove => self.strays(k),
            Restart::Off | Restart::BeforeMove => put_back,
        };
        Ok(self.record(k, evaluated, restarted, weights, Some(step)))
    }

    /// Why the search is over, or none while another iteration can run.
    pub fn stop_reason(&self) -> Option<StopReason> {
        if self.next > self.last {
            return Some(StopReason::MaxIterations);
        }
        let [k, t, c] = [self.next, self.patient_since, self.settings.patience].map(u64::from);
        let unchanged = match self.settings.patience_rule {
            PatienceRule::Unchanged => k > t + c,
            PatienceRule::EqualHistory => k > c && k >= t + c,
        };
        unchanged.then_some(StopReason::Patience)
    }

    /// The locations, as the last iteration left them.
    pub fn space(&self) -> &S {
        &self.space
    }

    /// The next iteration's number.
    pub fn next_iteration(&self) -> u32 {
        self.next
    }

    /// The product so far. The search must have run iteration 0.
    pub fn outcome(&self) -> Outcome {
        assert!(self.next > 0, "nothing has been evaluated yet");
        let personal_bests: Vec<FoundLocation> =
            (0..self.standings.len()).map(|i| self.found(i)).collect();
        let best_idx = match self.settings.result {
            ResultRule::GlobalBest => self.best.source.particle,
            ResultRule::FirstBestParticle => extreme_of(&personal_bests, |found| found.utility),
        };
        Outcome {
            best: personal_bests[best_idx].clone(),
            personal_bests,
            stop: self.stop_reason(),
            n_iterations: self.next - 1,
            n_evaluations: self.n_evaluations,
        }
    }

    /// Particles whose personal best is c_r or more iterations old at k. Being put back on it does
    /// not make it younger.
    fn strays(&self, k: u32) -> Vec<usize> {
        let old = |s: &Standing| f64::from(k - s.since) >= self.settings.restart_after;
        (0..self.standings.len()).filter(|&i| old(&self.standings[i])).collect()
    }

    /// Velocity and location update of all particles. Returns the weights of each.
    fn walk(&mut self, k: u32) -> Result<Vec<[f64; 4]>> {
        let mut weights = Vec::with_capacity(self.standings.len());
        for particle in 0..self.standings.len() {
            let a = step_weights(&self.settings, &self.chance, k, particle);
            self.space.advance(particle, a, self.step);
            weights.push(a);
            let here = self.space.coefficients().location(particle);
            if here.iter().any(|c| !c.is_finite()) {
                return Err(Error::Usage(format!(
                    "iteration {k}: particle {particle} has left the finite numbers; smaller \
                     steps keep it there (settings step and step_factor)"
                )));
            }
        }
        Ok(weights)
    }

    fn measure(
        &mut self,
        k: u32,
        evaluated: &[usize],
        evaluate: impl FnOnce(&S, &[usize]) -> Result<Vec<f64>>,
    ) -> Result<()> {
        if evaluated.is_empty() {
            return Ok(());
        }
        let utilities = evaluate(&self.space, evaluated)?;
        assert_eq!(utilities.len(), evaluated.len(), "one utility per evaluated particle");
        for (&particle, utility) in evaluated.iter().zip(utilities) {
            if !utility.is_finite() {
                return Err(Error::Usage(format!(
                    "iteration {k}: the utility of particle {particle} is {utility}; it must be a \
                     finite number"
                )));
            }
            self.standings[particle].f = utility;
        }
        self.n_evaluations += evaluated.len() as u64;
        Ok(())
    }

    /// p, g and g_w, each by strict improvement.
    fn keep_bests(&mut self, k: u32, evaluated: &[usize]) {
        if evaluated.is_empty() {
            return;
        }
        for &particle in evaluated {
            let standing = &mut self.standings[particle];
            if standing.f > standing.f_p {
                (standing.f_p, standing.since) = (standing.f, k);
                self.space.mark_personal_best(particle);
            }
        }
        let f = |&particle: &usize| self.standings[particle].f;
        let highest = evaluated[extreme_of(evaluated, f)];
        let lowest = match self.settings.worst_tie {
            Tie::Highest if k > 0 => {
                let from_behind: Vec<usize> = evaluated.iter().rev().copied().collect();
                from_behind[extreme_of(&from_behind, |i| -f(i))]
            }
            _ => evaluated[extreme_of(evaluated, |i| -f(i))],
        };
        if self.standings[highest].f > self.best.f {
            self.best = self.extreme_at(highest, k);
            self.patient_since = k;
            self.space.mark_global_best(highest);
        }
        if self.standings[lowest].f < self.worst.f {
            self.worst = self.extreme_at(lowest, k);
            self.space.mark_global_worst(lowest);
        }
    }

    fn extreme_at(&self, particle: usize, iteration: u32) -> Extreme {
        Extreme { f: self.standings[particle].f, source: Origin { particle, iteration } }
    }

    fn found(&self, particle: usize) -> FoundLocation {
        let Standing { f_p, since, .. } = self.standings[particle];
        FoundLocation {
            utility: f_p,
            source: Origin { particle, iteration: since },
            coefficients: self.space.coefficients().personal_best(particle).to_vec(),
        }
    }

    fn record(
        &self,
        iteration: u32,
        evaluated: Vec<usize>,
        restarted: Vec<usize>,
        weights: Vec<[f64; 4]>,
        step: Option<f64>,
    ) -> IterationRecord {
        let rows = self.space.coefficients();
        IterationRecord {
            iteration,
            evaluated,
            f: self.standings.iter().map(|s| s.f).collect(),
            f_p: self.standings.iter().map(|s| s.f_p).collect(),
            f_g: self.best.f,
            f_gw: self.worst.f,
            g_source: self.best.source,
            gw_source: self.worst.source,
            restarted,
            weights,
            step,
            next_step: self.step,
            coefficients: (0..rows.n_particles()).map(|i| rows.location(i).to_vec()).collect(),
        }
    }
}

/// The index of the first item whose value is the highest.
fn extreme_of<T>(items: &[T], value: impl Fn(&T) -> f64) -> usize {
    let mut highest = 0;
    for i in 1..items.len() {
        if value(&items[i]) > value(&items[highest]) {
            highest = i;
        }
    }
    highest
}
