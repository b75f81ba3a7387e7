//! What the tests of the search share: settings by name, and an analytic utility.

use model_swarms::error::Result;
use model_swarms::swarm::{Coefficients, Search, Settings};

/// Settings with some fields set by name.
pub fn with(mut settings: Settings, changes: &[(&str, &str)]) -> Settings {
    changes.iter().for_each(|(key, value)| settings.set(key, value).unwrap());
    settings
}

/// A search over `n_experts` experts, as coefficients.
pub fn search(settings: &Settings, seed: u64, n_experts: usize) -> Search<Coefficients> {
    let space = Coefficients::new(n_experts, settings.n_particles(n_experts));
    Search::new(settings, seed, space).unwrap()
}

/// -|| c - target ||^2, as a utility of coefficients.
pub fn closeness(target: &[f64]) -> impl Fn(&Coefficients, &[usize]) -> Result<Vec<f64>> {
    let target = target.to_vec();
    move |space, asked| {
        let at = |&i: &usize| -> f64 {
            let gaps = space.location(i).iter().zip(&target).map(|(c, t)| c - t);
            -gaps.map(|gap| gap * gap).sum::<f64>()
        };
        Ok(asked.iter().map(at).collect())
    }
}

/// The optimum of the analytic utility, outside the experts' hull.
pub const TARGET: [f64; 4] = [0.1, 0.6, -0.2, 0.5];
