//! The plan of a GPU's memory: what fits, what does not, and what is said about it.

mod common;

use common::cli::{example, model_swarms, run_ok, run_refused};
use model_swarms::adapter::{Layout, ModuleLayout};
use model_swarms::backend::Limits;
use model_swarms::error::{Error, Result};
use model_swarms::model::Application;
use model_swarms::model::config::Config;
use model_swarms::model::memory::{Demand, Held, Plan, base_bytes};
use model_swarms::tensors::Dtype;

const GIB: usize = 1 << 30;

/// google/gemma-7b-it, as its config.json has it.
fn gemma() -> Config {
    let folder = tempfile::tempdir().unwrap();
    let config = r#"{"model_type": "gemma", "architectures": ["GemmaForCausalLM"],
        "hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 16, "head_dim": 256, "intermediate_size": 24576,
        "vocab_size": 256000, "hidden_act": "gelu", "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "bos_token_id": 2, "eos_token_id": 1}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    Config::open(folder.path()).unwrap()
}

/// Adapters of every linear of Gemma-7B.
fn adapters(n: usize) -> Held {
    let linears = [
        ("self_attn.q_proj", 3072, 4096),
        ("self_attn.k_proj", 3072, 4096),
        ("self_attn.v_proj", 3072, 4096),
        ("self_attn.o_proj", 4096, 3072),
        ("mlp.gate_proj", 3072, 24576),
        ("mlp.up_proj", 3072, 24576),
        ("mlp.down_proj", 24576, 3072),
    ];
    let of_layer = |layer_idx: usize| {
        linears.map(|(name, d_in, d_out)| {
            ModuleLayout::new(format!("model.layers.{layer_idx}.{name}"), 16, d_in, d_out, 2.0)
        })
    };
    Held::of(&Layout::new((0..28).flat_map(of_layer).collect()), n)
}

fn in_bf16(_: &str, _: &[usize]) -> Result<Dtype> {
    Ok(Dtype::BF16)
}

/// Gemma-7B in bf16 with adapters beside it.
fn demand(config: &Config, n_adapters: usize, n_positions: usize, free_bytes: usize) -> Demand<'_> {
    let application = Application::suited(config);
    assert_eq!(application, Application::Unmerged);
    let base_bytes = base_bytes(config, application.keep(), in_bf16).unwrap();
    let held = adapters(n_adapters);
    Demand { config, base_bytes, application, held, n_positions, free_bytes }
}

#[test]
fn gemma_and_a_swarm_fit_into_24_gib() {
    // Broken: the paper's base model would be refused on a GPU that holds it.
    let config = gemma();
    let plan = Plan::new(&demand(&config, 20, 512, 24 * GIB)).unwrap();

    // 8 537 680 896 parameters; norms are kept in f32, the tied embedding twice.
    let (n_norms, n_embedding) = (57 * 3072, 256_000 * 3072);
    assert_eq!(plan.base_bytes, 2 * (8_537_680_896 + n_embedding) + 2 * n_norms);
    assert_eq!(plan.adapter_bytes, 20 * 28 * 1_785_856 * 4);
    assert_eq!(plan.sequence_bytes, 28 * 16 * (256 + 256) * 4 * 512);

    let Limits { prefill_rows, logit_rows, cache_bytes, batch, .. } = plan.limits;
    assert!((64..=1024).contains(&prefill_rows), "{plan:?}");
    assert!((64..=256).contains(&logit_rows), "{plan:?}");
    assert!((1..=8).contains(&batch) && batch == cache_bytes / plan.sequence_bytes, "{plan:?}");
}

#[test]
fn more_memory_never_does_less_at_once() {
    // Broken: a larger GPU would be slower, or given more than it has.
    let config = gemma();
    let mut small = config.clone();
    (small.dim, small.ffn_dim, small.n_layers, small.vocab_size) = (64, 100, 2, 1000);
    for (config, held, application) in [
        (&config, adapters(20), Application::Unmerged),
        (&config, Held::default(), Application::Unmerged),
        (&small, adapters(0), Application::Merged),
        (&small, Held { n_adapters: 3, len: 10_000, rank: 4 }, Application::Merged),
    ] {
        let base_bytes = base_bytes(config, application.keep(), in_bf16).unwrap();
        let mut before: Option<Plan> = None;
        let mut free_bytes = 1 << 20;
        while free_bytes < 300 * GIB {
            free_bytes += free_bytes / 61;
            let demand =
                Demand { config, base_bytes, application, held, n_positions: 300, free_bytes };
            let Ok(plan) = Plan::new(&demand) else {
                assert!(before.is_none(), "{free_bytes} bytes are refused, fewer were not");
                continue;
            };
            assert!(plan.total_bytes() + plan.reserve_bytes <= free_bytes, "{plan:?}");
            let sizes = |plan: &Plan| {
                let Limits { prefill_rows, logit_rows, cache_bytes, batch, .. } = plan.limits;
                assert!(prefill_rows.is_multiple_of(64) && prefill_rows <= 8192, "{plan:?}");
                assert!(logit_rows >= 64 && (1..=256).contains(&batch), "{plan:?}");
                assert!(batch <= prefill_rows, "a step's rows: {plan:?}");
                assert!(batch * plan.sequence_bytes <= cache_bytes, "{plan:?}");
                [prefill_rows, logit_rows, cache_bytes, batch]
            };
            let of_before = before.as_ref().map_or([0; 4], sizes);
            let now = sizes(&plan);
            assert!(now.iter().zip(of_before).all(|(now, before)| *now >= before), "{plan:?}");
            before = Some(plan);
        }
        let last = before.expect("300 GiB are enough").limits;
        assert_eq!((last.prefill_rows, last.batch), (8192, 256));
    }
}

#[test]
fn too_little_memory_is_an_error_that_names_the_parts() {
    // Broken: a user would learn of it from a failed allocation, after minutes of loading.
    let config = gemma();
    let error = Plan::new(&demand(&config, 20, 1024, 12 * GIB)).unwrap_err();
    assert!(matches!(error, Error::Usage(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the device's memory is too small: the base takes 17.4 GiB, 20 adapters 3.7 GiB, the \
         rotary tables 1.0 MiB, the workspace of 64 rows 87.0 MiB, the key-value cache of one \
         sequence of 1024 tokens 896.0 MiB, and 768.0 MiB stay free for the driver; the device has \
         12.0 GiB free, 10.8 GiB are missing"
    );
}

#[test]
fn absurd_sizes_are_too_large_for_any_device() {
    // Broken: a size that wraps around would look as if it fitted.
    let mut config = gemma();
    let most = 1 << 24;
    (config.dim, config.ffn_dim, config.vocab_size, config.n_layers) = (most, most, most, 4096);
    (config.n_heads, config.n_kv_heads, config.head_dim) = (most, most, most);
    for application in [Application::Merged, Application::Unmerged] {
        let base_bytes = base_bytes(&config, application.keep(), in_bf16).unwrap();
        assert_eq!(base_bytes, usize::MAX);
        for n in [1, usize::MAX] {
            let (config, held) = (&config, Held { n_adapters: n, len: n, rank: n });
            for free_bytes in [0, usize::MAX] {
                let demand =
                    Demand { config, base_bytes, application, held, n_positions: n, free_bytes };
                assert!(matches!(Plan::new(&demand), Err(Error::Usage(_))), "{demand:?}");
            }
        }
    }
}

#[test]
fn a_plan_is_shown_as_a_page() {
    // Broken: nobody sees what a GPU would hold before it is paid for.
    let example = example();
    let inspect = |more: &[&str]| {
        let mut command = model_swarms(["inspect", "--device", "cuda"]);
        command.arg(&example.base).arg("--experts").arg(&example.experts).args(more);
        command
    };
    insta::assert_snapshot!(run_ok(inspect(&["--memory", "0.05", "--tokens", "128"])));

    let json = run_ok(inspect(&["--memory", "8", "--particles", "3", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["free_bytes"], 8 * GIB);
    let parts = json["parts"].as_array().unwrap();
    let sum: u64 = parts.iter().map(|part| part["bytes"].as_u64().unwrap()).sum();
    assert_eq!(sum, 8 << 30);
    assert_eq!(parts[1]["part"], "3 adapters");

    run_refused("little", inspect(&["--memory", "0.01"]), &["20 adapters 22.6 MiB", "missing"]);
    if cfg!(not(feature = "cuda")) {
        run_refused("no driver", inspect(&[]), &["this build has no CUDA; give --memory GIB"]);
    }
}
