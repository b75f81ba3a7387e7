//! `adapter_config.json`, and what of PEFT is refused.
//!
//! Versions of PEFT from 0.4 on are read; an absent field has PEFT's default. A field is one of
//! three kinds: read here, harmless whatever it says, or one that must be idle (null, false or
//! empty). The last kind takes in all fields that this program has never heard of, since a new one
//! may change the forward pass; today's are DoRA, QALoRA, aLoRA, BD-LoRA, KaSA, Arrow, biases,
//! saved or replicated modules, single tokens and parameters, tied and transposed weights.

use std::path::Path;

use serde_json::{Map, Value};

use super::patterns::{Clause, Pattern, shortened};
use super::targets::Selection;
use crate::error::{Error, Result};
use crate::files::read_text;

/// Fields that say where an adapter comes from, how it was trained, or how PEFT runs it, and that
/// leave `scale * B A x` as it is.
const HARMLESS: [&str; 14] = [
    "auto_mapping",
    "corda_config",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "merge_weights",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "velora_config",
];

/// Fields that are read below or in `targets`.
const READ: [&str; 14] = [
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// How alpha and rank make the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// alpha / r.
    Rank,
    /// alpha / sqrt(r): rsLoRA.
    RootRank,
}

/// The configuration of one adapter, known to be plain LoRA of linear layers.
#[derive(Clone, Debug)]
pub struct Config {
    /// The base model it was trained on: a directory or an id, where the file says so.
    pub base: Option<String>,
    /// `r`, for modules without a pattern of their own.
    pub rank: usize,
    /// `lora_alpha`, for modules without a pattern of their own.
    pub alpha: f64,
    /// How alpha and rank make the scale.
    pub scaling: Scaling,
    rank_pattern: Vec<(Pattern, usize)>,
    alpha_pattern: Vec<(Pattern, f64)>,
    selection: Selection,
    /// All fields, in the order of the file.
    fields: Map<String, Value>,
}

impl Config {
    /// Reads the file at `path`. Anything but plain LoRA is refused with its field and value.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_text(path)?;
        Self::parse(&text).map_err(|what| Error::input(path, what))
    }

    /// Reads the `text` of such a file. The error is a clause about it.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let fields: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| format!("not a JSON object of fields: {error}"))?;
        check_plain(&fields)?;

        let rank = fields.get("r").map_or(Ok(8), |value| positive("r", value))?;
        let alpha =
            fields.get("lora_alpha").map_or(Ok(8.0), |value| finite("lora_alpha", value))?;
        let base = match fields.get("base_model_name_or_path") {
            Some(Value::String(name)) if !name.is_empty() => Some(name.clone()),
            _ => None,
        };
        let scaling = match fields.get("use_rslora") {
            Some(Value::Bool(true)) => Scaling::RootRank,
            Some(Value::Bool(false)) | Some(Value::Null) | None => Scaling::Rank,
            Some(value) => return Err(wanted("use_rslora", value, "true or false")),
        };
        Ok(Self {
            base,
            rank,
            alpha,
            scaling,
            rank_pattern: patterns(&fields, "rank_pattern", positive)?,
            alpha_pattern: patterns(&fields, "alpha_pattern", finite)?,
            selection: Selection::read(&fields)?,
            fields,
        })
    }

    /// The rank and scale of `module`. The error is a clause.
    pub(super) fn rank_and_scale(&self, module: &str) -> Clause<(usize, f32)> {
        let rank = first_match(&self.rank_pattern, module)?.unwrap_or(self.rank);
        let alpha = first_match(&self.alpha_pattern, module)?.unwrap_or(self.alpha);
        let scale = match self.scaling {
            Scaling::Rank => alpha / rank as f64,
            Scaling::RootRank => alpha / (rank as f64).sqrt(),
        } as f32;
        if !scale.is_finite() {
            return Err(format!("lora_alpha {alpha} of module {module:?} is too large"));
        }
        Ok((rank, scale))
    }

    /// Holds the modules found in a file to `target_modules` and its companions. The error is a
    /// clause.
    pub(super) fn check_modules(&self, modules: &[&str]) -> Clause<()> {
        self.selection.check(modules)
    }

    /// The file again, with all its fields, as PEFT lays it out.
    pub fn to_json(&self) -> String {
        format!("{:#}", Value::Object(self.fields.clone()))
    }
}

/// Refuses whatever is not plain LoRA for a causal language model.
fn check_plain(fields: &Map<String, Value>) -> Clause<()> {
    match fields.get("peft_type").and_then(Value::as_str) {
        Some("LORA") => {}
        _ => {
            return Err(wanted(
                "peft_type",
                fields.get("peft_type").unwrap_or(&Value::Null),
                "LORA",
            ));
        }
    }
    match fields.get("task_type") {
        None | Some(Value::Null) => {}
        Some(value) if value == "CAUSAL_LM" => {}
        Some(value) => return Err(wanted("task_type", value, "CAUSAL_LM")),
    }
    match fields.get("bias") {
        None => {}
        Some(value) if value == "none" => {}
        Some(value) => return Err(wanted("bias", value, "none")),
    }
    check_init(fields.get("init_lora_weights").unwrap_or(&Value::Null))?;
    for (field, value) in fields {
        let known = HARMLESS.contains(&field.as_str()) || READ.contains(&field.as_str());
        if !known && !is_idle(value) {
            let wish = "it absent, null, false or empty: only plain LoRA is read";
            return Err(wanted(field, value, wish));
        }
    }
    Ok(())
}

/// Some ways of beginning a training (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) also change the base
/// model's weights, and PEFT changes them again when it opens such an adapter (PEFT 0.21.2 moved a
/// q_proj by 0.2 for PiSSA, 0.4 for OLoRA); MiCA is a forward pass of its own. The others only
/// chose the first A and B.
fn check_init(value: &Value) -> Clause<()> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::String(name) if ["gaussian", "eva", "orthogonal"].contains(&name.as_str()) => Ok(()),
        _ => Err(wanted(
            "init_lora_weights",
            value,
            "an initialisation that leaves the base model as it is (convert it to plain LoRA)",
        )),
    }
}

fn is_idle(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// `rank_pattern` or `alpha_pattern`, in the order of the file.
fn patterns<T>(
    fields: &Map<String, Value>,
    field: &str,
    read: impl Fn(&str, &Value) -> Clause<T>,
) -> Clause<Vec<(Pattern, T)>> {
    let entries = match fields.get(field) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(value) => return Err(wanted(field, value, "a map from module names to numbers")),
    };
    let read_one = |(key, value): (&String, &Value)| {
        let pattern = Pattern::tail(key).map_err(|what| format!("{field}: {what}"))?;
        Ok((pattern, read(&format!("{field} of {key:?}"), value)?))
    };
    entries.iter().map(read_one).collect()
}

/// As PEFT does, the first pattern that matches decides.
fn first_match<T: Copy>(patterns: &[(Pattern, T)], module: &str) -> Clause<Option<T>> {
    for (pattern, value) in patterns {
        if pattern.matches(module)? {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

fn positive(field: &str, value: &Value) -> Clause<usize> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.filter(|&number| number > 0).ok_or_else(|| wanted(field, value, "a positive integer"))
}

fn finite(field: &str, value: &Value) -> Clause<f64> {
    let number = value.as_f64().filter(|number| number.is_finite());
    number.ok_or_else(|| wanted(field, value, "a number"))
}

fn wanted(field: &str, value: &Value, wish: &str) -> String {
    format!("{field} is {}, wanted {wish}", shown(value))
}

/// A value for an error message: as JSON, shortened.
pub(super) fn shown(value: &Value) -> String {
    shortened(&value.to_string())
}

/// A list of strings, if `value` is one.
pub(super) fn string_list(value: &Value) -> Option<Vec<String>> {
    let values = value.as_array()?;
    values.iter().map(|value| value.as_str().map(str::to_string)).collect()
}
