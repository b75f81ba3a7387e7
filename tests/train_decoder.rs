//! The decoder that is trained is the decoder that is run.
#![cfg(feature = "train")]

use model_swarms::adapter::Expert;
use model_swarms::backend::cpu::Isa;
use model_swarms::example;
use model_swarms::model::decode::{Job, Report};
use model_swarms::model::lora::Places;
use model_swarms::model::memory::Held;
use model_swarms::model::weights::LINEARS;
use model_swarms::model::{Adapted, Application, Device, Model};
use model_swarms::tensors::Tensors;
use model_swarms::train::decoder::{Decoder, Sizes, State};
use model_swarms::train::linear::Lora;
use model_swarms::train::optimizer::Flat;

fn values(file: &Tensors, name: &str, shape: &[usize]) -> Vec<f32> {
    file.get(name, shape).unwrap().to_f32()
}

#[test]
fn trained_and_run_decoders_agree() {
    // If this fails, a testbed is trained for another model than the one that the search runs.
    let dir = tempfile::tempdir().unwrap();
    let (base, experts) = (dir.path().join("base"), dir.path().join("experts"));
    example::write_base(&base, 1).unwrap();
    example::write_experts(&experts, 1).unwrap();
    let expert = Expert::open(&experts.join(example::EXPERTS[3])).unwrap();
    let model =
        Model::open(&base, Device::Cpu, Isa::detect(), Some(Application::Merged), Held::default())
            .unwrap();
    let config = &model.config;
    let sizes = Sizes {
        vocab_size: config.vocab_size,
        dim: config.dim,
        n_layers: config.n_layers,
        n_heads: config.n_heads,
        n_kv_heads: config.n_kv_heads,
        head_dim: config.head_dim,
        ffn_dim: config.ffn_dim,
    };
    let file = Tensors::open(&base.join("model.safetensors")).unwrap();
    let weights: Flat = sizes
        .tensors()
        .into_iter()
        .map(|(name, shape)| (name.clone(), values(&file, &name, &shape)))
        .collect();
    let path = experts.join(example::EXPERTS[3]).join("adapter_model.safetensors");
    let file = Tensors::open(&path).unwrap();
    let rank = 8;
    let (mut a, mut b) = (Flat::new(), Flat::new());
    for layer in 0..sizes.n_layers {
        for linear in LINEARS {
            let (n_out, n_in) = sizes.linear(linear);
            let name = format!("model.layers.{layer}.{linear}");
            let of = |factor: &str| format!("base_model.model.{name}.lora_{factor}.weight");
            a.insert(name.clone(), values(&file, &of("A"), &[rank, n_in]));
            b.insert(name.clone(), values(&file, &of("B"), &[n_out, rank]));
        }
    }
    let places = Places::find(expert.layout(), config, &path).unwrap();
    let adapted = model.adapt(&places, &[&expert.to_adapter()]).unwrap();
    let adapted = [Adapted::base(), adapted];
    let prompt: Vec<u32> = vec![2, 300, 301, 345, 700, 701, 12, 999, 400, 401, 402];
    for (adapted, scale) in adapted.into_iter().zip([None, Some(2.0)]) {
        let job = Job { adapter_idx: 0, tokens: &prompt, max_new_tokens: 1 };
        let run = model.generate(&adapted, &[job], &[], Some(1), Report::Logits).unwrap();
        let decoder = match scale {
            None => Decoder::new(Isa::detect(), sizes, &weights),
            Some(scale) => Decoder::with_lora(
                Isa::detect(),
                sizes,
                &weights,
                Lora { a: &a, b: &b, rank, scale },
            ),
        };
        let mut state = State::default();
        decoder.forward(&mut state, &prompt);
        let logits = decoder.logits(&mut state, &[prompt.len() - 1]);
        let pairs = logits.iter().zip(run[0].logits.as_ref().unwrap());
        for (token, (trained, run)) in pairs.enumerate() {
            assert!((trained - run).abs() < 1e-4, "token {token}: {trained} {run}, {scale:?}");
        }
    }
}
