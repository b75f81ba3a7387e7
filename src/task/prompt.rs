//! The prompts: what a model is shown for an example, in both modes the authors' texts.
//!
//! The paper gives no prompt for the tasks that are graded here, so there is nothing for the modes
//! to differ in. Prompts are raw text: `<bos>` and a chat template are added elsewhere.

use super::data::{Body, Dataset};

/// A text whose end is scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoredText {
    /// What stands before; not scored, may be empty.
    pub prompt: String,
    /// What is scored: `prompt + scored` is tokenised as one text, and every token that begins at
    /// or after the end of `prompt` counts (never `<bos>`).
    pub scored: String,
}

/// The prompt of one example of `dataset`.
///
/// A question with options is led in by one sentence (hellaswag has its own), lists them as
/// "KEY: TEXT", and ends with "The answer is"; any other question stands as it is. Where the file
/// has an `icl_prompt` (knowledge crosswords), this worked example takes the sentence's place.
pub fn prompt(dataset: &Dataset, body: &Body) -> String {
    let example = dataset.icl_prompt.as_ref().map(|icl| format!("{icl}\n"));
    match body {
        Body::Prompt(prompt) => prompt.clone(),
        Body::Exact { question, .. } => format!("{}{question}", example.unwrap_or_default()),
        Body::Choice { question, choices, .. } => {
            let mut text = example.unwrap_or_else(|| lead(&dataset.name).to_string());
            text.push_str(&format!("Question: {question}\n"));
            for (key, option) in choices {
                text.push_str(&format!("{key}: {option}\n"));
            }
            text.push_str("The answer is");
            text
        }
    }
}

fn lead(dataset: &str) -> &'static str {
    match dataset {
        "hellaswag" => "Please choose an option that best completes the sentence.\n",
        _ => "Please choose an option that best answers the question.\n",
    }
}

/// An abstain task's second prompt: the model judges its own `answer` (stripped) to `prompt`.
pub fn second_prompt(prompt: &str, answer: &str) -> String {
    format!(
        "{prompt}\nProposed answer: {answer}\nIs the proposed answer true or false? \
         Directly answer with true or false."
    )
}

/// What a perplexity task scores: after the prompt, a blank and the gold answer (of a question with
/// options, the key: " B"); of a prompt alone, all of it.
pub fn scored_text(dataset: &Dataset, body: &Body) -> ScoredText {
    match body {
        Body::Prompt(text) => ScoredText { prompt: String::new(), scored: text.clone() },
        Body::Choice { answer, .. } | Body::Exact { answer, .. } => {
            ScoredText { prompt: prompt(dataset, body), scored: format!(" {answer}") }
        }
    }
}
