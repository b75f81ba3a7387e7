//! Python's regular expressions on module names, as PEFT uses them.
//!
//! Two forms: the whole name (`re.fullmatch`, for `target_modules`), and a tail of it that starts
//! at a dot (`re.match(r"(.*\.)?(KEY)$")`, for `rank_pattern` and `alpha_pattern`).

use fancy_regex::Regex;

/// A result whose error is a clause about a file, for the caller to put the path to.
pub(super) type Clause<T> = std::result::Result<T, String>;

/// One compiled expression, with the text it was written as.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// Matches names that `text` matches as a whole.
    pub fn whole(text: &str) -> Clause<Self> {
        Self::compile(text, &format!(r"\A(?:{text})\z"))
    }

    /// Matches names that `text` matches from the start, or from after some dot, to the end. With a
    /// caret `text` must match from the start.
    pub fn tail(text: &str) -> Clause<Self> {
        Self::compile(text, &format!(r"\A(?:.*\.)?(?:{text})\z"))
    }

    /// Matches names with a number between dots right after `text`, which stands at the start or
    /// after a dot; without a `text` the number must stand after at least two dots.
    pub fn before_layer_number(text: Option<&str>) -> Clause<Self> {
        match text {
            Some(text) => Self::compile(text, &format!(r"\A(?:|.*?\.)(?:{text})\.(?<layer>\d+)\.")),
            None => Self::compile("", r"\A.*?\.[^.]*\.(?<layer>\d+)\."),
        }
    }

    /// Whether the expression matches `name`. The error is a clause: it took too long.
    pub fn matches(&self, name: &str) -> Clause<bool> {
        self.regex.is_match(name).map_err(|error| self.gave_up(name, &error))
    }

    /// The layer's number in `name`, for a pattern made by [`Pattern::before_layer_number`].
    pub fn layer_number(&self, name: &str) -> Clause<Option<u64>> {
        let captures = self.regex.captures(name).map_err(|error| self.gave_up(name, &error))?;
        let digits = captures.and_then(|found| found.name("layer").map(|digits| digits.as_str()));
        Ok(digits.and_then(|digits| digits.parse().ok()))
    }

    /// `form` is compiled; `text` alone must be an expression too, so that no stray parenthesis of
    /// it can pair with those of the form.
    fn compile(text: &str, form: &str) -> Clause<Self> {
        let compile = |source: &str| {
            Regex::new(source).map_err(|error| {
                let (text, error) = (shortened(text), shortened(&error.to_string()));
                format!("{text:?} is not a usable regular expression: {error}")
            })
        };
        compile(text)?;
        Ok(Self { text: text.to_string(), regex: compile(form)? })
    }

    fn gave_up(&self, name: &str, error: &fancy_regex::Error) -> String {
        let text = shortened(&self.text);
        format!("matching {name:?} with the expression {text:?} was given up: {error}")
    }
}

/// The beginning of a text that a stranger wrote, for an error message.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}
