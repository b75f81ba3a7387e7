//! Adapters and pools that must be refused: each message names the file and the cause, and no bytes
//! whatever end in a panic.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model_swarms::adapter::{Adapter, Config, Expert, Layout, ModuleLayout, Pool, save};
use model_swarms::tensors::{self, Dtype};
use proptest::prelude::*;
use serde_json::{Value, json};

const RANK: usize = 2;
const Q: &str = "base_model.model.model.layers.0.self_attn.q_proj";

fn config() -> Value {
    json!({"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "tiny",
        "r": RANK, "lora_alpha": 4, "target_modules": ["q_proj"]})
}

/// `config` with `field` set to `value`.
fn config_with(field: &str, value: Value) -> Value {
    let mut config = config();
    config[field] = value;
    config
}

/// A and B of one module (d_in 4, d_out 3).
fn weights() -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let values = |n: usize| (0..n).map(|i| i as f32 / 8.0 - 0.5).collect();
    vec![
        (format!("{Q}.lora_A.weight"), vec![RANK, 4], values(RANK * 4)),
        (format!("{Q}.lora_B.weight"), vec![3, RANK], values(3 * RANK)),
    ]
}

/// Writes an adapter folder, and returns its path.
fn adapter(dir: PathBuf, config: &Value, weights: &[(String, Vec<usize>, Vec<f32>)]) -> PathBuf {
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
    let tensors: Vec<_> = weights
        .iter()
        .map(|(name, shape, values)| (name.clone(), shape.clone(), values.as_slice()))
        .collect();
    let path = dir.join("adapter_model.safetensors");
    tensors::write(&path, &tensors, Dtype::F32, &BTreeMap::new()).unwrap();
    dir
}

#[track_caller]
fn assert_refused(dir: &Path, file: &str, wanted: &[&str]) {
    let message = Expert::open(dir).unwrap_err().to_string();
    println!("{message}");
    for part in wanted.iter().chain([&file]) {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}

#[test]
fn an_old_configuration_means_the_defaults() {
    // Adapters of PEFT 0.4 to 0.11, which write few fields, could not be used.
    let directory = tempfile::tempdir().unwrap();
    let expert =
        Expert::open(&adapter(directory.path().join("old"), &config(), &weights())).unwrap();
    let wanted =
        Layout::new(vec![ModuleLayout::new("model.layers.0.self_attn.q_proj", RANK, 4, 3, 2.0)]);
    assert_eq!(**expert.layout(), wanted);
    assert_eq!((expert.name.as_str(), expert.config().base.as_deref()), ("old", Some("tiny")));
    let minimal = Config::parse(r#"{"peft_type": "LORA", "target_modules": ["q_proj"]}"#).unwrap();
    assert_eq!((minimal.rank, minimal.alpha, minimal.base), (8, 8.0, None));
}

#[test]
fn what_is_not_plain_lora_is_refused_with_field_and_value() {
    // The forward pass would compute something else than PEFT does, without a word.
    let directory = tempfile::tempdir().unwrap();
    let cases = [
        ("use_dora", json!(true), "true"),
        ("bias", json!("lora_only"), "lora_only"),
        ("modules_to_save", json!(["lm_head"]), "lm_head"),
        ("layer_replication", json!([[0, 4], [2, 5]]), "[[0,4],[2,5]]"),
        ("lora_bias", json!(true), "true"),
        ("trainable_token_indices", json!([7]), "[7]"),
        ("target_parameters", json!(["experts.gate_up_proj"]), "experts.gate_up_proj"),
        ("fan_in_fan_out", json!(true), "true"),
        ("use_qalora", json!(true), "true"),
        ("alora_invocation_tokens", json!([1, 2]), "[1,2]"),
        ("use_bdlora", json!({"nblocks": 2}), "nblocks"),
        ("arrow_config", json!({"top_k": 3}), "top_k"),
        ("kasa_config", json!({"beta": 1.0}), "beta"),
        ("monteclora_config", json!({"num_samples": 8}), "num_samples"),
        ("megatron_config", json!({"x": 1}), "x"),
        ("ensure_weight_tying", json!(true), "true"),
        ("init_lora_weights", json!("pissa_niter_4"), "pissa_niter_4"),
        ("init_lora_weights", json!("mica"), "mica"),
        ("peft_type", json!("LOHA"), "LOHA"),
        ("task_type", json!("SEQ_CLS"), "SEQ_CLS"),
        ("a_field_of_tomorrow", json!(0.5), "0.5"),
        ("r", json!(0), "0"),
        ("r", json!(8.5), "8.5"),
        ("lora_alpha", json!("16"), "\"16\""),
        ("use_rslora", json!(1), "1"),
        ("rank_pattern", json!({"q_proj": -1}), "-1"),
        ("rank_pattern", json!(["q_proj"]), "q_proj"),
        ("alpha_pattern", json!({"q_(proj": 4}), "regular expression"),
        ("target_modules", json!(null), "missing"),
        ("target_modules", json!(7), "7"),
        ("target_modules", json!("q_(proj"), "regular expression"),
        ("layers_to_transform", json!([-1]), "[-1]"),
    ];
    for (field, value, shown) in cases {
        let dir = adapter(directory.path().join("x"), &config_with(field, value), &weights());
        assert_refused(&dir, "adapter_config.json", &[field, shown]);
    }
}

#[test]
fn expressions_and_nesting_made_to_exhaust_are_refused() {
    // A configuration could stop the program or keep it busy for ever.
    let directory = tempfile::tempdir().unwrap();
    let deep = 100_000;
    let cases = [
        ("target_modules", format!("{}q{}", "(".repeat(deep), ")".repeat(deep))),
        ("target_modules", "((((q{1000}){1000}){1000}){1000})".to_string()),
        ("target_modules", r"(?=(([^z]+)+)+z)([^z]+)+q_proj\1".to_string()),
    ];
    for (field, text) in cases {
        let dir = adapter(directory.path().join("x"), &config_with(field, json!(text)), &weights());
        let message = Expert::open(&dir).unwrap_err().to_string();
        assert!(
            message.contains("regular expression") || message.contains("given up"),
            "{message}"
        );
        assert!(message.len() < 1000, "{} characters", message.len());
    }
    let dir = adapter(directory.path().join("x"), &config(), &weights());
    std::fs::write(dir.join("adapter_config.json"), "{\"r\":".repeat(deep)).unwrap();
    assert_refused(&dir, "adapter_config.json", &["recursion limit"]);
}

#[test]
fn harmless_fields_are_left_alone() {
    // Adapters would be refused for how they were trained.
    let directory = tempfile::tempdir().unwrap();
    let cases = [
        ("lora_dropout", json!(0.05)),
        ("lora_alpha", json!(4.0)),
        ("init_lora_weights", json!("gaussian")),
        ("init_lora_weights", json!(false)),
        ("auto_mapping", json!({"base_model_class": "GemmaForCausalLM"})),
        ("revision", json!("main")),
        ("peft_version", json!("0.21.2")),
        ("loftq_config", json!({"loftq_bits": 4})),
        ("megatron_core", json!("megatron.core")),
        ("modules_to_save", json!([])),
        ("task_type", json!(null)),
        ("a_field_of_tomorrow", json!(null)),
    ];
    for (field, value) in cases {
        println!("{field}: {value}");
        let dir = adapter(directory.path().join("x"), &config_with(field, value), &weights());
        Expert::open(&dir).unwrap();
    }
}

#[test]
fn modules_are_selected_as_peft_selects_them() {
    // PEFT would drop tensors that this program applies, or the other way round.
    let directory = tempfile::tempdir().unwrap();
    let cases = [
        ("target_modules", json!(["self_attn.q_proj"]), true),
        ("target_modules", json!(["model.layers.0.self_attn.q_proj"]), true),
        ("target_modules", json!(["_proj"]), false),
        ("target_modules", json!(["q_proj", "v_proj"]), false),
        ("target_modules", json!([]), false),
        ("target_modules", json!("all-linear"), true),
        ("target_modules", json!(r".*\.(q|v)_proj"), true),
        ("target_modules", json!(r"^(?!.*layers\.0).*q_proj$"), false),
        ("target_modules", json!("q_proj"), false),
        ("exclude_modules", json!(["v_proj"]), true),
        ("exclude_modules", json!(["q_proj"]), false),
        ("exclude_modules", json!(".*q_proj"), false),
        ("layers_to_transform", json!([0, 3]), true),
        ("layers_to_transform", json!(1), false),
        ("rank_pattern", json!({"k_proj": 16}), true),
        ("rank_pattern", json!({"q_proj": 16}), false),
        ("rank_pattern", json!({"^q_proj": 16}), true),
        ("rank_pattern", json!({r"^model\.layers\.0\.self_attn\.q_proj": 16}), false),
        ("rank_pattern", json!({r"layers\.\d\..*q_proj": 16}), false),
    ];
    for (field, value, opens) in cases {
        println!("{field}: {value}");
        let dir = adapter(directory.path().join("x"), &config_with(field, value), &weights());
        assert_eq!(Expert::open(&dir).is_ok(), opens, "{:?}", Expert::open(&dir).err());
    }
}

#[test]
fn a_target_may_be_excluded_altogether() {
    // An adapter that PEFT saved and opens would be refused for the tensors it rightly lacks.
    let directory = tempfile::tempdir().unwrap();
    let mut config = config_with("target_modules", json!(["q_proj", "v_proj"]));
    for excluded in [json!(["v_proj"]), json!(r".*\.v_proj")] {
        config["exclude_modules"] = excluded;
        Expert::open(&adapter(directory.path().join("x"), &config, &weights())).unwrap();
    }
}

#[test]
fn the_file_must_hold_what_the_configuration_says() {
    // A part of an expert would be left out, or read as something that it is not.
    let directory = tempfile::tempdir().unwrap();
    let [a, b] = weights().try_into().unwrap();
    let renamed = |name: &str| (name.to_string(), a.1.clone(), a.2.clone());
    let shaped = |shape: &[usize]| (a.0.clone(), shape.to_vec(), vec![0.0; shape.iter().product()]);
    let embedding = "base_model.model.model.embed_tokens.lora_embedding_A";
    let cases = [
        (vec![], "no tensors"),
        (vec![a.clone()], "lora_B.weight"),
        (vec![b.clone()], "lora_A.weight"),
        (vec![a.clone(), b.clone(), renamed(embedding)], embedding),
        (vec![a.clone(), b.clone(), renamed("lm_head.weight")], "\"lm_head.weight\""),
        (vec![renamed(&a.0.replace("q_proj", "v_proj")), b.clone()], "v_proj"),
        (vec![shaped(&[3, 4]), b.clone()], "has rank 3, wanted 2"),
        (vec![shaped(&[2, 2, 2]), b.clone()], "[2, 2, 2]"),
        (vec![shaped(&[2, 0]), b.clone()], "[2, 0]"),
    ];
    for (weights, cause) in cases {
        let dir = adapter(directory.path().join("x"), &config(), &weights);
        assert_refused(&dir, "adapter_model.safetensors", &[cause]);
    }
}

#[test]
fn damaged_weights_are_refused() {
    // A broken download or a diverged training would enter the pool.
    let directory = tempfile::tempdir().unwrap();
    let dir = adapter(directory.path().join("x"), &config(), &weights());
    let file = dir.join("adapter_model.safetensors");
    let good = std::fs::read(&file).unwrap();
    let header_end = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let replaced = |from: &str, to: &str| {
        let header = String::from_utf8(good[8..header_end].to_vec()).unwrap().replace(from, to);
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &good[header_end..]].concat()
    };
    let with_value = |value: f32| {
        let mut bytes = good.clone();
        bytes[header_end + 12..header_end + 16].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    let cases: [(Vec<u8>, &[&str]); 9] = [
        (good[..good.len() - 1].to_vec(), &["lora_B", "out of"]),
        (good[..20].to_vec(), &["truncated"]),
        ([&[0xff; 8][..], &good[8..]].concat(), &["header of 18446744073709551615 bytes"]),
        (replaced("[0,32]", "[0,64]"), &["lora_A", "0 to 64"]),
        (replaced("[32,56]", "[24,48]"), &["lora_B", "overlaps"]),
        (replaced("\"F32\"", "\"I32\""), &["lora_A", "I32, wanted F32"]),
        (replaced("\"F32\",\"shape\":[2,4]", "\"F64\",\"shape\":[2,2]"), &["lora_A", "F64"]),
        (with_value(f32::NAN), &["lora_A.weight", "NaN at index 3"]),
        (with_value(f32::NEG_INFINITY), &["lora_A.weight", "-inf at index 3"]),
    ];
    for (bytes, wanted) in cases {
        std::fs::write(&file, bytes).unwrap();
        assert_refused(&dir, "adapter_model.safetensors", wanted);
    }
    std::fs::rename(&file, dir.join("adapter_model.bin")).unwrap();
    assert_refused(&dir, "adapter_model.bin", &["convert"]);
    std::fs::remove_file(dir.join("adapter_model.bin")).unwrap();
    assert_refused(&dir, "adapter_model.safetensors", &["cannot open"]);
}

#[test]
fn a_pool_must_be_a_folder_of_adapters_that_are_alike() {
    // Weights would be added that mean different things, or an expert would be missing unnoticed.
    let directory = tempfile::tempdir().unwrap();
    let pool = directory.path().join("pool");
    std::fs::create_dir(&pool).unwrap();
    std::fs::create_dir(pool.join(".cache")).unwrap();
    std::fs::write(pool.join("notes.txt"), "ignored").unwrap();
    let refused = |dir: &Path, wanted: &[&str]| {
        let message = Pool::open(dir).unwrap_err().to_string();
        println!("{message}");
        for part in wanted {
            assert!(message.contains(part), "no {part:?} in: {message}");
        }
    };
    refused(&pool, &["pool: no folders"]);
    refused(&directory.path().join("nowhere"), &["nowhere"]);

    adapter(pool.join("b"), &config(), &weights());
    adapter(pool.join("a"), &config(), &weights());
    assert_eq!(Pool::open(&pool).unwrap().names(), ["a", "b"]);
    refused(&pool.join("a"), &["this is one adapter"]);

    let grown: Vec<_> = weights()
        .into_iter()
        .map(|(name, shape, _)| {
            let shape: Vec<usize> = shape.iter().map(|&n| if n == RANK { 5 } else { n }).collect();
            let n = shape.iter().product();
            (name, shape, vec![0.25; n])
        })
        .collect();
    let mut wider = weights();
    wider[0].1 = vec![RANK, 6];
    wider[0].2 = vec![0.5; 12];
    let base = |name: &str| config_with("base_model_name_or_path", json!(name));
    let cases = [
        (config_with("r", json!(5)), grown, &["rank", "\"2\" in \"a\"", "\"5\" in \"c\""]),
        (config(), wider, &["shape", "\"(3, 4)\" in \"a\"", "\"(3, 6)\" in \"c\""]),
        (config_with("lora_alpha", json!(6)), weights(), &["scale", "\"2\"", "\"3\" in \"c\""]),
        (base("other"), weights(), &["base_model_name_or_path", "\"tiny\"", "\"other\" in \"c\""]),
    ];
    for (config, weights, wanted) in cases {
        adapter(pool.join("c"), &config, &weights);
        refused(&pool, wanted);
    }
    // A base that is not said contradicts nobody, but does not hide others' contradictions.
    adapter(pool.join("c"), &base(""), &weights());
    assert_eq!(Pool::open(&pool).unwrap().names(), ["a", "b", "c"]);
    adapter(pool.join("a"), &base(""), &weights());
    adapter(pool.join("c"), &base("other"), &weights());
    refused(&pool, &["\"tiny\" in \"b\"", "\"other\" in \"c\""]);

    std::fs::remove_file(pool.join("c/adapter_config.json")).unwrap();
    refused(&pool, &["pool/c", "no adapter_config.json"]);
    assert!(Pool::from_experts(Vec::new()).is_err());
}

#[test]
fn layers_are_ordered_by_number() {
    // Layer 10 would stand before layer 2, against what the reader of a table expects.
    let module = |name: &str| ModuleLayout::new(name, 1, 1, 1, 1.0);
    let layout = Layout::new(
        ["l.10.q", "l.2.v", "l.2.q", "l.02.q", "lm_head"].into_iter().rev().map(module).collect(),
    );
    let names: Vec<_> = layout.modules.iter().map(|module| module.name.as_str()).collect();
    assert_eq!(names, ["l.02.q", "l.2.q", "l.2.v", "l.10.q", "lm_head"]);
    assert_eq!((layout.len, layout.modules[4].b.clone()), (10, 9..10));
}

#[test]
fn saving_replaces_adapters_only() {
    // A mistyped output folder would be emptied.
    let directory = tempfile::tempdir().unwrap();
    let expert = Expert::open(&adapter(directory.path().join("x"), &config(), &weights())).unwrap();
    let to = directory.path().join("home");
    std::fs::create_dir(&to).unwrap();
    let save_it = |found: &Adapter| save(&to, found, expert.config(), Dtype::F32, "text");
    save_it(&expert.to_adapter()).unwrap();
    save_it(&expert.to_adapter()).unwrap();

    let mut diverged = expert.to_adapter();
    diverged.data[9] = f32::NAN;
    let message = save_it(&diverged).unwrap_err().to_string();
    assert!(message.contains("lora_B.weight") && message.contains("index 1"), "{message}");
    assert_eq!(Expert::open(&to).unwrap().to_flat(), expert.to_flat(), "the old one is in place");

    std::fs::remove_file(to.join("adapter_config.json")).unwrap();
    let message = save_it(&expert.to_adapter()).unwrap_err().to_string();
    assert!(message.contains("home") && message.contains("not an adapter"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn damaged_adapters_never_panic(
        in_config in any::<bool>(),
        place in any::<prop::sample::Index>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..6),
    ) {
        // A damaged file would end the program with a backtrace instead of a sentence.
        let directory = tempfile::tempdir().unwrap();
        let mut rich = config_with("rank_pattern", json!({r"layers\.\d+\.q_proj": 4, "^k": 2}));
        rich["layers_to_transform"] = json!([0, 1]);
        rich["layers_pattern"] = json!("layers");
        let dir = adapter(directory.path().join("x"), &rich, &weights());
        let file = if in_config { "adapter_config.json" } else { "adapter_model.safetensors" };
        let mut content = std::fs::read(dir.join(file)).unwrap();
        let at = place.index(content.len());
        let end = (at + bytes.len()).min(content.len());
        content.splice(at..end, bytes);
        std::fs::write(dir.join(file), content).unwrap();
        if let Ok(expert) = Expert::open(&dir) {
            prop_assert_eq!(expert.to_flat().len(), expert.layout().len);
            expert.module_norms();
        }
    }

    #[test]
    fn any_text_as_configuration_never_panics(text in ".{0,200}") {
        // As above, for files that are something else altogether.
        let _ = Config::parse(&text);
        let pattern = json!({
            "peft_type": "LORA", "target_modules": text, "rank_pattern": {&text: 1},
        });
        let _ = Config::parse(&pattern.to_string());
    }
}
