//! The testbed's folders: a Hugging Face directory, PEFT adapters, data and task files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::models::{RANK, linears, sizes};
use crate::error::{Error, Result};
use crate::files::{sha256, write_atomic, write_dir_atomic};
use crate::mini::data::Data;
use crate::mini::tokenizer::{tokenizer_config_json, tokenizer_json};
use crate::mini::world::World;
use crate::tensors::{self, Dtype};
use crate::train::decoder::{NORM_EPS, ROPE_THETA};
use crate::train::optimizer::Flat;

/// Writes the base model.
pub fn write_base(dir: &Path, world: &World, weights: &Flat) -> Result<()> {
    let sizes = sizes(world);
    let config = json!({
        "architectures": ["GemmaForCausalLM"],
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "head_dim": sizes.head_dim,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": sizes.dim,
        "initializer_range": 0.02,
        "intermediate_size": sizes.ffn_dim,
        "max_position_embeddings": 2048,
        "model_type": "gemma",
        "num_attention_heads": sizes.n_heads,
        "num_hidden_layers": sizes.n_layers,
        "num_key_value_heads": sizes.n_kv_heads,
        "pad_token_id": 0,
        "rms_norm_eps": NORM_EPS,
        "rope_theta": ROPE_THETA,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
        "use_cache": true,
        "vocab_size": sizes.vocab_size
    });
    let generation = json!({"bos_token_id": 2, "eos_token_id": [1, 5], "pad_token_id": 0});
    write_dir_atomic(dir, |dir| {
        write_json(&dir.join("config.json"), &config)?;
        write_json(&dir.join("generation_config.json"), &generation)?;
        write_json(&dir.join("tokenizer.json"), &tokenizer_json(world.vocabulary.pieces()))?;
        write_json(&dir.join("tokenizer_config.json"), &tokenizer_config_json())?;
        let shapes: BTreeMap<String, Vec<usize>> = sizes.tensors().into_iter().collect();
        let tensors: Vec<_> = weights
            .iter()
            .map(|(name, values)| (name.clone(), shapes[name].clone(), values.as_slice()))
            .collect();
        write_tensors(&dir.join("model.safetensors"), &tensors)
    })
}

/// Writes an adapter.
pub fn write_adapter(dir: &Path, world: &World, a: &Flat, b: &Flat) -> Result<()> {
    let config = json!({
        "alpha_pattern": {},
        "base_model_name_or_path": null,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": RANK,
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
    });
    write_dir_atomic(dir, |dir| {
        write_json(&dir.join("adapter_config.json"), &config)?;
        let mut tensors = Vec::new();
        for (linear, (n_out, n_in)) in linears(&sizes(world)) {
            let name = |factor| format!("base_model.model.{linear}.lora_{factor}.weight");
            tensors.push((name("A"), vec![RANK, n_in], a[&linear].as_slice()));
            tensors.push((name("B"), vec![n_out, RANK], b[&linear].as_slice()));
        }
        tensors.sort_by(|left, right| left.0.cmp(&right.0));
        write_tensors(&dir.join("adapter_model.safetensors"), &tensors)
    })
}

/// Writes the data files and a task file for each task.
pub fn write_data(out: &Path, data: &Data) -> Result<()> {
    write_dir_atomic(&out.join("tasks"), |dir| {
        for (name, content) in &data.files {
            write_json(&dir.join(name), content)?;
        }
        for (name, content) in crate::mini::data::task_files() {
            write_atomic(&dir.join(name), |file| file.write_all(content.as_bytes()))?;
        }
        Ok(())
    })
}

/// Writes a sample of what each expert is trained on, a text a line: what cBTM compares a question
/// with. `texts` are by the experts' names.
pub fn write_texts(out: &Path, texts: &BTreeMap<&str, Vec<String>>) -> Result<()> {
    write_dir_atomic(&out.join("texts"), |dir| {
        for (name, texts) in texts {
            write_atomic(&dir.join(format!("{name}.jsonl")), |file| {
                texts.iter().try_for_each(|text| writeln!(file, "{}", json!({"text": text})))
            })?;
        }
        Ok(())
    })
}

/// The testbed's own file, and the list of all files with their SHA-256.
pub fn write_index(out: &Path) -> Result<()> {
    write_atomic(&out.join("testbed.toml"), |file| file.write_all(TESTBED.as_bytes()))?;
    let mut lines = Vec::new();
    list(out, Path::new(""), &mut lines)?;
    lines.sort();
    write_atomic(&out.join("SHA256SUMS"), |file| file.write_all(lines.concat().as_bytes()))
}

const TESTBED: &str = "\
# The mini testbed: see README.md.
name = \"mini\"
base = \"base\"
experts = \"experts\"
data-merge = \"data_merge\"
training-texts = \"texts\"
tasks = \"tasks\"
";

/// A line for every file below `folder` of `out`, but for the list and what is about the testbed.
fn list(out: &Path, folder: &Path, lines: &mut Vec<String>) -> Result<()> {
    let dir = out.join(folder);
    for entry in fs::read_dir(&dir).map_err(Error::io(&dir, "list"))? {
        let name = entry.map_err(Error::io(&dir, "list"))?.file_name();
        let path = folder.join(&name);
        if out.join(&path).is_dir() {
            list(out, &path, lines)?;
        } else if name != "SHA256SUMS" && name != "README.md" {
            lines.push(format!("{}  {}\n", sha256(&out.join(&path))?, path.display()));
        }
    }
    Ok(())
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    write_atomic(path, |out| writeln!(out, "{value}"))
}

fn write_tensors(path: &Path, tensors: &[(String, Vec<usize>, &[f32])]) -> Result<()> {
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    tensors::write(path, tensors, Dtype::F32, &metadata)
}
