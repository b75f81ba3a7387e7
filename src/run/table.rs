//! The table that a search ends with, as text and as JSON.

use serde::{Deserialize, Serialize};

use crate::swarm::StopReason;

/// What a search came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// The task's name.
    pub task: String,
    /// Examples in the validation split.
    pub n_dev: usize,
    /// Examples in the test split.
    pub n_test: usize,
    /// The rows of the table, best last.
    pub rows: Vec<Row>,
    /// The experts in the order of the coefficients.
    pub experts: Vec<String>,
    /// Each expert's utility on the validation split.
    pub expert_utilities: Vec<f64>,
    /// The result's location over the experts; sums to 1.
    pub coefficients: Vec<f64>,
    /// The particle and iteration that found it.
    pub found_by: (usize, u32),
    /// Number of particles.
    pub particles: usize,
    /// Iterations run.
    pub iterations: u32,
    /// Evaluations of the utility.
    pub evaluations: u64,
    /// Why the search ended.
    pub stop: Option<StopReason>,
    /// The seed.
    pub seed: u64,
    /// Whose procedure was followed: "paper" or "code".
    pub mode: String,
}

/// One method's utility on both splits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// On the validation split, which guides the search.
    pub dev: f64,
    /// On the test split, where there is one.
    pub test: Option<f64>,
}

impl Results {
    /// Why the search ended, in words.
    pub fn stop_text(&self) -> &'static str {
        match self.stop {
            Some(StopReason::Patience) => "the best had not changed for the patience",
            Some(StopReason::MaxIterations) => "the last iteration was reached",
            None => "unfinished",
        }
    }

    /// The table as a person reads it.
    pub fn to_text(&self) -> String {
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(12);
        let mut text = format!(
            "{}: utility (higher is better) on {} validation and {} test examples\n\n{:width$}  \
             validation      test\n",
            self.task, self.n_dev, self.n_test, ""
        );
        for row in &self.rows {
            let test = row.test.map_or("-".into(), |test| format!("{test:.3}"));
            text.push_str(&format!("{:width$}  {:>10.3}  {test:>8}\n", row.name, row.dev));
        }
        let stop = self.stop_text();
        text.push_str(&format!(
            "\n{} particles, {} iterations ({stop}), {} evaluations; seed {}, mode {}\n",
            self.particles, self.iterations, self.evaluations, self.seed, self.mode
        ));
        text.push_str(&format!(
            "found by particle {} in iteration {}, at\n",
            self.found_by.0, self.found_by.1
        ));
        for (name, c) in self.experts.iter().zip(&self.coefficients) {
            text.push_str(&format!("{c:>9.4} x {name}\n"));
        }
        text
    }
}
