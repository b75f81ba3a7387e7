//! What is measured: adapters in memory, locations over a pool, or the bare base.
//!
//! The forward pass sees their linears, an external program a folder in PEFT's form.

use std::path::Path;

use crate::adapter::{Adapter, Config, save};
use crate::error::{Error, Result};
use crate::model::lora::Places;
use crate::model::{Adapted, Experts, Model};
use crate::tensors::Dtype;

/// Things that a task can measure.
pub enum Candidates<'a> {
    /// The base model without an adapter: one candidate.
    Base,
    /// Adapters of one layout.
    Adapters {
        /// The adapters.
        adapters: &'a [Adapter],
        /// Their place in the decoder.
        places: &'a Places,
        /// An expert's configuration, which describes them all.
        config: &'a Config,
        /// The type in which they are saved.
        dtype: Dtype,
    },
    /// What experts become at some locations: adapters, made where the model computes.
    Locations {
        /// The experts.
        experts: &'a Experts,
        /// Rows of coefficients over them.
        rows: &'a [&'a [f64]],
    },
}

impl Candidates<'_> {
    /// How many.
    pub fn n(&self) -> usize {
        match self {
            Self::Base => 1,
            Self::Adapters { adapters, .. } => adapters.len(),
            Self::Locations { rows, .. } => rows.len(),
        }
    }

    /// The linears as the candidates make them.
    pub fn adapted(&self, model: &Model) -> Result<Adapted> {
        match self {
            Self::Base => Ok(Adapted::base()),
            Self::Adapters { adapters, places, .. } => {
                model.adapt(places, &adapters.iter().collect::<Vec<_>>())
            }
            Self::Locations { experts, rows } => model.adapt_at(experts, rows),
        }
    }

    /// Gives `use_it` a folder that holds candidate `idx` as a PEFT adapter while it runs.
    pub fn with_saved<T>(&self, idx: usize, use_it: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let made;
        let (adapter, config, dtype) = match self {
            Self::Base => {
                let what = "a command measures adapters, and none was given";
                return Err(Error::Usage(what.into()));
            }
            Self::Adapters { adapters, config, dtype, .. } => (&adapters[idx], *config, *dtype),
            Self::Locations { experts, rows } => {
                let pool = experts.pool();
                made = experts.adapter(rows[idx]);
                (&made, pool.experts[0].config(), pool.dtype())
            }
        };
        let folder = std::env::temp_dir().join(format!("model-swarms-{}", std::process::id()));
        let dir = folder.join("adapter");
        let used = save(&dir, adapter, config, dtype, "A candidate.").and_then(|()| use_it(&dir));
        let _ = std::fs::remove_dir_all(&folder);
        used
    }
}
