//! An adapter in memory, and writing it as PEFT does: three files in a folder that appears whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::config::Config;
use super::expert::{CONFIG_FILE, WEIGHTS_FILE};
use super::layout::{Layout, ModuleLayout};
use crate::backend::cpu::buffer::Buffer;
use crate::error::{Error, Result};
use crate::files::{check_named, write_atomic, write_dir_atomic};
use crate::tensors::{self, Dtype};

/// The model card.
const CARD_FILE: &str = "README.md";

/// An adapter in memory: all A's and B's, in the order of the layout.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// Where each A and B lies in `data`.
    pub layout: Arc<Layout>,
    /// (layout.len), from a cache line on: so it can be written past the caches.
    pub data: Buffer,
}

impl Adapter {
    /// The adapter with this flat vector, which must have the layout's length.
    pub fn new(layout: Arc<Layout>, data: Buffer) -> Self {
        assert_eq!(layout.len, data.len(), "an adapter's data must have its layout's length");
        Self { layout, data }
    }

    /// The adapter that changes nothing.
    pub fn zeros(layout: Arc<Layout>) -> Self {
        let data = Buffer::zeros(layout.len);
        Self { layout, data }
    }

    /// A of a module, given by its index in the layout: (rank, d_in), row-major.
    pub fn a(&self, module_idx: usize) -> &[f32] {
        &self.data[self.layout.modules[module_idx].a.clone()]
    }

    /// B of a module, given by its index in the layout: (d_out, rank), row-major.
    pub fn b(&self, module_idx: usize) -> &[f32] {
        &self.data[self.layout.modules[module_idx].b.clone()]
    }
}

/// Writes `adapter` as a PEFT adapter to the folder `dir`, in one piece: its weights rounded to
/// `dtype`, `config` with all its fields as they were read, and a model card with `readme` as its
/// text. An adapter at `dir` is replaced, unless [`check_place`] refuses it; a weight that is not
/// finite is an error.
///
/// `config` must describe the adapter: it is that of an expert of the same layout.
pub fn save(
    dir: &Path,
    adapter: &Adapter,
    config: &Config,
    dtype: Dtype,
    readme: &str,
) -> Result<()> {
    for module in &adapter.layout.modules {
        let described = config.rank_and_scale(&module.name);
        assert_eq!(described, Ok((module.rank, module.scale)), "module {}", module.name);
    }
    check_place(dir)?;
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
    }
    let half = |name: String, shape: [usize; 2], values| (name, shape.to_vec(), values);
    let halves = |(module_idx, module): (usize, &ModuleLayout)| {
        let &ModuleLayout { rank, d_in, d_out, .. } = module;
        [
            half(module.a_name(), [rank, d_in], adapter.a(module_idx)),
            half(module.b_name(), [d_out, rank], adapter.b(module_idx)),
        ]
    };
    let tensors: Vec<_> = adapter.layout.modules.iter().enumerate().flat_map(halves).collect();
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    write_dir_atomic(dir, |partial| {
        tensors::write(&partial.join(WEIGHTS_FILE), &tensors, dtype, &metadata)?;
        write_text(&partial.join(CONFIG_FILE), &config.to_json())?;
        write_text(&partial.join(CARD_FILE), &model_card(config, readme))
    })
}

/// Whether an adapter may be written to the folder `dir`: nothing there, an empty folder, or an
/// adapter and nothing else.
///
/// # Errors
/// What would be lost, by name.
pub fn check_place(dir: &Path) -> Result<()> {
    check_named(dir)?;
    if !dir.exists() {
        return Ok(());
    }
    if !dir.is_dir() {
        return Err(Error::input(dir, "is no folder, wanted one that may be replaced"));
    }
    let mut is_empty = true;
    for entry in fs::read_dir(dir).map_err(Error::io(dir, "list"))? {
        is_empty = false;
        let name = entry.map_err(Error::io(dir, "list"))?.file_name();
        if ![CONFIG_FILE, WEIGHTS_FILE, CARD_FILE].iter().any(|own| name == *own) {
            let what = format!("holds {name:?}, wanted a folder of nothing but an adapter");
            return Err(Error::input(dir, what));
        }
    }
    if !is_empty && !dir.join(CONFIG_FILE).exists() {
        return Err(Error::input(dir, "is not an adapter, wanted a folder that may be replaced"));
    }
    Ok(())
}

/// The text under the front matter by which the Hugging Face hub knows an adapter.
fn model_card(config: &Config, text: &str) -> String {
    let base = match &config.base {
        Some(base) => format!("base_model: {}\n", serde_json::Value::from(base.as_str())),
        None => String::new(),
    };
    format!(
        "---\n{base}library_name: peft\npipeline_tag: text-generation\ntags:\n- lora\n---\n\n{}\n",
        text.trim_end()
    )
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    write_atomic(path, |out| out.write_all(text.as_bytes()))
}
