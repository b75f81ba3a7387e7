//! Choices from a stream of draws.

use crate::rng::Stream;

/// One of `items`.
pub fn pick<'a, T>(stream: &mut Stream, items: &'a [T]) -> &'a T {
    &items[stream.below(items.len())]
}

/// Puts `items` into an order of the stream's choice.
pub fn shuffle<T>(stream: &mut Stream, items: &mut [T]) {
    for n_left in (2..=items.len()).rev() {
        items.swap(n_left - 1, stream.below(n_left));
    }
}

/// `k` different numbers below `n`.
pub fn sample(stream: &mut Stream, n: usize, k: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..n).collect();
    shuffle(stream, &mut all);
    all.truncate(k);
    all
}

/// An index, each as likely as its weight says.
pub fn weighted(stream: &mut Stream, weights: &[f64]) -> usize {
    let mut left = stream.uniform() * weights.iter().sum::<f64>();
    for (idx, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return idx;
        }
    }
    weights.len() - 1
}
