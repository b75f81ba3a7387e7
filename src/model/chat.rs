//! A conversation as the text its model was tuned on, by the model's own Jinja template.
//!
//! The template comes from `chat_template.jinja`, or from `chat_template` in
//! `tokenizer_config.json`, and runs as transformers runs it: block lines trimmed, loop controls,
//! Python's string methods, `raise_exception`. There is no clock in it. Its steps are counted, so
//! that none runs for ever.

use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, ErrorKind, context};
use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::PrettyFormatter;

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
    /// What every conversation is rendered with: the special tokens, `tools` and the like.
    values: minijinja::Value,
}

/// Far above what any template needs for a conversation that fits in a context.
const MAX_STEPS: u64 = 10_000_000;
const NAME: &str = "chat template";

/// The special tokens that a template may name.
const TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

impl ChatTemplate {
    /// Reads the template in `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        let config_path = dir.join("tokenizer_config.json");
        let config = if config_path.exists() { Some(Fields::open(&config_path)?) } else { None };
        let mut values = vec![
            ("add_generation_prompt", true.into()),
            ("tools", minijinja::Value::from(())),
            ("documents", minijinja::Value::from(())),
        ];
        for name in TOKENS {
            // Absent tokens are undefined, not none: templates ask whether they are defined.
            if let Some(text) = config.as_ref().map(|file| token(file, name)).transpose()?.flatten()
            {
                values.push((name, text.into()));
            }
        }
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
        Ok(Self { path, environment, values: minijinja::Value::from_pairs(values) })
    }

    /// The text of a conversation up to and including the opening of the model's next turn. It
    /// begins with `<bos>` where the template writes it.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let turns = messages
            .iter()
            .map(|turn| context! { role => &turn.role, content => &turn.content })
            .collect::<minijinja::Value>();
        let values = context! { messages => turns, ..self.values.clone() };
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
    environment.add_template_owned(NAME, without_marks(&source))?;
    Ok(environment)
}

/// `{% generation %}` marks what the model is trained to say, and renders what stands in it: here
/// it becomes a block that does nothing else.
fn without_marks(source: &str) -> String {
    let mut rest = source;
    let mut out = String::with_capacity(source.len());
    while let Some((before, from_tag)) = rest.split_once("{%") {
        let Some((tag, after)) = from_tag.split_once("%}") else { break };
        let tag = match tag.trim_matches(|c: char| "-+".contains(c) || c.is_whitespace()) {
            "generation" => tag.replace("generation", "with"),
            "endgeneration" => tag.replace("endgeneration", "endwith"),
            _ => tag.to_owned(),
        };
        out.extend([before, "{%", &tag, "%}"]);
        rest = after;
    }
    out + rest
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`: Python puts a space after commas and
/// colons, and without `indent` all on one line.
fn to_json(
    value: &minijinja::Value,
    options: Kwargs,
) -> std::result::Result<String, minijinja::Error> {
    let failed = |found: String| minijinja::Error::new(ErrorKind::BadSerialization, found);
    for name in ["ensure_ascii", "sort_keys"] {
        if options.get::<Option<bool>>(name)? == Some(true) {
            return Err(failed(format!("tojson with {name} is not supported")));
        }
    }
    let indent: Option<u8> = options.get("indent")?;
    options.assert_all_used()?;
    let mut json = Vec::new();
    let done = match indent {
        None => {
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, PythonSpacing))
        }
        Some(width) => {
            let spaces = " ".repeat(width.into());
            let lines = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, lines))
        }
    };
    done.map_err(|found| failed(found.to_string()))?;
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
