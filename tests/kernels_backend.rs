//! The CUDA backend as a whole, on the emulated machine: the forward pass's bits are the CPU's.
#![cfg(feature = "kernel-tests")]

mod common;
mod kernels_common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::{golden_roots, sub_folders};
use kernels_common::emulated::Emulated;
use kernels_common::has_hopper;
use model_swarms::adapter::{Adapter, Expert};
use model_swarms::backend::cpu::Isa;
use model_swarms::backend::cpu::device::Cpu;
use model_swarms::backend::cuda::device::Cuda;
use model_swarms::backend::cuda::driver::Family;
use model_swarms::backend::{Backend, Limits, Precision};
use model_swarms::example;
use model_swarms::model::Application;
use model_swarms::model::decode::{Generated, Job, Report, TextJob, generate, log_likelihoods};
use model_swarms::model::decoder::Decoder;
use model_swarms::model::lora::{Adapted, Places};

/// Small enough that prompts are cut into pieces and batches are several.
const LIMITS: Limits = Limits {
    prefill_rows: 24,
    logit_rows: 7,
    cache_bytes: 64 << 20,
    batch: 5,
    max_batch: 50,
    mixes_adapters: true,
};

fn cpu(base: &Path, application: Application) -> Decoder<Cpu> {
    Decoder::open(base, Cpu { isa: Isa::detect() }, Some(application)).unwrap()
}

fn cuda(base: &Path, application: Application, seed: u64) -> Decoder<Cuda<Emulated>> {
    let cuda = Cuda::new(Emulated::seeded(seed), Precision::Exact, LIMITS);
    Decoder::open(base, cuda, Some(application)).unwrap()
}

fn adapted<B: Backend>(decoder: &Decoder<B>, adapters: &[Adapter]) -> Adapted<B> {
    let places = Places::find(&adapters[0].layout, &decoder.config, Path::new("it")).unwrap();
    decoder.adapt(&places, &adapters.iter().collect::<Vec<_>>()).unwrap()
}

/// Prompts of different lengths, one of a single token, one in several pieces.
fn prompts(vocab_size: usize) -> Vec<Vec<u32>> {
    let token =
        |i: usize, at: usize| (3 + (i * 131 + at * at * 17 + at * 29) % (vocab_size - 3)) as u32;
    [9, 1, 31, 4]
        .iter()
        .enumerate()
        .map(|(i, &n)| (0..n).map(|at| token(i, at)).collect())
        .collect()
}

fn answers<B: Backend>(
    decoder: &Decoder<B>,
    adapted: &Adapted<B>,
    prompts: &[Vec<u32>],
    batch: usize,
) -> Vec<Generated> {
    let job = |adapter_idx: usize| move |tokens| Job { adapter_idx, tokens, max_new_tokens: 3 };
    let jobs: Vec<Job> = (0..adapted.n_adapters())
        .flat_map(|idx| prompts.iter().map(|p| &p[..]).map(job(idx)))
        .collect();
    generate(decoder, adapted, &jobs, &[1], Some(batch), Report::Logits).unwrap()
}

fn assert_same(ours: &[Generated], wanted: &[Generated], what: &str) {
    assert_eq!(ours.len(), wanted.len(), "{what}");
    for (i, (ours, wanted)) in ours.iter().zip(wanted).enumerate() {
        assert_eq!(ours.tokens, wanted.tokens, "{what}, answer {i}");
        let bits = |of: &Generated| -> Vec<u32> {
            of.logits.as_ref().unwrap().iter().map(|x| x.to_bits()).collect()
        };
        assert_eq!(bits(ours), bits(wanted), "{what}, logits of answer {i}");
    }
}

/// Holds a base with some adapters of one layout to the CPU.
fn check(base: &Path, adapters: &[Adapter], what: &str) {
    for application in [Application::Merged, Application::Unmerged] {
        let (cpu, cuda) = (cpu(base, application), cuda(base, application, 1));
        let prompts = prompts(cpu.config.vocab_size);
        let wanted = answers(&cpu, &Adapted::Base, &prompts, 9);
        let ours = answers(&cuda, &Adapted::Base, &prompts, 9);
        assert_same(&ours, &wanted, &format!("{what}, the base"));
        if adapters.is_empty() {
            continue;
        }
        let (on_cpu, on_cuda) = (adapted(&cpu, adapters), adapted(&cuda, adapters));
        let wanted = answers(&cpu, &on_cpu, &prompts, 9);
        for batch in [1, 6, 100] {
            let ours = answers(&cuda, &on_cuda, &prompts, batch);
            assert_same(&ours, &wanted, &format!("{what}, {application:?}, batches of {batch}"));
        }
    }
}

fn example_adapters(dir: &Path, n: usize) -> Vec<Adapter> {
    example::write_base(&dir.join("base"), 1).unwrap();
    example::write_experts(&dir.join("experts"), 1).unwrap();
    let open = |name: &&str| Expert::open(&dir.join("experts").join(name)).unwrap().to_adapter();
    example::EXPERTS[..n].iter().map(open).collect()
}

#[test]
fn the_forward_pass_has_the_bits_of_the_cpu() {
    // Broken: a search on a GPU would be another search.
    let dir = tempfile::tempdir().unwrap();
    let adapters = example_adapters(dir.path(), 3);
    check(&dir.path().join("base"), &adapters, "the example");
}

#[test]
fn golden_models_have_the_bits_of_the_cpu() {
    // Broken: some architecture or storage would be computed otherwise.
    for root in golden_roots() {
        for folder in sub_folders(&root.join("forward")) {
            let base = folder.join("model");
            if !folder.join("golden.json").exists() || !base.exists() {
                continue;
            }
            println!("{}", folder.display());
            check(&base, &[], &folder.display().to_string());
        }
    }
}

#[test]
fn texts_are_as_likely_as_on_the_cpu() {
    // Broken: perplexities would depend on the device.
    let dir = tempfile::tempdir().unwrap();
    let adapters = example_adapters(dir.path(), 2);
    let base = dir.path().join("base");
    let (cpu, cuda) = (cpu(&base, Application::Unmerged), cuda(&base, Application::Unmerged, 3));
    let texts: Vec<Vec<u32>> =
        prompts(cpu.config.vocab_size).into_iter().filter(|text| text.len() > 1).collect();
    let scored = |text: &Vec<u32>| (0..text.len()).map(|i| i > 0 && i % 3 != 1).collect();
    let scored: Vec<Vec<bool>> = texts.iter().map(scored).collect();
    let jobs: Vec<TextJob> = [0, 1]
        .iter()
        .flat_map(|&adapter_idx| {
            let job = move |(tokens, scored)| TextJob { adapter_idx, tokens, scored };
            texts.iter().map(|t| &t[..]).zip(scored.iter().map(|s| &s[..])).map(job)
        })
        .collect();
    let wanted = log_likelihoods(&cpu, &adapted(&cpu, &adapters), &jobs, Some(3)).unwrap();
    let ours = log_likelihoods(&cuda, &adapted(&cuda, &adapters), &jobs, Some(2)).unwrap();
    assert_eq!(ours, wanted);
}

#[test]
fn a_device_without_memory_is_an_error() {
    // Broken: a search would end in a panic, or go on with what was never computed.
    let dir = tempfile::tempdir().unwrap();
    let adapters = example_adapters(dir.path(), 1);
    let base = dir.path().join("base");
    let run = |machine: Emulated| {
        let cuda = Cuda::new(machine, Precision::Exact, LIMITS);
        let decoder = Decoder::open(&base, cuda, Some(Application::Unmerged))?;
        let places = Places::find(&adapters[0].layout, &decoder.config, Path::new("it"))?;
        let set = decoder.adapt(&places, &[&adapters[0]])?;
        let prompts = prompts(decoder.config.vocab_size);
        let job = |tokens| Job { adapter_idx: 0, tokens, max_new_tokens: 2 };
        let jobs: Vec<Job> = prompts.iter().map(|tokens| job(&tokens[..])).collect();
        generate(&decoder, &set, &jobs, &[1], Some(4), Report::Tokens)
    };
    let machine = Emulated::seeded(0);
    let peak = Arc::clone(&machine.peak);
    let wanted = run(machine).unwrap();
    let peak = peak.load(Ordering::Relaxed);
    assert_eq!(run(Emulated::with_memory(peak)).unwrap(), wanted);
    // From nothing, through too little for the weights, to a little less than is needed.
    for n_bytes in [0, peak / 3, peak - peak / 10, peak - peak / 50, peak - 1] {
        let error = run(Emulated::with_memory(n_bytes)).unwrap_err().to_string();
        assert!(error.contains("no memory for"), "{n_bytes} of {peak} bytes: {error}");
    }
}

#[test]
fn attention_that_no_kernel_computes_is_refused() {
    // Broken: a model would end in a panic when its first prompt is read.
    let dir = tempfile::tempdir().unwrap();
    let adapters = example_adapters(dir.path(), 1);
    let path = dir.path().join("base/config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["head_dim"] = 258.into();
    std::fs::write(&path, config.to_string()).unwrap();
    let cuda = Cuda::new(Emulated::seeded(0), Precision::Exact, LIMITS);
    let opened = Decoder::open(&dir.path().join("base"), cuda, Some(Application::Merged));
    let error = opened.err().unwrap().to_string();
    assert!(error.contains("config.json: this device's attention: head_dim 258"), "{error}");

    // A chip with less shared memory than those of data centres.
    let small = |shared_bytes: usize| {
        let mut machine = Emulated::seeded(0);
        machine.chip.shared_bytes = shared_bytes;
        Cuda::new(machine, Precision::Exact, LIMITS)
    };
    config["head_dim"] = 256.into();
    std::fs::write(&path, config.to_string()).unwrap();
    let opened = Decoder::open(&dir.path().join("base"), small(99 << 10), None);
    let error = opened.err().unwrap().to_string();
    assert!(error.contains("head_dim 256 takes 102400 bytes of shared memory"), "{error}");
    std::fs::write(&path, &text).unwrap();
    let decoder = Decoder::open(&dir.path().join("base"), small(17 << 10), None).unwrap();
    let tokens = vec![5; 4200];
    let job = Job { adapter_idx: 0, tokens: &tokens, max_new_tokens: 1 };
    let answers =
        generate(&decoder, &adapted(&decoder, &adapters), &[job], &[1], None, Report::Tokens);
    let error = answers.err().unwrap().to_string();
    assert!(error.contains("a sequence has 4201 tokens, on this GPU "), "{error}");
}

/// The chips whose kernels this machine runs.
fn families() -> Vec<Family> {
    let all = [Family::Ampere, Family::Hopper].into_iter();
    all.filter(|family| *family == Family::Ampere || has_hopper()).collect()
}

/// How far logits of precision `fast` may be from exact ones, as a share of their spread. A bf16
/// holds 8 bits: a rounding is off by at most 2^-9 of its value. Errors of a dozen roundings in a
/// row of each of a few layers add up as random ones do.
const FAST_SHARE: f32 = 0.05;

#[test]
fn precision_fast_is_near_the_exact_one_and_does_not_depend_on_the_batch() {
    // Broken: answers in bf16 would be another model's, or depend on who is asked at the same time.
    let dir = tempfile::tempdir().unwrap();
    let adapters = example_adapters(dir.path(), 3);
    let base = dir.path().join("base");
    let exact = cpu(&base, Application::Unmerged);
    let prompts = prompts(exact.config.vocab_size);
    let wanted = answers(&exact, &adapted(&exact, &adapters), &prompts, 9);
    for family in families() {
        let machine = Emulated::seeded(2).playing(family);
        let started = Arc::clone(&machine.started);
        let cuda = Cuda::new(machine, Precision::Fast, LIMITS);
        let fast = Decoder::open(&base, cuda, None).unwrap();
        let set = adapted(&fast, &adapters);
        let ours = answers(&fast, &set, &prompts, 9);
        for (i, (ours, wanted)) in ours.iter().zip(&wanted).enumerate() {
            let (ours, wanted) = (ours.logits.as_ref().unwrap(), wanted.logits.as_ref().unwrap());
            let largest = wanted.iter().fold(0.0f32, |most, z| most.max(z.abs()));
            let off = ours.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
            assert!(off > 0.0, "{family:?}, answer {i}: nothing was rounded");
            let what = format!("{family:?}, answer {i}: off by {off}, logits up to {largest}");
            assert!(off <= FAST_SHARE * largest, "{what}");
        }
        for batch in [1, 6, 100] {
            let again = answers(&fast, &set, &prompts, batch);
            assert_same(&again, &ours, &format!("{family:?}, batches of {batch}"));
        }
        let started = started.lock().unwrap();
        let has_versions =
            |name: &&String| name.starts_with("gemm") || name.starts_with("attention_prefill");
        let products: Vec<_> = started.iter().filter(has_versions).collect();
        let wanted = match family {
            Family::Ampere => {
                ["attention_prefill_fast_64_v2", "gemm_fast_bf16_v2", "gemm_fast_f32_v2"]
            }
            Family::Hopper => {
                ["attention_prefill_hopper_64_v3", "gemm_hopper_bf16_v3", "gemm_hopper_f32_v3"]
            }
        };
        assert_eq!(products, wanted, "the chip's own products alone");
    }
}
