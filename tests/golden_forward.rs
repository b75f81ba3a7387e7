//! The forward pass against transformers + PEFT: logits, greedy ids, and what must be refused.

mod common;

use std::path::Path;

use model_swarms::adapter::Expert;
use model_swarms::backend::cpu::Isa;
use model_swarms::model::config::eos_ids;
use model_swarms::model::decode::{Generated, Job, Report};
use model_swarms::model::lora::Places;
use model_swarms::model::memory::Held;
use model_swarms::model::{Adapted, Application, Device, Model};
use model_swarms::tensors::Tensors;
use serde_json::Value;

use common::{golden_roots, read_json, sub_folders};

/// If this fails, the decoder or an adapter's place in it is not what transformers and PEFT compute.
#[test]
fn golden_forward_logits_and_greedy_ids() {
    let mut n_cases = 0;
    for root in golden_roots() {
        for folder in sub_folders(&root.join("forward")) {
            if !folder.join("golden.json").exists() {
                continue;
            }
            for application in [Application::Merged, Application::Unmerged] {
                n_cases += check_model(&root.join("forward"), &folder, application);
            }
        }
    }
    assert!(n_cases > 0, "not even the core's goldens were found");
}

fn check_model(forward: &Path, folder: &Path, application: Application) -> usize {
    let golden = read_json(&folder.join("golden.json"));
    let dir = folder.join("model");
    let model =
        Model::open(&dir, Device::Cpu, Isa::detect(), Some(application), Held::default()).unwrap();
    let eos = eos_ids(&dir, &model.config).unwrap();
    let expected = Tensors::open(&folder.join("golden.safetensors")).unwrap();
    let prompts: Vec<Vec<u32>> = golden["prompts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|prompt| ids(&prompt["input_ids"]))
        .collect();
    let cases = golden["cases"].as_array().unwrap();
    for case in cases {
        let name = case["adapter"].as_str();
        println!("{} {} {application:?}", golden["model"], name.unwrap_or("base"));
        let adapted = name.map_or_else(Adapted::base, |name| {
            let (owner, adapter) =
                name.split_once('/').map_or((folder.to_path_buf(), name), |(owner, adapter)| {
                    (forward.join(owner), adapter)
                });
            adapt(&model, &owner.join("adapters").join(adapter))
        });
        let jobs: Vec<Job> = prompts
            .iter()
            .map(|tokens| Job { adapter_idx: 0, tokens, max_new_tokens: 16 })
            .collect();
        let ours = model.generate(&adapted, &jobs, &eos, Some(7), Report::Logits).unwrap();
        let shape = [prompts.len(), model.config.vocab_size];
        let logits = expected.get(case["logits"].as_str().unwrap(), &shape).unwrap().to_f32();
        for (i, ours) in ours.iter().enumerate() {
            compare(i, ours, &logits[i * shape[1]..][..shape[1]], &case["outputs"][i]);
        }
    }
    cases.len()
}

fn compare(prompt_idx: usize, ours: &Generated, logits: &[f32], output: &Value) {
    for (token, (ours, wanted)) in ours.logits.as_ref().unwrap().iter().zip(logits).enumerate() {
        let error = (ours - wanted).abs();
        assert!(error <= 1e-4, "prompt {prompt_idx} token {token}: {ours}, wanted {wanted}");
    }
    assert_eq!(ours.tokens, ids(&output["new_ids"]), "prompt {prompt_idx}");
}

fn adapt(model: &Model, dir: &Path) -> Adapted {
    let expert = Expert::open(dir).unwrap();
    let places = Places::find(expert.layout(), &model.config, dir).unwrap();
    model.adapt(&places, &[&expert.to_adapter()]).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// If this fails, an adapter whose magnitudes we would ignore is run as if it were plain LoRA.
#[test]
fn golden_dora_is_refused_by_name() {
    for root in golden_roots() {
        let dir = root.join("forward/tiny-mha/adapters/dora");
        if dir.exists() {
            println!("{}", dir.display());
            let error = Expert::open(&dir).unwrap_err().to_string();
            assert!(error.contains("use_dora"), "{error}");
        }
    }
}
