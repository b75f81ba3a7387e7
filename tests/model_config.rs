//! `config.json` as the world writes it: what is read, what is passed over, what is refused.

use std::fs;
use std::path::Path;

use model_swarms::error::Result;
use model_swarms::model::config::{Activation, Config, Family, Output, eos_ids};
use serde_json::{Value, json};

/// Gemma 7B instruct, as transformers 4.38 wrote it.
fn gemma_7b() -> Value {
    json!({
        "architectures": ["GemmaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 2, "eos_token_id": 1, "head_dim": 256, "hidden_act": "gelu",
        "hidden_activation": null, "hidden_size": 3072, "initializer_range": 0.02,
        "intermediate_size": 24576, "max_position_embeddings": 8192, "model_type": "gemma",
        "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 16,
        "pad_token_id": 0, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 10000.0,
        "torch_dtype": "bfloat16", "transformers_version": "4.38.0.dev0", "use_cache": true,
        "vocab_size": 256000
    })
}

fn mistral_7b() -> Value {
    json!({
        "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
        "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mistral",
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
        "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 32000
    })
}

/// Llama 2, whose file has neither `head_dim` nor `rope_theta`.
fn llama_2() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008,
        "max_position_embeddings": 4096, "model_type": "llama", "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 32, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_scaling": null, "tie_word_embeddings": false,
        "vocab_size": 32000
    })
}

/// `file` with some fields replaced; a field set to "(absent)" is taken away.
fn with(mut file: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        if value == "(absent)" {
            file.as_object_mut().unwrap().remove(name);
        } else {
            file[name] = value.clone();
        }
    }
    file
}

fn open_text(text: &str) -> Result<Config> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), text).unwrap();
    Config::open(dir.path())
}

fn open(file: &Value) -> Config {
    open_text(&file.to_string()).unwrap()
}

#[track_caller]
fn refused(file: &Value, words: &[&str]) {
    let complaint = open_text(&file.to_string()).unwrap_err().to_string();
    for word in ["config.json"].iter().chain(words) {
        assert!(complaint.contains(word), "{complaint:?} does not say {word:?}");
    }
}

#[test]
fn the_papers_base_model_is_read() {
    // Broken: google/gemma-7b-it could not be run, or would be run with other arithmetic.
    let expected = Config {
        family: Family::Gemma,
        vocab_size: 256_000,
        dim: 3072,
        ffn_dim: 24_576,
        n_layers: 28,
        n_heads: 16,
        n_kv_heads: 16,
        head_dim: 256,
        norm_eps: 1e-6,
        norm_offset: 1.0,
        activation: Activation::GeluTanh,
        rope_theta: 10_000.0,
        sliding_window: None,
        output: Output::Tied,
        embed_scale: Some(3072_f32.sqrt()),
        max_positions: 8192,
        bos: Some(2),
        eos: vec![1],
    };
    assert_eq!(open(&gemma_7b()), expected);
    // The same model, as transformers 5 saves it.
    let saved_anew = json!({
        "rope_theta": "(absent)", "rope_scaling": "(absent)", "torch_dtype": "(absent)",
        "hidden_activation": "(absent)", "hidden_act": "gelu_pytorch_tanh", "dtype": "bfloat16",
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "use_bidirectional_attention": null, "tie_word_embeddings": true
    });
    assert_eq!(open(&with(gemma_7b(), saved_anew)), expected);
    let named_twice = json!({"hidden_activation": "gelu_pytorch_tanh"});
    assert_eq!(open(&with(gemma_7b(), named_twice)), expected);
}

#[test]
fn gemma_2b_has_one_head_of_keys() {
    // Broken: the smaller Gemma's shapes would be computed wrongly.
    let sizes = json!({
        "hidden_size": 2048, "intermediate_size": 16384, "num_attention_heads": 8,
        "num_hidden_layers": 18, "num_key_value_heads": 1
    });
    let config = open(&with(gemma_7b(), sizes));
    assert_eq!((config.n_heads, config.n_kv_heads, config.head_dim), (8, 1, 256));
    assert_eq!(config.embed_scale, Some(2048_f32.sqrt()));
}

#[test]
fn mistral_may_have_a_window() {
    // Broken: long prompts would be attended to wrongly in Mistral 7B v0.1 or v0.3.
    let first = open(&mistral_7b());
    assert_eq!((first.sliding_window, first.head_dim), (Some(4096), 128));
    assert_eq!((first.norm_offset, first.embed_scale), (0.0, None));
    assert_eq!((first.activation, first.output), (Activation::Silu, Output::Separate));
    let third = json!({"sliding_window": null, "rope_theta": 1e6, "vocab_size": 32768});
    let third = open(&with(mistral_7b(), third));
    assert_eq!((third.sliding_window, third.rope_theta), (None, 1e6));
    assert_eq!(open(&with(mistral_7b(), json!({"sliding_window": "(absent)"}))), first);
}

#[test]
fn llama_leaves_much_unsaid() {
    // Broken: Llama files without head_dim, rope_theta or num_key_value_heads would be refused.
    let second = open(&llama_2());
    assert_eq!((second.head_dim, second.rope_theta, second.norm_eps), (128, 10_000.0, 1e-5));
    assert_eq!(second.output, Output::Separate);
    let silent = json!({"num_key_value_heads": "(absent)", "head_dim": null, "bos_token_id": null});
    let silent = open(&with(llama_2(), silent));
    assert_eq!((silent.n_kv_heads, silent.bos), (32, None));
    let third = json!({
        "num_key_value_heads": 8, "rope_theta": 500000.0, "vocab_size": 128256,
        "eos_token_id": [128001, 128008, 128009], "mlp_bias": false,
        "rope_scaling": {"rope_type": "default"}
    });
    let third = open(&with(llama_2(), third));
    assert_eq!(third.rope_theta, 500_000.0);
    assert_eq!(third.eos, [128_001, 128_008, 128_009]);
}

#[test]
fn what_would_change_the_answer_is_refused_by_name() {
    // Broken: a model that needs other arithmetic would be run and answer nonsense.
    let llama3_scaling = json!({"rope_type": "llama3", "factor": 8.0});
    let cases = [
        (json!({"model_type": "gemma2"}), "gemma2"),
        (json!({"model_type": "(absent)"}), "model_type"),
        (json!({"model_type": 7}), "model_type"),
        (json!({"architectures": ["GemmaForSequenceClassification"]}), "architectures"),
        (json!({"rope_scaling": {"type": "linear", "factor": 2.0}}), "rope_scaling.type"),
        (json!({"rope_scaling": llama3_scaling}), "rope_scaling.rope_type"),
        (json!({"rope_parameters": {"rope_type": "yarn"}}), "rope_parameters.rope_type"),
        (json!({"rope_parameters": {"full_attention": {}}}), "full_attention"),
        (json!({"rope_parameters": {"partial_rotary_factor": 0.5}}), "partial_rotary_factor"),
        (json!({"rope_parameters": {"rope_theta": 5.0}}), "rope_theta"),
        (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
        (json!({"attention_bias": true}), "attention_bias"),
        (json!({"mlp_bias": true}), "mlp_bias"),
        (json!({"quantization_config": {"quant_method": "awq"}}), "quantization_config"),
        (json!({"use_bidirectional_attention": true}), "use_bidirectional_attention"),
        (json!({"attn_logit_softcapping": 50.0}), "attn_logit_softcapping"),
        (json!({"final_logit_softcapping": 30.0}), "final_logit_softcapping"),
        (json!({"layer_types": ["full_attention", "sliding_attention"]}), "layer_types"),
        (json!({"hidden_act": "relu"}), "hidden_act"),
        (json!({"hidden_activation": "gelu_new"}), "hidden_activation"),
        (json!({"head_dim": 255}), "head_dim"),
        (json!({"num_key_value_heads": 3}), "multiple"),
        (json!({"num_attention_heads": 0}), "num_attention_heads"),
        (json!({"hidden_size": -1}), "hidden_size"),
        (json!({"hidden_size": 3072.5}), "hidden_size"),
        (json!({"hidden_size": "(absent)"}), "hidden_size is missing"),
        (json!({"vocab_size": u64::MAX}), "vocab_size"),
        (json!({"vocab_size": 1 << 23, "hidden_size": 1 << 23}), "parameters"),
        (json!({"num_hidden_layers": 1_000_000}), "num_hidden_layers"),
        (json!({"rms_norm_eps": "small"}), "rms_norm_eps"),
        (json!({"rms_norm_eps": 1e300}), "rms_norm_eps"),
        (json!({"rope_theta": 0}), "rope_theta"),
        (json!({"bos_token_id": 256_000}), "bos_token_id"),
        (json!({"eos_token_id": [1, -1]}), "eos_token_id"),
        (json!({"tie_word_embeddings": "yes"}), "tie_word_embeddings"),
    ];
    for (change, word) in cases {
        refused(&with(gemma_7b(), change), &[word]);
    }
    refused(&with(llama_2(), json!({"hidden_act": "gelu"})), &["hidden_act", "silu"]);
    refused(&with(llama_2(), json!({"hidden_size": 16})), &["hidden_size", "num_attention_heads"]);
    refused(&with(mistral_7b(), json!({"sliding_window": 0})), &["sliding_window"]);
}

#[test]
fn a_broken_file_is_an_error() {
    // Broken: a damaged download would end in a panic instead of a sentence.
    for text in ["", "[]", "{", "null", "{\"rope_theta\": Infinity}", &"[".repeat(100_000)] {
        let complaint = open_text(text).unwrap_err().to_string();
        assert!(complaint.contains("config.json") && complaint.contains("JSON"), "{complaint}");
    }
    let complaint = Config::open(Path::new("/nowhere")).unwrap_err().to_string();
    assert!(complaint.contains("/nowhere/config.json"), "{complaint}");
}

#[test]
fn end_ids_come_from_the_generation_settings_first() {
    // Broken: an instruct model would talk past <end_of_turn>.
    let dir = tempfile::tempdir().unwrap();
    let config = open(&gemma_7b());
    assert_eq!(eos_ids(dir.path(), &config).unwrap(), [1]);
    let cases = [
        (r#"{"eos_token_id": [107, 1, 107]}"#, &[1, 107][..]),
        (r#"{"eos_token_id": 107}"#, &[107]),
        (r#"{"eos_token_id": null}"#, &[1]),
        (r#"{"bos_token_id": 2}"#, &[1]),
    ];
    let path = dir.path().join("generation_config.json");
    for (text, expected) in cases {
        fs::write(&path, text).unwrap();
        assert_eq!(eos_ids(dir.path(), &config).unwrap(), expected, "{text}");
    }
    fs::write(&path, r#"{"eos_token_id": "</s>"}"#).unwrap();
    let complaint = eos_ids(dir.path(), &config).unwrap_err().to_string();
    assert!(complaint.contains("generation_config.json: eos_token_id"), "{complaint}");
}
