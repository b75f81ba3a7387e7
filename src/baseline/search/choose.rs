//! Methods that try a few candidates, most of them after ranking the experts: best single, uniform
//! and greedy soup, slerp, Dare-ties, model stocks.
//!
//! Each takes as many calls of f as it has candidates; a larger budget would change nothing.

use super::trials::Trials;
use super::{Candidate, Found, Utility};
use crate::error::{Error, Result};
use crate::suite::{Accept, Weights};

/// The expert with the highest f, the first of equals. n calls.
pub fn best_single(n_experts: usize, f: &mut Utility) -> Result<Found> {
    let mut trials = Trials::new(f);
    trials.rank(n_experts)?;
    Ok(trials.found())
}

/// The mean of all experts. One call, for the report.
pub fn uniform_soup(n_experts: usize, f: &mut Utility) -> Result<Found> {
    assert!(n_experts > 0, "no experts");
    let all: Vec<usize> = (0..n_experts).collect();
    Trials::new(f).choose(vec![Candidate::mean(n_experts, &all)])
}

/// Wortsman et al.'s greedy soup: S starts as the best expert; from the second best on, an expert
/// joins S if the mean of S with it is accepted against the f of S. n + (n - 1) calls.
pub fn greedy_soup(n_experts: usize, accept: Accept, f: &mut Utility) -> Result<Found> {
    let mut trials = Trials::new(f);
    let ranking = trials.rank(n_experts)?;
    let mut soup = vec![ranking.order[0]];
    let mut utility = ranking.utilities[ranking.order[0]];
    for &expert_idx in &ranking.order[1..] {
        soup.push(expert_idx);
        let with_it = trials.ask(&[Candidate::mean(n_experts, &soup)])?[0];
        let joins = match accept {
            Accept::Better => with_it > utility,
            Accept::NoWorse => with_it >= utility,
        };
        if joins {
            utility = with_it;
        } else {
            soup.pop();
        }
    }
    let candidate = Candidate::mean(n_experts, &soup);
    Ok(Found { candidate, utility, ..trials.found() })
}

/// Spherical interpolation from the best expert to the second, `t` of the way. n + 1 calls.
pub fn slerp(n_experts: usize, t: f64, f: &mut Utility) -> Result<Found> {
    check_top("slerp", &[2], n_experts)?;
    let mut trials = Trials::new(f);
    let ranking = trials.rank(n_experts)?;
    let experts = [ranking.order[0], ranking.order[1]];
    trials.choose(vec![Candidate::Slerp { experts, t }])
}

/// Dare-ties of the k best experts for each k of `top`: the highest f, the first of equals.
/// n + |top| calls.
pub fn dare_ties(
    n_experts: usize,
    top: &[usize],
    density: f64,
    weights: Weights,
    f: &mut Utility,
) -> Result<Found> {
    best_of_top("dare-ties", n_experts, top, f, |experts| {
        let weight = match weights {
            Weights::Mean => 1.0 / experts.len() as f64,
            Weights::One => 1.0,
        };
        Candidate::DareTies { experts, density, weight }
    })
}

/// The model stock of the k best experts for each k of `top`: the highest f, the first of equals.
/// n + |top| calls.
pub fn model_stocks(n_experts: usize, top: &[usize], f: &mut Utility) -> Result<Found> {
    best_of_top("model-stocks", n_experts, top, f, |experts| Candidate::ModelStock { experts })
}

/// Ranks the experts, merges the k best for each k of `top`, and chooses among the merges.
fn best_of_top(
    method: &str,
    n_experts: usize,
    top: &[usize],
    f: &mut Utility,
    merge: impl Fn(Vec<usize>) -> Candidate,
) -> Result<Found> {
    check_top(method, top, n_experts)?;
    let mut trials = Trials::new(f);
    let ranking = trials.rank(n_experts)?;
    trials.choose(top.iter().map(|&k| merge(ranking.order[..k].to_vec())).collect())
}

/// Refuses to merge fewer than two experts, or more than there are.
fn check_top(method: &str, top: &[usize], n_experts: usize) -> Result<()> {
    assert!(!top.is_empty(), "{method}: nothing to choose from");
    match top.iter().find(|&k| !(2..=n_experts).contains(k)) {
        None => Ok(()),
        Some(k) => Err(Error::Usage(format!(
            "{method} merges the best {k} experts, wanted 2 or more, and the pool has {n_experts}"
        ))),
    }
}
