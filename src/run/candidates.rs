//! What is measured: adapters in memory, or the bare base.
//!
//! The forward pass sees their linears, an external program a folder in PEFT's form.

use std::path::Path;

use crate::adapter::{Adapter, Config, Layout, save};
use crate::error::{Error, Result};
use crate::model::lora::Places;
use crate::model::{ADAPTED_BYTES, Adapted, Model};
use crate::tensors::Dtype;

/// How many adapters of this layout are measured on `model` at once, for the memory they take.
pub fn at_once(model: &Model, layout: &Layout) -> usize {
    let adapter_bytes = layout.len * size_of::<f32>();
    let each = model.adapted_bytes() + 2 * adapter_bytes;
    (ADAPTED_BYTES / each.max(1)).max(1)
}

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
}

impl Candidates<'_> {
    /// The linears as the candidates make them.
    pub fn adapted(&self, model: &Model) -> Result<Adapted> {
        match self {
            Self::Base => Ok(Adapted::base()),
            Self::Adapters { adapters, places, .. } => {
                model.adapt(places, &adapters.iter().collect::<Vec<_>>())
            }
        }
    }

    /// Gives `use_it` a folder that holds candidate `idx` as a PEFT adapter while it runs.
    pub fn with_saved<T>(&self, idx: usize, use_it: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let Self::Adapters { adapters, config, dtype, .. } = self else {
            return Err(Error::Usage("a command measures adapters, and none was given".into()));
        };
        let folder = std::env::temp_dir().join(format!("model-swarms-{}", std::process::id()));
        let dir = folder.join("adapter");
        let used =
            save(&dir, &adapters[idx], config, *dtype, "A candidate.").and_then(|()| use_it(&dir));
        let _ = std::fs::remove_dir_all(&folder);
        used
    }
}
