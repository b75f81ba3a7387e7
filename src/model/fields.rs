//! A JSON object read field by field; complaints name the file, the field and what was found.
//!
//! Serves `config.json` and its companions, whose fields come and go between versions of the
//! program that writes them. A field that is `null` counts as absent. Knows nothing of models.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::files::read_text;

/// One JSON object of a file.
pub(super) struct Fields {
    /// The file, for complaints.
    path: PathBuf,
    /// What stands before a field's name in a complaint: "" at the top of the file.
    prefix: String,
    object: Map<String, Value>,
}

impl Fields {
    /// Reads the file at `path`, which must hold one JSON object.
    pub fn open(path: &Path) -> Result<Self> {
        let value = serde_json::from_str(&read_text(path)?)
            .map_err(|found| Error::input(path, format!("is not JSON: {found}")))?;
        let Value::Object(object) = value else {
            return Err(Error::input(path, "holds JSON that is not an object"));
        };
        Ok(Self { path: path.to_path_buf(), prefix: String::new(), object })
    }

    /// The value of `name`, unless it is absent or `null`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Whether `name` is written at all, be it as `null`.
    pub fn mentions(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// A complaint about the field `name`, whose value was `found`.
    pub fn refuse(&self, name: &str, found: &Value, wanted: &str) -> Error {
        let mut shown = found.to_string();
        if let Some((end, _)) = shown.char_indices().nth(80) {
            shown.truncate(end);
            shown.push_str("...");
        }
        Error::input(&self.path, format!("{}{name} is {shown}; {wanted}", self.prefix))
    }

    /// A complaint about the whole file.
    pub fn complain(&self, what: impl Into<String>) -> Error {
        Error::input(&self.path, what)
    }

    /// A whole number from 1 to `limit`; `default` where absent, a complaint where that is `None`.
    pub fn size(&self, name: &str, limit: usize, default: Option<usize>) -> Result<usize> {
        let Some(value) = self.get(name) else {
            let missing = || self.complain(format!("{}{name} is missing", self.prefix));
            return default.ok_or_else(missing);
        };
        match value.as_u64().and_then(|number| usize::try_from(number).ok()) {
            Some(number) if (1..=limit).contains(&number) => Ok(number),
            _ => Err(self.refuse(name, value, &format!("wanted a whole number, 1 to {limit}"))),
        }
    }

    /// A number above zero and at most `limit`; `default` where absent.
    pub fn positive(&self, name: &str, default: f64, limit: f64) -> Result<f64> {
        let Some(value) = self.get(name) else { return Ok(default) };
        match value.as_f64() {
            Some(number) if number > 0.0 && number <= limit => Ok(number),
            _ => {
                let wanted = format!("wanted a number above 0, at most {limit:e}");
                Err(self.refuse(name, value, &wanted))
            }
        }
    }

    /// True or false; `default` where absent.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.refuse(name, value, "wanted true or false"))
    }

    /// A string, where present.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(self.refuse(name, value, "wanted a string")),
        }
    }

    /// An object within this one, where present.
    pub fn object(&self, name: &str) -> Result<Option<Self>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let Some(object) = value.as_object() else {
            return Err(self.refuse(name, value, "wanted an object"));
        };
        let prefix = format!("{}{name}.", self.prefix);
        Ok(Some(Self { path: self.path.clone(), prefix, object: object.clone() }))
    }

    /// Token ids: one number or a list of them; `None` where absent.
    pub fn token_ids(&self, name: &str) -> Result<Option<Vec<u32>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let mut ids = Vec::with_capacity(values.len());
        for value in values {
            match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
                Some(id) => ids.push(id),
                None => {
                    return Err(self.refuse(name, value, "wanted a token id or a list of them"));
                }
            }
        }
        Ok(Some(ids))
    }
}
