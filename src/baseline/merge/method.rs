//! The merging methods by name, with their parameters, and what each wants of them.

use super::Tensors;
use super::dare::{Rescale, dare_ties, drawn_mask};
use super::linear::{Divide, linear};
use super::slerp::slerp;
use super::stock::{Grain, model_stock};
use super::ties::{Election, ties};
use crate::error::{Error, Result};

/// A formula that makes one tensor of several.
#[derive(Clone, Debug)]
pub enum Method<'a> {
    /// A weighted sum.
    Linear {
        /// One for each expert.
        weights: Vec<f64>,
        /// What the sum is divided by.
        divide: Divide,
    },
    /// Spherical interpolation between two experts.
    Slerp {
        /// From 0, the first expert, to 1, the second.
        t: f64,
    },
    /// Trim, elect a sign, merge.
    Ties(Ties),
    /// Drop and rescale, elect a sign, merge.
    DareTies(DareTies<'a>),
    /// The mean, drawn towards the base.
    ModelStock {
        /// What has a share of its own.
        grain: Grain,
    },
}

/// What a vote on signs needs.
#[derive(Clone, Debug)]
pub struct Ties {
    /// One for each expert.
    pub weights: Vec<f64>,
    /// The share of elements that stays: one for each expert, in (0, 1].
    pub densities: Vec<f64>,
    /// What the vote counts.
    pub election: Election,
    /// What the sum of those that agree is divided by.
    pub divide: Divide,
}

/// What dropping at random needs, and the vote after it.
#[derive(Clone, Debug)]
pub struct DareTies<'a> {
    /// The vote.
    pub ties: Ties,
    /// How the rest is rescaled.
    pub rescale: Rescale,
    /// What is dropped.
    pub masks: Masks<'a>,
}

/// Where masks come from.
#[derive(Clone, Copy)]
pub enum Masks<'a> {
    /// From the draws of a seed.
    Drawn {
        /// The seed.
        seed: u64,
    },
    /// The elements that an expert keeps, given a tensor's name and the expert's index.
    Given(&'a (dyn Fn(&str, usize) -> Vec<bool> + Sync)),
}

impl std::fmt::Debug for Masks<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Drawn { seed } => write!(formatter, "Drawn({seed})"),
            Self::Given(_) => write!(formatter, "Given"),
        }
    }
}

impl Method<'_> {
    /// Whether the parameters are in their ranges and of the right number.
    pub fn check(&self, n_experts: usize) -> Result<()> {
        match self {
            Self::Linear { weights, .. } => check_weights(weights, n_experts),
            Self::Slerp { .. } if n_experts != 2 => {
                refuse(format!("slerp is between two experts, {n_experts} were given"))
            }
            Self::Slerp { t } if !(0.0..=1.0).contains(t) => {
                refuse(format!("t is {t}, wanted a number from 0 to 1"))
            }
            Self::Slerp { .. } => Ok(()),
            Self::Ties(ties) | Self::DareTies(DareTies { ties, .. }) => {
                check_weights(&ties.weights, n_experts)?;
                assert_eq!(ties.densities.len(), n_experts, "one density for each expert");
                match ties.densities.iter().find(|&&density| !(density > 0.0 && density <= 1.0)) {
                    Some(density) => {
                        refuse(format!("density is {density}, wanted more than 0 and at most 1"))
                    }
                    None => Ok(()),
                }
            }
            Self::ModelStock { .. } if n_experts < 2 => {
                refuse("model stock wants at least two experts, one was given".into())
            }
            Self::ModelStock { .. } => Ok(()),
        }
    }

    /// The merged tensor. `name` addresses the draws; rows are `n_cols` long.
    pub(super) fn merge(&self, name: &str, n_cols: usize, tensors: Tensors) -> Vec<f32> {
        match self {
            Self::Linear { weights, divide } => linear(tensors, weights, *divide),
            Self::Slerp { t } => slerp(tensors.experts[0], tensors.experts[1], *t),
            Self::Ties(Ties { weights, densities, election, divide }) => {
                ties(tensors, weights, densities, *election, *divide)
            }
            Self::DareTies(DareTies { ties, rescale, masks }) => {
                let Ties { weights, densities, election, divide } = ties;
                let mask = |(expert_idx, &density): (usize, &f64)| match masks {
                    Masks::Drawn { seed } => {
                        drawn_mask(*seed, name, expert_idx, density, tensors.len())
                    }
                    Masks::Given(mask) => (density < 1.0).then(|| mask(name, expert_idx)),
                };
                let masks: Vec<_> = densities.iter().enumerate().map(mask).collect();
                dare_ties(tensors, weights, densities, &masks, *rescale, *election, *divide)
            }
            Self::ModelStock { grain: Grain::Tensor } => model_stock(tensors, tensors.len()),
            Self::ModelStock { grain: Grain::Row } => model_stock(tensors, n_cols),
        }
    }
}

fn check_weights(weights: &[f64], n_experts: usize) -> Result<()> {
    let n_weights = weights.len();
    if n_weights != n_experts {
        return refuse(format!("{n_weights} weights for {n_experts} experts, wanted one for each"));
    }
    match weights.iter().find(|weight| !weight.is_finite()) {
        Some(weight) => refuse(format!("a weight is {weight}, wanted a number")),
        None => Ok(()),
    }
}

fn refuse(what: String) -> Result<()> {
    Err(Error::Usage(what))
}
