//! Prediction merge: the experts vote on a question.
//!
//! With `vote = "answers"` they vote by their parsed answers, where an answer that could not be
//! parsed is one like any other; with `vote = "correctness"` by whether each is right, and the
//! question is solved if `true` wins. The authors' program has the same intention; where votes are
//! equal it weighs them all by the last expert's f.

use super::trials::ranked;

/// The answer with most votes, given one answer and the f of each expert. Of equals, the answer
/// whose voters have the highest sum of f; of these, the answer of the best-ranked expert.
pub fn plurality<'a, A: PartialEq>(answers: &'a [A], utilities: &[f64]) -> &'a A {
    assert!(!answers.is_empty(), "nobody votes");
    assert_eq!(answers.len(), utilities.len(), "one utility per expert");
    let standing = |answer: &A| {
        let voters = (0..answers.len()).filter(|&i| answers[i] == *answer);
        voters.fold((0, 0.0), |(n_votes, sum), i| (n_votes + 1, sum + utilities[i]))
    };
    let by_rank = ranked(utilities);
    let mut winner = by_rank[0];
    let mut highest = standing(&answers[winner]);
    for &expert_idx in &by_rank[1..] {
        let votes = standing(&answers[expert_idx]);
        if votes > highest {
            (winner, highest) = (expert_idx, votes);
        }
    }
    &answers[winner]
}
