//! From what a user calls a base model to the directory that holds it.
//!
//! A base is a directory, or an id such as `google/gemma-7b-it` that the local Hugging Face cache
//! holds. Nothing is downloaded, and what the directory holds is not looked at.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::read_text;

/// The directory of the base model `base`: itself, or its snapshot in the local cache.
pub fn locate(base: &str) -> Result<PathBuf> {
    locate_in(base, cache_root().as_deref())
}

/// [`locate`], with the cache's folder given; `None` where the user has no home.
pub fn locate_in(base: &str, cache: Option<&Path>) -> Result<PathBuf> {
    let dir = Path::new(base);
    if dir.is_dir() {
        return Ok(dir.to_path_buf());
    }
    if dir.exists() {
        return Err(Error::input(dir, "is a file; wanted a model's directory"));
    }
    if !is_id(base) {
        return Err(Error::input(dir, "there is no such directory"));
    }
    let Some(cache) = cache else {
        let what = "there is no such directory, and no Hugging Face cache to look in: \
                    HF_HUB_CACHE, HF_HOME and HOME are not set";
        return Err(Error::input(dir, what));
    };
    let repository = cache.join(format!("models--{}", base.replace('/', "--")));
    if !repository.is_dir() {
        let what = format!(
            "is neither a directory nor a model in the local Hugging Face cache; looked for {}",
            repository.display()
        );
        return Err(Error::input(dir, what));
    }
    let reference = repository.join("refs/main");
    let revision = read_text(&reference)?;
    let revision = revision.trim();
    if revision.is_empty() || !revision.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(Error::input(reference, "does not hold the name of a revision"));
    }
    let snapshot = repository.join("snapshots").join(revision);
    if !snapshot.is_dir() {
        let what = "is missing, though refs/main names it; the model's download is incomplete";
        return Err(Error::input(snapshot, what));
    }
    Ok(snapshot)
}

/// Where Hugging Face's own tools keep downloaded models.
fn cache_root() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("HF_HUB_CACHE")
        .or_else(|| Some(set("HF_HOME")?.join("hub")))
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("huggingface/hub")))
        .or_else(|| Some(set("HOME")?.join(".cache/huggingface/hub")))
}

/// Whether `base` could be an id: `name` or `owner/name`.
fn is_id(base: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && !word.starts_with('.')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    base.split('/').count() <= 2 && base.split('/').all(is_word)
}
