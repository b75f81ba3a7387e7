//! The methods of the paper's tables and their parameters (section 3, appendix C "Baseline
//! Details"), and what each costs in evaluations of f. How they work is not known here.

use serde::{Deserialize, Serialize};

use super::Sizes;

/// A method and its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum Method {
    /// The expert with the highest f.
    BestSingle,
    /// One expert trained on the data of all.
    DataMerge,
    /// The experts vote on every answer.
    PredictionMerge {
        /// On what they vote.
        vote: Vote,
    },
    /// The mean of all experts.
    UniformSoup {
        /// Where the mean is taken.
        space: Space,
    },
    /// Spherical interpolation of the two best experts.
    Slerp {
        /// Where it is taken.
        space: Space,
        /// How far from the best expert to the second, 0 to 1.
        t: f64,
    },
    /// Sparsified sums with a vote on signs; the best f over several numbers of experts.
    DareTies {
        /// Where the sum is taken.
        space: Space,
        /// How many of the best experts are merged.
        top: Vec<usize>,
        /// The share of entries that is kept, above 0.
        density: f64,
        /// How what was kept makes up for what was not.
        rescale: Rescale,
        /// The weight of each expert.
        weights: Weights,
    },
    /// The mean of the experts, drawn towards the base by their angles; the best f over several
    /// numbers of experts.
    ModelStocks {
        /// Where angles and mean are taken.
        space: Space,
        /// How many of the best experts are merged.
        top: Vec<usize>,
    },
    /// A mean that takes in one expert after the other, from the best on, where f rises.
    GreedySoup {
        /// Where the mean is taken.
        space: Space,
        /// When an expert is taken in.
        accept: Accept,
    },
    /// A mean weighted by the experts' perplexity on the prompts; the best f over temperatures.
    PackOfLlms {
        /// Where the mean is taken.
        space: Space,
        /// The temperatures of the softmax over perplexities.
        temperatures: Vec<f64>,
    },
    /// A mixture of the next-token probabilities of the experts nearest to a prompt; the best f
    /// over several numbers of experts.
    Cbtm {
        /// How many experts speak for a prompt.
        top: Vec<usize>,
        /// The temperature of the softmax over squared distances.
        temperature: f64,
    },
    /// A genetic search over one coefficient per layer between the two best experts.
    #[serde(rename = "evolmerge")]
    EvolMerge {
        /// Where the experts are interpolated.
        space: Space,
        /// How many models a generation holds.
        population: usize,
        /// How many of them are kept for the next one.
        keep: usize,
        /// How many generations there are.
        generations: usize,
        /// How many evaluations may be spent.
        budget: Budget,
    },
    /// A genetic search over one coefficient per expert.
    #[serde(rename = "lorahub")]
    LoraHub {
        /// Where the experts are summed.
        space: Space,
        /// How many models a generation holds.
        population: usize,
        /// How many of them are kept for the next one.
        keep: usize,
        /// How many generations there are.
        generations: usize,
        /// The coefficients lie between minus and plus this.
        bound: f64,
        /// The weights of the mean |coefficient| that is taken off f; one search for each.
        alphas: Vec<f64>,
        /// How children are varied.
        mutation: Mutation,
        /// How many evaluations may be spent.
        budget: Budget,
    },
    /// Algorithm 1.
    ModelSwarms {
        /// Settings of this row alone, by name; sorted.
        set: Vec<(String, String)>,
        /// How many evaluations may be spent.
        budget: Budget,
    },
}

/// What of an adapter is mixed: with scale s, an adapter adds s B A to a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Space {
    /// A and B, each for itself.
    Factor,
    /// The product s B A.
    Delta,
    /// The base's weight plus the product.
    Full,
}

/// What a prediction merge counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vote {
    /// Answers: the one with most votes is given.
    Answers,
    /// Right and wrong: a question is solved if more experts are right than wrong; equal numbers
    /// are decided as between two answers. The authors' way for tasks of exact match.
    Correctness,
}

/// How DARE makes up for the entries that it drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rescale {
    /// Divides by the density: mergekit up to 0.0.6, and the DARE paper.
    Density,
    /// Restores the sum of absolute values: mergekit from 0.1 on.
    L1Norm,
}

/// The weights of k merged experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weights {
    /// 1/k each.
    Mean,
    /// 1 each.
    One,
}

/// When a greedy soup takes an expert in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accept {
    /// If f rises.
    Better,
    /// If f does not fall.
    NoWorse,
}

/// Gaussian mutation of a child's coefficients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutation {
    /// How likely a coefficient is varied, 0 to 1.
    pub probability: f64,
    /// The standard deviation.
    pub sigma: f64,
}

/// How many evaluations of f a method that searches may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// As many as its parameters (and the scale's runs) ask for, up to `Sizes::cap`.
    Own,
    /// `Sizes::budget` in one run, the ranking of the experts included.
    Equal,
}

impl Method {
    /// Every method's name in suites, and the parameters it takes, all of which it needs.
    pub const ALL: [(&'static str, &'static [&'static str]); 13] = [
        ("best-single", &[]),
        ("data-merge", &[]),
        ("prediction-merge", &["vote"]),
        ("uniform-soup", &["space"]),
        ("slerp", &["space", "t"]),
        ("dare-ties", &["space", "top", "density", "rescale", "weights"]),
        ("model-stocks", &["space", "top"]),
        ("greedy-soup", &["space", "accept"]),
        ("pack-of-llms", &["space", "temperatures"]),
        ("cbtm", &["top", "temperature"]),
        ("evolmerge", &["space", "population", "keep", "generations", "budget"]),
        (
            "lorahub",
            &[
                "space",
                "population",
                "keep",
                "generations",
                "bound",
                "alphas",
                "mutation",
                "budget",
            ],
        ),
        ("model-swarms", &["set", "budget"]),
    ];

    /// Whether the result depends on a seed.
    pub fn is_random(&self) -> bool {
        match self {
            Self::DareTies { density, .. } => *density < 1.0,
            Self::EvolMerge { .. } | Self::LoraHub { .. } | Self::ModelSwarms { .. } => true,
            _ => false,
        }
    }

    /// Whether what is tried next depends on what f was before.
    pub fn is_search(&self) -> bool {
        matches!(self, Self::GreedySoup { .. }) || self.budget().is_some()
    }

    /// How many evaluations may be spent, of the methods that are given a number.
    pub fn budget(&self) -> Option<Budget> {
        match self {
            Self::EvolMerge { budget, .. }
            | Self::LoraHub { budget, .. }
            | Self::ModelSwarms { budget, .. } => Some(*budget),
            _ => None,
        }
    }

    /// How many evaluations of f the method takes at most with `n_experts` experts, their ranking
    /// included. A uniform soup and merged data are evaluated once, for the report.
    pub fn n_evaluations(&self, n_experts: usize, sizes: &Sizes) -> u64 {
        let (n, equal, cap) = (n_experts as u64, sizes.budget as u64, sizes.cap as u64);
        match self {
            Self::DataMerge | Self::UniformSoup { .. } => 1,
            Self::BestSingle | Self::PredictionMerge { .. } => n,
            Self::Slerp { .. } => n + 1,
            Self::DareTies { top, .. } | Self::ModelStocks { top, .. } | Self::Cbtm { top, .. } => {
                n + top.len() as u64
            }
            Self::GreedySoup { .. } => n + (n - 1),
            Self::PackOfLlms { temperatures, .. } => n + temperatures.len() as u64,
            Self::EvolMerge { budget: Budget::Equal, .. }
            | Self::LoraHub { budget: Budget::Equal, .. }
            | Self::ModelSwarms { budget: Budget::Equal, .. } => equal,
            // The two parents' f are known from the ranking.
            Self::EvolMerge { population, keep, generations, .. } => {
                (n + genetic(*population, *keep, *generations) - 2).min(cap)
            }
            // The first generation holds the experts, whose f are known, too.
            Self::LoraHub { population, keep, generations, alphas, .. } => {
                let one = genetic(*population, *keep, *generations) - n;
                n.saturating_add(one.saturating_mul(alphas.len() as u64)).min(cap)
            }
            Self::ModelSwarms { set, .. } => {
                let own = set.iter().find(|(key, _)| key == "particles");
                let particles = own.and_then(|(_, value)| value.parse().ok());
                let particles: u64 = particles.unwrap_or(sizes.particles as u64);
                let one = particles * (1 + sizes.iterations as u64);
                one.saturating_mul(sizes.runs as u64).min(cap)
            }
        }
    }
}

/// Evaluations of a genetic search: all of the first generation, then what is new in each.
fn genetic(population: usize, keep: usize, generations: usize) -> u64 {
    let (population, keep) = (population as u64, keep as u64);
    population + (population - keep) * (generations as u64 - 1)
}
