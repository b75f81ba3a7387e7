//! The runs of a swarm row: each with its settings, its choice from the grid and its seed.

use serde::Serialize;

use super::seeds::seed_at;
use crate::error::{Error, Result};
use crate::rng::{Draws, Purpose};
use crate::suite::{Budget, Scale, Suite};
use crate::swarm::Settings;
use crate::swarm::settings::State;

/// One run of Algorithm 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SwarmRun {
    /// The seed of all its draws.
    pub seed: u64,
    /// Everything else.
    pub settings: Settings,
}

/// The runs of a row with these own settings, `seed` being the cell's. A run is planned for the
/// evaluations that it takes at most, N (1 + K); the last one that the budget covers in part has
/// fewer iterations.
pub fn runs(
    suite: &Suite,
    scale: Scale,
    set: &[(String, String)],
    budget: Budget,
    seed: u64,
) -> Result<Vec<SwarmRun>> {
    let sizes = suite.sizes(scale);
    let (n_runs, mut left) = match budget {
        Budget::Own => (sizes.runs, sizes.cap),
        Budget::Equal => (1, sizes.budget),
    };
    let mut runs = Vec::new();
    for run_idx in 0..n_runs {
        let mut settings = Settings::new(suite.search.mode);
        settings.particles = sizes.particles;
        settings.patience = sizes.patience as u32; // counts are a million at most
        settings.restart_after = sizes.restart as f64;
        for (key, value) in &suite.search.set {
            settings.set(key, value)?;
        }
        let mut draws = Draws::new(seed).stream(Purpose::Grid, run_idx as u32, 0);
        for (key, values) in suite.grid.lists() {
            settings.set(key, &values[draws.below(values.len())].to_string())?;
        }
        for (key, value) in set {
            settings.set(key, value)?;
        }
        if settings.state != State::Coefficients {
            let what = "setting state: a table is computed with coefficients";
            return Err(Error::Usage(what.into()));
        }
        let n_particles = settings.n_particles(suite.experts);
        let affordable = left / n_particles;
        if affordable == 0 {
            break;
        }
        let iterations = match budget {
            Budget::Own => sizes.iterations.min(affordable - 1),
            Budget::Equal => affordable - 1,
        };
        if budget == Budget::Equal {
            settings.patience = iterations.max(1) as u32; // it may not end before its budget does
        }
        settings.max_iterations = iterations as u32;
        settings.check(suite.experts)?;
        left -= n_particles * (1 + iterations);
        runs.push(SwarmRun { seed: seed_at(seed, &["run", &run_idx.to_string()]), settings });
    }
    if runs.is_empty() {
        let what = format!("{left} evaluations do not cover the first of a swarm");
        return Err(Error::Usage(what));
    }
    Ok(runs)
}
