//! Which modules an adapter's configuration selects: `target_modules`, `exclude_modules`,
//! `layers_to_transform` and `layers_pattern`.
//!
//! The tensors of the file are the truth about which modules are adapted. PEFT however drops a
//! tensor whose module its configuration does not select; so both must agree, and are held to it.

use serde_json::{Map, Value};

use super::config::{shown, string_list};
use super::patterns::{Clause, Pattern};

/// The modules that a configuration selects.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    targets: Names,
    excluded: Names,
    layers: Option<Layers>,
}

/// A set of module names.
#[derive(Clone, Debug)]
enum Names {
    /// Those that equal one of these, or end with it after a dot.
    Listed(Vec<String>),
    /// Those that the expression matches as a whole.
    Matching(Pattern),
    /// All linear layers but the output head.
    AllLinear,
}

/// A choice of layers by number.
#[derive(Clone, Debug)]
struct Layers {
    numbers: Vec<u64>,
    patterns: Vec<Pattern>,
}

impl Selection {
    /// Reads the four fields. The error is a clause naming the field.
    pub fn read(fields: &Map<String, Value>) -> Clause<Self> {
        let targets = match fields.get("target_modules") {
            Some(Value::String(text)) if text.to_lowercase() == "all-linear" => Names::AllLinear,
            Some(Value::Null) | None => {
                return Err("target_modules is missing, wanted the adapted modules".to_string());
            }
            Some(value) => Names::read("target_modules", value)?,
        };
        let excluded = match fields.get("exclude_modules") {
            Some(Value::Null) | None => Names::Listed(Vec::new()),
            Some(value) => Names::read("exclude_modules", value)?,
        };
        let layers = Layers::read(fields)?;
        if layers.is_some() && !matches!(targets, Names::Listed(_)) {
            return Err("layers_to_transform needs a list of target_modules".to_string());
        }
        Ok(Self { targets, excluded, layers })
    }

    /// Holds the `modules` of a file to the selection. The error is a clause naming the module or
    /// the target that is left over.
    pub fn check(&self, modules: &[&str]) -> Clause<()> {
        for module in modules {
            let refuse = |field: &str| Err(format!("module {module:?} is adapted against {field}"));
            if !self.targets.contain(module)? {
                return refuse("target_modules");
            }
            if self.excluded.contain(module)? {
                return refuse("exclude_modules");
            }
            if let Some(layers) = &self.layers
                && !layers.contain(module)?
            {
                return refuse("layers_to_transform");
            }
        }
        // A target may be left over because all its modules are excluded: which these would have
        // been, only the base model knows.
        let Names::Listed(targets) = &self.targets else { return Ok(()) };
        if !self.excluded.is_empty() {
            return Ok(());
        }
        match targets.iter().find(|target| !modules.iter().any(|name| ends_with(name, target))) {
            Some(target) => Err(format!("no module matches {target:?} of target_modules")),
            None => Ok(()),
        }
    }
}

impl Names {
    fn read(field: &str, value: &Value) -> Clause<Self> {
        if let Some(text) = value.as_str() {
            let pattern = Pattern::whole(text).map_err(|what| format!("{field}: {what}"))?;
            return Ok(Self::Matching(pattern));
        }
        let list = string_list(value).ok_or_else(|| {
            format!("{field} is {}, wanted a list of names or an expression", shown(value))
        })?;
        Ok(Self::Listed(list))
    }

    /// Whether it is a list of no names.
    fn is_empty(&self) -> bool {
        matches!(self, Self::Listed(list) if list.is_empty())
    }

    fn contain(&self, module: &str) -> Clause<bool> {
        match self {
            Self::Listed(list) => Ok(list.iter().any(|tail| ends_with(module, tail))),
            Self::Matching(pattern) => pattern.matches(module),
            Self::AllLinear => Ok(!ends_with(module, "lm_head")),
        }
    }
}

impl Layers {
    fn read(fields: &Map<String, Value>) -> Clause<Option<Self>> {
        let refuse = |field: &str, value: &Value, wanted: &str| {
            Err(format!("{field} is {}, wanted {wanted}", shown(value)))
        };
        let numbers = match fields.get("layers_to_transform") {
            Some(Value::Null) | None => return Ok(None),
            Some(Value::Array(values)) if values.is_empty() => return Ok(None),
            Some(value) => {
                let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                let numbers: Option<Vec<u64>> = values.iter().map(Value::as_u64).collect();
                let Some(numbers) = numbers else {
                    return refuse("layers_to_transform", value, "layer numbers");
                };
                numbers
            }
        };
        let texts = match fields.get("layers_pattern") {
            Some(Value::Null) | None => Vec::new(),
            Some(Value::String(text)) if text.is_empty() => Vec::new(),
            Some(Value::String(text)) => vec![text.clone()],
            Some(value) => match string_list(value) {
                Some(texts) => texts,
                None => return refuse("layers_pattern", value, "expressions"),
            },
        };
        let patterns: Clause<Vec<_>> = if texts.is_empty() {
            Pattern::before_layer_number(None).map(|pattern| vec![pattern])
        } else {
            texts.iter().map(|text| Pattern::before_layer_number(Some(text))).collect()
        };
        let patterns = patterns.map_err(|what| format!("layers_pattern: {what}"))?;
        Ok(Some(Self { numbers, patterns }))
    }

    /// The first pattern that finds a number decides.
    fn contain(&self, module: &str) -> Clause<bool> {
        for pattern in &self.patterns {
            if let Some(number) = pattern.layer_number(module)? {
                return Ok(self.numbers.contains(&number));
            }
        }
        Ok(false)
    }
}

/// Whether `module` is `tail`, or ends with it after a dot.
fn ends_with(module: &str, tail: &str) -> bool {
    module.strip_suffix(tail).is_some_and(|head| head.is_empty() || head.ends_with('.'))
}
