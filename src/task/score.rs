//! From answers to the utility f: one prediction per example, and their mean.
//!
//! Means are taken in f64 over the examples in file order. A multi task is the harmonic mean of two
//! accuracies. Who gave the answers is not known here.

use serde::{Deserialize, Serialize};

use super::authors::{self, strip};
use super::choice;
use super::data::{Body, Item};
use super::exact::{self, is_word};
use super::quirks::{AbstainCue, ChoiceParser, MultiZero, Quirks, Split};

/// What a model gave back for a `Work`, in the order of its prompts.
#[derive(Clone, Debug, PartialEq)]
pub enum Answers {
    /// For `Work::Generate`: the new text, special tokens left out. For `Work::Command` and
    /// `Work::Rate`: one text, what the program printed.
    Texts(Vec<String>),
    /// For `Work::LogLikelihood`.
    LogLikelihoods(Vec<LogLikelihood>),
}

/// How likely a model finds a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogLikelihood {
    /// The sum of the natural logarithms of the scored tokens' probabilities.
    pub sum: f64,
    /// How many tokens were scored.
    pub n_tokens: usize,
}

/// A task's result on one split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// f, higher is better: accuracy, effective reliability, mean of 1 - toxicity, mean
    /// log-likelihood per token, the program's number, or the harmonic mean of two accuracies.
    pub utility: f64,
    /// Each task's own utility: one, or a multi task's two.
    pub parts: Vec<PartScore>,
    /// How many answers could not be read (or log-likelihoods that were no number).
    pub n_unparsed: usize,
    /// One per example, part by part, in file order.
    pub predictions: Vec<Prediction>,
}

/// One task's utility.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartScore {
    /// The task's name.
    pub task: String,
    /// Its utility.
    pub utility: f64,
}

/// One example's outcome: a line of the predictions file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The task's name.
    pub task: String,
    /// The example's place in its split, from 0.
    pub index: usize,
    /// The example's id.
    pub id: String,
    /// The example's domain, if the data file names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// What the model wrote, stripped.
    pub output: Option<String>,
    /// What it wrote when asked whether its answer is true, stripped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_output: Option<String>,
    /// The answer that was read from `output`; in a toxicity task the text that was rated.
    pub parsed: Option<String>,
    /// The gold answer.
    pub gold: Option<String>,
    /// What it is worth: 0 or 1; in an abstain task -1, 0 or 1; in a toxicity task 1 - toxicity; in
    /// a perplexity task the mean log-likelihood per token.
    pub score: f64,
}

/// The log-likelihood per token of a text that a model gives none, and of a task with such a text:
/// below every real one, and finite, so that it survives JSON.
pub const WORST_LOG_LIKELIHOOD: f64 = -1e9;

/// Grades the answers to the examples `items` of one task; `second` belongs to an abstain task.
pub(super) fn grade_texts(
    task: &str,
    items: &[Item],
    split: Split,
    quirks: &Quirks,
    first: &[String],
    second: Option<&[String]>,
) -> Score {
    assert!(!items.is_empty(), "a mean needs an example");
    let grade = |index: usize| {
        let (item, output) = (&items[index], strip(&first[index]));
        let (parsed, gold, is_right) = read(&item.body, split, quirks, output);
        let second_output = second.map(|second| strip(&second[index]).to_string());
        let score = match &second_output {
            None => f64::from(u8::from(is_right)),
            Some(text) if withdraws(quirks.abstain_cue, text) => 0.0,
            Some(_) if is_right => 1.0,
            Some(_) => -1.0,
        };
        let output = Some(output.to_string());
        Prediction { second_output, parsed, gold, score, output, ..blank(task, index, item) }
    };
    mean(task, (0..items.len()).map(grade).collect())
}

/// A score that is the mean over predictions, of which there is one at least.
pub(super) fn mean(task: &str, predictions: Vec<Prediction>) -> Score {
    let total: f64 = predictions.iter().map(|prediction| prediction.score).sum();
    let n_unparsed = predictions.iter().filter(|prediction| prediction.parsed.is_none()).count();
    whole(task, total / predictions.len() as f64, n_unparsed, predictions)
}

/// A perplexity task's score: the log-likelihood of all texts over the number of all their tokens,
/// that is, minus the logarithm of the perplexity.
pub(super) fn grade_likelihoods(
    task: &str,
    items: &[Item],
    likelihoods: &[LogLikelihood],
) -> Score {
    let mut predictions = Vec::with_capacity(items.len());
    let (mut total, mut n_tokens, mut n_unparsed) = (0.0, 0, 0);
    for (index, (item, text)) in items.iter().zip(likelihoods).enumerate() {
        let is_known = text.sum.is_finite() && text.n_tokens > 0;
        n_unparsed += usize::from(!is_known);
        let score = if is_known { text.sum / text.n_tokens as f64 } else { WORST_LOG_LIKELIHOOD };
        total += text.sum;
        n_tokens += text.n_tokens;
        predictions.push(Prediction { score, ..blank(task, index, item) });
    }
    let utility = match n_unparsed {
        0 => total / n_tokens as f64,
        _ => WORST_LOG_LIKELIHOOD,
    };
    whole(task, utility, n_unparsed, predictions)
}

/// A command task's score: the number that the program printed, or `None` where it printed
/// something else.
pub(super) fn grade_command(task: &str, printed: &str) -> Option<Score> {
    let utility: f64 = printed.trim().parse().ok()?;
    utility.is_finite().then(|| whole(task, utility, 0, Vec::new()))
}

/// A multi task's score: the harmonic mean 2ab/(a+b) of its parts' utilities.
pub(super) fn harmonic_mean(a: Score, b: Score, zero: MultiZero) -> Score {
    let (x, y) = (a.utility, b.utility);
    let utility = match zero {
        MultiZero::Zero if x + y == 0.0 => 0.0,
        MultiZero::Cent if x + y == 0.0 => 0.01,
        _ => 2.0 * x * y / (x + y),
    };
    Score {
        utility,
        parts: [a.parts, b.parts].concat(),
        n_unparsed: a.n_unparsed + b.n_unparsed,
        predictions: [a.predictions, b.predictions].concat(),
    }
}

/// What the answer `output` (stripped) to an example says, the gold answer, and whether they agree.
fn read(
    body: &Body,
    split: Split,
    quirks: &Quirks,
    output: &str,
) -> (Option<String>, Option<String>, bool) {
    match body {
        Body::Choice { choices, answer, .. } => {
            let parsed = match quirks.choice_parser {
                ChoiceParser::Letters => choice::parse_choice(choices, output),
                ChoiceParser::Authors => authors::parse_choice(choices, output),
            };
            (parsed.map(str::to_string), Some(answer.clone()), parsed == Some(answer))
        }
        Body::Exact { answer, .. } => {
            let graded = match quirks.tail_pieces.get(split) {
                Some(n_pieces) => authors::last_pieces(output, n_pieces),
                None => output,
            };
            let found = exact::look_for(quirks.exact_match, answer, graded);
            (found.parsed, Some(answer.clone()), found.is_match)
        }
        Body::Prompt(_) => unreachable!("tasks that read answers hold no prompts without gold"),
    }
}

/// Whether the second answer of an abstain task takes the first one back. An answer that says
/// neither true nor false does not.
fn withdraws(cue: AbstainCue, answer: &str) -> bool {
    let lower = answer.to_lowercase();
    match cue {
        AbstainCue::Substring => lower.contains("false"),
        AbstainCue::FirstWord => {
            let mut words = lower.split(|c| !is_word(c));
            words.find(|word| matches!(*word, "true" | "false")) == Some("false")
        }
    }
}

/// A prediction without an answer.
pub(super) fn blank(task: &str, index: usize, item: &Item) -> Prediction {
    Prediction {
        task: task.to_string(),
        index,
        id: item.id.clone(),
        domain: item.domain.clone(),
        output: None,
        second_output: None,
        parsed: None,
        gold: None,
        score: 0.0,
    }
}

fn whole(task: &str, utility: f64, n_unparsed: usize, predictions: Vec<Prediction>) -> Score {
    let parts = vec![PartScore { task: task.to_string(), utility }];
    Score { utility, parts, n_unparsed, predictions }
}
