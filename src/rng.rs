//! Random draws that can be replayed.
//!
//! A draw is addressed by (purpose, iteration, particle) under one seed, and each address owns a
//! ChaCha12 stream: no draw depends on call order, threads or resume. Mode `code` replays the
//! authors' generator instead ([`mt19937`]). This room knows nothing of swarms.

pub mod mt19937;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream of draws is for. The numbers are part of every run's identity: a new purpose takes
/// a new number, and no number is ever changed or used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Parents and mixing share of a child (Step 0); the particle is the child.
    Populate = 1,
    /// The particle that an initial velocity points at (Step 0).
    Velocity = 2,
    /// r_v, r_p, r_g, r_w of one particle in one iteration (Step 1).
    Factors = 3,
    /// Whether an iteration skips its evaluations (Figure 9, drop-K).
    DropIteration = 4,
    /// Whether one particle skips its evaluation (Figure 9, drop-N).
    DropParticle = 5,
    /// The particle that an injected expert first moves towards (Figure 13).
    Injection = 6,
    /// Candidates of the methods that search without a swarm.
    Baseline = 7,
    /// Tokens that are sampled rather than taken greedily.
    Sampling = 8,
    /// Orders of examples.
    Shuffle = 9,
    /// Which elements of a tensor an expert keeps (DARE); the particle is the expert.
    Mask = 10,
    /// A run's choice from a suite's grid of hyperparameters; the iteration is the run.
    Grid = 11,
    /// The mini testbed's words and facts, and what its experts know.
    World = 12,
    /// The mini testbed's questions.
    Data = 13,
    /// The mini testbed's documents; the iteration is the step, the particle the model and row.
    Corpus = 14,
    /// Weights from which the mini testbed's models start.
    Weights = 15,
    /// Random mixtures by which a testbed is checked.
    Check = 16,
    /// Signs of the differences in a paired test; the iteration is the draw.
    Signs = 17,
}

/// All draws of one seed.
#[derive(Debug, Clone, Copy)]
pub struct Draws {
    seed: u64,
}

impl Draws {
    /// The draws of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The stream at one address. The ChaCha key is the seed (8 bytes, little-endian, then zeros);
    /// the 64-bit stream number holds the purpose in bits 56 to 63, the iteration in bits 24 to 55
    /// and the particle in bits 0 to 23.
    pub fn stream(&self, purpose: Purpose, iteration: u32, particle: usize) -> Stream {
        assert!(particle < 1 << 24, "particle {particle} does not fit its 24 bits");
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        let mut rng = ChaCha12Rng::from_seed(key);
        rng.set_stream((purpose as u64) << 56 | u64::from(iteration) << 24 | particle as u64);
        Stream { rng }
    }
}

/// The draws at one address, in order.
#[derive(Debug, Clone)]
pub struct Stream {
    rng: ChaCha12Rng,
}

impl Stream {
    /// The next uniform number in [0, 1): 53 bits, so every value is a multiple of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// The next uniform integer below `n`, without bias: surplus values are drawn again.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "there is no integer below 0");
        let mask = u64::MAX >> ((n - 1) as u64 | 1).leading_zeros();
        loop {
            let drawn = self.rng.next_u64() & mask;
            if drawn < n as u64 {
                return drawn as usize;
            }
        }
    }
}
