//! What the search leaves to chance: parents, first velocities, walk factors, dropped evaluations.
//!
//! Numbers come from the run's own seed (addressed, see [`crate::rng`]), from a replay of the
//! authors' `random.seed(42)`, or from a recording. What a number is used for is decided by the
//! settings, in [`super::search`].

use serde::Deserialize;

use super::settings::{DrawSource, Settings, Velocity};
use crate::rng::mt19937::Mt19937;
use crate::rng::{Draws, Purpose};

/// The parents of a child and where it lies between them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Child {
    /// Two different particles.
    pub parents: [usize; 2],
    /// Uniform in [0, 1).
    pub u: f64,
}

/// Draws written down beforehand, in the form of the golden runs.
#[derive(Debug, Clone, Deserialize)]
pub struct Recorded {
    /// The parents of child m = 0.., particle n + m.
    pub parents: Vec<[usize; 2]>,
    /// The uniform number of child m.
    pub u: Vec<f64>,
    /// The particle that particle i's first velocity points at.
    pub partner: Vec<usize>,
    /// (r_v, r_p, r_g, r_w) of particle i in iteration k, at `[k - 1][i]`.
    pub r: Vec<Vec<[f64; 4]>>,
}

/// A source of draws.
#[derive(Debug, Clone)]
pub enum Chance {
    /// Every draw has an address under one seed.
    Seeded(Draws),
    /// The authors' generator for what their parent process draws, one seed for the walk factors.
    Authors {
        /// After `random.seed(42)`, read in the order of their program.
        parent: Box<Mt19937>,
        /// The walk factors, which their workers draw unseeded.
        workers: Draws,
    },
    /// Numbers from a recording; nothing is dropped.
    Recorded(Recorded),
}

impl Chance {
    /// The source that `settings.draws` names.
    pub fn new(settings: &Settings, seed: u64) -> Self {
        match settings.draws {
            DrawSource::Seed => Self::Seeded(Draws::new(seed)),
            DrawSource::Authors42 => {
                Self::Authors { parent: Box::new(Mt19937::new(42)), workers: Draws::new(seed) }
            }
        }
    }

    /// Draws two different parents among the first `n_pool` particles for the child that becomes
    /// particle `child` of a swarm grown from `n_experts`.
    pub(super) fn child(&mut self, n_experts: usize, child: usize, n_pool: usize) -> Child {
        match self {
            Self::Seeded(draws) => {
                let mut stream = draws.stream(Purpose::Populate, 0, child);
                let parents = two_of(n_pool, |n| stream.below(n));
                Child { parents, u: stream.uniform() }
            }
            Self::Authors { parent, .. } => {
                let parents = two_of(n_pool, |n| parent.below(n as u32) as usize);
                Child { parents, u: parent.random() }
            }
            Self::Recorded(draws) => {
                let m = child - n_experts;
                Child { parents: draws.parents[m], u: draws.u[m] }
            }
        }
    }

    /// The particle that `particle`'s first velocity points at.
    pub(super) fn partner(&mut self, rule: Velocity, particle: usize, n_particles: usize) -> usize {
        let allowed = |target| rule != Velocity::RandomOther || target != particle;
        match self {
            Self::Seeded(draws) => {
                let mut stream = draws.stream(Purpose::Velocity, 0, particle);
                first(allowed, || stream.below(n_particles))
            }
            Self::Authors { parent, .. } => {
                first(allowed, || parent.below(n_particles as u32) as usize)
            }
            Self::Recorded(draws) => draws.partner[particle],
        }
    }

    /// Four numbers in [0, 1) for the walk factors of `particle`; a further `attempt` has others.
    pub(super) fn factors(&self, iteration: u32, particle: usize, attempt: usize) -> [f64; 4] {
        let draws = match self {
            Self::Seeded(draws) | Self::Authors { workers: draws, .. } => draws,
            Self::Recorded(draws) => return draws.r[iteration as usize - 1][particle],
        };
        let mut stream = draws.stream(Purpose::Factors, iteration, particle);
        for _ in 0..4 * attempt {
            stream.uniform();
        }
        std::array::from_fn(|_| stream.uniform())
    }

    /// Which particles skip their evaluation in this iteration. The authors draw all 1 + N numbers
    /// every time, whatever the probabilities.
    pub(super) fn dropped(
        &mut self,
        settings: &Settings,
        iteration: u32,
        n_particles: usize,
    ) -> Vec<bool> {
        let particles = 0..n_particles;
        let (whole, each): (f64, Vec<f64>) = match self {
            Self::Seeded(draws) => (
                draws.stream(Purpose::DropIteration, iteration, 0).uniform(),
                particles
                    .map(|i| draws.stream(Purpose::DropParticle, iteration, i).uniform())
                    .collect(),
            ),
            Self::Authors { parent, .. } => {
                (parent.random(), particles.map(|_| parent.random()).collect())
            }
            Self::Recorded(_) => return vec![false; n_particles],
        };
        let all = whole < settings.drop_iterations;
        each.iter().map(|&u| all || u < settings.drop_particles).collect()
    }

    /// The particle that an injected expert, particle `newcomer`, first moves towards.
    pub(super) fn host(&mut self, iteration: u32, newcomer: usize) -> usize {
        match self {
            Self::Seeded(draws) | Self::Authors { workers: draws, .. } => {
                draws.stream(Purpose::Injection, iteration, newcomer).below(newcomer)
            }
            Self::Recorded(_) => 0,
        }
    }
}

fn two_of(n_pool: usize, mut below: impl FnMut(usize) -> usize) -> [usize; 2] {
    let a = below(n_pool);
    [a, first(|b| b != a, || below(n_pool))]
}

fn first(allowed: impl Fn(usize) -> bool, mut draw: impl FnMut() -> usize) -> usize {
    loop {
        let drawn = draw();
        if allowed(drawn) {
            return drawn;
        }
    }
}
