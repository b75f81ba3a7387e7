//! Is one accuracy better than another? The paper's z-test (Table 12), and tests that suit better.
//!
//! The paper compares two proportions as if they came from different questions. They come from the
//! same ones, so a paired test is the right one: McNemar's for right and wrong, and where answers
//! are worth other numbers, the sign-flip test of which McNemar's is a case. All are one-tailed as
//! in the paper: small p-values speak for the first of the two.

use crate::backend::cpu::math::exp_f64;
use crate::rng::{Draws, Purpose};

/// The quantile of the normal distribution that leaves 2.5 % above it.
const Z_975: f64 = 1.959_963_984_540_054;

/// The outcome of a z-test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ZTest {
    /// How many standard errors the first proportion lies above the second.
    pub z: f64,
    /// The chance of such a z or a larger one where both proportions are equal.
    pub p_value: f64,
}

/// The paper's test of a > b, for proportions `a` of `n_a` and `b` of `n_b` questions:
/// z = (a - b) / sqrt(p (1 - p) (1/n_a + 1/n_b)) with the pooled p, p-value 1 - Phi(z).
///
/// Without a variance (all right, all wrong, no questions) z is 0 and the p-value 1/2. The paper
/// also puts AbstainQA's effective reliability here, which is no proportion and may be negative.
pub fn one_tailed_z(a: f64, n_a: u64, b: f64, n_b: u64) -> ZTest {
    let undecided = ZTest { z: 0.0, p_value: 0.5 };
    if n_a == 0 || n_b == 0 {
        return undecided;
    }
    let (n_a, n_b) = (n_a as f64, n_b as f64);
    let pooled = (a * n_a + b * n_b) / (n_a + n_b);
    let variance = pooled * (1.0 - pooled) * (1.0 / n_a + 1.0 / n_b);
    if variance.is_nan() || variance <= 0.0 {
        return undecided;
    }
    let z = (a - b) / variance.sqrt();
    ZTest { z, p_value: normal_tail(z) }
}

/// The number of stars that Table 12 gives a p-value: 3 below 0.01, 2 below 0.05, 1 below 0.1.
pub fn stars(p_value: f64) -> u8 {
    [0.1, 0.05, 0.01].iter().map(|bound| u8::from(p_value < *bound)).sum()
}

/// 1 - Phi(z): the share of the standard normal distribution above `z`, to 12 digits or better.
pub fn normal_tail(z: f64) -> f64 {
    0.5 * erfc(z * std::f64::consts::FRAC_1_SQRT_2)
}

/// The complementary error function; 0 from 26 on.
fn erfc(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x >= 26.0 {
        return 0.0;
    }
    let bell = std::f64::consts::FRAC_2_SQRT_PI * exp_f64(-x * x);
    if x < 2.0 {
        // erf x = 2/sqrt(pi) e^(-x^2) (x + 2/3 x^3 + 4/15 x^5 + ...): no term is negative.
        let (mut term, mut sum) = (x, x);
        for n in 1..60 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        return 1.0 - bell * sum;
    }
    // sqrt(pi) e^(x^2) erfc x = 1/(x + (1/2)/(x + 1/(x + (3/2)/(x + 2/(x + ...))))).
    let mut tail = x;
    for n in (1..=120).rev() {
        tail = x + 0.5 * f64::from(n) / tail;
    }
    0.5 * bell / tail
}

/// The outcome of McNemar's test on pairs of answers to the same questions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct McNemar {
    /// Questions that only the first answers rightly.
    pub only_first: u64,
    /// Questions that only the second answers rightly.
    pub only_second: u64,
    /// The chance of so many `only_first` or more, where both are equally likely.
    pub exact: f64,
    /// The same, with the observed count taken at half its chance: less cautious.
    pub mid_p: f64,
}

/// McNemar's exact test of "the first is better", one-tailed, from the right and wrong answers of
/// both to the same questions, in the same order.
///
/// # Panics
/// If the two lists differ in length.
pub fn mcnemar(first: &[bool], second: &[bool]) -> McNemar {
    assert_eq!(first.len(), second.len(), "one answer of each to every question");
    let pairs = || first.iter().zip(second);
    let only_first = pairs().filter(|(first, second)| **first && !**second).count();
    let only_second = pairs().filter(|(first, second)| !**first && **second).count();
    let (tail, at) = binomial_tail(only_first + only_second, only_first);
    McNemar {
        only_first: only_first as u64,
        only_second: only_second as u64,
        exact: tail,
        mid_p: tail - 0.5 * at,
    }
}

/// How many assignments of signs [`paired`] draws where it cannot count them all.
pub const SIGN_DRAWS: u32 = 10_000;

/// The chance of a mean of `first - second` as high as this one or higher, where each difference
/// could as well have had the other sign, one-tailed. Exact, and McNemar's, where all answers are
/// worth 0 or 1; else by [`SIGN_DRAWS`] draws, the observed signs counted as one of them.
///
/// # Panics
/// If the two lists differ in length.
pub fn paired(first: &[f64], second: &[f64]) -> f64 {
    assert_eq!(first.len(), second.len(), "one answer of each to every question");
    let is_right_or_wrong = |worth: &f64| *worth == 0.0 || *worth == 1.0;
    if first.iter().chain(second).all(is_right_or_wrong) {
        let right = |worths: &[f64]| worths.iter().map(|worth| *worth == 1.0).collect::<Vec<_>>();
        return mcnemar(&right(first), &right(second)).exact;
    }
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let observed: f64 = differences.iter().sum();
    // Sums in another order differ in their last bits, and equal ones count.
    let magnitudes: f64 = differences.iter().map(|difference| difference.abs()).sum();
    let least = observed - magnitudes * 1e-12;
    let draws = Draws::new(0);
    let as_high = |draw: &u32| {
        let mut stream = draws.stream(Purpose::Signs, *draw, 0);
        let signed = differences.iter().map(|d| if stream.uniform() < 0.5 { *d } else { -d });
        signed.sum::<f64>() >= least
    };
    let n_as_high = (0..SIGN_DRAWS).filter(as_high).count();
    (n_as_high + 1) as f64 / f64::from(SIGN_DRAWS + 1)
}

/// For the heads of `n` fair coins: the chances of `k` or more, and of exactly `k`.
fn binomial_tail(n: usize, k: usize) -> (f64, f64) {
    // Weights relative to the middle one, so that no power of 1/2 underflows.
    let middle = n / 2;
    let mut weights = vec![1.0; n + 1];
    for heads in middle + 1..=n {
        weights[heads] = weights[heads - 1] * (n - heads + 1) as f64 / heads as f64;
    }
    for heads in (0..middle).rev() {
        weights[heads] = weights[heads + 1] * (heads + 1) as f64 / (n - heads) as f64;
    }
    let all: f64 = weights.iter().sum();
    (weights[k..].iter().rev().sum::<f64>() / all, weights[k] / all)
}

/// Wilson's 95 % interval for the proportion of which `n_right` of `n` is a sample; (0, 1) for n 0.
///
/// # Panics
/// If more are right than there are.
pub fn wilson(n_right: u64, n: u64) -> (f64, f64) {
    assert!(n_right <= n, "{n_right} right of {n}");
    if n == 0 {
        return (0.0, 1.0);
    }
    let (right, n) = (n_right as f64, n as f64);
    let square = Z_975 * Z_975;
    let centre = (right + 0.5 * square) / (n + square);
    let wrong = n - right;
    let reach = Z_975 / (n + square) * (right * wrong / n + 0.25 * square).sqrt();
    let low = if n_right == 0 { 0.0 } else { centre - reach };
    let high = if wrong == 0.0 { 1.0 } else { centre + reach };
    (low, high)
}
