//! A base model's weights: found in mapped safetensors files, checked, and packed for the products.
//!
//! Each tensor's name, shape and dtype is checked on the line that fetches it. A tensor that the
//! decoder would not use (a bias, say) is an error: leaving it out would change the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::{Config, Output};
use crate::adapter::ModuleLayout;
use crate::backend::{Backend, Part};
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::tensors::{Dtype, Tensor, Tensors};

/// The mapped files of a base model.
pub struct BaseFiles {
    dir: PathBuf,
    files: Vec<Tensors>,
    file_of: BTreeMap<String, usize>,
}

/// The seven linear layers of a decoder layer, in the order of the forward pass.
pub const LINEARS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// One decoder layer. Matrices that share their input stand side by side.
pub struct Layer<B: Backend> {
    /// Before attention, Gemma's one already added: (dim).
    pub input_norm: B::Vector,
    /// Before the feed-forward network: (dim).
    pub post_norm: B::Vector,
    /// The linears; adapters replace them by adapted copies.
    pub linears: Linears<B>,
}

/// The linear layers of a decoder layer, in four products.
pub struct Linears<B: Backend> {
    /// q (n_heads * head_dim, dim), k and v (n_kv_heads * head_dim, dim).
    pub qkv: B::Weights,
    /// (dim, n_heads * head_dim)
    pub o: B::Weights,
    /// gate and up, each (ffn_dim, dim).
    pub gate_up: B::Weights,
    /// (dim, ffn_dim)
    pub down: B::Weights,
}

/// Everything that the forward pass reads.
pub struct BaseWeights<B: Backend> {
    /// (vocab_size, dim)
    pub embedding: B::Table,
    /// The decoder layers.
    pub layers: Vec<Layer<B>>,
    /// The final norm: (dim).
    pub norm: B::Vector,
    /// (vocab_size, dim)
    pub output: B::Weights,
}

impl BaseFiles {
    /// Maps `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    pub fn open(dir: &Path) -> Result<Self> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        let paths: Vec<PathBuf> = if single.exists() {
            vec![single]
        } else if index.exists() {
            shard_names(&index)?.into_iter().map(|name| dir.join(name)).collect()
        } else {
            let what = "neither model.safetensors nor model.safetensors.index.json is there";
            return Err(Error::input(dir, what));
        };
        let mut files = Vec::with_capacity(paths.len());
        let mut file_of = BTreeMap::new();
        for path in &paths {
            let file = Tensors::open(path)?;
            for name in file.names() {
                if let Some(earlier) = file_of.insert(name.to_owned(), files.len()) {
                    let earlier: &PathBuf = &paths[earlier];
                    let what = format!("tensor {name:?} stands in {} already", earlier.display());
                    return Err(Error::input(path, what));
                }
            }
            files.push(file);
        }
        Ok(Self { dir: dir.to_path_buf(), files, file_of })
    }

    /// The files, for fingerprints.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(Tensors::path)
    }

    /// Elements of all tensors.
    pub fn n_parameters(&self) -> usize {
        let of = |file: &Tensors| -> usize {
            let shapes = file.names().filter_map(|name| file.shape(name));
            shapes.map(|shape| shape.iter().product::<usize>()).sum()
        };
        self.files.iter().map(of).sum()
    }

    /// Whether the decoder that `config` describes finds all its tensors here, and no others;
    /// looks at names, shapes and types, not at values.
    pub fn check(&self, config: &Config) -> Result<()> {
        refuse_unused(self, config)?;
        let (q_dim, kv_dim) =
            (config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim);
        let (dim, ffn_dim) = (config.dim, config.ffn_dim);
        let sizes = [q_dim, kv_dim, kv_dim, dim, ffn_dim, ffn_dim, dim];
        let inputs = [dim, dim, dim, q_dim, dim, dim, ffn_dim];
        for layer_idx in 0..config.n_layers {
            let prefix = format!("model.layers.{layer_idx}.");
            for ((name, n_out), n_in) in LINEARS.iter().zip(sizes).zip(inputs) {
                self.get(&format!("{prefix}{name}.weight"), &[n_out, n_in])?;
            }
            self.get(&format!("{prefix}input_layernorm.weight"), &[dim])?;
            self.get(&format!("{prefix}post_attention_layernorm.weight"), &[dim])?;
        }
        self.get("model.norm.weight", &[dim])?;
        self.get("model.embed_tokens.weight", &[config.vocab_size, dim])?;
        if config.output == Output::Separate {
            self.get("lm_head.weight", &[config.vocab_size, dim])?;
        }
        Ok(())
    }

    /// The tensor `name`, which must have this shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor<'_>> {
        let Some(&file_idx) = self.file_of.get(name) else {
            return Err(Error::input(
                &self.dir,
                format!("tensor {name:?} of shape {shape:?} is missing"),
            ));
        };
        self.files[file_idx].get(name, shape)
    }

    /// The type of the tensor `name`, which must have this shape.
    pub fn dtype(&self, name: &str, shape: &[usize]) -> Result<Dtype> {
        self.get(name, shape).map(|tensor| tensor.dtype)
    }

    /// The weights that a module of an adapter changes: (d_out, d_in), row-major, all finite.
    pub fn adapted_by(&self, module: &ModuleLayout) -> Result<Vec<f32>> {
        let name = format!("{}.weight", module.name);
        Ok(self.finite(&name, &[module.d_out, module.d_in])?.to_f32())
    }

    /// The tensor `name`, whose values must all be finite.
    fn finite(&self, name: &str, shape: &[usize]) -> Result<Tensor<'_>> {
        let tensor = self.get(name, shape)?;
        if let Some((at, value)) = tensor.first_non_finite() {
            let path = self.files[self.file_of[name]].path();
            return Err(Error::input(path, format!("tensor {name:?}: {value} at index {at}")));
        }
        Ok(tensor)
    }
}

fn shard_names(index: &Path) -> Result<BTreeSet<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = read_text(index)?;
    let parsed: Index =
        serde_json::from_str(&text).map_err(|error| Error::input(index, error.to_string()))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    match names.iter().find(|name| name.contains(['/', '\\'])) {
        Some(name) => Err(Error::input(index, format!("shard {name:?} is not a plain file name"))),
        None if names.is_empty() => Err(Error::input(index, "weight_map names no shard")),
        None => Ok(names),
    }
}

impl<B: Backend> BaseWeights<B> {
    /// Fetches and checks all weights, and makes them ready for the backend.
    pub fn load(backend: &B, files: &Arc<BaseFiles>, config: &Config, keep: Keep) -> Result<Self> {
        refuse_unused(files, config)?;
        let (dim, ffn_dim) = (config.dim, config.ffn_dim);
        let q_dim = config.n_heads * config.head_dim;
        let kv_dim = config.n_kv_heads * config.head_dim;
        let norm = |name: &str| -> Result<B::Vector> {
            let mut weight = files.finite(name, &[dim])?.to_f32();
            weight.iter_mut().for_each(|w| *w += config.norm_offset);
            backend.vector(weight)
        };
        let layer = |layer_idx: usize, _| -> Result<Layer<B>> {
            let prefix = format!("model.layers.{layer_idx}.");
            let matrices = |n_in: usize, parts: &[(&str, usize)]| {
                let names: Vec<_> =
                    parts.iter().map(|(name, n)| (format!("{prefix}{name}.weight"), *n)).collect();
                pack(backend, files, n_in, &names, keep)
            };
            Ok(Layer {
                input_norm: norm(&format!("{prefix}input_layernorm.weight"))?,
                post_norm: norm(&format!("{prefix}post_attention_layernorm.weight"))?,
                linears: Linears {
                    qkv: matrices(
                        dim,
                        &[(LINEARS[0], q_dim), (LINEARS[1], kv_dim), (LINEARS[2], kv_dim)],
                    )?,
                    o: matrices(q_dim, &[(LINEARS[3], dim)])?,
                    gate_up: matrices(dim, &[(LINEARS[4], ffn_dim), (LINEARS[5], ffn_dim)])?,
                    down: matrices(ffn_dim, &[(LINEARS[6], dim)])?,
                },
            })
        };
        let shape = [config.vocab_size, dim];
        let name = "model.embed_tokens.weight";
        let storage = files.finite(name, &shape)?.dtype;
        let mapped = Arc::clone(files);
        let read = move |tokens: &[u32], stride: usize, rows: &mut [f32]| {
            let table = mapped.get(name, &shape).expect("fetched once before");
            for (token, row) in tokens.iter().zip(rows.chunks_mut(stride)) {
                table.read_f32(*token as usize * dim, &mut row[..dim]);
            }
        };
        let output_name = match config.output {
            Output::Tied => name,
            Output::Separate => "lm_head.weight",
        };
        let output_part = [(output_name.to_owned(), config.vocab_size)];
        let output = pack(backend, files, dim, &output_part, keep)?;
        let tied = (config.output == Output::Tied).then_some(&output);
        Ok(Self {
            embedding: backend.table(shape, storage, Box::new(read), tied)?,
            layers: backend
                .in_parallel(config.n_layers, layer)
                .into_iter()
                .collect::<Result<_>>()?,
            norm: norm("model.norm.weight")?,
            output,
        })
    }
}

/// How matrices are kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Widened to f32.
    Wide,
    /// In the file's type, widened while they are used.
    AsInFile,
}

impl Keep {
    /// The type of a product's weights whose parts have these types in the file.
    pub fn storage(self, of_parts: &[Dtype]) -> Dtype {
        match (self, of_parts) {
            (Self::AsInFile, [first, rest @ ..]) if rest.iter().all(|it| it == first) => *first,
            _ => Dtype::F32,
        }
    }
}

fn pack<B: Backend>(
    backend: &B,
    files: &BaseFiles,
    n_in: usize,
    names: &[(String, usize)],
    keep: Keep,
) -> Result<B::Weights> {
    let mut dtypes = Vec::with_capacity(names.len());
    let mut parts = Vec::with_capacity(names.len());
    for (name, n_out) in names {
        let tensor = files.finite(name, &[*n_out, n_in])?;
        dtypes.push(tensor.dtype);
        let read = move |out: usize, row: &mut [f32]| tensor.read_f32(out * n_in, row);
        parts.push(Part { n_out: *n_out, read: Box::new(read) });
    }
    backend.weights(n_in, &parts, keep.storage(&dtypes))
}

/// Every tensor of the files must be one that the decoder reads. Old checkpoints also carry the
/// rotary frequencies, which follow from the configuration, and tied ones a copy of the output
/// matrix.
fn refuse_unused(files: &BaseFiles, config: &Config) -> Result<()> {
    let mut known: BTreeSet<String> =
        ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
            .map(String::from)
            .into();
    for layer_idx in 0..config.n_layers {
        let prefix = format!("model.layers.{layer_idx}.");
        known.extend(LINEARS.iter().map(|name| format!("{prefix}{name}.weight")));
        known.insert(format!("{prefix}input_layernorm.weight"));
        known.insert(format!("{prefix}post_attention_layernorm.weight"));
        known.insert(format!("{prefix}self_attn.rotary_emb.inv_freq"));
    }
    for (name, &file_idx) in &files.file_of {
        if !known.contains(name) {
            let path = files.files[file_idx].path();
            let what = format!("tensor {name:?} has no place in a {:?} decoder", config.family);
            return Err(Error::input(path, what));
        }
    }
    Ok(())
}
