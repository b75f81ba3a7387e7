//! Methods that weigh experts by the prompts: Pack of LLMs (one row of weights for all prompts, by
//! perplexity) and cBTM (a row for each prompt, by distance to the experts' training data).
//!
//! Losses and embeddings are measured elsewhere, and so is the mixing of probabilities. A larger
//! budget would change nothing here.

use super::trials::{Trials, ranked};
use super::{Candidate, Found, Utility};
use crate::backend::cpu::math::{exp_f64, ln_f64};
use crate::error::{Error, Result};

/// Pack of LLMs on weights: w = softmax(-loss / tau) for each temperature tau; the highest f, the
/// first of equals. `losses[i]` is expert i's mean negative log-likelihood per token, in nats, over
/// the prompts of the validation examples, each prompt with the same weight. One call for each
/// temperature, which is above 0.
pub fn pack_of_llms(losses: &[f64], temperatures: &[f64], f: &mut Utility) -> Result<Found> {
    assert!(!losses.is_empty(), "no experts");
    let row = |&temperature: &f64| softmax("loss", losses, temperature).map(Candidate::Linear);
    let candidates = temperatures.iter().map(row).collect::<Result<_>>()?;
    Trials::new(f).choose(candidates)
}

/// cBTM with the k nearest experts for each k of `top`: the highest f, the first of equals. One
/// call for each k.
pub fn cbtm(top: &[usize], f: &mut Utility) -> Result<Found> {
    Trials::new(f).choose(top.iter().map(|&top| Candidate::Mixture { top }).collect())
}

/// The shares of the experts in the answer to one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptWeights {
    /// `(n)`: not negative, sum 1, 0 for all but the k nearest experts.
    pub weights: Vec<f64>,
    /// The entropy of the weights of all experts, in nats: ln n if no expert is nearer than others.
    pub entropy: f64,
}

/// cBTM's weights w_j = softmax_j(-|h - c_j|^2 / T) with h the `query`, `(dim)`, c the `centres`,
/// `(n, dim)`, and T the `temperature`; then the `top` largest, the first of equals, over their
/// sum. Fewer than `top` experts are all taken.
pub fn prompt_weights(
    query: &[f64],
    centres: &[Vec<f64>],
    temperature: f64,
    top: usize,
) -> Result<PromptWeights> {
    assert!(!centres.is_empty() && top > 0, "{top} of {} experts", centres.len());
    let distances: Vec<f64> =
        centres.iter().map(|centre| squared_distance(query, centre)).collect();
    let all = softmax("distance", &distances, temperature)?;
    let entropy = -all.iter().filter(|w| w.is_normal()).map(|&w| w * ln_f64(w)).sum::<f64>();
    let mut weights = vec![0.0; all.len()];
    for &expert_idx in ranked(&all).iter().take(top) {
        weights[expert_idx] = all[expert_idx];
    }
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|w| *w /= sum);
    Ok(PromptWeights { weights, entropy })
}

/// The centre of an expert's training data: the mean of its embeddings, `(n_texts, dim)`, each
/// brought to length 1, itself brought to length 1. Zeros stay zeros.
pub fn centre(embeddings: &[Vec<f64>]) -> Vec<f64> {
    assert!(!embeddings.is_empty(), "no embeddings");
    let mut sum = vec![0.0; embeddings[0].len()];
    for embedding in embeddings {
        assert_eq!(embedding.len(), sum.len(), "embeddings of one size");
        sum.iter_mut().zip(unit(embedding)).for_each(|(sum, x)| *sum += x);
    }
    unit(&sum)
}

/// `vector` over its length; zeros stay zeros.
pub fn unit(vector: &[f64]) -> Vec<f64> {
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 1.0 };
    vector.iter().map(|x| x * scale).collect()
}

fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "embeddings of one size");
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// softmax(-values / temperature), `(n)`; `what` names a value that is not finite.
fn softmax(what: &str, values: &[f64], temperature: f64) -> Result<Vec<f64>> {
    assert!(temperature > 0.0, "temperature {temperature}");
    if let Some((expert_idx, value)) = values.iter().enumerate().find(|(_, x)| !x.is_finite()) {
        return Err(Error::Usage(format!(
            "the {what} of expert {expert_idx} is {value}; it must be a finite number"
        )));
    }
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let parts: Vec<f64> = values.iter().map(|x| exp_f64((least - x) / temperature)).collect();
    let sum: f64 = parts.iter().sum();
    Ok(parts.into_iter().map(|part| part / sum).collect())
}
