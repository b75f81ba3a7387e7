//! What a base model is: its sizes and the few choices in which the supported families differ.
//!
//! Reads `config.json` as transformers writes it, in the layout of 4.x (`rope_theta` at the top)
//! and of 5.x (`rope_parameters`). An absent field has the value that transformers gives it. Fields
//! that cannot change the answer are passed over; one that would, and that the forward pass does
//! not know, is refused by its name. Knows no weights: their shapes are checked where they are
//! mapped.

use std::path::Path;

use serde_json::Value;

use super::fields::Fields;
pub use crate::backend::{Activation, Heads};
use crate::error::Result;

/// The families of decoders that the forward pass knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// The first Gemma: the paper's base model is `google/gemma-7b-it`.
    Gemma,
    /// Llama 1 to 3, without scaled rotary positions.
    Llama,
    /// Mistral 7B.
    Mistral,
}

/// Which matrix turns the last hidden state into logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The embedding's.
    Tied,
    /// Its own, `lm_head.weight`.
    Separate,
}

/// A decoder's sizes and choices. Sizes are nonzero, and their products fit in memory's addresses.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Whose names and habits the model follows.
    pub family: Family,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Length of a hidden state (`hidden_size`).
    pub dim: usize,
    /// Length of the feed-forward network's inner state (`intermediate_size`).
    pub ffn_dim: usize,
    /// Decoder layers.
    pub n_layers: usize,
    /// Heads of queries.
    pub n_heads: usize,
    /// Heads of keys and values; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Length of one head, even; `n_heads * head_dim` need not be `dim`.
    pub head_dim: usize,
    /// Added to the mean square under the root of an RMS norm.
    pub norm_eps: f32,
    /// Added to a norm's stored weights: 1 for Gemma, 0 for the others.
    pub norm_offset: f32,
    /// The feed-forward network's gate.
    pub activation: Activation,
    /// Base of the rotary positions' wavelengths.
    pub rope_theta: f64,
    /// A position sees itself and at most this number, less one, of those before it.
    pub sliding_window: Option<usize>,
    /// Where the logits come from.
    pub output: Output,
    /// Multiplies the embeddings: `sqrt(dim)` for Gemma.
    pub embed_scale: Option<f32>,
    /// The longest sequence the model was made for. A claim of the file: no buffer may trust it.
    pub max_positions: usize,
    /// The token that opens every text.
    pub bos: Option<u32>,
    /// The tokens that end an answer, as `config.json` has them; [`eos_ids`] is what decoding
    /// wants.
    pub eos: Vec<u32>,
}

/// Above any model of today; keeps sums and products of sizes far from overflow.
const MAX_SIZE: usize = 1 << 24;
const MAX_LAYERS: usize = 4096;
const MAX_PARAMETERS: usize = 1 << 42;
const MAX_THETA: f64 = 1e30;

/// Fields that change the arithmetic in ways the forward pass does not know. Each must be absent,
/// `null`, false, zero or empty.
const REFUSED: [&str; 17] = [
    "add_cross_attention",
    "attention_bias",
    "attention_chunk_size",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "is_encoder_decoder",
    "mlp_bias",
    "no_rope_layers",
    "num_experts",
    "num_local_experts",
    "pruned_heads",
    "quantization_config",
    "query_pre_attn_scalar",
    "text_config",
    "use_bidirectional_attention",
    "use_parallel_residual",
    "use_qk_norm",
];

/// Factors that the forward pass does not apply. Each must be absent, `null` or 1.
const REFUSED_FACTORS: [&str; 6] = [
    "attention_multiplier",
    "embedding_multiplier",
    "logit_scale",
    "logits_scaling",
    "partial_rotary_factor",
    "residual_multiplier",
];

impl Config {
    /// The attention's sizes.
    pub fn heads(&self) -> Heads {
        Heads {
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
            window: self.sliding_window,
            score_factor: 1.0 / (self.head_dim as f32).sqrt(),
        }
    }

    /// Reads `config.json` in `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        let fields = Fields::open(&dir.join("config.json"))?;
        let family = family(&fields)?;
        refuse_unknown_arithmetic(&fields)?;
        let defaults = Defaults::of(family);

        let dim = fields.size("hidden_size", MAX_SIZE, None)?;
        let n_heads = fields.size("num_attention_heads", MAX_SIZE, None)?;
        let n_kv_heads = match defaults.n_kv_heads {
            Some(default) if !fields.mentions("num_key_value_heads") => default,
            _ => fields.size("num_key_value_heads", MAX_SIZE, Some(n_heads))?,
        };
        let head_dim =
            fields.size("head_dim", MAX_SIZE, defaults.head_dim.or(Some(dim / n_heads)))?;
        let tied = fields.flag("tie_word_embeddings", family == Family::Gemma)?;
        let sliding_window = sliding_window(&fields, family)?;
        let config = Self {
            family,
            vocab_size: fields.size("vocab_size", MAX_SIZE, None)?,
            dim,
            ffn_dim: fields.size("intermediate_size", MAX_SIZE, None)?,
            n_layers: fields.size("num_hidden_layers", MAX_LAYERS, None)?,
            n_heads,
            n_kv_heads,
            head_dim,
            norm_eps: fields.positive("rms_norm_eps", 1e-6, 1.0)? as f32,
            norm_offset: if family == Family::Gemma { 1.0 } else { 0.0 },
            activation: activation(&fields, family)?,
            rope_theta: rope_theta(&fields)?,
            sliding_window,
            output: if tied { Output::Tied } else { Output::Separate },
            embed_scale: (family == Family::Gemma).then(|| (dim as f64).sqrt() as f32),
            max_positions: fields.size(
                "max_position_embeddings",
                u32::MAX as usize,
                Some(defaults.max_positions),
            )?,
            bos: bos(&fields, defaults.bos)?,
            eos: fields.token_ids("eos_token_id")?.unwrap_or_else(|| defaults.eos.to_vec()),
        };
        config.check_sizes(&fields)?;
        Ok(config)
    }

    /// Parameters of the model, `None` where the count overflows.
    fn n_parameters(&self) -> Option<usize> {
        let query_dim = self.n_heads.checked_mul(self.head_dim)?;
        let key_dim = self.n_kv_heads.checked_mul(self.head_dim)?;
        let attention = query_dim.checked_add(key_dim)?.checked_mul(2)?.checked_mul(self.dim)?;
        let ffn = self.ffn_dim.checked_mul(3)?.checked_mul(self.dim)?;
        let layers = attention.checked_add(ffn)?.checked_mul(self.n_layers)?;
        self.vocab_size.checked_mul(self.dim)?.checked_mul(2)?.checked_add(layers)
    }

    fn check_sizes(&self, fields: &Fields) -> Result<()> {
        let Self { n_heads, n_kv_heads, head_dim, dim, .. } = *self;
        if n_heads % n_kv_heads != 0 {
            return Err(fields.complain(format!(
                "num_attention_heads is {n_heads}, which is not a multiple of the \
                 {n_kv_heads} num_key_value_heads"
            )));
        }
        if head_dim == 0 {
            return Err(fields.complain(format!(
                "hidden_size is {dim}, less than the {n_heads} num_attention_heads"
            )));
        }
        if head_dim % 2 != 0 {
            return Err(fields
                .complain(format!("head_dim is {head_dim}; rotary positions want an even one")));
        }
        if let Some(bos) = self.bos.filter(|&bos| bos as usize >= self.vocab_size) {
            let vocab_size = self.vocab_size;
            return Err(fields.complain(format!(
                "bos_token_id is {bos}, beyond the {vocab_size} tokens of vocab_size"
            )));
        }
        match self.n_parameters() {
            Some(n_parameters) if n_parameters <= MAX_PARAMETERS => Ok(()),
            _ => Err(fields.complain(format!(
                "the sizes make a model of more than {MAX_PARAMETERS} parameters"
            ))),
        }
    }
}

/// The token ids that end an answer: those of `generation_config.json` where that file has them,
/// else those of `config.json`. In ascending order, each once.
pub fn eos_ids(dir: &Path, config: &Config) -> Result<Vec<u32>> {
    let path = dir.join("generation_config.json");
    let of_file =
        if path.exists() { Fields::open(&path)?.token_ids("eos_token_id")? } else { None };
    let mut ids = of_file.unwrap_or_else(|| config.eos.clone());
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// What transformers' configuration classes put where a file is silent.
struct Defaults {
    n_kv_heads: Option<usize>,
    head_dim: Option<usize>,
    max_positions: usize,
    bos: u32,
    eos: [u32; 1],
}

impl Defaults {
    fn of(family: Family) -> Self {
        let (n_kv_heads, head_dim, max_positions, bos, eos) = match family {
            Family::Gemma => (Some(16), Some(256), 8192, 2, [1]),
            Family::Llama => (None, None, 2048, 1, [2]),
            Family::Mistral => (Some(8), None, 131_072, 1, [2]),
        };
        Self { n_kv_heads, head_dim, max_positions, bos, eos }
    }
}

fn family(fields: &Fields) -> Result<Family> {
    let family = match fields.text("model_type")? {
        Some("gemma") => Family::Gemma,
        Some("llama") => Family::Llama,
        Some("mistral") => Family::Mistral,
        Some(other) => {
            return Err(fields.complain(format!(
                "model_type is {other:?}; supported are \"gemma\", \"llama\" and \"mistral\""
            )));
        }
        None => return Err(fields.complain("model_type is missing")),
    };
    // A classifier's directory has the same layers and, with tied embeddings, no tensor less.
    let Some(architectures) = fields.get("architectures") else { return Ok(family) };
    let names = architectures.as_array().map_or(&[][..], Vec::as_slice);
    let is_decoder = |name: &Value| {
        name.as_str().is_some_and(|name| name.ends_with("ForCausalLM") || name.ends_with("Model"))
    };
    if names.is_empty() || names.iter().any(is_decoder) {
        return Ok(family);
    }
    Err(fields.refuse("architectures", architectures, "wanted one that ends in ForCausalLM"))
}

fn refuse_unknown_arithmetic(fields: &Fields) -> Result<()> {
    for name in REFUSED {
        let Some(value) = fields.get(name) else { continue };
        let is_off = match value {
            Value::Bool(on) => !on,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::Array(items) => items.is_empty(),
            Value::Object(items) => items.is_empty(),
            _ => false,
        };
        if !is_off {
            return Err(fields.refuse(name, value, "this is not supported"));
        }
    }
    for name in REFUSED_FACTORS {
        if let Some(value) = fields.get(name).filter(|value| value.as_f64() != Some(1.0)) {
            return Err(fields.refuse(name, value, "only 1 is supported"));
        }
    }
    Ok(())
}

/// Gemma's first releases say "gelu" and mean the tanh form; a later field, `hidden_activation`, is
/// null in some and stands above `hidden_act` in others.
fn activation(fields: &Fields, family: Family) -> Result<Activation> {
    let later = "hidden_activation";
    let name = match family {
        Family::Gemma if fields.get(later).is_some() => later,
        _ => "hidden_act",
    };
    match (family, fields.text(name)?) {
        (Family::Gemma, None | Some("gelu" | "gelu_pytorch_tanh"))
        | (_, Some("gelu_pytorch_tanh")) => Ok(Activation::GeluTanh),
        (Family::Llama | Family::Mistral, None | Some("silu" | "swish")) => Ok(Activation::Silu),
        (Family::Gemma, Some(found)) => {
            Err(fields.refuse(name, &found.into(), "supported for gemma is \"gelu_pytorch_tanh\""))
        }
        (_, Some(found)) => {
            let wanted = "supported are \"silu\" and \"gelu_pytorch_tanh\"";
            Err(fields.refuse(name, &found.into(), wanted))
        }
    }
}

/// The rotary base, from `rope_parameters` (5.x) or the top level (4.x); any rescaling is refused.
fn rope_theta(fields: &Fields) -> Result<f64> {
    let at_top = fields.positive("rope_theta", 10_000.0, MAX_THETA)?;
    let mut theta = at_top;
    for name in ["rope_scaling", "rope_parameters"] {
        let Some(rope) = fields.object(name)? else { continue };
        for kind in ["rope_type", "type"] {
            if let Some(found) = rope.get(kind).filter(|found| found.as_str() != Some("default")) {
                return Err(rope.refuse(kind, found, "only \"default\" is supported"));
            }
        }
        for layers in ["full_attention", "sliding_attention"] {
            if let Some(found) = rope.get(layers) {
                return Err(rope.refuse(layers, found, "one rope for all layers is supported"));
            }
        }
        let factor = "partial_rotary_factor";
        if let Some(found) = rope.get(factor).filter(|found| found.as_f64() != Some(1.0)) {
            return Err(rope.refuse(factor, found, "only 1 is supported"));
        }
        theta = rope.positive("rope_theta", theta, MAX_THETA)?;
    }
    if fields.get("rope_theta").is_some() && theta != at_top {
        return Err(fields
            .complain(format!("rope_theta is {at_top} at the top level and {theta} further in")));
    }
    Ok(theta)
}

/// Only Mistral has a window: 4096 where the file is silent, none where it says `null`.
fn sliding_window(fields: &Fields, family: Family) -> Result<Option<usize>> {
    let name = "sliding_window";
    let window = match family {
        Family::Gemma | Family::Llama => None,
        Family::Mistral if fields.mentions(name) && fields.get(name).is_none() => None,
        Family::Mistral => Some(fields.size(name, u32::MAX as usize, Some(4096))?),
    };
    if let Some(kinds) = fields.get("layer_types") {
        let all = if window.is_some() { "sliding_attention" } else { "full_attention" };
        let is_plain = |kinds: &Vec<Value>| kinds.iter().all(|kind| kind.as_str() == Some(all));
        if !kinds.as_array().is_some_and(is_plain) {
            return Err(fields.refuse("layer_types", kinds, &format!("wanted {all:?} only")));
        }
    }
    Ok(window)
}

/// The opening token: the family's own where the file is silent, none where it says `null`.
fn bos(fields: &Fields, default: u32) -> Result<Option<u32>> {
    let name = "bos_token_id";
    if !fields.mentions(name) {
        return Ok(Some(default));
    }
    match fields.token_ids(name)?.as_deref() {
        None => Ok(None),
        Some([bos]) => Ok(Some(*bos)),
        Some(_) => Err(fields.complain("bos_token_id is a list; wanted one token id")),
    }
}
