//! The decoder: configuration, weights, forward pass, decoding, tokenizer and chat template.
//!
//! Start at `forward`: one straight list of steps, whatever the device. `config` says what the
//! model is, `weights` where its matrices come from, `lora` how adapters enter, `experts` how they
//! are made of a pool, `decode` how prompts become answers, `mixture` how several adapters answer
//! together; `decoder` holds all. `footprint` counts what that takes of a GPU, `memory` plans it.
//! [`Model`] is a decoder on the device that was chosen.

pub mod chat;
pub mod config;
pub mod decode;
pub mod decoder;
pub mod embed;
pub mod experts;
mod fields;
pub mod footprint;
pub mod forward;
pub mod locate;
pub mod lora;
pub mod memory;
pub mod mixture;
pub mod tokenizer;
pub mod weights;

use std::path::{Path, PathBuf};

use crate::adapter::{Adapter, Layout, Pool};
use crate::backend::Precision;
use crate::backend::cpu::Isa;
use crate::backend::cpu::device::Cpu;
#[cfg(feature = "cuda")]
use crate::backend::cuda::{device::Cuda, driver::Driver, gpu::Gpu};
use crate::error::Result;
use config::Config;
use decode::{Generated, Job, Report, TextJob};
pub use decoder::Application;
use decoder::Decoder;
use embed::EmbedJob;
use experts::Seat;
use lora::Places;
use memory::Held;
#[cfg(feature = "cuda")]
use memory::Plan;
use mixture::{MixedJob, MixedText};
#[cfg(feature = "cuda")]
use weights::BaseFiles;

/// Bytes that the adapters under evaluation on the CPU may take together.
const ADAPTED_BYTES: usize = 1 << 30;

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// The first GPU.
    #[cfg(feature = "cuda")]
    Cuda(Precision),
}

impl Device {
    /// How exact it computes.
    pub fn precision(self) -> Precision {
        match self {
            Self::Cpu => Precision::Exact,
            #[cfg(feature = "cuda")]
            Self::Cuda(precision) => precision,
        }
    }
}

/// A base model, ready to run on the device that was chosen.
pub struct Model {
    /// Its sizes and choices.
    pub config: Config,
    isa: Isa,
    on: On,
}

enum On {
    Cpu(Decoder<Cpu>),
    #[cfg(feature = "cuda")]
    Cuda(Decoder<Cuda<Gpu>>, Box<Plan>),
}

/// The experts of a pool, ready to become adapters on the device of a model.
pub struct Experts(ExpertsOn);

enum ExpertsOn {
    Cpu(experts::Experts<Cpu>),
    #[cfg(feature = "cuda")]
    Cuda(experts::Experts<Cuda<Gpu>>),
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
            On::Cuda($decoder, _) => $result,
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
            (On::Cuda($decoder, _), AdaptedOn::Cuda($set)) => $result,
            #[cfg(feature = "cuda")]
            (On::Cuda($decoder, _), AdaptedOn::Base) => {
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

impl Experts {
    /// The experts as they are mapped.
    pub fn pool(&self) -> &Pool {
        match &self.0 {
            ExpertsOn::Cpu(experts) => &experts.pool,
            #[cfg(feature = "cuda")]
            ExpertsOn::Cuda(experts) => &experts.pool,
        }
    }

    /// Where their modules are in the decoder.
    pub fn places(&self) -> &Places {
        match &self.0 {
            ExpertsOn::Cpu(experts) => &experts.places,
            #[cfg(feature = "cuda")]
            ExpertsOn::Cuda(experts) => &experts.places,
        }
    }

    /// The adapter at a location, in the host's memory.
    pub fn adapter(&self, location: &[f64]) -> Adapter {
        match &self.0 {
            ExpertsOn::Cpu(experts) => experts.adapter(location),
            #[cfg(feature = "cuda")]
            ExpertsOn::Cuda(experts) => experts.adapter(location),
        }
    }
}

impl Model {
    /// Opens a directory in Hugging Face layout: config.json and safetensors weights. Adapters are
    /// applied as measures best at the model's size, unless `application` says how; a device's
    /// memory is planned for those that are `held`.
    pub fn open(
        dir: &Path,
        device: Device,
        isa: Isa,
        application: Option<Application>,
        #[cfg_attr(not(feature = "cuda"), allow(unused_variables))] held: Held,
    ) -> Result<Self> {
        match device {
            Device::Cpu => {
                let decoder = Decoder::open(dir, Cpu { isa }, application)?;
                Ok(Self { config: decoder.config.clone(), isa, on: On::Cpu(decoder) })
            }
            #[cfg(feature = "cuda")]
            Device::Cuda(precision) => {
                let gpu = Gpu::open()?;
                let (config, files) = (Config::open(dir)?, BaseFiles::open(dir)?);
                let how = (precision, application);
                let plan = Plan::of_base(&config, &files, how, held, None, gpu.free_bytes()?)?;
                let cuda = Cuda::new(gpu, precision, plan.limits);
                let decoder = Decoder::open(dir, cuda, application)?;
                Ok(Self { config, isa, on: On::Cuda(decoder, Box::new(plan)) })
            }
        }
    }

    /// Makes the experts ready to become adapters, on the device if its memory was planned for
    /// them.
    pub fn experts(&self, pool: Pool, places: Places) -> Result<Experts> {
        Ok(Experts(match &self.on {
            On::Cpu(decoder) => {
                ExpertsOn::Cpu(decoder.experts(pool, places, Seat::Host, self.isa)?)
            }
            #[cfg(feature = "cuda")]
            On::Cuda(decoder, plan) => {
                ExpertsOn::Cuda(decoder.experts(pool, places, plan.seat(), self.isa)?)
            }
        }))
    }

    /// Why adapters will be made in the host's memory, where they might be made on a device.
    pub fn concern(&self) -> Option<String> {
        match &self.on {
            On::Cpu(_) => None,
            #[cfg(feature = "cuda")]
            On::Cuda(_, plan) => plan.concern(),
        }
    }

    /// How many adapters of this layout are measured at once, for the memory they take.
    pub fn at_once(&self, layout: &Layout) -> usize {
        match &self.on {
            On::Cpu(decoder) => {
                let adapter_bytes = layout.len * size_of::<f32>();
                let each = decoder.adapted_bytes() + 2 * adapter_bytes;
                (ADAPTED_BYTES / each.max(1)).max(1)
            }
            #[cfg(feature = "cuda")]
            On::Cuda(_, plan) => plan.n_adapters.max(1),
        }
    }

    /// The linears as the adapters at these locations make them, each a row of coefficients over
    /// the experts.
    pub fn adapt_at(&self, experts: &Experts, locations: &[&[f64]]) -> Result<Adapted> {
        Ok(Adapted(match (&self.on, &experts.0) {
            (On::Cpu(decoder), ExpertsOn::Cpu(experts)) => {
                AdaptedOn::Cpu(decoder.adapt_at(experts, locations)?)
            }
            #[cfg(feature = "cuda")]
            (On::Cuda(decoder, _), ExpertsOn::Cuda(experts)) => {
                AdaptedOn::Cuda(decoder.adapt_at(experts, locations)?)
            }
            #[cfg(feature = "cuda")]
            _ => panic!("experts on another device than the model"),
        }))
    }

    /// The linears as each of the adapters, which have one layout, makes them.
    pub fn adapt(&self, places: &Places, adapters: &[&Adapter]) -> Result<Adapted> {
        Ok(Adapted(match &self.on {
            On::Cpu(decoder) => AdaptedOn::Cpu(decoder.adapt(places, adapters)?),
            #[cfg(feature = "cuda")]
            On::Cuda(decoder, _) => AdaptedOn::Cuda(decoder.adapt(places, adapters)?),
        }))
    }

    /// As [`Model::adapt`], beside the linears, however the model applies adapters otherwise.
    pub fn adapt_beside(&self, places: &Places, adapters: &[&Adapter]) -> Result<Adapted> {
        Ok(Adapted(match &self.on {
            On::Cpu(decoder) => AdaptedOn::Cpu(decoder.adapt_beside(places, adapters)?),
            #[cfg(feature = "cuda")]
            On::Cuda(decoder, _) => AdaptedOn::Cuda(decoder.adapt_beside(places, adapters)?),
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
