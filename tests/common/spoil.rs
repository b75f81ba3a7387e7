//! Ways to spoil a good set of inputs.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::cli::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, Inputs};
use super::read_json;

/// A module of every adapter and of the base.
pub const Q_PROJ: &str = "model.layers.0.self_attn.q_proj";
pub const BIRCH: &str = "experts/birch/adapter_model.safetensors";
pub const Q_A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
pub const K_A: &str = "base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight";

/// The weights of the second expert.
pub fn adapter(inputs: &Inputs) -> PathBuf {
    inputs.experts.join("birch").join(ADAPTER_WEIGHTS)
}

pub fn base(inputs: &Inputs) -> PathBuf {
    inputs.base.join("model.safetensors")
}

pub fn clear(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
    fs::create_dir(folder).unwrap();
}

pub fn resize(path: &Path, n_bytes: usize) {
    let mut bytes = fs::read(path).unwrap();
    assert!(n_bytes < bytes.len());
    bytes.truncate(n_bytes);
    fs::write(path, bytes).unwrap();
}

pub fn write_at(path: &Path, at: usize, new: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at..at + new.len()].copy_from_slice(new);
    fs::write(path, bytes).unwrap();
}

pub fn replace_bytes(path: &Path, old: &[u8], new: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - old.len()).filter(|&at| bytes[at..].starts_with(old)).collect();
    assert!(!places.is_empty() && old.len() == new.len());
    places.iter().for_each(|&at| bytes[at..at + old.len()].copy_from_slice(new));
    fs::write(path, bytes).unwrap();
}

pub fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = read_json(path);
    edit(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

pub fn edit_task(inputs: &Inputs, old: &str, new: &str) {
    let text = fs::read_to_string(&inputs.task).unwrap();
    assert!(text.contains(old));
    fs::write(&inputs.task, text.replace(old, new)).unwrap();
}

/// A safetensors file's header and data.
pub fn read_tensors(path: &Path) -> (Value, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    (serde_json::from_slice(header).unwrap(), data.to_vec())
}

pub fn write_tensors(path: &Path, header: &Value, data: &[u8]) {
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(path, [&length[..], header.as_bytes(), data].concat()).unwrap();
}

pub fn edit_tensors(path: &Path, edit: impl FnOnce(&mut Value)) {
    let (mut header, data) = read_tensors(path);
    edit(&mut header);
    write_tensors(path, &header, &data);
}

/// Edits what the base's file says of one matrix.
pub fn edit_tensor(path: &Path, edit: impl FnOnce(&mut Value)) {
    edit_tensors(path, |header| edit(&mut header[format!("{Q_PROJ}.weight")]));
}

/// Gives a tensor another last part of its name.
pub fn rename(header: &mut Value, tensor: &str, last: &str) {
    let tensors = header.as_object_mut().unwrap();
    let claim = tensors.remove(tensor).unwrap();
    tensors.insert(tensor.replace("lora_A.weight", last), claim);
}

/// Sets element 5 of a tensor.
pub fn set_value(path: &Path, tensor: &str, value: f32) {
    let (header, mut data) = read_tensors(path);
    let start = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize + 5 * 4;
    data[start..start + 4].copy_from_slice(&value.to_le_bytes());
    write_tensors(path, &header, &data);
}

/// Puts in birch's place an adapter of zeros with this rank, whose q_proj has `d_in` inputs.
pub fn other_expert(inputs: &Inputs, rank: usize, d_in: usize) {
    let path = adapter(inputs);
    let (mut header, mut n_bytes) = (read_tensors(&path).0, 0);
    for (name, tensor) in header.as_object_mut().unwrap() {
        if name == "__metadata__" {
            continue;
        }
        let is_a = name.ends_with("lora_A.weight");
        let mut shape = tensor["shape"].as_array().unwrap().clone();
        shape[if is_a { 0 } else { 1 }] = json!(rank);
        if is_a && name.contains("q_proj") {
            shape[1] = json!(d_in);
        }
        let n_elements: u64 = shape.iter().map(|dim| dim.as_u64().unwrap()).product();
        let end = n_bytes + 4 * n_elements;
        *tensor = json!({"dtype": "F32", "shape": shape, "data_offsets": [n_bytes, end]});
        n_bytes = end;
    }
    write_tensors(&path, &header, &vec![0; n_bytes as usize]);
    let config = inputs.experts.join("birch").join(ADAPTER_CONFIG);
    edit_json(&config, |config| {
        config["lora_alpha"] = json!(2 * rank);
        config["r"] = json!(rank);
    });
}
