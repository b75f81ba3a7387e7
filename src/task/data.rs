//! Data files in the authors' form: `{"dev": [...], "test": [...], "icl_prompt"?, "dataset"?}`.
//!
//! An example has a question with choices and an answer, a question with an answer, or a prompt
//! alone. Everything is checked here, so that nothing later can meet a gold answer that is not
//! among the choices. What is asked of an example, and how, is not known here.

use std::collections::BTreeSet;
use std::path::Path;

use super::json::Json;
use super::quirks::Split;
use crate::error::{Error, Result};

/// A data file: the examples of both splits (the paper's Table 12 counts them).
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The file's `dataset`, else its stem; lower case, `_` for `-`: "gsm8k", "mmlu_pro".
    pub name: String,
    /// A worked example that stands before every prompt.
    pub icl_prompt: Option<String>,
    /// The validation examples, in file order; at least one.
    pub dev: Vec<Item>,
    /// The test examples, in file order; may be none.
    pub test: Vec<Item>,
}

/// One example.
#[derive(Clone, Debug)]
pub struct Item {
    /// The file's `id`, else the example's place in its split. Ids need not be unique.
    pub id: String,
    /// The file's `domain`: a sub-skill, a difficulty.
    pub domain: Option<String>,
    /// What is asked.
    pub body: Body,
}

/// What an example asks.
#[derive(Clone, Debug)]
pub enum Body {
    /// A question with options.
    Choice {
        /// The question.
        question: String,
        /// Key and text of at least two options, in file order; keys are distinct.
        choices: Vec<(String, String)>,
        /// The key of the right option.
        answer: String,
    },
    /// A question with a gold answer, which is not empty.
    Exact {
        /// The question.
        question: String,
        /// The gold answer.
        answer: String,
    },
    /// A prompt alone.
    Prompt(String),
}

impl Body {
    /// The question or prompt, as the file has it.
    pub fn query(&self) -> &str {
        match self {
            Self::Choice { question, .. } | Self::Exact { question, .. } => question,
            Self::Prompt(prompt) => prompt,
        }
    }
}

impl Dataset {
    /// Reads and checks the data file at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        Self::from_text(path, &text)
    }

    /// Checks a data file's text; `path` names it in errors.
    pub fn from_text(path: &Path, text: &str) -> Result<Self> {
        let root: Json = serde_json::from_str(text)
            .map_err(|error| Error::input(path, format!("not a data file: {error}")))?;
        Self::from_json(path, &root).map_err(|what| Error::input(path, what))
    }

    /// The examples of `split`.
    pub fn items(&self, split: Split) -> &[Item] {
        match split {
            Split::Dev => &self.dev,
            Split::Test => &self.test,
        }
    }

    fn from_json(path: &Path, root: &Json) -> Found<Self> {
        let fields = object(root, "the file")?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = string(fields, "dataset")?.map(str::to_string).or(stem).unwrap_or_default();
        let dev = items(fields, Split::Dev)?;
        if dev.is_empty() {
            return Err("the dev split is empty, wanted at least one example".to_string());
        }
        Ok(Self {
            name: name.to_lowercase().replace('-', "_"),
            icl_prompt: string(fields, "icl_prompt")?.map(str::to_string),
            dev,
            test: items(fields, Split::Test)?,
        })
    }
}

/// What was found and what was wanted instead, without the file.
type Found<T> = std::result::Result<T, String>;

fn items(fields: &[(String, Json)], split: Split) -> Found<Vec<Item>> {
    let name = split.name();
    let list = match field(fields, name)? {
        Some(Json::List(list)) => list,
        Some(other) => return Err(format!("`{name}` is {}, wanted a list", other.form())),
        None if split == Split::Test => return Ok(Vec::new()),
        None => return Err(format!("no `{name}`, wanted a list of examples")),
    };
    let checked = list
        .iter()
        .enumerate()
        .map(|(idx, json)| item(idx, json).map_err(|what| format!("{name}[{idx}]: {what}")));
    checked.collect()
}

fn item(idx: usize, json: &Json) -> Found<Item> {
    let fields = object(json, "an example")?;
    let id = match field(fields, "id")? {
        None => idx.to_string(),
        Some(Json::Text(id)) => id.clone(),
        Some(Json::Number(id)) => id.to_string(),
        Some(other) => return Err(format!("`id` is {}, wanted text or a number", other.form())),
    };
    let domain = string(fields, "domain")?.map(str::to_string);
    let question = string(fields, "question")?.map(str::to_string);
    let answer = string(fields, "answer")?.map(str::to_string);
    let prompt = string(fields, "prompt")?.map(str::to_string);
    let choices = field(fields, "choices")?.map(choices).transpose()?;
    let body = match (question, choices, answer, prompt) {
        (Some(question), Some(choices), Some(answer), None) => {
            if !choices.iter().any(|(key, _)| *key == answer) {
                let keys: Vec<&str> = choices.iter().map(|(key, _)| key.as_str()).collect();
                let keys = keys.join(", ");
                return Err(format!("the answer {answer:?} is not among the choices ({keys})"));
            }
            Body::Choice { question, choices, answer }
        }
        (Some(question), None, Some(answer), None) => {
            if answer.is_empty() {
                return Err("the answer is empty".to_string());
            }
            Body::Exact { question, answer }
        }
        (None, None, None, Some(prompt)) => Body::Prompt(prompt),
        (Some(_), _, None, None) => return Err("a question without `answer`".to_string()),
        (None, None, None, None) => return Err("neither `question` nor `prompt`".to_string()),
        (None, _, _, None) => return Err("an answer or choices without `question`".to_string()),
        (_, _, _, Some(_)) => {
            return Err("`prompt` beside a question, choices or an answer".to_string());
        }
    };
    Ok(Item { id, domain, body })
}

fn choices(json: &Json) -> Found<Vec<(String, String)>> {
    let fields = object(json, "`choices`")?;
    if fields.len() < 2 {
        return Err(format!("`choices` has {} options, wanted at least 2", fields.len()));
    }
    let mut seen = BTreeSet::new();
    let mut choices = Vec::with_capacity(fields.len());
    for (key, text) in fields {
        if key.is_empty() {
            return Err("`choices` has an empty key".to_string());
        }
        if !seen.insert(key) {
            return Err(format!("choice `{key}` occurs twice"));
        }
        let Json::Text(text) = text else {
            return Err(format!("choice `{key}` is {}, wanted text", text.form()));
        };
        choices.push((key.clone(), text.clone()));
    }
    Ok(choices)
}

/// The value of `name`, which may occur once.
fn field<'a>(fields: &'a [(String, Json)], name: &str) -> Found<Option<&'a Json>> {
    let mut values = fields.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
    let first = values.next();
    match values.next() {
        Some(_) => Err(format!("`{name}` occurs twice")),
        None => Ok(first),
    }
}

fn string<'a>(fields: &'a [(String, Json)], name: &str) -> Found<Option<&'a str>> {
    match field(fields, name)? {
        None => Ok(None),
        Some(Json::Text(text)) => Ok(Some(text)),
        Some(other) => Err(format!("`{name}` is {}, wanted text", other.form())),
    }
}

fn object<'a>(json: &'a Json, what: &str) -> Found<&'a [(String, Json)]> {
    match json {
        Json::Object(fields) => Ok(fields),
        other => Err(format!("{what} is {}, wanted an object", other.form())),
    }
}
