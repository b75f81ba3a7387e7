//! What a task is worth to one who knows nothing: chance, the best constant answer, the most
//! popular one.

use std::collections::BTreeMap;

use crate::task::data::{Body, Dataset, Item};
use crate::task::{Kind, Split};

/// Utilities of answers that need no model.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Guesses {
    /// Of options drawn at random; where answers are free, that of the constant.
    pub chance: f64,
    /// Of the one answer that is right most often in the validation examples, on the test examples:
    /// a letter, a number.
    pub constant: f64,
    /// Of the option (or number) that is right most often in the validation examples of the same
    /// domain, on the test examples.
    pub popular: f64,
}

/// What guessing reaches on the test examples of a task that has right answers.
pub fn guesses(kind: Kind, dataset: &Dataset) -> Option<Guesses> {
    let test = dataset.items(Split::Test);
    if test.iter().any(|item| matches!(item.body, Body::Prompt(_))) {
        return None;
    }
    let dev = dataset.items(Split::Dev);
    let mut letters: BTreeMap<&str, usize> = BTreeMap::new();
    let mut texts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for item in dev {
        *letters.entry(gold(item).0).or_default() += 1;
        *texts.entry((domain(item), gold(item).1)).or_default() += 1;
    }
    let letter = most_frequent(&letters);
    let share = |is_right: &dyn Fn(&Item) -> f64| {
        let rate = test.iter().map(is_right).sum::<f64>() / test.len().max(1) as f64;
        // An abstain task takes away what is answered wrongly.
        if kind == Kind::Abstain { 2.0 * rate - 1.0 } else { rate }
    };
    let constant = |item: &Item| f64::from(Some(gold(item).0) == letter);
    let chance = |item: &Item| match &item.body {
        Body::Choice { choices, .. } => 1.0 / choices.len() as f64,
        _ => constant(item),
    };
    let popular = |item: &Item| {
        let count = |text: &str| texts.get(&(domain(item), text)).copied().unwrap_or(0);
        match &item.body {
            Body::Choice { choices, answer, .. } => {
                let most = choices.iter().map(|(_, text)| count(text)).max();
                let best: Vec<_> = choices.iter().filter(|c| Some(count(&c.1)) == most).collect();
                let is_among = best.iter().any(|(key, _)| key == answer);
                f64::from(is_among) / best.len() as f64
            }
            _ => {
                let of_domain: BTreeMap<&str, usize> = texts
                    .iter()
                    .filter(|((name, _), _)| *name == domain(item))
                    .map(|((_, text), n)| (*text, *n))
                    .collect();
                f64::from(Some(gold(item).1) == most_frequent(&of_domain))
            }
        }
    };
    Some(Guesses { chance: share(&chance), constant: share(&constant), popular: share(&popular) })
}

/// The gold answer as a key, and as a text.
fn gold(item: &Item) -> (&str, &str) {
    match &item.body {
        Body::Choice { choices, answer, .. } => {
            let text = choices.iter().find(|(key, _)| key == answer).map(|(_, text)| text.as_str());
            (answer, text.unwrap_or_default())
        }
        Body::Exact { answer, .. } => (answer, answer),
        Body::Prompt(_) => ("", ""),
    }
}

fn domain(item: &Item) -> &str {
    item.domain.as_deref().unwrap_or_default()
}

/// The first in order of those that are counted most often.
fn most_frequent<'a>(counts: &BTreeMap<&'a str, usize>) -> Option<&'a str> {
    let most = counts.values().max()?;
    counts.iter().find(|(_, count)| *count == most).map(|(text, _)| *text)
}
