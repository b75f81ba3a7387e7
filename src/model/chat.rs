//! A conversation as the text its model was tuned on, by the model's own Jinja template.
//!
//! The template comes from `chat_template.jinja`, or from `chat_template` in
//! `tokenizer_config.json`, and runs as transformers runs it: block lines trimmed, loop controls,
//! Python's string methods, `raise_exception`. There is no clock in it. Its steps are counted, so
//! that none runs for ever.

use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, context};
use serde::Serialize as _;
use serde_json::Value;

use super::fields::Fields;
use crate::error::{Error, Result};
use crate::files::read_text;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// "user" or "assistant"; some templates know "system" too.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// A model's chat template.
pub struct ChatTemplate {
    /// The file that holds the template.
    path: PathBuf,
    environment: Environment<'static>,
    bos_token: Option<String>,
    eos_token: Option<String>,
}

/// Far above what any template needs for a conversation that fits in a context.
const MAX_STEPS: u64 = 10_000_000;
const NAME: &str = "chat template";

impl ChatTemplate {
    /// Reads the template in `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        let config_path = dir.join("tokenizer_config.json");
        let config = if config_path.exists() { Some(Fields::open(&config_path)?) } else { None };
        let (bos_token, eos_token) = match &config {
            Some(config) => (token(config, "bos_token")?, token(config, "eos_token")?),
            None => (None, None),
        };
        let own_path = dir.join("chat_template.jinja");
        let (path, source) = if own_path.exists() {
            let source = read_text(&own_path)?;
            (own_path, source)
        } else if let Some(source) = config.as_ref().map(template_of).transpose()?.flatten() {
            (config_path, source)
        } else {
            let what = "has no chat template: wanted chat_template.jinja, or chat_template in \
                        tokenizer_config.json";
            return Err(Error::input(dir, what));
        };
        let environment = environment(source).map_err(|found| {
            Error::input(&path, format!("the chat template is broken: {found}"))
        })?;
        Ok(Self { path, environment, bos_token, eos_token })
    }

    /// The text of a conversation up to and including the opening of the model's next turn. It
    /// begins with `<bos>` where the template writes it.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let turns = messages
            .iter()
            .map(|turn| context! { role => &turn.role, content => &turn.content })
            .collect::<minijinja::Value>();
        // Absent tokens are undefined, not none: templates ask whether they are defined.
        let values = context! {
            messages => turns,
            add_generation_prompt => true,
            bos_token => defined(&self.bos_token),
            eos_token => defined(&self.eos_token),
        };
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(values))
            .map_err(|found| Error::input(&self.path, format!("the chat template says: {found}")))
    }

    /// [`render`](Self::render) for a conversation of one question.
    pub fn render_question(&self, question: &str) -> Result<String> {
        self.render(&[Message { role: "user".into(), content: question.into() }])
    }
}

fn defined(token: &Option<String>) -> minijinja::Value {
    token.as_ref().map_or(minijinja::Value::UNDEFINED, minijinja::Value::from)
}

fn environment(source: String) -> std::result::Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(MAX_STEPS));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| {
        Err::<String, _>(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_filter("tojson", to_json);
    environment.add_template_owned(NAME, source)?;
    Ok(environment)
}

/// `json.dumps(value, ensure_ascii=False)`: Python puts a space after commas and colons.
fn to_json(value: &minijinja::Value) -> std::result::Result<String, minijinja::Error> {
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut json, PythonSpacing);
    let failed = |found: String| minijinja::Error::new(ErrorKind::BadSerialization, found);
    value.serialize(&mut serializer).map_err(|found| failed(found.to_string()))?;
    String::from_utf8(json).map_err(|found| failed(found.to_string()))
}

struct PythonSpacing;

impl serde_json::ser::Formatter for PythonSpacing {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// The template of `tokenizer_config.json`: a string, or a list of named ones with a "default".
fn template_of(config: &Fields) -> Result<Option<String>> {
    let name = "chat_template";
    let Some(value) = config.get(name) else { return Ok(None) };
    let source = match value {
        Value::Array(named) => named
            .iter()
            .find(|entry| entry["name"] == "default")
            .and_then(|entry| entry["template"].as_str()),
        other => other.as_str(),
    };
    match source {
        Some(source) => Ok(Some(source.to_owned())),
        None => Err(config.refuse(name, value, "wanted a string, or a list with a \"default\"")),
    }
}

/// A special token's text: given as a string, or as an object with `content`.
fn token(config: &Fields, name: &str) -> Result<Option<String>> {
    let Some(value) = config.get(name) else { return Ok(None) };
    let text = value.as_str().or_else(|| value["content"].as_str());
    match text {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(config.refuse(name, value, "wanted a string, or an object with content")),
    }
}
