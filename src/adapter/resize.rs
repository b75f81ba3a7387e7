//! A configuration for other ranks and scales than those it was read with.

use serde_json::{Map, Value, json};

use super::config::Config;
use super::layout::{Layout, ModuleLayout};
use super::patterns::Clause;

impl Config {
    /// This configuration with the ranks and scales of `layout`, of the modules that it selects.
    /// The scale is alpha / r, whatever it was. The error is a clause: a module's name that PEFT
    /// would take for another expression.
    pub fn resized(&self, layout: &Layout) -> Clause<Self> {
        let Ok(Value::Object(mut fields)) = serde_json::from_str(&self.to_json()) else {
            return Err("the configuration is not a JSON object".into());
        };
        let alpha = |module: &ModuleLayout| f64::from(module.scale) * module.rank as f64;
        let Some(first) = layout.modules.first() else { return Ok(self.clone()) };
        fields.insert("r".into(), json!(first.rank));
        fields.insert("lora_alpha".into(), number(alpha(first)));
        fields.insert("use_rslora".into(), json!(false));
        // The longest names first: an entry also matches what ends with it after a dot.
        let mut modules: Vec<&ModuleLayout> = layout.modules.iter().collect();
        modules.sort_by_key(|module| std::cmp::Reverse(module.name.len()));
        let pattern = |value: &dyn Fn(&ModuleLayout) -> Value, whole: Value| {
            let entry = |module: &&ModuleLayout| (module.name.clone(), value(module));
            let entries: Map<String, Value> = modules.iter().map(entry).collect();
            let is_needed = entries.values().any(|value| *value != whole);
            Value::Object(if is_needed { entries } else { Map::new() })
        };
        let ranks = pattern(&|module| json!(module.rank), json!(first.rank));
        let alphas = pattern(&|module| number(alpha(module)), number(alpha(first)));
        fields.insert("rank_pattern".into(), ranks);
        fields.insert("alpha_pattern".into(), alphas);
        let resized = Self::parse(&Value::Object(fields).to_string())?;
        for module in &layout.modules {
            if resized.rank_and_scale(&module.name)? != (module.rank, module.scale) {
                return Err(format!("module {:?} cannot have a rank of its own", module.name));
            }
        }
        Ok(resized)
    }
}

/// As PEFT writes it: a whole number without a point.
fn number(value: f64) -> Value {
    let whole = value as i64;
    if whole as f64 == value { json!(whole) } else { json!(value) }
}
