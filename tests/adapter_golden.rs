//! Adapters as PEFT wrote them: what is read, what is refused, and that saving loses nothing.

use std::path::{Path, PathBuf};

use model_swarms::adapter::{Config, Expert, Pool, save};
use model_swarms::tensors::{Dtype, Tensors};

/// The adapters of one golden model, unless the goldens are absent.
fn golden_adapters(model: &str) -> Option<PathBuf> {
    let golden = match std::env::var_os("MODEL_SWARMS_GOLDEN") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden"),
    };
    let adapters = golden.join("forward").join(model).join("adapters");
    if !adapters.exists() {
        println!("skipped: no goldens at {}", golden.display());
        return None;
    }
    Some(adapters)
}

#[test]
fn golden_adapters_open_with_their_ranks_and_scales() {
    // The forward pass would add the wrong multiple of an expert's update.
    let Some(adapters) = golden_adapters("tiny-mha") else { return };
    // (adapter, modules per layer, module, rank, scale)
    let cases = [
        ("a0", 7, "model.layers.0.self_attn.q_proj", 8, 2.0),
        ("a9", 7, "model.layers.2.mlp.down_proj", 8, 2.0),
        ("qv", 2, "model.layers.1.self_attn.v_proj", 8, 2.0),
        ("rslora", 7, "model.layers.1.mlp.up_proj", 8, (16.0 / 8f64.sqrt()) as f32),
        ("pattern", 7, "model.layers.1.self_attn.q_proj", 4, 1.0),
        ("pattern", 7, "model.layers.2.mlp.down_proj", 16, 1.0),
        ("pattern", 7, "model.layers.0.mlp.up_proj", 8, 4.0),
        ("pattern", 7, "model.layers.1.mlp.up_proj", 8, 2.0),
    ];
    for (name, n_modules, module, rank, scale) in cases {
        println!("{name}: {module}");
        let expert = Expert::open(&adapters.join(name)).unwrap();
        let modules = &expert.layout().modules;
        assert_eq!((expert.name.as_str(), modules.len()), (name, 4 * n_modules));
        let found = modules.iter().find(|found| found.name == module).unwrap();
        assert_eq!((found.rank, found.scale), (rank, scale));
        assert!(expert.module_norms().iter().all(|(_, norm)| *norm > 0.0 && norm.is_finite()));
    }
}

#[test]
fn golden_adapter_lies_in_its_flat_vector_as_the_layout_says() {
    // Experts would be mixed weight by weight with the wrong partners.
    let Some(adapters) = golden_adapters("tiny-mha") else { return };
    for name in ["a0", "pattern"] {
        println!("{name}");
        let expert = Expert::open(&adapters.join(name)).unwrap();
        let file = Tensors::open(&adapters.join(name).join("adapter_model.safetensors")).unwrap();
        let (adapter, layout) = (expert.to_adapter(), expert.layout());
        let mut end = 0;
        for (index, module) in layout.modules.iter().enumerate() {
            assert_eq!((module.a.start, module.b.start), (end, module.a.end));
            end = module.b.end;
            let tensor = |half: &str, shape: &[usize]| {
                let tensor = format!("base_model.model.{}.lora_{half}.weight", module.name);
                file.get(&tensor, shape).unwrap().to_f32()
            };
            assert_eq!(adapter.a(index), tensor("A", &[module.rank, module.d_in]));
            assert_eq!(adapter.b(index), tensor("B", &[module.d_out, module.rank]));
        }
        assert_eq!(end, layout.len);
    }
}

#[test]
fn golden_adapter_is_saved_as_it_was_opened() {
    // `best/` would not be the expert that the search found, or PEFT could not open it.
    let Some(adapters) = golden_adapters("tiny-mha") else { return };
    let directory = tempfile::tempdir().unwrap();
    for name in ["a0", "pattern", "rslora", "qv"] {
        println!("{name}");
        let from = Expert::open(&adapters.join(name)).unwrap();
        let to = directory.path().join("runs").join(name);
        for _ in 0..2 {
            // The second time it takes the place of the first.
            save(&to, &from.to_adapter(), from.config(), from.dtype(), "Found.").unwrap();
        }
        let saved = Expert::open(&to).unwrap();
        assert_eq!(saved.layout(), from.layout());
        assert_eq!(saved.to_flat(), from.to_flat());
        let json = |path: &Path| -> serde_json::Value {
            let text = std::fs::read_to_string(path.join("adapter_config.json")).unwrap();
            serde_json::from_str(&text).unwrap()
        };
        assert_eq!(json(&to), json(&adapters.join(name)));
        let card = std::fs::read_to_string(to.join("README.md")).unwrap();
        assert!(card.starts_with("---\n") && card.ends_with("---\n\nFound.\n"), "{card}");
    }
}

#[test]
fn golden_adapter_is_rounded_when_saved_in_fewer_bits() {
    // A bf16 pool would give an expert that differs from the one that was measured.
    let Some(adapters) = golden_adapters("tiny-mha") else { return };
    let directory = tempfile::tempdir().unwrap();
    let from = Expert::open(&adapters.join("a1")).unwrap();
    for dtype in [Dtype::BF16, Dtype::F16] {
        println!("{dtype}");
        let to = directory.path().join(dtype.to_string());
        save(&to, &from.to_adapter(), from.config(), dtype, "").unwrap();
        let saved = Expert::open(&to).unwrap();
        let rounded: Vec<f32> = from.to_flat().iter().map(|&x| dtype.round(x)).collect();
        assert_eq!((saved.dtype(), saved.to_flat()), (dtype, rounded));
    }
}

#[test]
fn golden_dora_adapter_is_refused() {
    // Its magnitudes would be left out without a word.
    let Some(adapters) = golden_adapters("tiny-mha") else { return };
    println!("dora");
    let message = Expert::open(&adapters.join("dora")).unwrap_err().to_string();
    assert!(message.contains("dora/adapter_config.json: use_dora is true"), "{message}");
}

#[test]
fn golden_pools_are_alike_or_refused() {
    // A search would add weights of different meaning.
    let Some(adapters) = golden_adapters("tiny-mha") else { return };
    let open = |names: &[&str]| {
        println!("{names:?}");
        Pool::from_experts(
            names.iter().map(|name| Expert::open(&adapters.join(name)).unwrap()).collect(),
        )
    };
    let names: Vec<String> = (0..10).map(|i| format!("a{i}")).collect();
    let pool = open(&names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    assert_eq!(
        (pool.names(), pool.dtype()),
        (names.iter().map(String::as_str).collect(), Dtype::F32)
    );

    let cases: [(&str, &[&str]); 3] = [
        ("rslora", &["scale", "\"2\" in \"a0\"", "in \"rslora\""]),
        ("pattern", &["rank", "\"8\" in \"a0\"", "in \"pattern\""]),
        ("qv", &["targets", "\"adapted\" in \"a0\"", "\"not adapted\" in \"qv\""]),
    ];
    for (name, wanted) in cases {
        let message = open(&["a0", name]).unwrap_err().to_string();
        println!("{message}");
        wanted.iter().for_each(|part| assert!(message.contains(part), "no {part} in {message}"));
    }
    // The whole folder holds the DoRA adapter, and others that are not like the first.
    assert!(Pool::open(&adapters).is_err());
}

#[test]
fn golden_configuration_survives_a_round_trip() {
    // A saved adapter would lose fields that newer versions of PEFT rely on.
    let Some(adapters) = golden_adapters("tiny-mha") else { return };
    for name in ["a0", "pattern"] {
        println!("{name}");
        let text =
            std::fs::read_to_string(adapters.join(name).join("adapter_config.json")).unwrap();
        assert_eq!(Config::parse(&text).unwrap().to_json(), text.trim_end());
    }
}
