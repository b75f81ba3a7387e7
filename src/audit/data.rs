//! Data files in the authors' form, read so that faults can be found instead of refused.
//!
//! A task's own reader (`task::data`) wants every file to be right; here a gold answer may be
//! missing, or not among the choices. What counts as a finding stands in `findings`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

pub use super::findings::{
    DataReport, FileReport, Golds, Leaks, Majority, Repeats, Shared, SplitReport, Traps, normalised,
};

use super::findings;
use crate::error::{Error, Result};

/// Audits every `.json` file in `folder`, in the order of their names.
pub fn audit(folder: &Path) -> Result<DataReport> {
    let entries = fs::read_dir(folder).map_err(Error::io(folder, "read"))?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io(folder, "read"))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(Error::input(folder, "holds no .json file, wanted data files"));
    }
    paths.sort();
    let files: Result<Vec<File>> = paths.iter().map(|path| File::open(path)).collect();
    Ok(findings::report(&files?))
}

/// A data file.
pub(super) struct File {
    /// Its name without ".json".
    pub name: String,
    /// The validation examples.
    pub dev: Vec<Question>,
    /// The test examples.
    pub test: Vec<Question>,
}

/// An example; a prompt alone is a question without a gold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The question, or the prompt.
    pub text: String,
    /// Key and text, in file order; none for an open question.
    pub choices: Vec<(String, String)>,
    /// The key of the right choice, or the answer.
    pub gold: Option<String>,
    /// Whether a gold answer is expected at all.
    pub form: Form,
}

/// What an example asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One of the choices.
    Choice,
    /// The gold answer.
    Exact,
    /// Anything.
    Prompt,
}

impl Question {
    /// What the gold answer says: the chosen option's text, or the answer itself.
    pub fn gold_text(&self) -> Option<&str> {
        let gold = self.gold.as_deref()?;
        match self.form {
            Form::Choice => {
                let choice = self.choices.iter().find(|(key, _)| key == gold);
                choice.map(|(_, text)| text.as_str())
            }
            Form::Exact | Form::Prompt => Some(gold),
        }
    }
}

impl File {
    fn open(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        let root: Value = serde_json::from_str(&text)
            .map_err(|error| Error::input(path, format!("not a data file: {error}")))?;
        let read = || -> std::result::Result<(Vec<Question>, Vec<Question>), String> {
            let Value::Object(root) = &root else {
                return Err("not a data file: wanted an object with `dev` and `test`".to_string());
            };
            Ok((questions(root, "dev")?, questions(root, "test")?))
        };
        let (dev, test) = read().map_err(|what| Error::input(path, what))?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Ok(Self { name: name.unwrap_or_default(), dev, test })
    }
}

fn questions(root: &Map<String, Value>, split: &str) -> std::result::Result<Vec<Question>, String> {
    match root.get(split) {
        Some(Value::Array(items)) => {
            let read =
                |(idx, item)| question(item).map_err(|what| format!("{split}[{idx}]: {what}"));
            items.iter().enumerate().map(read).collect()
        }
        Some(_) => Err(format!("`{split}` is not a list, wanted a list of examples")),
        None if split == "test" => Ok(Vec::new()),
        None => Err(format!("no `{split}`, wanted a list of examples")),
    }
}

fn question(item: &Value) -> std::result::Result<Question, String> {
    let Value::Object(fields) = item else {
        return Err("not an object, wanted an example".to_string());
    };
    let text_of = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(format!("`{name}` is neither text nor a number")),
    };
    let gold = text_of("answer")?;
    let choices = match fields.get("choices") {
        None => Vec::new(),
        Some(Value::Object(choices)) => {
            let choice = |(key, text): (&String, &Value)| match text {
                Value::String(text) => Ok((key.clone(), text.clone())),
                _ => Err(format!("choice `{key}` is no text")),
            };
            choices.iter().map(choice).collect::<std::result::Result<_, String>>()?
        }
        Some(_) => return Err("`choices` is not an object".to_string()),
    };
    let (text, form) = match (text_of("question")?, text_of("prompt")?) {
        (Some(question), _) if fields.contains_key("choices") => (question, Form::Choice),
        (Some(question), _) => (question, Form::Exact),
        (None, Some(prompt)) => (prompt, Form::Prompt),
        (None, None) => return Err("neither `question` nor `prompt`".to_string()),
    };
    Ok(Question { text, choices, gold, form })
}
