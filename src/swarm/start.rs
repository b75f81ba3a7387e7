//! Step 0: the pool of experts becomes a swarm, and each particle gets its first velocity.

use super::chance::Chance;
use super::settings::{Populate, Settings, Velocity};
use super::space::Space;

/// x_new = t x_a + (1 - t) x_b, N - n times, with t ~ U(0, 1) and two of the n experts as parents,
/// or, growing, with t ~ U(0, 2) and earlier children as possible parents.
pub(super) fn populate(settings: &Settings, chance: &mut Chance, space: &mut impl Space) {
    let n_experts = space.coefficients().n_experts();
    for child in n_experts..space.coefficients().n_particles() {
        let (n_pool, widest) = match settings.populate {
            Populate::Off => unreachable!("without children N is n"),
            Populate::Experts => (n_experts, 1.0),
            Populate::Growing => (child, 2.0),
        };
        let drawn = chance.child(n_experts, child, n_pool);
        let t = widest * drawn.u;
        space.mix(child, drawn.parents, [t, 1.0 - t]);
    }
}

/// v_i = random({x_j}) - x_i. The velocities `zero` and `best` draw nothing: particles are at rest
/// until the first evaluation has found g.
pub(super) fn aim(settings: &Settings, chance: &mut Chance, space: &mut impl Space) {
    let rule = settings.velocity;
    if !matches!(rule, Velocity::Random | Velocity::RandomOther) {
        return;
    }
    let n_particles = space.coefficients().n_particles();
    for particle in 0..n_particles {
        let target = chance.partner(rule, particle, n_particles);
        space.aim(particle, target);
    }
}
