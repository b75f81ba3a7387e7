//! A testbed of a few megabytes, made on the spot: for the first steps of a new user, and for tests
//! that want a real model without a download.
//!
//! A base model of Gemma's first architecture, ten experts, and multiple-choice questions. Its gold
//! answers are for the caller to settle: what a mixture of the experts says, which a search can
//! then look for. Runs no model itself.

mod hash;
mod questions;
mod vocabulary;
mod weights;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

pub use self::questions::{
    LETTERS, MAX_QUESTIONS, Question, balanced, prompt, questions, write_prompts, write_task,
};
pub use self::vocabulary::pieces;
pub use self::weights::EXPERTS;

use self::weights::{ALPHA, NamedTensor, RANK, base_tensors, expert_tensors};
use crate::error::Result;
use crate::files::{write_atomic, write_dir_atomic};
use crate::mini::tokenizer::{tokenizer_config_json, tokenizer_json};
use crate::tensors::{self, Dtype};

/// Writes the base model, a Hugging Face directory, in the place of whatever stood at `dir`.
pub fn write_base(dir: &Path, seed: u64) -> Result<()> {
    write_dir_atomic(dir, |dir| {
        write_json(&dir.join("config.json"), &config_json())?;
        write_json(&dir.join("generation_config.json"), &generation_config_json())?;
        write_json(&dir.join("tokenizer.json"), &tokenizer_json(&pieces()))?;
        write_json(&dir.join("tokenizer_config.json"), &tokenizer_config_json())?;
        write_tensors(&dir.join("model.safetensors"), &base_tensors(seed))
    })
}

/// Writes the experts, one PEFT adapter a folder, in the place of whatever stood at `dir`.
pub fn write_experts(dir: &Path, seed: u64) -> Result<()> {
    write_dir_atomic(dir, |dir| {
        for (expert_idx, expert) in EXPERTS.iter().enumerate() {
            write_dir_atomic(&dir.join(expert), |dir| {
                write_json(&dir.join("adapter_config.json"), &adapter_config_json())?;
                let path = dir.join("adapter_model.safetensors");
                write_tensors(&path, &expert_tensors(seed, expert_idx))
            })?;
        }
        Ok(())
    })
}

/// A location for the gold answers: a mixture of the experts, in their order, that sums to 1.
///
/// Three experts of the ten carry it, and none alone, so that there is something to find; one is
/// pushed away from, so that it lies outside of their hull, as the paper's swarms may go.
pub fn secret_location(seed: u64) -> [f64; EXPERTS.len()] {
    let order = hash::Hash::new(seed, "secret location").permutation(EXPERTS.len());
    let mut location = [0.0; EXPERTS.len()];
    for (&expert_idx, coefficient) in order.iter().zip([0.5, 0.375, 0.375, -0.25]) {
        location[expert_idx] = coefficient;
    }
    location
}

fn config_json() -> Value {
    json!({
        "architectures": ["GemmaForCausalLM"],
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "head_dim": weights::HEAD_DIM,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": weights::DIM,
        "initializer_range": 0.02,
        "intermediate_size": weights::FFN_DIM,
        "max_position_embeddings": 8192,
        "model_type": "gemma",
        "num_attention_heads": weights::N_HEADS,
        "num_hidden_layers": weights::N_LAYERS,
        "num_key_value_heads": weights::N_KV_HEADS,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
        "use_cache": true,
        "vocab_size": vocabulary::VOCAB_SIZE
    })
}

fn generation_config_json() -> Value {
    json!({"bos_token_id": 2, "eos_token_id": [1, 5], "pad_token_id": 0})
}

fn adapter_config_json() -> Value {
    json!({
        "alpha_pattern": {},
        "base_model_name_or_path": null,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": RANK,
        "rank_pattern": {},
        "target_modules": [
            "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"
        ],
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": false
    })
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    write_atomic(path, |out| writeln!(out, "{value:#}"))
}

fn write_tensors(path: &Path, drawn: &[NamedTensor]) -> Result<()> {
    let borrowed: Vec<_> = drawn
        .iter()
        .map(|(name, shape, values)| (name.clone(), shape.clone(), values.as_slice()))
        .collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    tensors::write(path, &borrowed, Dtype::F32, &metadata)
}
