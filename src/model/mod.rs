//! The decoder: configuration, weights, forward pass, decoding, tokenizer and chat template.
//!
//! Start at `forward`: one straight list of steps. `config` says what the model is, `weights` where
//! its matrices come from, `lora` how an adapter enters, `decode` how prompts become answers, and
//! `mixture` how several adapters answer together.

pub mod chat;
pub mod config;
pub mod decode;
pub mod embed;
mod fields;
pub mod forward;
pub mod locate;
pub mod lora;
pub mod mixture;
pub mod tokenizer;
pub mod weights;

use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::adapter::Adapter;
use crate::backend::cpu::Isa;
use crate::backend::cpu::attention::Heads;
use crate::backend::cpu::buffer::padded;
use crate::error::Result;
use config::Config;
use forward::State;
use lora::{Adapted, Places};
use weights::{BaseFiles, BaseWeights, Keep};

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

/// A base model, ready to run.
pub struct Model {
    /// Its sizes and choices.
    pub config: Config,
    /// Its weights.
    pub weights: BaseWeights,
    /// The instruction set in use.
    pub isa: Isa,
    /// How adapters are applied to it.
    pub application: Application,
    files: Arc<BaseFiles>,
    states: Spares,
}

/// Working memory that no thread is using, kept for the next batch.
#[derive(Default)]
struct Spares(Mutex<Vec<State>>);

impl Spares {
    fn take(&self) -> State {
        self.0.lock().ok().and_then(|mut states| states.pop()).unwrap_or_default()
    }

    fn put_back(&self, state: State) {
        if let Ok(mut states) = self.0.lock() {
            states.push(state);
        }
    }
}

impl Model {
    /// Opens a directory in Hugging Face layout: config.json and safetensors weights. Adapters are
    /// applied as measures best at the model's size, unless `application` says how.
    pub fn open(dir: &Path, isa: Isa, application: Option<Application>) -> Result<Self> {
        let config = Config::open(dir)?;
        let files = Arc::new(BaseFiles::open(dir)?);
        let application = application.unwrap_or(if n_linear_parameters(&config) <= MERGE_LIMIT {
            Application::Merged
        } else {
            Application::Unmerged
        });
        let keep = match application {
            Application::Merged => Keep::Wide,
            Application::Unmerged => Keep::AsInFile,
        };
        let weights = BaseWeights::load(&files, &config, keep)?;
        Ok(Self { config, weights, isa, application, files, states: Spares::default() })
    }

    /// The linears as the adapter makes them.
    pub fn adapt(&self, places: &Places, adapter: &Adapter) -> Adapted {
        match self.application {
            Application::Merged => Adapted::merge(self.isa, &self.weights.layers, places, adapter),
            Application::Unmerged => Adapted::beside(places, adapter),
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
    pub(crate) fn cache_bytes(&self, n_positions: usize) -> usize {
        let config = &self.config;
        let n_heads = config.n_layers * config.n_kv_heads;
        let per_position = n_heads * (config.head_dim + padded(config.head_dim)) * size_of::<f32>();
        per_position * padded(n_positions)
    }

    /// The weight files, for fingerprints.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.paths()
    }

    /// The attention's sizes.
    pub(crate) fn heads(&self) -> Heads {
        let config = &self.config;
        Heads {
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
            window: config.sliding_window,
            score_factor: 1.0 / (config.head_dim as f32).sqrt(),
        }
    }
}

fn n_linear_parameters(config: &Config) -> usize {
    let heads = (2 * config.n_heads + 2 * config.n_kv_heads) * config.head_dim;
    (heads + 3 * config.ffn_dim).saturating_mul(config.dim).saturating_mul(config.n_layers)
}
