//! Functions whose optima are known, and what is true of every method that searches on them.

#![allow(dead_code)] // each test file uses its own part of this

use model_swarms::baseline::search::{Candidate, Found, Genetic, LoraHub, Utility};
use model_swarms::error::Result;
use model_swarms::suite::Mutation;

/// f = -|w - target|^2 of a row of coefficients; of a row per layer, the mean. Merges are worth the
/// mean of their experts' f.
pub fn value(candidate: &Candidate, target: &[f64]) -> f64 {
    let n = target.len();
    let row_value = |row: &Vec<f64>| {
        assert_eq!(row.len(), n);
        -row.iter().zip(target).map(|(w, t)| (w - t).powi(2)).sum::<f64>()
    };
    let mean = |experts: &[usize]| {
        let one = |&i: &usize| value(&Candidate::expert(n, i), target);
        experts.iter().map(one).sum::<f64>() / experts.len() as f64
    };
    match candidate {
        Candidate::Linear(row) => row_value(row),
        Candidate::Layered(rows) => rows.iter().map(row_value).sum::<f64>() / rows.len() as f64,
        Candidate::Slerp { experts, .. } => mean(experts),
        Candidate::DareTies { experts, .. } | Candidate::ModelStock { experts } => mean(experts),
        Candidate::Mixture { top } => -(*top as f64 - 3.0).powi(2),
    }
}

/// Runs `search` on that f; also returns all candidates, in the order in which they were asked for.
pub fn run(
    target: &[f64],
    search: impl FnOnce(&mut Utility) -> Result<Found>,
) -> (Found, Vec<Candidate>) {
    run_on(|candidate| value(candidate, target), search)
}

/// Runs `search` on a given f, and holds its result to what is true of all methods.
pub fn run_on(
    f: impl Fn(&Candidate) -> f64,
    search: impl FnOnce(&mut Utility) -> Result<Found>,
) -> (Found, Vec<Candidate>) {
    let mut asked: Vec<Candidate> = Vec::new();
    let found = search(&mut |candidates| {
        assert!(!candidates.is_empty(), "an empty batch");
        asked.extend_from_slice(candidates);
        Ok(candidates.iter().map(&f).collect())
    })
    .unwrap();
    let utilities: Vec<f64> = asked.iter().map(&f).collect();
    assert_eq!(found.utilities, utilities, "every call is kept");
    assert_eq!(found.n_calls(), asked.len());
    assert_eq!(found.utility, f(&found.candidate), "the result has its own f");
    let highest = utilities.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let best_so_far = found.best_so_far();
    assert!(best_so_far.is_sorted() && best_so_far.last() == Some(&highest));
    (found, asked)
}

/// Ranks the experts 1, 3, 0, 4, 2.
pub const TARGET: [f64; 5] = [0.1, 0.5, -0.2, 0.3, 0.1];

/// EvolMerge's sizes in the paper.
pub const GENETIC: Genetic = Genetic { population: 50, keep: 10, generations: 5, calls: 100_000 };

/// LoraHub as in Table 1.
pub fn hub(alphas: &[f64]) -> LoraHub {
    LoraHub {
        sizes: Genetic { generations: 10, ..GENETIC },
        bound: 1.5,
        alphas: alphas.to_vec(),
        mutation: Mutation { probability: 0.1, sigma: 0.1 },
    }
}

/// The row of a linear candidate.
pub fn linear(candidate: &Candidate) -> &[f64] {
    match candidate {
        Candidate::Linear(row) => row,
        other => panic!("{other:?} is not linear"),
    }
}
