//! The decoder: configuration, weights, forward pass, decoding, tokenizer and chat template.
//!
//! Start at `forward`: one straight list of steps, whatever the device. `config` says what the
//! model is, `weights` where its matrices come from, `lora` how adapters enter, `decode` how
//! prompts become answers, `mixture` how several adapters answer together; `decoder` holds all.
//! `memory` counts what that takes of a GPU.
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
pub mod memory;
pub mod mixture;
pub mod tokenizer;
pub mod weights;

use std::path::{Path, PathBuf};

use crate::adapter::Adapter;
use crate::backend::cpu::Isa;
use crate::backend::cpu::device::Cpu;
#[cfg(feature = "cuda")]
use crate::backend::{
    Precision,
    cuda::{device::Cuda, driver::Driver, gpu::Gpu},
};
use crate::error::Result;
use config::Config;
use decode::{Generated, Job, Report, TextJob};
pub use decoder::Application;
use decoder::Decoder;
use embed::EmbedJob;
use lora::Places;
#[cfg(feature = "cuda")]
use memory::{Demand, Held, Plan, base_bytes};
use mixture::{MixedJob, MixedText};
#[cfg(feature = "cuda")]
use weights::BaseFiles;

/// Bytes that the adapters under evaluation may take together.
pub const ADAPTED_BYTES: usize = 1 << 30;

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// The first GPU.
    #[cfg(feature = "cuda")]
    Cuda(Precision),
}

/// A base model, ready to run on the device that was chosen.
pub struct Model {
    /// Its sizes and choices.
    pub config: Config,
    on: On,
}

enum On {
    Cpu(Decoder<Cpu>),
    #[cfg(feature = "cuda")]
    Cuda(Decoder<Cuda<Gpu>>),
}

/// The linears as the adapters of a set make them.
pub struct Adapted(AdaptedOn);

enum AdaptedOn {
    Base,
    Cpu(lora::Adapted<Cpu>),
    #[cfg(feature = "cuda")]
    Cuda(lora::Adapted<Cuda<Gpu>>),
}

/// Does the same with the decoder on whichever device: a generic function would have to be called
/// once for each.
macro_rules! on_device {
    ($model:expr, $decoder:ident => $result:expr) => {
        match &$model.on {
            On::Cpu($decoder) => $result,
            #[cfg(feature = "cuda")]
            On::Cuda($decoder) => $result,
        }
    };
    ($model:expr, $adapted:expr, ($decoder:ident, $set:ident) => $result:expr) => {
        match (&$model.on, &$adapted.0) {
            (On::Cpu($decoder), AdaptedOn::Cpu($set)) => $result,
            (On::Cpu($decoder), AdaptedOn::Base) => {
                let $set = &lora::Adapted::Base;
                $result
            }
            #[cfg(feature = "cuda")]
            (On::Cuda($decoder), AdaptedOn::Cuda($set)) => $result,
            #[cfg(feature = "cuda")]
            (On::Cuda($decoder), AdaptedOn::Base) => {
                let $set = &lora::Adapted::Base;
                $result
            }
            #[cfg(feature = "cuda")]
            _ => panic!("adapters on another device than the model"),
        }
    };
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
            #[cfg(feature = "cuda")]
            AdaptedOn::Cuda(adapted) => adapted.n_adapters(),
        }
    }
}

impl Model {
    /// Opens a directory in Hugging Face layout: config.json and safetensors weights. Adapters are
    /// applied as measures best at the model's size, unless `application` says how.
    pub fn open(
        dir: &Path,
        device: Device,
        isa: Isa,
        application: Option<Application>,
    ) -> Result<Self> {
        match device {
            Device::Cpu => {
                let decoder = Decoder::open(dir, Cpu { isa }, application)?;
                Ok(Self { config: decoder.config.clone(), on: On::Cpu(decoder) })
            }
            #[cfg(feature = "cuda")]
            Device::Cuda(precision) => {
                let gpu = Gpu::open()?;
                let limits = planned(dir, &gpu, precision, application)?.limits;
                let decoder = Decoder::open(dir, Cuda::new(gpu, precision, limits), application)?;
                Ok(Self { config: decoder.config.clone(), on: On::Cuda(decoder) })
            }
        }
    }

    /// The linears as each of the adapters, which have one layout, makes them.
    pub fn adapt(&self, places: &Places, adapters: &[&Adapter]) -> Result<Adapted> {
        Ok(Adapted(match &self.on {
            On::Cpu(decoder) => AdaptedOn::Cpu(decoder.adapt(places, adapters)?),
            #[cfg(feature = "cuda")]
            On::Cuda(decoder) => AdaptedOn::Cuda(decoder.adapt(places, adapters)?),
        }))
    }

    /// As [`Model::adapt`], beside the linears, however the model applies adapters otherwise.
    pub fn adapt_beside(&self, places: &Places, adapters: &[&Adapter]) -> Result<Adapted> {
        Ok(Adapted(match &self.on {
            On::Cpu(decoder) => AdaptedOn::Cpu(decoder.adapt_beside(places, adapters)?),
            #[cfg(feature = "cuda")]
            On::Cuda(decoder) => AdaptedOn::Cuda(decoder.adapt_beside(places, adapters)?),
        }))
    }

    /// Bytes that one adapted copy of the linears takes.
    pub fn adapted_bytes(&self) -> usize {
        on_device!(self, decoder => decoder.adapted_bytes())
    }

    /// The weight files, for fingerprints.
    pub fn paths(&self) -> Vec<PathBuf> {
        on_device!(self, decoder => decoder.paths())
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
        on_device!(self, adapted, (decoder, set) => {
            decode::generate(decoder, set, jobs, eos, batch, report)
        })
    }

    /// For every text: the sum of ln p(token | those before it) over its scored tokens.
    pub fn log_likelihoods(
        &self,
        adapted: &Adapted,
        jobs: &[TextJob],
        batch: Option<usize>,
    ) -> Result<Vec<f64>> {
        on_device!(self, adapted, (decoder, set) => {
            decode::log_likelihoods(decoder, set, jobs, batch)
        })
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
        on_device!(self, experts, (decoder, set) => {
            mixture::generate_mixed(decoder, set, jobs, eos, batch)
        })
    }

    /// As [`Model::log_likelihoods`], of experts that answer together; no number where a token has
    /// no probability.
    pub fn log_likelihoods_mixed(
        &self,
        experts: &Adapted,
        jobs: &[MixedText],
        batch: Option<usize>,
    ) -> Result<Vec<f64>> {
        on_device!(self, experts, (decoder, set) => {
            mixture::log_likelihoods_mixed(decoder, set, jobs, batch)
        })
    }

    /// For every text the mean hidden state of its tokens that count, `(n_texts, dim)`, summed in
    /// f64 in their order.
    pub fn mean_hidden(&self, jobs: &[EmbedJob], batch: Option<usize>) -> Result<Vec<Vec<f64>>> {
        on_device!(self, decoder => embed::mean_hidden(decoder, jobs, batch))
    }
}

/// Tokens of a sequence that a GPU's memory is planned for; longer ones come in smaller batches.
#[cfg(feature = "cuda")]
const PLANNED_POSITIONS: usize = 1024;

/// How a GPU's memory will be used, before any of it is.
#[cfg(feature = "cuda")]
fn planned(
    dir: &Path,
    gpu: &Gpu,
    precision: Precision,
    application: Option<Application>,
) -> Result<Plan> {
    let (config, files) = (Config::open(dir)?, BaseFiles::open(dir)?);
    let application = match precision {
        Precision::Exact => application.unwrap_or_else(|| Application::suited(&config)),
        Precision::Fast => Application::Unmerged,
    };
    let keep = application.keep();
    Plan::new(&Demand {
        config: &config,
        application,
        held: Held::default(),
        n_positions: config.max_positions.min(PLANNED_POSITIONS),
        base_bytes: base_bytes(&config, keep, |name, shape| files.dtype(name, shape))?,
        free_bytes: gpu.free_bytes()?.saturating_sub(ADAPTED_BYTES),
    })
}
