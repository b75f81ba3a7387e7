//! The decoder: configuration, weights, forward pass, decoding, tokenizer and chat template.
//!
//! Start at `forward`: one straight list of steps, whatever the device. `config` says what the
//! model is, `weights` where its matrices come from, `lora` how adapters enter, `decode` how
//! prompts become answers, `mixture` how several adapters answer together; `decoder` holds all.
//! [`Model`] is a decoder on the device that was chosen.

pub mod chat;
pub mod config;
pub mod decode;
pub mod decoder;
pub mod embed;
mod fields;
pub mod forward;
pub mod locate;
pub mod lora;
pub mod mixture;
pub mod tokenizer;
pub mod weights;

use std::path::{Path, PathBuf};

use crate::adapter::Adapter;
use crate::backend::cpu::Isa;
use crate::backend::cpu::device::Cpu;
use crate::error::Result;
use config::Config;
use decode::{Generated, Job, Report, TextJob};
pub use decoder::Application;
use decoder::Decoder;
use embed::EmbedJob;
use lora::Places;
use mixture::{MixedJob, MixedText};

/// A base model, ready to run on the device that was chosen.
pub struct Model {
    /// Its sizes and choices.
    pub config: Config,
    on: OnDevice,
}

enum OnDevice {
    Cpu(Decoder<Cpu>),
}

/// The linears as the adapters of a set make them.
pub struct Adapted(AdaptedOn);

enum AdaptedOn {
    Base,
    Cpu(lora::Adapted<Cpu>),
}

impl Adapted {
    /// No adapter: a set of one.
    pub fn base() -> Self {
        Self(AdaptedOn::Base)
    }

    /// How many adapters the set holds.
    pub fn n_adapters(&self) -> usize {
        match &self.0 {
            AdaptedOn::Base => 1,
            AdaptedOn::Cpu(adapted) => adapted.n_adapters(),
        }
    }

    fn on_cpu(&self) -> &lora::Adapted<Cpu> {
        match &self.0 {
            AdaptedOn::Base => &lora::Adapted::Base,
            AdaptedOn::Cpu(adapted) => adapted,
        }
    }
}

impl Model {
    /// Opens a directory in Hugging Face layout: config.json and safetensors weights. Adapters are
    /// applied as measures best at the model's size, unless `application` says how.
    pub fn open(dir: &Path, isa: Isa, application: Option<Application>) -> Result<Self> {
        let decoder = Decoder::open(dir, Cpu { isa }, application)?;
        Ok(Self { config: decoder.config.clone(), on: OnDevice::Cpu(decoder) })
    }

    /// The linears as each of the adapters, which have one layout, makes them.
    pub fn adapt(&self, places: &Places, adapters: &[&Adapter]) -> Result<Adapted> {
        match &self.on {
            OnDevice::Cpu(decoder) => {
                decoder.adapt(places, adapters).map(|adapted| Adapted(AdaptedOn::Cpu(adapted)))
            }
        }
    }

    /// As [`Model::adapt`], beside the linears, however the model applies adapters otherwise.
    pub fn adapt_beside(&self, places: &Places, adapters: &[&Adapter]) -> Result<Adapted> {
        match &self.on {
            OnDevice::Cpu(decoder) => {
                let adapted = decoder.adapt_beside(places, adapters)?;
                Ok(Adapted(AdaptedOn::Cpu(adapted)))
            }
        }
    }

    /// Bytes that one adapted copy of the linears takes.
    pub fn adapted_bytes(&self) -> usize {
        match &self.on {
            OnDevice::Cpu(decoder) => decoder.adapted_bytes(),
        }
    }

    /// The weight files, for fingerprints.
    pub fn paths(&self) -> Vec<PathBuf> {
        match &self.on {
            OnDevice::Cpu(decoder) => decoder.paths(),
        }
    }

    /// Continues every prompt greedily until an end token or its `max_new_tokens`; results in job
    /// order. `batch` is the number of sequences that share a batch; it changes the speed only.
    pub fn generate(
        &self,
        adapted: &Adapted,
        jobs: &[Job],
        eos: &[u32],
        batch: Option<usize>,
        report: Report,
    ) -> Result<Vec<Generated>> {
        match &self.on {
            OnDevice::Cpu(decoder) => {
                decode::generate(decoder, adapted.on_cpu(), jobs, eos, batch, report)
            }
        }
    }

    /// For every text: the sum of ln p(token | those before it) over its scored tokens.
    pub fn log_likelihoods(
        &self,
        adapted: &Adapted,
        jobs: &[TextJob],
        batch: Option<usize>,
    ) -> Result<Vec<f64>> {
        match &self.on {
            OnDevice::Cpu(decoder) => {
                decode::log_likelihoods(decoder, adapted.on_cpu(), jobs, batch)
            }
        }
    }

    /// Continues every prompt by several experts together, until an end token or its
    /// `max_new_tokens`; new tokens in job order. Of equally probable tokens the first is taken.
    pub fn generate_mixed(
        &self,
        experts: &Adapted,
        jobs: &[MixedJob],
        eos: &[u32],
        batch: Option<usize>,
    ) -> Result<Vec<Vec<u32>>> {
        match &self.on {
            OnDevice::Cpu(decoder) => {
                mixture::generate_mixed(decoder, experts.on_cpu(), jobs, eos, batch)
            }
        }
    }

    /// As [`Model::log_likelihoods`], of experts that answer together; no number where a token has
    /// no probability.
    pub fn log_likelihoods_mixed(
        &self,
        experts: &Adapted,
        jobs: &[MixedText],
        batch: Option<usize>,
    ) -> Result<Vec<f64>> {
        match &self.on {
            OnDevice::Cpu(decoder) => {
                mixture::log_likelihoods_mixed(decoder, experts.on_cpu(), jobs, batch)
            }
        }
    }

    /// For every text the mean hidden state of its tokens that count, `(n_texts, dim)`, summed in
    /// f64 in their order.
    pub fn mean_hidden(&self, jobs: &[EmbedJob], batch: Option<usize>) -> Result<Vec<Vec<f64>>> {
        match &self.on {
            OnDevice::Cpu(decoder) => embed::mean_hidden(decoder, jobs, batch),
        }
    }
}
