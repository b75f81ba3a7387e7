//! The state of a training in one safetensors file: weights, both moments, the step.

use std::collections::BTreeMap;
use std::path::Path;

use super::optimizer::{AdamW, Flat};
use crate::error::{Error, Result};
use crate::tensors::{self, Dtype, Tensors};

const PARTS: [&str; 3] = ["weights", "first", "second"];

/// The state at `path`, or nothing where there is no file. `start` says what it must hold.
///
/// # Errors
/// Where the file is another training's, or broken.
pub fn read(path: &Path, start: &Flat) -> Result<Option<AdamW>> {
    if !path.exists() {
        return Ok(None);
    }
    let file = Tensors::open(path)?;
    let step = file.metadata().get("step").and_then(|step| step.parse().ok());
    let step = step.ok_or_else(|| Error::input(path, "its metadata has no step"))?;
    let part = |part: &str| -> Result<Flat> {
        let tensor = |(name, values): (&String, &Vec<f32>)| {
            let tensor = file.get(&format!("{part}.{name}"), &[values.len()])?;
            Ok((name.clone(), tensor.to_f32()))
        };
        start.iter().map(tensor).collect()
    };
    let [weights, first, second] = PARTS.map(part);
    Ok(Some(AdamW { weights: weights?, first: first?, second: second?, step }))
}

/// Puts the state in the place of what stood at `path`.
///
/// # Errors
/// Where it cannot be written, or a weight is no longer finite.
pub fn write(path: &Path, adam: &AdamW) -> Result<()> {
    let mut tensors = Vec::new();
    for (part, flat) in PARTS.iter().zip([&adam.weights, &adam.first, &adam.second]) {
        for (name, values) in flat {
            tensors.push((format!("{part}.{name}"), vec![values.len()], values.as_slice()));
        }
    }
    let metadata = BTreeMap::from([("step".to_string(), adam.step.to_string())]);
    tensors::write(path, &tensors, Dtype::F32, &metadata)
}
