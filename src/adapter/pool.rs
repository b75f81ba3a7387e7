//! The pool of experts: n adapters that may be mixed because they are alike.
//!
//! An affine combination of weights means something only if the experts share base model, targets,
//! ranks and scales; the first difference between two members is refused, both named.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::expert::{CONFIG_FILE, Expert, common_dtype};
use super::layout::Layout;
use crate::error::{Error, Result};
use crate::tensors::Dtype;

/// The experts of a search, at least one, all of one layout.
#[derive(Debug)]
pub struct Pool {
    /// Sorted by folder name where the pool was opened as a folder; this order numbers the columns
    /// of every location.
    pub experts: Vec<Expert>,
}

impl Pool {
    /// Opens every adapter folder in `dir`, as [`folders`] finds them.
    pub fn open(dir: &Path) -> Result<Self> {
        let folders = folders(dir)?;
        // Checked side by side; the first in order of name gives the error.
        let opened: Vec<Result<Expert>> =
            folders.par_iter().map(|folder: &PathBuf| Expert::open(folder)).collect();
        Self::from_experts(opened.into_iter().collect::<Result<_>>()?)
    }

    /// A pool of these experts, in this order.
    pub fn from_experts(experts: Vec<Expert>) -> Result<Self> {
        check_alike(&experts, Likeness::Factors)?;
        Ok(Self { experts })
    }

    /// The layout that all members share.
    pub fn layout(&self) -> &Arc<Layout> {
        self.experts[0].layout()
    }

    /// The members' names, in order.
    pub fn names(&self) -> Vec<&str> {
        self.experts.iter().map(|expert| expert.name.as_str()).collect()
    }

    /// The type of the members' weights, F32 where they are of several: the one to save in.
    pub fn dtype(&self) -> Dtype {
        common_dtype(self.experts.iter().map(Expert::dtype))
    }
}

/// The adapter folders in `dir`, sorted by name. Files and hidden folders are passed over; a folder
/// that is not an adapter is an error, and so is a `dir` without any.
pub fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io(dir, "list"))? {
        let path = entry.map_err(Error::io(dir, "list"))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        // A link that leads nowhere is an expert that would be missing, and so an error.
        if !hidden && fs::metadata(&path).map_err(Error::io(&path, "inspect"))?.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    if folders.is_empty() {
        let what = if dir.join(CONFIG_FILE).exists() {
            "this is one adapter, wanted a folder of adapter folders"
        } else {
            "no folders in it, wanted a folder of adapter folders"
        };
        return Err(Error::input(dir, what));
    }
    if let Some(folder) = folders.iter().find(|folder| !folder.join(CONFIG_FILE).exists()) {
        let what = format!("no {CONFIG_FILE} in it, wanted an adapter in every folder of a pool");
        return Err(Error::input(folder, what));
    }
    Ok(folders)
}

/// How alike experts must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// For sums of A's and of B's: the same modules, shapes, ranks and scales.
    Factors,
    /// For sums of scale * B A: the same modules and shapes.
    Updates,
}

/// Refuses experts, of which there must be one at least, that are not alike or not of one base.
pub fn check_alike(experts: &[Expert], likeness: Likeness) -> Result<()> {
    let Some(first) = experts.first() else {
        return Err(Error::Usage("a pool wants at least one expert, none was given".into()));
    };
    for other in &experts[1..] {
        check_pair(first, other, likeness)?;
    }
    // Members may leave the base unsaid; those that say it must agree among themselves.
    let mut with_base = experts.iter().filter(|expert| expert.config().base.is_some());
    if let Some(first) = with_base.next() {
        with_base.try_for_each(|other| check_same_base(first, other))?;
    }
    Ok(())
}

fn check_same_base(first: &Expert, other: &Expert) -> Result<()> {
    if first.config().base == other.config().base {
        return Ok(());
    }
    let base = |expert: &Expert| expert.config().base.clone().unwrap_or_default();
    differ("base_model_name_or_path", first, &base(first), other, &base(other))
}

fn check_pair(first: &Expert, other: &Expert, likeness: Likeness) -> Result<()> {
    match first.layout().first_difference(other.layout(), likeness) {
        None => Ok(()),
        Some(found) => {
            let what = format!("{} of module {:?}", found.what, found.module);
            differ(&what, first, &found.ours, other, &found.theirs)
        }
    }
}

fn differ(what: &str, first: &Expert, ours: &str, other: &Expert, theirs: &str) -> Result<()> {
    let (first_name, other_name) = (&first.name, &other.name);
    let what = format!(
        "the experts are not alike: {what} is {ours:?} in {first_name:?} and {theirs:?} in \
         {other_name:?}"
    );
    Err(Error::input(other.dir(), what))
}
