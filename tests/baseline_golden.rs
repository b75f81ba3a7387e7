//! Merging, held to mergekit and to the authors' program: every case of `merge/manifest.json`.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{golden_roots, read_json};
use model_swarms::adapter::{Adapter, Expert, ModuleLayout, Pool, save};
use model_swarms::baseline::merge::{
    DareTies, Divide, Election, Form, Grain, Masks, Merged, Method, Rescale, Space, Ties,
    authors_linear, merge, merge_layers, update,
};
use model_swarms::tensors::{Dtype, Tensors};
use serde_json::Value;

/// Tensors by name.
type Named = BTreeMap<String, Vec<f32>>;

/// One case, and the folder of all.
struct Case<'a> {
    root: &'a Path,
    json: &'a Value,
}

impl Case<'_> {
    fn text(&self, field: &str) -> &str {
        self.json[field].as_str().unwrap_or_default()
    }

    fn param(&self, name: &str) -> &Value {
        &self.json["params"][name]
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        let values = self.param(name).as_array().unwrap();
        values.iter().map(|value| value.as_f64().unwrap()).collect()
    }

    fn experts(&self) -> Vec<Expert> {
        let paths = self.json["inputs"].as_array().unwrap();
        let open = |path: &Value| Expert::open(&self.root.join(path.as_str().unwrap())).unwrap();
        paths.iter().map(open).collect()
    }

    /// The expected tensors, of a file that the field `field` names.
    fn expected(&self, path: &str) -> Named {
        named(&self.root.join(path))
    }

    fn divide(&self) -> Divide {
        match self.param("normalize").as_bool().unwrap() {
            true => Divide::ByWeights,
            false => Divide::ByNothing,
        }
    }

    fn ties(&self) -> Ties {
        Ties {
            weights: self.numbers("weights"),
            densities: self.numbers("density"),
            election: match self.param("consensus").as_str() {
                Some("sum") => Election::Sum,
                Some("count") => Election::Count,
                other => panic!("consensus {other:?}"),
            },
            divide: self.divide(),
        }
    }
}

/// All tensors of a file.
fn named(path: &Path) -> Named {
    let file = Tensors::open(path).unwrap();
    let read = |name: &str| {
        let shape = file.shape(name).unwrap().to_vec();
        (name.to_string(), file.get(name, &shape).unwrap().to_f32())
    };
    file.names().map(read).collect()
}

/// The factors of an adapter, by the names that they have in a file.
fn factors(adapter: &Adapter) -> Named {
    let halves = |(idx, module): (usize, &ModuleLayout)| {
        [(module.a_name(), adapter.a(idx).to_vec()), (module.b_name(), adapter.b(idx).to_vec())]
    };
    adapter.layout.modules.iter().enumerate().flat_map(halves).collect()
}

/// What an adapter adds to each module, after a trip to the disk; on top of `base` where given.
fn updates(merged: &Merged, base: Option<&Named>) -> Named {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("merged");
    save(&dir, &merged.adapter, &merged.config, merged.dtype, "").unwrap();
    let expert = Expert::open(&dir).unwrap();
    assert_eq!(**expert.layout(), *merged.adapter.layout);
    let of_module = |(idx, module): (usize, &ModuleLayout)| {
        let name = format!("{}.weight", module.name);
        let base = base.map(|base| base[&name].as_slice());
        let update = update(&expert, idx, base);
        (name, update)
    };
    expert.layout().modules.iter().enumerate().map(of_module).collect()
}

/// Holds `found` to `wanted`, within `tolerance`; the message names the first element beyond it.
fn assert_near(name: &str, found: &Named, wanted: &Named, tolerance: f64) {
    assert!(found.keys().eq(wanted.keys()), "{name}: {:?}", found.keys());
    for (tensor, wanted) in wanted {
        let found = &found[tensor];
        assert_eq!(found.len(), wanted.len(), "{name}: {tensor}");
        for (i, (ours, wanted)) in found.iter().zip(wanted).enumerate() {
            let distance = (f64::from(*ours) - f64::from(*wanted)).abs();
            assert!(distance <= tolerance, "{name}: {tensor}[{i}] is {ours}, wanted {wanted}");
        }
    }
}

/// The recorded masks of a case of DARE: which elements of a tensor an expert keeps.
fn recorded_masks(case: &Case) -> impl Fn(&str, usize) -> Vec<bool> + Sync {
    let bytes = match case.text("masks") {
        "" => None,
        path => Some(std::fs::read(case.root.join(path)).unwrap()),
    };
    let names: Vec<String> = case.experts().into_iter().map(|expert| expert.name).collect();
    move |tensor, expert_idx| {
        let file = safetensors::SafeTensors::deserialize(bytes.as_ref().unwrap()).unwrap();
        let mask = file.tensor(&format!("{}|{tensor}", names[expert_idx])).unwrap();
        mask.data().iter().map(|&kept| kept == 1).collect()
    }
}

/// A case of mergekit's: merged as a user would, in the case's space.
fn check_merge(case: &Case) {
    let given = recorded_masks(case);
    let method = match case.text("method") {
        "linear" => Method::Linear { weights: case.numbers("weights"), divide: case.divide() },
        "slerp" => Method::Slerp { t: case.param("t").as_f64().unwrap() },
        "ties" => Method::Ties(case.ties()),
        "dare_ties" => Method::DareTies(DareTies {
            ties: case.ties(),
            rescale: match case.param("rescale_kind").as_str() {
                Some("l1_norm") => Rescale::ByL1Norm,
                Some("div_density") | None => Rescale::ByDensity,
                other => panic!("rescale {other:?}"),
            },
            masks: Masks::Given(&given),
        }),
        "model_stock" => Method::ModelStock {
            grain: match case.param("filter_wise").as_bool().unwrap() {
                true => Grain::Row,
                false => Grain::Tensor,
            },
        },
        other => panic!("method {other:?}"),
    };
    let mut base = case.expected("inputs/base.safetensors");
    if case.text("space") == "fullbig" {
        base.values_mut().flatten().for_each(|weight| *weight *= 20.0);
    }
    let base_of = |module: &ModuleLayout| Ok(base[&format!("{}.weight", module.name)].clone());
    let (space, seen_from) = match case.text("space") {
        "factor" => (Space::Factor, None),
        "delta" => (Space::Delta, None),
        "full" | "fullbig" => (Space::Full(&base_of), Some(&base)),
        other => panic!("space {other:?}"),
    };
    let merged = merge(&case.experts(), &method, space).unwrap();
    let found = match space {
        Space::Factor => factors(&merged.adapter),
        Space::Delta | Space::Full(_) => updates(&merged, seen_from),
    };
    let wanted = case.expected(case.text("output"));
    assert_near(case.text("name"), &found, &wanted, case.json["tolerance_abs"].as_f64().unwrap());
}

/// The authors' arithmetic: a soup, and one whole step of Algorithm 1 of which v or x is kept.
fn check_authors(case: &Case) {
    let name = case.text("name");
    let dtype = match case.text("dtype") {
        "f32" => Dtype::F32,
        "f16" => Dtype::F16,
        "bf16" => Dtype::BF16,
        other => panic!("dtype {other:?}"),
    };
    let inputs: Vec<Named> = (0..5)
        .map(|idx| {
            let path = format!("inputs/shared_{idx}/adapter_model.safetensors");
            let mut tensors = case.expected(&path);
            tensors.values_mut().flatten().for_each(|value| *value = dtype.round(*value));
            tensors
        })
        .collect();
    let mut found = Named::new();
    for tensor in inputs[0].keys() {
        let [x, p, g, g_w, other] = [0, 1, 2, 3, 4].map(|idx| inputs[idx][tensor].as_slice());
        let merged = |weights: &[f64], tensors: &[&[f32]]| authors_linear(tensors, weights, dtype);
        let value = if name.contains("uniform5") {
            merged(&[0.2; 5], &[x, p, g, g_w, other])
        } else {
            // v = (r_v phi_v v + r_p phi_p (p - x) + r_g phi_g (g - x) + r_w phi_w (x - g_w)) / C
            let products = [0.91 * 0.2, 0.13 * 0.3, 0.57 * 0.4, 0.66 * 0.05];
            let normaliser: f64 = products.iter().sum();
            let weights = products.map(|product| product / normaliser);
            let [v, p_x, g_x, x_w] = [[x, other], [x, p], [x, g], [g_w, x]]
                .map(|[from, to]| merged(&[-1.0, 1.0], &[from, to]));
            let v = merged(&weights, &[&v, &p_x, &g_x, &x_w]);
            if name.contains("step_x1") { merged(&[1.0, 0.7], &[x, &v]) } else { v }
        };
        found.insert(tensor.clone(), value);
    }
    let wanted = case.expected(case.text("output"));
    assert_near(name, &found, &wanted, case.json["tolerance_abs"].as_f64().unwrap());
}

fn check_layers(case: &Case) {
    let shares: Vec<f64> =
        ["0", "1"].iter().map(|layer| case.param("t_per_layer")[layer].as_f64().unwrap()).collect();
    let rows: Vec<[f64; 2]> = shares.iter().map(|t| [*t, 1.0 - t]).collect();
    let rows: Vec<&[f64]> = rows.iter().map(|row| row.as_slice()).collect();
    let pool = Pool::from_experts(case.experts()).unwrap();
    let found = factors(&merge_layers(&pool, &rows).unwrap());
    assert_near(case.text("name"), &found, &case.expected(case.text("output")), 1e-6);
}

fn check_delta_of_soup(case: &Case) {
    let method = Method::Linear { weights: vec![1.0; 5], divide: Divide::ByWeights };
    let merged = merge(&case.experts(), &method, Space::Factor).unwrap();
    let found = updates(&merged, None);
    assert_near(case.text("name"), &found, &case.expected(case.text("output")), 1e-6);
}

/// Rank concatenation: the factors one by one, and the update that they make.
fn check_concatenation(case: &Case) {
    let method = Method::Linear { weights: case.numbers("weights"), divide: Divide::ByNothing };
    let merged = merge(&case.experts(), &method, Space::Delta).unwrap();
    assert_eq!((merged.form, merged.config.rank), (Form::Concatenated, 20));
    assert_eq!(merged.config.alpha, 40.0);
    let name = case.text("name");
    let wanted = case.expected(case.text("output"));
    assert_near(name, &factors(&merged.adapter), &wanted, 1e-6);
    let wanted = case.expected(case.param("delta_output").as_str().unwrap());
    assert_near(name, &updates(&merged, None), &wanted, 1e-6);
}

#[test]
fn golden_merges_are_those_of_the_reference_programs() {
    // Broken: a baseline of the paper would be a method that nobody else calls by that name.
    for root in golden_roots() {
        let root = root.join("merge");
        let manifest = read_json(&root.join("manifest.json"));
        let cases = manifest["cases"].as_array().unwrap();
        assert!(cases.len() >= 29, "only {} cases in {}", cases.len(), root.display());
        for json in cases {
            let case = Case { root: &root, json };
            println!("{}", case.text("name"));
            match case.text("name") {
                "evol_layer_interp" => check_layers(&case),
                "delta_of_uniform5_factor" => check_delta_of_soup(&case),
                "concat_rank_weighted5" => check_concatenation(&case),
                name if name.starts_with("authors_") => check_authors(&case),
                _ => check_merge(&case),
            }
        }
    }
}
