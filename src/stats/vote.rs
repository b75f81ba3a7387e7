//! The authors' `ensemble_based_on_utility`, bug included: prediction merge in mode `code`.
//!
//! It means to vote among the `top_k` best models and to break ties by the voters' utilities. A
//! loop variable is left over from the loop before, so that every vote weighs what the last chosen
//! model is worth: among tied answers the first seen wins, unless that weight is 0 (the first seen
//! of all wins) or negative (the rarest wins).

/// The winner of each question. `predictions[model][question]`; for tasks of exact match the
/// authors vote over scores of 0 and 1, so a prediction may be anything that can be compared.
///
/// # Panics
/// If `top_k` is not 1 to the number of models, or the lists do not fit each other.
pub fn authors_vote<T: Clone + PartialEq>(
    predictions: &[Vec<T>],
    utilities: &[f64],
    top_k: usize,
) -> Vec<T> {
    assert_eq!(predictions.len(), utilities.len(), "one utility for each model");
    assert!((1..=utilities.len()).contains(&top_k), "top {top_k} of {}", utilities.len());
    let n_questions = predictions[0].len();
    assert!(predictions.iter().all(|of| of.len() == n_questions), "one answer to each question");
    let chosen = choose(utilities, top_k);
    let weight = utilities[chosen[chosen.len() - 1]];
    (0..n_questions)
        .map(|question| vote(chosen.iter().map(|&model| &predictions[model][question]), weight))
        .collect()
}

/// The first `top_k` models, in their order, that reach the `top_k`-th best utility: of models that
/// tie there, a later one is left out, be it the best of all.
fn choose(utilities: &[f64], top_k: usize) -> Vec<usize> {
    let mut sorted = utilities.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let bar = sorted[top_k - 1];
    let reach = (0..utilities.len()).filter(|&model| utilities[model] >= bar);
    reach.take(top_k).collect()
}

fn vote<'a, T: Clone + PartialEq + 'a>(answers: impl Iterator<Item = &'a T>, weight: f64) -> T {
    let mut counts: Vec<(&T, u32)> = Vec::new(); // in the order first seen
    for answer in answers {
        match counts.iter_mut().find(|(known, _)| *known == answer) {
            Some((_, count)) => *count += 1,
            None => counts.push((answer, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let is_tie = counts.iter().filter(|(_, count)| *count == most).count() > 1;
    let worth = |count: u32| match is_tie {
        true => f64::from(count) * weight,
        false => f64::from(count),
    };
    let (mut winner, first_count) = counts[0];
    let mut best = worth(first_count);
    for &(answer, count) in &counts[1..] {
        if worth(count) > best {
            (winner, best) = (answer, worth(count));
        }
    }
    winner.clone()
}
