//! The weights of one step: walk randomness factors, normalised (Step 1 and Limitations).

use super::chance::Chance;
use super::settings::{Randomness, Settings};

/// Below this share of sum phi an annealed C is taken for an accident and drawn again.
const LEAST_SHARE: f64 = 0.05;
/// How often it is drawn again.
const N_ATTEMPTS: usize = 100;

/// (a_v, a_p, a_g, a_w) = r phi / C with C = r_v phi_v + r_p phi_p + r_g phi_g + r_w phi_w, for
/// `particle` in `iteration`. Where C is 0 the velocity stays: (1, 0, 0, 0).
pub(super) fn step_weights(
    settings: &Settings,
    chance: &Chance,
    iteration: u32,
    particle: usize,
) -> [f64; 4] {
    let phi = [settings.inertia, settings.cognitive, settings.social, settings.repel];
    let draw = |attempt| chance.factors(iteration, particle, attempt);
    let annealed = |attempt| draw(attempt).map(|u| 1.2 * u - 0.2);
    let r = match settings.randomness {
        Randomness::Off => [1.0; 4],
        Randomness::Uniform => draw(0),
        Randomness::AnnealedLiteral => annealed(0),
        Randomness::Annealed => {
            let least = LEAST_SHARE * dot([1.0; 4], phi);
            let kept = (0..=N_ATTEMPTS).map(annealed).find(|&r| dot(r, phi) >= least);
            kept.unwrap_or_else(|| annealed(N_ATTEMPTS).map(f64::abs))
        }
    };
    let c = dot(r, phi);
    if c == 0.0 {
        return [1.0, 0.0, 0.0, 0.0];
    }
    std::array::from_fn(|term| r[term] * phi[term] / c)
}

fn dot(r: [f64; 4], phi: [f64; 4]) -> f64 {
    r[0] * phi[0] + r[1] * phi[1] + r[2] * phi[2] + r[3] * phi[3]
}
