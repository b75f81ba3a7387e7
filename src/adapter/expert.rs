//! One expert: a PEFT adapter's folder, checked once, mapped and read-only.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::Config;
use super::layout::Layout;
use super::norms::update_norm;
use super::save::Adapter;
use crate::error::{Error, Result};
use crate::tensors::{Dtype, Slot, Tensor, Tensors};

pub(super) const CONFIG_FILE: &str = "adapter_config.json";
pub(super) const WEIGHTS_FILE: &str = "adapter_model.safetensors";
const PICKLED_FILE: &str = "adapter_model.bin";

/// A member of the pool: n of them span the space that the swarm searches.
#[derive(Debug)]
pub struct Expert {
    /// The name of its folder.
    pub name: String,
    dir: PathBuf,
    config: Config,
    layout: Arc<Layout>,
    tensors: Tensors,
    /// Per module of the layout: A, B.
    slots: Vec<[Slot; 2]>,
}

impl Expert {
    /// Opens the adapter in `dir` and checks it whole: the configuration, that the file's tensors
    /// are those that the configuration names, and that every weight is finite.
    pub fn open(dir: &Path) -> Result<Self> {
        let config = Config::read(&dir.join(CONFIG_FILE))?;
        let weights = dir.join(WEIGHTS_FILE);
        let pickled = dir.join(PICKLED_FILE);
        if !weights.exists() && pickled.exists() {
            let what = format!("pickled weights are not read, convert them to {WEIGHTS_FILE}");
            return Err(Error::input(pickled, what));
        }
        let tensors = Tensors::open(&weights)?;
        let (layout, slots) = Layout::read(&tensors, &config)?;
        let layout = Arc::new(layout);
        let expert = Self {
            name: folder_name(dir)?,
            dir: dir.to_path_buf(),
            config,
            layout,
            tensors,
            slots,
        };
        expert.check_finite()?;
        Ok(expert)
    }

    /// The folder, as it was given to [`Expert::open`].
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its weights lie in its flat vector.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The type of its weights, F32 where they are of several.
    pub fn dtype(&self) -> Dtype {
        common_dtype(self.slots.iter().flatten().map(|slot| slot.dtype))
    }

    /// A of a module, given by its index in the layout: (rank, d_in), row-major.
    pub fn a(&self, module_idx: usize) -> Tensor<'_> {
        self.tensors.at(&self.slots[module_idx][0])
    }

    /// B of a module, given by its index in the layout: (d_out, rank), row-major.
    pub fn b(&self, module_idx: usize) -> Tensor<'_> {
        self.tensors.at(&self.slots[module_idx][1])
    }

    /// Fills `values` with the flat vector's elements from `start` on.
    pub fn read(&self, start: usize, values: &mut [f32]) {
        let end = start + values.len();
        assert!(end <= self.layout.len, "elements {start}..{end} of {}", self.layout.len);
        let modules = &self.layout.modules;
        let first = modules.partition_point(|module| module.b.end <= start);
        for (module_idx, module) in modules.iter().enumerate().skip(first) {
            if module.a.start >= end {
                break;
            }
            for (range, tensor) in
                [(&module.a, self.a(module_idx)), (&module.b, self.b(module_idx))]
            {
                let (from, to) = (range.start.max(start), range.end.min(end));
                if from < to {
                    tensor.read_f32(from - range.start, &mut values[from - start..to - start]);
                }
            }
        }
    }

    /// All weights as one vector in the order of the layout.
    pub fn to_flat(&self) -> Vec<f32> {
        let mut flat = vec![0.0; self.layout.len];
        self.read(0, &mut flat);
        flat
    }

    /// The expert as an adapter in memory.
    pub fn to_adapter(&self) -> Adapter {
        let mut adapter = Adapter::zeros(self.layout.clone());
        self.read(0, &mut adapter.data);
        adapter
    }

    /// The Frobenius norm of scale * B A of each module, by name: how far the expert moves it.
    pub fn module_norms(&self) -> Vec<(String, f64)> {
        let norm = |(module_idx, module): (usize, &super::ModuleLayout)| {
            let (a, b) = (self.a(module_idx).to_f32(), self.b(module_idx).to_f32());
            (module.name.clone(), f64::from(module.scale.abs()) * update_norm(&a, &b, module.rank))
        };
        self.layout.modules.iter().enumerate().map(norm).collect()
    }

    fn check_finite(&self) -> Result<()> {
        for (module_idx, module) in self.layout.modules.iter().enumerate() {
            let halves =
                [(self.a(module_idx), module.a_name()), (self.b(module_idx), module.b_name())];
            for (tensor, name) in halves {
                if let Some((at, value)) = tensor.first_non_finite() {
                    let what = format!("tensor {name:?} is {value} at index {at}, wanted numbers");
                    return Err(Error::input(self.tensors.path(), what));
                }
            }
        }
        Ok(())
    }
}

/// The type that all share, F32 where they do not.
pub(super) fn common_dtype(mut dtypes: impl Iterator<Item = Dtype>) -> Dtype {
    let first = dtypes.next().unwrap_or(Dtype::F32);
    if dtypes.all(|dtype| dtype == first) { first } else { Dtype::F32 }
}

fn folder_name(dir: &Path) -> Result<String> {
    let named = match dir.file_name() {
        Some(_) => dir.to_path_buf(),
        None => fs::canonicalize(dir).map_err(Error::io(dir, "resolve"))?,
    };
    match named.file_name().map(|name| name.to_str()) {
        Some(Some(name)) => Ok(name.to_string()),
        Some(None) => Err(Error::input(dir, "the folder's name is not UTF-8")),
        None => Ok("root".to_string()),
    }
}
