//! Base models and adapters of any size, drawn from a seed and written as a user would have them.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use half::{bf16, f16};
use model_swarms::tensors::Dtype;
use rayon::prelude::*;
use serde_json::json;

/// A decoder of Gemma's first architecture.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Rows of the embedding.
    pub vocab: usize,
    /// Length of a hidden state.
    pub dim: usize,
    /// Length of the feed-forward network's inner state.
    pub ffn_dim: usize,
    /// Decoder layers.
    pub n_layers: usize,
    /// Heads of queries.
    pub n_heads: usize,
    /// Heads of keys and values.
    pub n_kv_heads: usize,
    /// Length of one head.
    pub head_dim: usize,
}

/// A model for tests of the tests.
pub const TOY: Sizes =
    Sizes { vocab: 40, dim: 16, ffn_dim: 32, n_layers: 2, n_heads: 2, n_kv_heads: 1, head_dim: 8 };

/// 1 M parameters.
pub const TINY: Sizes = Sizes {
    vocab: 1024,
    dim: 128,
    ffn_dim: 512,
    n_layers: 4,
    n_heads: 4,
    n_kv_heads: 4,
    head_dim: 32,
};

/// 38 M parameters.
pub const SMALL: Sizes = Sizes {
    vocab: 8192,
    dim: 512,
    ffn_dim: 2048,
    n_layers: 8,
    n_heads: 8,
    n_kv_heads: 8,
    head_dim: 64,
};

/// google/gemma-2b.
pub const GEMMA_2B: Sizes = Sizes {
    vocab: 256_000,
    dim: 2048,
    ffn_dim: 16_384,
    n_layers: 18,
    n_heads: 8,
    n_kv_heads: 1,
    head_dim: 256,
};

/// google/gemma-7b, the paper's base model.
pub const GEMMA_7B: Sizes = Sizes {
    vocab: 256_000,
    dim: 3072,
    ffn_dim: 24_576,
    n_layers: 28,
    n_heads: 16,
    n_kv_heads: 16,
    head_dim: 256,
};

impl Sizes {
    /// The linears of a layer: name, outputs, inputs.
    pub fn linears(&self) -> [(&'static str, usize, usize); 7] {
        let (dim, ffn_dim) = (self.dim, self.ffn_dim);
        let (q_dim, kv_dim) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        [
            ("self_attn.q_proj", q_dim, dim),
            ("self_attn.k_proj", kv_dim, dim),
            ("self_attn.v_proj", kv_dim, dim),
            ("self_attn.o_proj", dim, q_dim),
            ("mlp.gate_proj", ffn_dim, dim),
            ("mlp.up_proj", ffn_dim, dim),
            ("mlp.down_proj", dim, ffn_dim),
        ]
    }

    /// Parameters of an adapter of this rank on all linears.
    pub fn adapter_len(&self, rank: usize) -> usize {
        let ends = self.linears().iter().map(|(_, n_out, n_in)| n_out + n_in).sum::<usize>();
        ends * rank * self.n_layers
    }

    /// Operations of the base model for one prompt that is continued by `n_new` tokens: its
    /// products and its attention. In the last layer a prompt's other tokens end as keys and
    /// values. What an adapter adds is not counted, so that ways to apply it compare.
    pub fn flop(&self, n_prompt: usize, n_new: usize) -> f64 {
        let product = |linear: &(&str, usize, usize)| 2 * linear.1 * linear.2;
        let linears = self.linears();
        let qkv: usize = linears[..3].iter().map(product).sum();
        let rest: usize = linears[3..].iter().map(product).sum();
        let look = 4 * self.n_heads * self.head_dim; // at one position, from one
        let logits = 2 * self.dim * self.vocab;
        let step = |n_seen: usize| self.n_layers * (qkv + rest + n_seen * look) + logits;
        let not_last = n_prompt * (qkv + rest) + n_prompt * (n_prompt + 1) / 2 * look;
        let last = n_prompt * qkv + rest + n_prompt * look;
        let prefill = (self.n_layers - 1) * not_last + last + logits;
        let decode: usize = (1..n_new).map(|i| step(n_prompt + i)).sum();
        (prefill + decode) as f64
    }
}

/// A tensor that is drawn: its values are uniform in centre - spread .. centre + spread.
struct Drawn {
    name: String,
    shape: Vec<usize>,
    centre: f32,
    spread: f32,
}

impl Drawn {
    fn new(name: String, shape: Vec<usize>, spread: f32) -> Self {
        Self { name, shape, centre: 0.0, spread }
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Writes a base model as a Hugging Face directory; without a tokenizer, prompts are token ids.
///
/// Gemma's last norm multiplies by one more than its weight: by -1 .. 1 here, or a model whose
/// output matrix is its embedding would answer each token with the same token, whatever its layers
/// compute.
pub fn write_base(dir: &Path, sizes: &Sizes, dtype: Dtype) {
    let dim = sizes.dim;
    let norm = Drawn::new("model.norm.weight".into(), vec![dim], 1.0);
    let mut wanted = vec![
        Drawn::new("model.embed_tokens.weight".into(), vec![sizes.vocab, dim], 0.1),
        Drawn { centre: -1.0, ..norm },
    ];
    for layer_idx in 0..sizes.n_layers {
        let prefix = format!("model.layers.{layer_idx}");
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            wanted.push(Drawn::new(format!("{prefix}.{norm}.weight"), vec![dim], 0.1));
        }
        for (linear, n_out, n_in) in sizes.linears() {
            let spread = 1.5 / (n_in as f32).sqrt();
            wanted.push(Drawn::new(format!("{prefix}.{linear}.weight"), vec![n_out, n_in], spread));
        }
    }
    let config = json!({
        "architectures": ["GemmaForCausalLM"],
        "model_type": "gemma",
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "head_dim": sizes.head_dim,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": dim,
        "intermediate_size": sizes.ffn_dim,
        "max_position_embeddings": 8192,
        "num_attention_heads": sizes.n_heads,
        "num_hidden_layers": sizes.n_layers,
        "num_key_value_heads": sizes.n_kv_heads,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "vocab_size": sizes.vocab
    });
    write_folder(dir, ("config.json", &config), "model.safetensors", wanted, 0, dtype);
}

/// Writes a PEFT adapter of this rank on all linears.
pub fn write_adapter(dir: &Path, sizes: &Sizes, rank: usize, seed: u64, dtype: Dtype) {
    let mut wanted = Vec::new();
    for layer_idx in 0..sizes.n_layers {
        for (linear, n_out, n_in) in sizes.linears() {
            let module = format!("base_model.model.model.layers.{layer_idx}.{linear}");
            let spread = 1.0 / (n_in as f32).sqrt();
            wanted.push(Drawn::new(format!("{module}.lora_A.weight"), vec![rank, n_in], spread));
            wanted.push(Drawn::new(format!("{module}.lora_B.weight"), vec![n_out, rank], 0.05));
        }
    }
    let targets = sizes.linears().map(|(name, ..)| name.rsplit('.').next());
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": targets
    });
    let weights = "adapter_model.safetensors";
    write_folder(dir, ("adapter_config.json", &config), weights, wanted, seed, dtype);
}

/// Writes a configuration and drawn tensors. All threads draw and write at once, a piece of a tensor
/// each, and no tensor is ever in memory: a model of 17 GB takes as long as the file system wants.
fn write_folder(
    dir: &Path,
    (config_name, config): (&str, &serde_json::Value),
    weights_name: &str,
    wanted: Vec<Drawn>,
    seed: u64,
    dtype: Dtype,
) {
    const PIECE: usize = 1 << 20;
    fs::create_dir_all(dir).expect("a folder for the bench");
    fs::write(dir.join(config_name), config.to_string()).expect("room for the bench");
    // The tensors' numbers stand in the order of the list, as their draws do.
    let (mut header, mut n_bytes) = (serde_json::Map::new(), 0);
    header.insert("__metadata__".into(), json!({"format": "pt"})); // transformers asks for it
    let mut pieces: Vec<(usize, usize, u64)> = Vec::new(); // tensor, first number, where
    for (idx, Drawn { name, shape, .. }) in wanted.iter().enumerate() {
        let end = n_bytes + wanted[idx].len() * dtype.n_bytes();
        let entry =
            json!({"dtype": dtype.to_string(), "shape": shape, "data_offsets": [n_bytes, end]});
        header.insert(name.clone(), entry);
        let firsts = (0..wanted[idx].len()).step_by(PIECE);
        pieces.extend(firsts.map(|first| (idx, first, (n_bytes + first * dtype.n_bytes()) as u64)));
        n_bytes = end;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let path = dir.join(weights_name);
    let file = fs::File::create(&path).expect("a file for the bench");
    file.write_all_at(&(header.len() as u64).to_le_bytes(), 0).expect("room for the bench");
    file.write_all_at(header.as_bytes(), 8).expect("room for the bench");
    let start = 8 + header.len() as u64;
    pieces.into_par_iter().for_each(|(idx, first, at)| {
        let tensor = &wanted[idx];
        let stream = (seed << 40) + ((idx as u64) << 30) + first as u64;
        let n_here = PIECE.min(tensor.len() - first) as u64;
        let values = (stream..stream + n_here).map(|i| tensor.centre + tensor.spread * noise(i));
        let bytes: Vec<u8> = match dtype {
            Dtype::F32 => values.flat_map(f32::to_le_bytes).collect(),
            Dtype::F16 => values.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
            Dtype::BF16 => values.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
        };
        file.write_all_at(&bytes, start + at).expect("room for the bench");
    });
}

/// Random number `i`, uniform in [-1, 1): splitmix64.
pub fn noise(i: u64) -> f32 {
    let mut mixed = i.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
}
