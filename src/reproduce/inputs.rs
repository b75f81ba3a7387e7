//! What a table is computed from, opened and checked: base model, experts, the adapter of merged
//! data, and the SHA-256 of every file; and what of it a device will hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::methods::space;
use super::nearness::Nearness;
use crate::adapter::{Expert, Pool};
use crate::baseline::merge::full_rank;
use crate::error::{Error, Result};
use crate::files::sha256;
use crate::model::Experts;
use crate::model::lora::Places;
use crate::model::memory::Held;
use crate::run::evaluate::{Base, Options};
use crate::run::fingerprint::hashes;
use crate::suite::{Method, Scale, Space, Suite};
use crate::task::Task;
use crate::testbed::{Inventory, Testbed};

/// Experts and their place in the base model.
pub struct Inputs {
    /// The experts.
    pub experts: Experts,
    /// The adapter of merged data, with its own places.
    pub data_merge: Option<(Expert, Places)>,
    /// What tells how near the experts are to a question.
    pub nearness: Option<Nearness>,
    /// SHA-256 of the files of base and experts, by role and name.
    pub sha256: BTreeMap<String, String>,
    /// The same of the adapter of merged data.
    pub data_merge_sha256: BTreeMap<String, String>,
    /// The same of what tells how near the experts are.
    pub nearness_sha256: BTreeMap<String, String>,
}

impl Inputs {
    /// Opens the base in `base_dir` and what else was found of `testbed`, and checks that it fits
    /// together and that there are as many experts as the suite wants.
    pub fn open(
        testbed: &Testbed,
        suite: &Suite,
        found: &Inventory,
        base_dir: &Path,
        scale: Scale,
        options: Options,
    ) -> Result<(Self, Base)> {
        let n_experts = found.experts.len();
        if n_experts != suite.experts {
            let what = format!("has {n_experts} experts, {} wants {}", suite.item, suite.experts);
            return Err(Error::input(testbed.path(), what));
        }
        let open = |path: &PathBuf| Expert::open(path);
        let pool = Pool::from_experts(found.experts.iter().map(open).collect::<Result<_>>()?)?;
        let data_merge = found.data_merge.as_deref().map(Expert::open).transpose()?;
        let held = held(suite, scale, found, &pool, data_merge.as_ref());
        let base = Base::open(base_dir, options, held)?;
        let places = Places::find(pool.layout(), &base.model.config, &found.experts[0])?;
        let data_merge = data_merge.map(|expert| {
            let places = Places::find(expert.layout(), &base.model.config, expert.dir())?;
            Ok((expert, places))
        });
        let data_merge = data_merge.transpose()?;
        let weight_files = base.model.paths();
        let sha256 = hashes(base.dir(), &weight_files, &pool, &[])?;
        let data_merge_sha256 = match &data_merge {
            None => BTreeMap::new(),
            Some((expert, _)) => {
                let files = ["adapter_config.json", "adapter_model.safetensors"];
                hashed("data-merge", files.iter().map(|name| expert.dir().join(name)))?
            }
        };
        let nearness = found.nearness.as_ref();
        let nearness_sha256 =
            nearness.map(|files| hashed("nearness", Nearness::files(files).iter().cloned()));
        let nearness_sha256 = nearness_sha256.transpose()?.unwrap_or_default();
        let nearness = nearness.map(|files| Nearness::open(files, &pool.names())).transpose()?;
        let inputs = Self {
            experts: base.model.experts(pool, places)?,
            data_merge,
            nearness,
            sha256,
            data_merge_sha256,
            nearness_sha256,
        };
        Ok((inputs, base))
    }

    /// The experts as they are mapped.
    pub fn pool(&self) -> &Pool {
        self.experts.pool()
    }

    /// The SHA-256 of the files that `method` reads besides base and experts.
    pub fn own_sha256(&self, method: &Method) -> Option<&BTreeMap<String, String>> {
        match method {
            Method::DataMerge => Some(&self.data_merge_sha256),
            Method::Cbtm { .. } => Some(&self.nearness_sha256),
            _ => None,
        }
    }

    /// Refuses a task with an example whose nearness to the experts cannot be told, if the suite
    /// asks for it.
    pub fn check_nearness(&self, suite: &Suite, task: &Task) -> Result<()> {
        let is_asked = suite.rows.iter().any(|row| matches!(row.method, Method::Cbtm { .. }));
        self.nearness.as_ref().filter(|_| is_asked).map_or(Ok(()), |found| found.check(task))
    }
}

/// The adapters that the suite's rows need: a swarm's, and those that some rows make.
fn held(
    suite: &Suite,
    scale: Scale,
    found: &Inventory,
    pool: &Pool,
    data_merge: Option<&Expert>,
) -> Held {
    let (layout, n_experts) = (pool.layout(), pool.experts.len());
    let mut held = Held::made_of(pool, suite.sizes(scale).particles.max(n_experts));
    if let Some(merged) = data_merge.map(|expert| Held::of(expert.layout(), 1)) {
        held = held.and_alone(merged.len, merged.rank);
    }
    for method in suite.rows.iter().map(|row| &row.method) {
        held = match (space(method), method) {
            (_, Method::Cbtm { .. }) if found.nearness.is_some() => {
                Held { n_mixed: n_experts, ..held }
            }
            (Space::Factor, _) => held,
            (Space::Delta, Method::DareTies { .. }) | (Space::Full, _) => {
                let whole = full_rank(layout).map(|layout| Held::of(&layout, 1));
                whole.map_or(held, |whole| held.and_alone(whole.len, whole.rank))
            }
            (Space::Delta, _) => held.and_alone(n_experts * held.len, n_experts * held.rank),
        };
    }
    held
}

/// The SHA-256 of a task's files, by their role in column `name`.
pub fn task_hashes(name: &str, task: &Task) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for (idx, path) in task.inputs.iter().enumerate() {
        found.extend(hashed(&format!("task/{name}/{idx}"), std::iter::once(path.clone()))?);
    }
    Ok(found)
}

fn hashed(role: &str, paths: impl Iterator<Item = PathBuf>) -> Result<BTreeMap<String, String>> {
    let hash = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok((format!("{role}/{name}"), sha256(&path)?))
    };
    paths.map(hash).collect()
}
