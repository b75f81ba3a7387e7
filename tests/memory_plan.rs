//! The plan of a GPU's memory: what fits, what does not, and what is said about it.

mod common;

use common::cli::{example, model_swarms, run_ok, run_refused};
use model_swarms::adapter::{Layout, ModuleLayout};
use model_swarms::backend::{Limits, Precision};
use model_swarms::error::{Error, Result};
use model_swarms::model::Application;
use model_swarms::model::config::Config;
use model_swarms::model::experts::Seat;
use model_swarms::model::footprint::Footprint;
use model_swarms::model::memory::{Demand, Held, Plan};
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

/// A swarm of adapters of every linear of Gemma-7B, made of ten experts in bf16.
fn swarm(n: usize) -> Held {
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
    let layout = Layout::new((0..28).flat_map(of_layer).collect());
    assert_eq!(layout.len, ADAPTER_LEN);
    Held { n_experts: 10, expert_bytes: 2 * layout.len, ..Held::of(&layout, n) }
}

/// Numbers of one of them.
const ADAPTER_LEN: usize = 28 * 1_785_856;

fn in_bf16(_: &str, _: &[usize]) -> Result<Dtype> {
    Ok(Dtype::BF16)
}

/// A base whose files are in bf16, and `held` adapters as they suit its size.
fn demand(
    config: &Config,
    precision: Precision,
    held: Held,
    n_positions: usize,
    free_bytes: usize,
) -> Demand<'_> {
    let application = Application::choose(config, precision, None).unwrap();
    let footprint = Footprint { config, precision, application };
    let base_bytes = footprint.base_bytes(in_bf16).unwrap();
    Demand { footprint, base_bytes, held, n_positions, free_bytes }
}

#[test]
fn gemma_and_a_swarm_fit_into_24_gib() {
    // Broken: the paper's base model would be refused on a GPU that holds it.
    let config = gemma();
    for (precision, n_bytes) in [(Precision::Exact, 4), (Precision::Fast, 2)] {
        let plan = Plan::new(&demand(&config, precision, swarm(20), 512, 24 * GIB)).unwrap();
        assert_eq!(plan.application, Application::Unmerged);

        // 8 537 680 896 parameters, the tied embedding once; norms are kept in f32.
        let n_norms = 57 * 3072;
        assert_eq!(plan.base_bytes, 2 * 8_537_680_896 + 2 * n_norms);
        // In precision fast each number once more, in bf16.
        let of_number = if precision == Precision::Fast { 4 + 2 } else { 4 };
        assert_eq!(plan.adapter_bytes, plan.n_adapters * ADAPTER_LEN * of_number);
        assert_eq!(plan.sequence_bytes, 28 * 16 * (256 + 256) * n_bytes * 512);
        assert_eq!(plan.logit_row_bytes, 256_000 * 4);
        // x twice and while it waits, in f32; all else as the precision has it.
        let (x, q, ffn) = (3072, 4096, 2 * 24576);
        let narrow = 4 * q + 2 * x + 3 * q + ffn;
        let row_bytes = 4 * 4 * x + n_bytes * narrow + (n_bytes * q).max(4 * x) + 60;
        // A x: the rank on 32 columns; or 16 of each of 3 parts in 20 slots of 64 rows, the sums of
        // 6 blocks, and which adapters have the slots.
        let shrunk = match precision {
            Precision::Exact => 4 * 32,
            Precision::Fast => 2 * 20 * 16 * (2 * 3 + 4 * 6) + 6,
        };
        assert_eq!(plan.row_bytes, row_bytes + shrunk);

        // Small batches of several adapters; the experts stay in the host's memory.
        let Limits { prefill_rows, logit_rows, cache_bytes, batch, .. } = plan.limits;
        assert!((4..20).contains(&plan.n_adapters) && plan.seat() == Seat::Host, "{plan:?}");
        assert!(
            plan.concern().unwrap().contains("953.8 MiB would leave too little"),
            "{:?}",
            plan.concern()
        );
        assert!((256..=8192).contains(&prefill_rows), "{plan:?}");
        assert_eq!(logit_rows, 256);
        assert!((4..=16).contains(&batch) && batch == cache_bytes / plan.sequence_bytes);
    }
}

#[test]
fn a_large_device_holds_the_experts_and_all_particles() {
    // Broken: every iteration would send gigabytes to a GPU that has room for what they are made of.
    let config = gemma();
    let of = |n_experts: usize, n_gib: usize| {
        let held = Held { n_experts, ..swarm(20) };
        Plan::new(&demand(&config, Precision::Fast, held, 512, n_gib * GIB)).unwrap()
    };
    for n_gib in [48, 80, 141] {
        let plan = of(10, n_gib);
        assert_eq!((plan.seat(), plan.n_adapters), (Seat::Device, 20), "{plan:?}");
        assert_eq!(plan.experts_bytes, 10 * (2 * ADAPTER_LEN + 8 + 4 * 20));
        assert!(plan.concern().is_none() && plan.limits.batch >= 32, "{plan:?}");
    }
    // As many as a kernel takes.
    assert_eq!((of(48, 141).seat(), of(49, 141).seat()), (Seat::Device, Seat::Host));
    assert!(of(49, 141).concern().unwrap().contains("of 48 at most"));
    assert!(of(0, 80).concern().is_none(), "there are none to be made elsewhere");
}

#[test]
fn what_must_be_there_is_planned_for() {
    // Broken: a row of a table would end the run when its adapters do not fit.
    let config = gemma();
    let plan = |held: Held, n_gib: usize| {
        Plan::new(&demand(&config, Precision::Exact, held, 1024, n_gib * GIB))
    };
    let (one, sequence) = (4 * ADAPTER_LEN, plan(swarm(1), 80).unwrap().sequence_bytes);
    // All experts that answer together, each with a sequence.
    let mixed = plan(Held { n_mixed: 10, ..swarm(20) }, 40).unwrap();
    assert!(mixed.adapter_bytes >= 10 * one && mixed.limits.cache_bytes >= 10 * sequence);
    let error = plan(Held { n_mixed: 10, ..swarm(20) }, 24).unwrap_err().to_string();
    assert!(error.contains("10 adapters 1.9 GiB") && error.contains("of 10 sequences"), "{error}");
    // One that is larger than the others, by itself; where it fits, as many small ones do.
    let alone = |n: usize| plan(swarm(n).and_alone(15 * ADAPTER_LEN, 240), 24).unwrap();
    assert_eq!((alone(2).n_adapters, alone(2).adapter_bytes), (2, 15 * one));
    assert!((15..20).contains(&alone(20).n_adapters), "{:?}", alone(20));
    assert_eq!(alone(20).adapter_bytes, alone(20).n_adapters * one);
    assert_eq!(alone(2).row_bytes, plan(swarm(2), 24).unwrap().row_bytes + 4 * (256 - 32));
    let error = plan(swarm(20).and_alone(15 * ADAPTER_LEN, 240), 20).unwrap_err().to_string();
    assert!(error.contains("the largest adapter 2.8 GiB"), "{error}");
    // Adapters of several layouts.
    let [small, large] = [8, 16].map(|rank| {
        Layout::new(vec![ModuleLayout::new("model.layers.0.mlp.up_proj", rank, 3072, 24576, 1.0)])
    });
    let all = Held::all(&[&small, &large, &small]);
    assert_eq!((all.n_least, all.len, all.rank), (3, large.len, 16));
    assert_eq!(plan(all, 80).unwrap().adapter_bytes, 3 * 4 * large.len);
    assert_eq!(Held::all(&[]), Held::default());
}

#[test]
fn more_memory_never_does_less_at_once() {
    // Broken: a larger GPU would be slower, or given more than it has.
    let config = gemma();
    let mut small = config.clone();
    (small.dim, small.ffn_dim, small.n_layers, small.vocab_size) = (64, 100, 2, 1000);
    let few = Held { n_adapters: 3, n_least: 1, len: 10_000, rank: 4, ..Held::default() };
    let (exact, fast) = (Precision::Exact, Precision::Fast);
    for (config, held, precision) in [
        (&config, swarm(20), exact),
        (&config, swarm(20), fast),
        (&config, Held::default(), exact),
        (&small, swarm(0), exact),
        (&small, Held { n_experts: 10, expert_bytes: 40_000, ..few }, exact),
        (&small, few, fast),
    ] {
        let mut before: Option<Plan> = None;
        let mut free_bytes = 1 << 20;
        while free_bytes < 300 * GIB {
            free_bytes += free_bytes / 61;
            let Ok(plan) = Plan::new(&demand(config, precision, held, 300, free_bytes)) else {
                assert!(before.is_none(), "{free_bytes} bytes are refused, fewer were not");
                continue;
            };
            assert!(plan.total_bytes() + plan.reserve_bytes <= free_bytes, "{plan:?}");
            let Limits { prefill_rows, logit_rows, cache_bytes, batch, .. } = plan.limits;
            assert!(prefill_rows.is_multiple_of(64) && prefill_rows <= 8192, "{plan:?}");
            assert!(logit_rows >= 64 && (1..=256).contains(&batch), "{plan:?}");
            assert!(batch <= prefill_rows, "a step's rows: {plan:?}");
            assert!(batch * plan.sequence_bytes <= cache_bytes, "{plan:?}");
            assert!((held.n_least..=held.n_adapters).contains(&plan.n_adapters), "{plan:?}");
            if let Some(before) = &before {
                let steady = |plan: &Plan| [plan.n_adapters, plan.experts_bytes.min(1)];
                let [is, was] = [steady(&plan), steady(before)];
                assert!(is.iter().zip(was).all(|(is, was)| *is >= was), "{plan:?}");
                let flows = |plan: &Plan| {
                    let Limits { prefill_rows, logit_rows, cache_bytes, batch, .. } = plan.limits;
                    [prefill_rows, logit_rows, cache_bytes, batch]
                };
                // Rows and sequences give way to adapters and experts alone, and not to two thirds
                // of what they were.
                let least = |then: usize| if is == was { then } else { then / 3 * 2 };
                let (now, then) = (flows(&plan), flows(before));
                assert!(now.iter().zip(then).all(|(now, then)| *now >= least(then)), "{plan:?}");
            }
            before = Some(plan);
        }
        let last = before.expect("300 GiB are enough");
        assert_eq!((last.limits.prefill_rows, last.limits.batch), (8192, 256));
        assert_eq!(last.n_adapters, held.n_adapters);
        assert_eq!(last.seat() == Seat::Device, held.n_experts > 0);
    }
}

#[test]
fn too_little_memory_is_an_error_that_names_the_parts() {
    // Broken: a user would learn of it from a failed allocation, after minutes of loading.
    let config = gemma();
    let error = Plan::new(&demand(&config, Precision::Exact, swarm(20), 1024, 12 * GIB));
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Usage(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the device's memory is too small: the base takes 15.9 GiB, one adapter 190.8 MiB, the \
         rotary tables 1.0 MiB, the workspace of 64 rows 87.0 MiB, the key-value cache of one \
         sequence of 1024 tokens 896.0 MiB, and 768.0 MiB stay free for the driver; the device has \
         12.0 GiB free, 5.8 GiB are missing"
    );
}

#[test]
fn absurd_sizes_are_too_large_for_any_device() {
    // Broken: a size that wraps around would look as if it fitted.
    let mut config = gemma();
    let most = 1 << 24;
    (config.dim, config.ffn_dim, config.vocab_size, config.n_layers) = (most, most, most, 4096);
    (config.n_heads, config.n_kv_heads, config.head_dim) = (most, most, most);
    for precision in [Precision::Exact, Precision::Fast] {
        for application in [Application::Merged, Application::Unmerged] {
            let footprint = Footprint { config: &config, precision, application };
            let base_bytes = footprint.base_bytes(in_bf16).unwrap();
            assert_eq!(base_bytes, usize::MAX);
            for n in [1, usize::MAX] {
                let held = Held {
                    n_adapters: n,
                    n_least: 1,
                    len: n,
                    rank: n,
                    len_alone: n,
                    rank_alone: n,
                    n_mixed: n,
                    n_experts: n,
                    expert_bytes: n,
                };
                for free_bytes in [0, usize::MAX] {
                    let demand = Demand { footprint, base_bytes, held, n_positions: n, free_bytes };
                    assert!(matches!(Plan::new(&demand), Err(Error::Usage(_))), "{demand:?}");
                }
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
    let fast = ["--memory", "0.05", "--tokens", "128", "--precision", "fast"];
    insta::assert_snapshot!("a_plan_of_precision_fast", run_ok(inspect(&fast)));

    let json = run_ok(inspect(&["--memory", "8", "--particles", "3", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["free_bytes"], 8 * GIB);
    let parts = json["parts"].as_array().unwrap();
    let sum: u64 = parts.iter().map(|part| part["bytes"].as_u64().unwrap()).sum();
    assert_eq!(sum, 8 << 30);
    assert_eq!(
        (&parts[1]["part"], &parts[2]["part"]),
        (&"10 experts".into(), &"3 adapters".into())
    );

    run_refused("little", inspect(&["--memory", "0.003"]), &["one adapter 1.2 MiB", "missing"]);
    let merged = inspect(&["--memory", "8", "--precision", "fast", "--adapters", "merged"]);
    run_refused("merged", merged, &["precision fast applies adapters beside the weights"]);
    if cfg!(not(feature = "cuda")) {
        run_refused("no driver", inspect(&[]), &["this build has no CUDA; give --memory GIB"]);
    }
}
