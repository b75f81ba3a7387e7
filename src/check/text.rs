//! The check as a table a person reads.

use std::collections::BTreeSet;

use super::{Mixing, TaskCheck, best_of};

/// The check of a testbed whose experts have these names; fractions of one.
pub fn text(checks: &[TaskCheck], mixing: &Mixing, names: &[&str]) -> String {
    let mut text = format!(
        "{:<22} {:>6} {:>6} {:>6} {:>6} {:>6} {:<14} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}\n",
        "task",
        "chance",
        "const",
        "popul",
        "base",
        "best",
        "expert",
        "unread",
        "unif",
        "sd",
        "r",
        "room 1",
        "room 2"
    );
    for check in checks {
        let best = best_of(&check.experts);
        let guess = |of: fn(&super::Guesses) -> f64| match &check.guesses {
            Some(guesses) => format!("{:.3}", of(guesses)),
            None => "-".into(),
        };
        let r = check.correlation.map_or("-".into(), |r| format!("{r:.3}"));
        text += &format!(
            "{:<22} {:>6} {:>6} {:>6} {:>6.3} {:>6.3} {:<14} {:>6.3} {:>6.3} {:>6.3} {r:>6} \
             {:>+6.3} {:>+6.3}\n",
            check.task,
            guess(|g| g.chance),
            guess(|g| g.constant),
            guess(|g| g.popular),
            check.base,
            check.experts[best],
            names[best],
            check.unparsed,
            check.uniform,
            check.spread,
            check.headroom[0],
            check.headroom[1],
        );
    }
    text += "\nExperts on the test examples:\n";
    for (expert, name) in names.iter().enumerate() {
        let each: Vec<String> =
            checks.iter().map(|check| format!("{:>6.3}", check.experts[expert])).collect();
        text += &format!("{name:<22} {}   |BA| {:.2}\n", each.join(" "), mixing.norms[expert]);
    }
    text += &format!(
        "\nLowest cosine between two factors A: {:.4}. |BA| of the experts' mean: {:.2}, of the \
         experts on average: {:.2}.\n",
        mixing.lowest_cosine_a,
        mixing.uniform_norm,
        mixing.norms.iter().sum::<f64>() / names.len() as f64
    );
    let different: BTreeSet<usize> = checks.iter().map(|check| best_of(&check.experts)).collect();
    let count = |has: fn(&TaskCheck) -> bool| checks.iter().filter(|check| has(check)).count();
    text += &format!(
        "Of {} tasks, validation predicts test on {}, and mixtures have something to find on {}; \
         {} different experts are best.\n\
         \nTest questions, the whole prompt with its options, compared with:\n",
        checks.len(),
        count(TaskCheck::is_predicted),
        count(TaskCheck::has_room),
        different.len(),
    );
    for TaskCheck { task, leaks, .. } in checks {
        text += &format!(
            "{task:<22} {:>4} test questions ({} repeat another): {} among {} validation \
             questions, {} in {} training texts\n",
            leaks.n_test, leaks.in_test, leaks.in_dev, leaks.n_dev, leaks.in_texts, leaks.n_texts
        );
    }
    text += "\nWhat does not hold:\n";
    if checks.iter().all(|check| check.failures.is_empty()) {
        text += "nothing\n";
    }
    for check in checks {
        for failure in &check.failures {
            text += &format!("{}: {failure}\n", check.task);
        }
    }
    text
}
