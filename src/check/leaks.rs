//! Whether what a model is tested on stands in what it was trained or chosen on.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::audit::data::normalised;
use crate::task::{Part, Split, prompt};

/// How many of a task's test questions stand elsewhere, and what they were compared with. A
/// question is the whole prompt, its options in their order; case and punctuation do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Leaks {
    /// Test questions.
    pub n_test: usize,
    /// Validation questions that they were compared with.
    pub n_dev: usize,
    /// Training texts that they were compared with.
    pub n_texts: usize,
    /// Test questions that are validation questions too.
    pub in_dev: usize,
    /// Test questions that stand in a training text.
    pub in_texts: usize,
    /// Test questions that another test question repeats.
    pub in_test: usize,
}

/// Compares the test questions of `parts` with their validation questions and with `texts`.
pub fn leaks(parts: &[Part], texts: &[String]) -> Leaks {
    let texts: Vec<String> = texts.iter().map(|text| normalised(text)).collect();
    let mut leaks = Leaks { n_texts: texts.len(), ..Leaks::default() };
    for part in parts {
        let Some(dataset) = part.dataset() else { continue };
        let questions = |split: Split| -> Vec<String> {
            dataset
                .items(split)
                .iter()
                .map(|item| normalised(&prompt(dataset, &item.body)))
                .collect()
        };
        let (test, dev) = (questions(Split::Test), questions(Split::Dev));
        let different: BTreeSet<&String> = test.iter().collect();
        let of_dev: BTreeSet<&String> = dev.iter().collect();
        leaks.n_test += test.len();
        leaks.n_dev += dev.len();
        leaks.in_test += test.len() - different.len();
        leaks.in_dev += test.iter().filter(|question| of_dev.contains(question)).count();
        let is_trained = |question: &&String| texts.iter().any(|text| text.contains(*question));
        leaks.in_texts += test.iter().filter(is_trained).count();
    }
    leaks
}
