//! Text to token ids and back, by the model's own `tokenizer.json`.
//!
//! A thin wall around the `tokenizers` crate: what the file says of truncation and padding is put
//! aside (no prompt may be cut or filled behind the caller's back), and whatever the crate makes of
//! a damaged file becomes an error that names it. Knows nothing of prompts and conversations.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::read_text;

/// A model's tokenizer.
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// Reads `tokenizer.json` in `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        if !path.exists() {
            let what = "is missing; the model's directory must have its tokenizer in this form";
            return Err(Error::input(path, what));
        }
        let mut file: Value = serde_json::from_str(&read_text(&path)?)
            .map_err(|found| Error::input(&path, format!("is not JSON: {found}")))?;
        let Some(object) = file.as_object_mut() else {
            return Err(Error::input(path, "holds JSON that is not an object"));
        };
        check_post_processor(&path, object.get("post_processor").unwrap_or(&Value::Null))?;
        object.insert("truncation".into(), Value::Null);
        object.insert("padding".into(), Value::Null);
        let inner = guarded(&path, "is not a tokenizer", || {
            serde_json::from_value::<tokenizers::Tokenizer>(file).map_err(Into::into)
        })?;
        Ok(Self { path, inner })
    }

    /// The ids of `text` with the special tokens that the model's tokenizer adds (`<bos>` for the
    /// supported families). Special tokens written out in `text` are read as such.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, true)
    }

    /// The ids of a rendered conversation, whose template has already written `<bos>`.
    pub fn encode_chat(&self, rendered: &str) -> Result<Vec<u32>> {
        self.ids(rendered, false)
    }

    /// The ids of `text` as [`encode`](Self::encode) gives them, and for each whether it begins at
    /// or after byte `from` of the text; special tokens that the tokenizer adds do not.
    pub fn encode_from(&self, text: &str, from: usize) -> Result<(Vec<u32>, Vec<bool>)> {
        guarded(&self.path, "cannot encode", || {
            let encoding = self.inner.encode(text, true)?;
            let after =
                encoding.get_offsets().iter().map(|(start, end)| start < end && *start >= from);
            Ok((encoding.get_ids().to_vec(), after.collect()))
        })
    }

    /// The text of `ids`, special tokens and unknown ids left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        guarded(&self.path, "cannot decode", || self.inner.decode(ids, true))
    }

    /// The id of one token, given as the vocabulary spells it.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    fn ids(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        guarded(&self.path, "cannot encode", || {
            Ok(self.inner.encode_fast(text, add_special_tokens)?.get_ids().to_vec())
        })
    }
}

/// Sees that a post-processor defines the special tokens it adds, since the `tokenizers` crate
/// finds out only while encoding, by a panic. A "Sequence" holds several post-processors.
fn check_post_processor(path: &Path, processor: &Value) -> Result<()> {
    for inner in processor["processors"].as_array().into_iter().flatten() {
        check_post_processor(path, inner)?;
    }
    for form in ["single", "pair"] {
        for piece in processor[form].as_array().into_iter().flatten() {
            let Some(token) = piece["SpecialToken"]["id"].as_str() else { continue };
            if processor["special_tokens"].get(token).is_none() {
                let what = format!("post_processor adds {token:?}, which it does not define");
                return Err(Error::input(path, what));
            }
        }
    }
    Ok(())
}

/// Runs `work` of the `tokenizers` crate, which panics on some damaged files where it ought to
/// return an error.
fn guarded<T>(path: &Path, what: &str, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|found| Error::input(path, format!("{what}: {found}"))),
        Err(_) => Err(Error::input(path, format!("{what}: its parts contradict each other"))),
    }
}
