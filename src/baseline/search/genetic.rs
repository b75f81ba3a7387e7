//! The genetic search that EvolMerge and LoraHub share: generations of genomes, the fittest of
//! which are kept and crossed.
//!
//! The first generation is filled up with random genomes; each later one holds the survivors of the
//! last and the children of two different survivors. What a genome means is a [`Species`]'s affair.

use super::Candidate;
use super::trials::{Trials, descending};
use crate::error::{Error, Result};
use crate::rng::{Draws, Purpose, Stream};

/// How many bits of a draw's iteration number the generation.
const GENERATION_BITS: u32 = 20;

/// The sizes of a genetic search. It ends with its last generation or its last call, whichever
/// comes first: the paper's sizes end by generations; for more calls than those take, ask for more
/// generations, which go on from where the paper's stop. A generation that the calls do not cover
/// is cut short, so a search with fewer calls is the beginning of one with more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Genetic {
    /// How many models a generation holds.
    pub population: usize,
    /// How many of them are kept for the next one: at least 2, fewer than `population`.
    pub keep: usize,
    /// How many generations there are, the first included.
    pub generations: usize,
    /// At most so many calls of f in all, the ranking of the experts included.
    pub calls: u64,
}

impl Genetic {
    /// Refuses sizes that cannot be run: the first generation holds more than `n_known` models, and
    /// the ranking of `n_experts` experts comes before it.
    pub(super) fn check(&self, method: &str, n_experts: usize, n_known: usize) -> Result<()> {
        let most = (1 << GENERATION_BITS) - 1;
        let complain = |what: String| Err(Error::Usage(format!("{method}: {what}")));
        let Self { population, keep, generations, calls } = *self;
        if !(n_known + 1..=most).contains(&population) {
            let wanted = format!("wanted {} to {most}", n_known + 1);
            return complain(format!("a population of {population}, {wanted}"));
        }
        if !(2..population).contains(&keep) {
            let wanted = format!("wanted at least 2 and fewer than the population of {population}");
            return complain(format!("{keep} are kept, {wanted}"));
        }
        if !(1..=most).contains(&generations) {
            return complain(format!("{generations} generations, wanted 1 to {most}"));
        }
        if calls < n_experts as u64 {
            let what = format!("{calls} evaluations do not cover the ranking of the experts");
            return complain(format!("{what}, of which there are {n_experts}"));
        }
        Ok(())
    }
}

/// What a genome stands for, and how it varies.
pub(super) trait Species {
    /// Genome `idx` of those that fill up the first generation.
    fn founder(&self, idx: usize, draws: &mut Stream) -> Vec<f64>;

    /// A child of two different genomes.
    fn child(&self, parents: [&[f64]; 2], draws: &mut Stream) -> Vec<f64>;

    /// The model that a genome describes.
    fn model(&self, genome: &[f64]) -> Candidate;

    /// What decides about survival, by a genome and its f.
    fn fitness(&self, genome: &[f64], utility: f64) -> f64;
}

/// The draws of one search: addressed by generation and child.
pub(super) struct Chance {
    draws: Draws,
    search: u32,
}

impl Chance {
    /// Searches of one seed with different numbers draw independently.
    pub fn new(draws: Draws, search: usize) -> Self {
        assert!(search < 1 << (32 - GENERATION_BITS), "search {search} has no draws");
        Self { draws, search: search as u32 }
    }

    fn stream(&self, generation: usize, child_idx: usize) -> Stream {
        let iteration = self.search << GENERATION_BITS | generation as u32; // checked by `Genetic`
        self.draws.stream(Purpose::Baseline, iteration, child_idx)
    }
}

/// A genome of the current generation.
struct Individual {
    genome: Vec<f64>,
    fitness: f64,
}

/// Runs one search from genomes whose f is known, with at most `n_calls` calls; `trials` keeps what
/// it finds. The caller has checked `sizes`.
pub(super) fn evolve(
    species: &impl Species,
    sizes: &Genetic,
    known: Vec<(Vec<f64>, f64)>,
    chance: &Chance,
    n_calls: u64,
    trials: &mut Trials,
) -> Result<()> {
    let individual = |(genome, utility): (Vec<f64>, f64)| {
        let fitness = species.fitness(&genome, utility);
        Individual { genome, fitness }
    };
    let mut living: Vec<Individual> = known.into_iter().map(individual).collect();
    let mut n_left = n_calls;
    for generation in 0..sizes.generations {
        if n_left == 0 {
            break;
        }
        if generation > 0 {
            // Stable: of equals, those that lived first survive.
            living.sort_by(|a, b| descending(a.fitness, b.fitness));
            living.truncate(sizes.keep);
        }
        let n_new = ((sizes.population - living.len()) as u64).min(n_left);
        let born = |idx: usize| {
            let mut draws = chance.stream(generation, idx);
            if generation == 0 {
                return species.founder(idx, &mut draws);
            }
            let parents = two_of(living.len(), &mut draws).map(|i| living[i].genome.as_slice());
            species.child(parents, &mut draws)
        };
        let genomes: Vec<Vec<f64>> = (0..n_new as usize).map(born).collect();
        let models: Vec<Candidate> = genomes.iter().map(|genome| species.model(genome)).collect();
        let utilities = trials.ask(&models)?;
        living.extend(genomes.into_iter().zip(utilities).map(individual));
        n_left -= n_new;
    }
    Ok(())
}

/// Two different numbers below `n`, all pairs alike.
fn two_of(n: usize, draws: &mut Stream) -> [usize; 2] {
    let first = draws.below(n);
    let second = draws.below(n - 1);
    [first, if second < first { second } else { second + 1 }]
}
