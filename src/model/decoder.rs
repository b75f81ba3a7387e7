//! A base model on a device, ready to run.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::config::Config;
use super::forward::State;
use super::lora::{Adapted, Places};
use super::memory;
use super::weights::{BaseFiles, BaseWeights, Keep};
use crate::adapter::Adapter;
use crate::backend::Backend;
use crate::error::{Error, Result};

/// Linears of more parameters than this are kept in the file's type and adapted unmerged; smaller
/// ones are kept in f32 and merged. Merging costs a copy of the linears for each adapter under
/// evaluation (1 GiB at this size) and saves the adapter's share of every token.
pub const MERGE_LIMIT: usize = 1 << 28;

/// How adapters are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Application {
    /// Added to a copy of the weights.
    Merged,
    /// Computed beside the base's weights.
    Unmerged,
}

impl Application {
    /// What measures best at the model's size.
    pub fn suited(config: &Config) -> Self {
        if n_linear_parameters(config) <= MERGE_LIMIT { Self::Merged } else { Self::Unmerged }
    }

    /// How the base's matrices are kept for it.
    pub fn keep(self) -> Keep {
        match self {
            Self::Merged => Keep::Wide,
            Self::Unmerged => Keep::AsInFile,
        }
    }
}

/// A base model on a device, ready to run.
pub struct Decoder<B: Backend> {
    /// Its sizes and choices.
    pub config: Config,
    /// How adapters are applied to it.
    pub application: Application,
    pub(super) backend: B,
    pub(super) weights: BaseWeights<B>,
    files: Arc<BaseFiles>,
    states: Mutex<Vec<State<B>>>, // working memory that no worker is using
}

impl<B: Backend> Decoder<B> {
    /// Opens a directory in Hugging Face layout: config.json and safetensors weights. Adapters are
    /// applied as measures best at the model's size, unless `application` says how.
    pub fn open(dir: &Path, backend: B, application: Option<Application>) -> Result<Self> {
        let config = Config::open(dir)?;
        if let Some(why) = backend.refusal(&config.heads()) {
            let what = format!("this device's attention: {why}");
            return Err(Error::input(dir.join("config.json"), what));
        }
        let files = Arc::new(BaseFiles::open(dir)?);
        let can_merge = backend.can_merge();
        if application == Some(Application::Merged) && !can_merge {
            let what = "precision fast applies adapters beside the weights, not merged";
            return Err(Error::Usage(what.into()));
        }
        let suited = match can_merge {
            true => Application::suited(&config),
            false => Application::Unmerged,
        };
        let application = application.unwrap_or(suited);
        let weights = BaseWeights::load(&backend, &files, &config, application.keep())?;
        Ok(Self { config, application, backend, weights, files, states: Mutex::default() })
    }

    /// The linears as each of the adapters makes them.
    pub fn adapt(&self, places: &Places, adapters: &[&Adapter]) -> Result<Adapted<B>> {
        let backend = &self.backend;
        match self.application {
            Application::Merged => Adapted::merge(backend, &self.weights.layers, places, adapters),
            Application::Unmerged => self.adapt_beside(places, adapters),
        }
    }

    /// The adapters for use beside the linears, however the model applies others.
    pub fn adapt_beside(&self, places: &Places, adapters: &[&Adapter]) -> Result<Adapted<B>> {
        Adapted::beside(&self.backend, &self.config, places, adapters)
    }

    /// Bytes that one adapted copy of the linears takes.
    pub fn adapted_bytes(&self) -> usize {
        match self.application {
            Application::Merged => n_linear_parameters(&self.config).saturating_mul(4),
            Application::Unmerged => 0,
        }
    }

    /// Bytes of the key-value cache of a sequence of `n_positions`.
    pub(super) fn cache_bytes(&self, n_positions: usize) -> usize {
        memory::cache_bytes(&self.config, n_positions)
    }

    /// The weight files, for fingerprints.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.paths().map(Path::to_path_buf).collect()
    }

    /// Lends `run` working memory; after a failure nobody gets it again.
    pub(super) fn with_state<T>(&self, run: impl FnOnce(&mut State<B>) -> Result<T>) -> Result<T> {
        let spare = self.states.lock().ok().and_then(|mut states| states.pop());
        let mut state = spare.unwrap_or_default();
        let result = run(&mut state)?;
        if let Ok(mut states) = self.states.lock() {
            states.push(state);
        }
        Ok(result)
    }
}

fn n_linear_parameters(config: &Config) -> usize {
    let heads = (2 * config.n_heads + 2 * config.n_kv_heads) * config.head_dim;
    (heads + 3 * config.ffn_dim).saturating_mul(config.dim).saturating_mul(config.n_layers)
}
