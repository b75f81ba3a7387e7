//! What can be known of a testbed before any search: whether its tasks can be guessed, whether its
//! experts differ and mix, whether there is something to find (`testbed check`).
//!
//! Nothing here knows which method wins: the utilities of experts and of random mixtures are all
//! that is looked at.

mod guesses;
mod leaks;
mod mixing;
mod text;

use serde::Serialize;

pub use guesses::{Guesses, guesses};
pub use leaks::{Leaks, leaks};
pub use mixing::{Mixing, locations, mixing};
pub use text::text;

use crate::error::Result;
use crate::model::Experts;
use crate::run::candidates::Candidates;
use crate::run::evaluate::Evaluator;
use crate::stats::{pearson, summarize};
use crate::task::{Kind, Score, Split};

/// Random mixtures on which validation and test are compared.
const N_COMPARED: usize = 60;
/// Random mixtures among which something better than every expert is looked for.
const N_LOOKED_AT: usize = 300;

/// Mixtures that are measured together.
pub const MOST_AT_ONCE: usize = 20;

/// A task's properties.
#[derive(Debug, Clone, Serialize)]
pub struct TaskCheck {
    /// Its name.
    pub task: String,
    /// What guessing reaches; of a task without right answers, nothing.
    pub guesses: Option<Guesses>,
    /// The base's utility on the test examples.
    pub base: f64,
    /// The experts' utilities on the test examples, `(n)`.
    pub experts: Vec<f64>,
    /// The share of the best expert's answers that cannot be read.
    pub unparsed: f64,
    /// The utility of the experts' mean.
    pub uniform: f64,
    /// The standard deviation of random mixtures' utilities on the test examples.
    pub spread: f64,
    /// Pearson's correlation of their validation with their test utilities.
    pub correlation: Option<f64>,
    /// The best random mixture of one half of the test examples over the best expert of that half,
    /// both measured on the other half; and with the halves swapped.
    pub headroom: [f64; 2],
    /// Test questions that stand elsewhere.
    pub leaks: Leaks,
    /// What does not hold.
    pub failures: Vec<String>,
}

/// Checks one task of a pool on a base model; random mixtures are those of `seed`. Test questions
/// are compared with `texts`, which the experts were trained on.
pub fn check(
    evaluator: &Evaluator,
    experts: &Experts,
    (seed, texts): (u64, &[String]),
) -> Result<TaskCheck> {
    let task = &evaluator.task;
    let (layout, n) = (experts.pool().layout(), experts.pool().experts.len());
    let measure = |rows: &[Vec<f64>], split: Split| -> Result<Vec<Score>> {
        let mut scores = Vec::with_capacity(rows.len());
        for rows in rows.chunks(evaluator.base.model.at_once(layout).min(MOST_AT_ONCE)) {
            let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
            let candidates = Candidates::Locations { experts, rows: &rows };
            scores.extend(evaluator.scores(&candidates, split)?);
        }
        Ok(scores)
    };
    let base = evaluator.scores(&Candidates::Base, Split::Test)?.remove(0).utility;
    let lone = |expert: usize| (0..n).map(|idx| f64::from(idx == expert)).collect::<Vec<f64>>();
    let mut rows: Vec<Vec<f64>> = (0..n).map(lone).collect();
    rows.push(vec![1.0 / n as f64; n]);
    let scores = measure(&rows, Split::Test)?;
    let experts: Vec<f64> = scores[..n].iter().map(|score| score.utility).collect();
    let best = best_of(&experts);
    let n_answers = scores[best].predictions.len().max(1);

    let mixtures = locations(n, N_LOOKED_AT, seed);
    let on_test = measure(&mixtures, Split::Test)?;
    let on_dev = measure(&mixtures[..N_COMPARED], Split::Dev)?;
    let pairs: Vec<(f64, f64)> =
        on_dev.iter().zip(&on_test).map(|(dev, test)| (dev.utility, test.utility)).collect();
    let tests: Vec<f64> = pairs.iter().map(|(_, test)| *test).collect();
    let mut found = TaskCheck {
        task: task.name.clone(),
        guesses: task.parts[0].dataset().and_then(|data| guesses(task.parts[0].kind, data)),
        base,
        unparsed: scores[best].n_unparsed as f64 / n_answers as f64,
        uniform: scores[n].utility,
        experts,
        spread: summarize(&tests).and_then(|summary| summary.sd).unwrap_or(0.0),
        correlation: pearson(&pairs),
        headroom: [0, 1].map(|half| headroom(&scores[..n], &on_test, half)),
        leaks: leaks(&task.parts, texts),
        failures: Vec::new(),
    };
    found.failures = failures(&found, task.parts[0].kind);
    Ok(found)
}

/// The first of the highest.
pub fn best_of(utilities: &[f64]) -> usize {
    (0..utilities.len())
        .fold(0, |best, idx| if utilities[idx] > utilities[best] { idx } else { best })
}

/// The mean score of every second example, from `half` on.
fn of_half(score: &Score, half: usize) -> f64 {
    let scores: Vec<f64> =
        score.predictions.iter().skip(half).step_by(2).map(|p| p.score).collect();
    scores.iter().sum::<f64>() / scores.len().max(1) as f64
}

fn headroom(experts: &[Score], mixtures: &[Score], half: usize) -> f64 {
    let chosen = |scores: &[Score]| {
        let choose: Vec<f64> = scores.iter().map(|score| of_half(score, half)).collect();
        of_half(&scores[best_of(&choose)], 1 - half)
    };
    chosen(mixtures) - chosen(experts)
}

fn failures(found: &TaskCheck, kind: Kind) -> Vec<String> {
    let mut failures = Vec::new();
    let mut want = |holds: bool, what: &str| {
        if !holds {
            failures.push(what.to_owned());
        }
    };
    let best = found.experts[best_of(&found.experts)];
    let worst = found.experts.iter().copied().fold(f64::INFINITY, f64::min);
    let is_graded = !matches!(kind, Kind::MultipleChoice | Kind::ExactMatch);
    if is_graded {
        want(best - worst >= 0.1, "the experts spread over less than 0.1");
        want(kind != Kind::Abstain || best > 0.0, "no expert is above always abstaining");
    } else if let Some(guesses) = &found.guesses {
        want((found.base - guesses.chance).abs() <= 0.06, "the base is not near chance");
        want(best >= guesses.chance + 0.1, "no expert is 10 points above chance");
        want(best > guesses.constant.max(guesses.popular), "guessing is as good as the experts");
        want(best < 0.85, "the best expert leaves little to find");
    }
    want(found.unparsed < 0.2, "a fifth of the best expert's answers cannot be read");
    want(found.leaks.in_dev + found.leaks.in_texts == 0, "test questions stand elsewhere");
    want(found.spread >= 0.02, "mixtures hardly differ");
    want(found.is_predicted(), "validation does not predict test");
    want(found.has_room(), "mixtures are hardly better than experts");
    failures
}

impl TaskCheck {
    /// Whether validation tells which mixtures are good.
    pub fn is_predicted(&self) -> bool {
        self.correlation.is_some_and(|r| r >= 0.5)
    }

    /// Whether there is something to find that no expert has.
    pub fn has_room(&self) -> bool {
        self.headroom.iter().all(|gain| *gain >= 0.03)
    }
}
