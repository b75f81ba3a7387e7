//! Means, spreads, correlations and entropies (Table 9, Figures 7, 12 and 14).
//!
//! Sums run in the order given, in f64.

use std::collections::BTreeMap;

use crate::backend::cpu::math::ln_f64;

/// Mean and spread of a number over seeds or runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many values there are.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Their sample standard deviation (n - 1); `None` for a single value.
    pub sd: Option<f64>,
}

/// Mean and sample standard deviation of `values`; `None` where there are none.
pub fn summarize(values: &[f64]) -> Option<Summary> {
    let n = values.len();
    if n == 0 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    let sd = (n > 1).then(|| (squares / (n - 1) as f64).sqrt());
    Some(Summary { n, mean, sd })
}

/// Pearson's correlation of pairs; `None` below two pairs, or where one side does not vary.
pub fn pearson(pairs: &[(f64, f64)]) -> Option<f64> {
    let n = pairs.len() as f64;
    let mean_x = pairs.iter().map(|(x, _)| x).sum::<f64>() / n;
    let mean_y = pairs.iter().map(|(_, y)| y).sum::<f64>() / n;
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        let (dx, dy) = (x - mean_x, y - mean_y);
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    (xx > 0.0 && yy > 0.0).then(|| (xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0))
}

/// How much answers to one question scatter over its paraphrases (Figure 14).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entropy {
    /// To base e, our default: the paper does not name the base.
    pub nats: f64,
    /// To base 2.
    pub bits: f64,
}

/// The entropy -sum p ln p of the distribution of `answers`. An answer that could not be parsed
/// (`None`) is one more category. 0 for equal answers and for none.
pub fn entropy<T: Ord>(answers: &[Option<T>]) -> Entropy {
    let mut counts: BTreeMap<&Option<T>, u64> = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer).or_default() += 1;
    }
    // Sorted by size: the same sum whatever the answers are called.
    let mut counts: Vec<u64> = counts.into_values().collect();
    counts.sort_unstable();
    let n = answers.len() as f64;
    let shares = counts.iter().map(|&count| count as f64 / n);
    let nats = shares.map(|p| -p * ln_f64(p)).sum::<f64>().max(0.0);
    Entropy { nats, bits: nats * std::f64::consts::LOG2_E }
}
