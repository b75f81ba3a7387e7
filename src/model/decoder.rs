//! A base model on a device, ready to run.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::config::Config;
use super::footprint::Footprint;
use super::forward::State;
use super::lora::{Adapted, Places};
use super::weights::{BaseFiles, BaseWeights, Keep};
use crate::adapter::{Adapter, Layout};
use crate::backend::{Backend, Precision};
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
    /// What was `asked` for, else what measures best at the model's size; in precision `fast`
    /// beside the weights, which are kept in bf16: a sum with an update would be rounded to it.
    ///
    /// # Errors
    /// Merging was asked for in precision `fast`.
    pub fn choose(config: &Config, precision: Precision, asked: Option<Self>) -> Result<Self> {
        match (precision, asked) {
            (Precision::Fast, Some(Self::Merged)) => Err(Error::Usage(
                "precision fast applies adapters beside the weights, not merged".into(),
            )),
            (_, Some(asked)) => Ok(asked),
            (Precision::Exact, None) if n_linear_parameters(config) <= MERGE_LIMIT => {
                Ok(Self::Merged)
            }
            (_, None) => Ok(Self::Unmerged),
        }
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
        let application = Application::choose(&config, backend.precision(), application)?;
        let weights = BaseWeights::load(&backend, &files, &config, application.keep())?;
        Ok(Self { config, application, backend, weights, files, states: Mutex::default() })
    }

    /// The linears as each of the adapters, which have one layout, makes them.
    pub fn adapt(&self, places: &Places, adapters: &[&Adapter]) -> Result<Adapted<B>> {
        self.adapt_as(self.application, places, adapters)
    }

    /// The adapters for use beside the linears, however the model applies others.
    pub fn adapt_beside(&self, places: &Places, adapters: &[&Adapter]) -> Result<Adapted<B>> {
        self.adapt_as(Application::Unmerged, places, adapters)
    }

    fn adapt_as(
        &self,
        application: Application,
        places: &Places,
        adapters: &[&Adapter],
    ) -> Result<Adapted<B>> {
        let Some(first) = adapters.first() else {
            return Ok(Adapted::Unmerged { n_adapters: 0, layers: Vec::new() });
        };
        let data: Vec<&[f32]> = adapters.iter().map(|adapter| &adapter.data[..]).collect();
        let there = self.backend.adapters(&data)?;
        self.apply(application, places, &first.layout, &there, data.len())
    }

    /// The linears as adapters of this layout make them.
    pub(super) fn apply(
        &self,
        application: Application,
        places: &Places,
        layout: &Layout,
        adapters: &B::Adapters<'_>,
        n_adapters: usize,
    ) -> Result<Adapted<B>> {
        let Self { backend, config, weights, .. } = self;
        match application {
            Application::Merged => {
                Adapted::merge(backend, &weights.layers, places, layout, adapters, n_adapters)
            }
            Application::Unmerged => {
                Adapted::beside(backend, config, places, layout, adapters, n_adapters)
            }
        }
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
        let Self { config, application, backend, .. } = self;
        let (precision, application) = (backend.precision(), *application);
        Footprint { config, precision, application }.sequence_bytes(n_positions)
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
