//! Checks of single values of a suite: each returns the value, or says what is wrong with it where.
//!
//! An offset into the text goes with every fault; `raw` makes a line and a column of it.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Spanned, Value};

/// What is wrong, and where.
pub struct Fault {
    /// A byte offset into the text.
    pub at: usize,
    /// What was found and what was wanted.
    pub what: String,
}

/// A value of the suite, or what is wrong with it.
pub type Found<T> = std::result::Result<T, Fault>;

/// A list of numbers with the place of each.
pub type Numbers = Spanned<Vec<Spanned<f64>>>;

/// Counts above this are taken for a slip of the keyboard.
const MAX_COUNT: u64 = 1_000_000;

/// Lists longer than this, too.
const MAX_LIST: usize = 1000;

/// An error at a byte offset.
pub fn fault<T>(at: usize, what: impl Into<String>) -> Found<T> {
    Err(Fault { at, what: what.into() })
}

/// A count: at least 1.
pub fn count(key: &str, raw: &Spanned<u64>) -> Found<usize> {
    match *raw.get_ref() {
        n @ 1..=MAX_COUNT => Ok(n as usize), // at most a million
        n => fault(raw.span().start, format!("`{key}` is {n}, wanted 1 to {MAX_COUNT}")),
    }
}

/// A text that says something, on one line.
pub fn text(key: &str, raw: &Spanned<String>) -> Found<String> {
    let text = raw.get_ref();
    if text.trim().is_empty() || text.trim() != text || text.chars().any(char::is_control) {
        let wanted = "wanted one line without blanks around it";
        return fault(raw.span().start, format!("`{key}` is {text:?}, {wanted}"));
    }
    Ok(text.clone())
}

/// A list that is neither empty nor endless.
pub fn list<'a, T>(key: &str, raw: &'a Spanned<Vec<T>>) -> Found<&'a [T]> {
    match raw.get_ref().len() {
        1..=MAX_LIST => Ok(raw.get_ref()),
        n => {
            let what = format!("`{key}` has {n} entries, wanted 1 to {MAX_LIST}");
            fault(raw.span().start, what)
        }
    }
}

/// A list whose values all differ.
pub fn distinct<T: Clone + PartialEq + std::fmt::Debug>(
    key: &str,
    raw: &Spanned<Vec<Spanned<T>>>,
) -> Found<Vec<T>> {
    let mut values: Vec<T> = Vec::new();
    for value in list(key, raw)? {
        if values.contains(value.get_ref()) {
            let what = format!("`{key}` holds {:?} twice", value.get_ref());
            return fault(value.span().start, what);
        }
        values.push(value.get_ref().clone());
    }
    Ok(values)
}

/// A list of different numbers from `least` to `most`.
pub fn numbers(key: &str, raw: &Numbers, least: f64, most: f64) -> Found<Vec<f64>> {
    for value in raw.get_ref() {
        number(key, value, least, most)?;
    }
    distinct(key, raw)
}

/// A number from `least` to `most`, neither of which a NaN is.
pub fn number(key: &str, raw: &Spanned<f64>, least: f64, most: f64) -> Found<f64> {
    let value = *raw.get_ref();
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let wanted = match least {
        f64::MIN_POSITIVE => format!("more than 0, up to {most}"),
        _ => format!("{least} to {most}"),
    };
    fault(raw.span().start, format!("`{key}`: found {value}, wanted {wanted}"))
}

/// A list of different names.
pub fn names(key: &str, raw: &Spanned<Vec<Spanned<String>>>) -> Found<Vec<String>> {
    for name in list(key, raw)? {
        text(key, name)?;
    }
    distinct(key, raw)
}

/// Settings by name, as texts; `refused` are given elsewhere.
pub fn settings(
    raw: &BTreeMap<Spanned<String>, Spanned<Value>>,
    refused: &[&str],
) -> Found<Vec<(String, String)>> {
    let mut set = Vec::with_capacity(raw.len());
    for (key, value) in raw {
        let name = text("set", key)?;
        if refused.contains(&name.as_str()) {
            return fault(key.span().start, format!("setting `{name}` is given by [scale]"));
        }
        let value = match value.get_ref() {
            Value::String(value) => value.clone(),
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            other => {
                let what = format!("setting `{name}` is a value of type {}", other.type_str());
                return fault(value.span().start, format!("{what}, wanted a name or a number"));
            }
        };
        set.push((name, value));
    }
    Ok(set)
}

/// Refuses a name that `taken` holds, and adds it.
pub fn once<'a>(what: &str, name: &'a Spanned<String>, taken: &mut BTreeSet<&'a str>) -> Found<()> {
    if taken.insert(name.get_ref()) {
        return Ok(());
    }
    fault(name.span().start, format!("{what} {:?} occurs twice", name.get_ref()))
}
