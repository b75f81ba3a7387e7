//! Inputs that must be refused: exit code 2, one message that names the file and the cause, no
//! panic, and nothing written.

mod common;

use std::fs;

use common::cli::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, Inputs, copy_folder, example, run_refused};
use common::cli::{assert_same_files, files_of};
use common::spoil::{BIRCH, K_A, Q_A, Q_PROJ, adapter, base, clear, edit_json, edit_task};
use common::spoil::{edit_tensor, edit_tensors, other_expert, rename, replace_bytes, resize};
use common::spoil::{set_value, write_at};
use serde_json::json;

/// What is done to a good set of inputs, and what the message must then contain.
type Case = (&'static str, fn(&Inputs), &'static [&'static str]);

/// Spoils a fresh copy of the inputs for each case; a search of it must leave no run folder.
fn check(cases: &[Case]) {
    let example = example();
    for (name, spoil, wanted) in cases {
        let inputs = example.copy(3, 4, 4);
        spoil(&inputs);
        let before = files_of(&inputs.folder);
        let search = inputs.search(&inputs.folder.join("run"), &["particles=4"]);
        run_refused(name, search, wanted);
        assert_same_files(name, &files_of(&inputs.folder), &before);
    }
}

#[test]
fn broken_weights() {
    // Broken: a damaged download would crash the program, or be searched as if it were whole.
    check(&[
        ("empty adapter", |i| resize(&adapter(i), 0), &[BIRCH, "truncated: 0 bytes"]),
        ("cut header", |i| resize(&adapter(i), 300), &[BIRCH, "truncated: claims a header of"]),
        ("cut adapter", |i| resize(&adapter(i), 40_000), &[BIRCH, "out of the"]),
        ("cut base", |i| resize(&base(i), 400_000), &["base/model.safetensors", "out of the"]),
        (
            "header larger than the file",
            |i| write_at(&adapter(i), 0, &90_000_000_u64.to_le_bytes()),
            &[BIRCH, "truncated: claims a header of 90000000 bytes"],
        ),
        (
            "header larger than any",
            |i| write_at(&base(i), 0, &u64::MAX.to_le_bytes()),
            &["base/model.safetensors", "claims a header of 18446744073709551615 bytes"],
        ),
        ("header is not JSON", |i| write_at(&adapter(i), 8, b"["), &[BIRCH, "header is not valid"]),
        (
            "offsets that overlap",
            |i| edit_tensors(&adapter(i), |header| header[Q_A] = header[K_A].clone()),
            &[BIRCH, "overlaps"],
        ),
        (
            "offsets beyond the end",
            |i| {
                edit_tensor(&base(i), |q| {
                    q["data_offsets"] = json!([1_u64 << 40, (1_u64 << 40) + 65536])
                })
            },
            &["base/model.safetensors", Q_PROJ, "out of the"],
        ),
        (
            "offsets from end to start",
            |i| edit_tensor(&base(i), |q| q["data_offsets"] = json!([65536, 0])),
            &["base/model.safetensors", Q_PROJ, "lies at bytes 65536 to 0"],
        ),
        (
            "a shape that overflows",
            |i| edit_tensor(&base(i), |q| q["shape"] = json!([u64::MAX, u64::MAX])),
            &["base/model.safetensors", Q_PROJ, "larger than any file can be"],
        ),
        (
            "a shape of other bytes",
            |i| edit_tensor(&base(i), |q| q["shape"] = json!([128, 64])),
            &["base/model.safetensors", Q_PROJ, "wanted 32768 for F32 of shape [128, 64]"],
        ),
        (
            "base of another shape",
            |i| edit_tensor(&base(i), |q| q["shape"] = json!([64, 256])),
            &["base/model.safetensors", Q_PROJ, "[64, 256]", "[128, 128]"],
        ),
        (
            "adapter of another shape",
            |i| edit_tensors(&adapter(i), |header| header[Q_A]["shape"] = json!([128, 8])),
            &[BIRCH, Q_A, "has rank 128, wanted 8"],
        ),
        (
            "base of integers",
            |i| edit_tensor(&base(i), |q| q["dtype"] = json!("I32")),
            &["base/model.safetensors", Q_PROJ, "I32"],
        ),
        (
            "adapter of integers",
            |i| edit_tensors(&adapter(i), |header| header[Q_A]["dtype"] = json!("I32")),
            &[BIRCH, Q_A, "I32"],
        ),
        (
            "an unknown type",
            |i| edit_tensors(&adapter(i), |header| header[Q_A]["dtype"] = json!("F33")),
            &[BIRCH, Q_A, "F33"],
        ),
        (
            "adapter with a NaN",
            |i| set_value(&adapter(i), Q_A, f32::NAN),
            &[BIRCH, Q_A, "is NaN at index 5"],
        ),
        (
            "adapter with an infinity",
            |i| set_value(&adapter(i), Q_A, f32::NEG_INFINITY),
            &[BIRCH, Q_A, "is -inf at index 5"],
        ),
        (
            "base with a NaN",
            |i| set_value(&base(i), "model.layers.0.self_attn.q_proj.weight", f32::NAN),
            &["base/model.safetensors", Q_PROJ, "NaN"],
        ),
        (
            "base with an infinite embedding",
            |i| set_value(&base(i), "model.embed_tokens.weight", f32::INFINITY),
            &["base/model.safetensors", "model.embed_tokens.weight", "inf"],
        ),
        (
            "base with an infinite norm",
            |i| set_value(&base(i), "model.norm.weight", f32::INFINITY),
            &["base/model.safetensors", "model.norm.weight", "inf"],
        ),
    ]);
}

#[test]
fn experts_that_do_not_fit() {
    // Broken: weights of different meaning would be mixed, or put where they do not belong.
    check(&[
        ("no experts", |i| clear(&i.experts), &["experts", "no folders in it"]),
        ("no pool", |i| fs::remove_dir_all(&i.experts).unwrap(), &["experts", "No such file"]),
        (
            "an adapter for a pool",
            |i| {
                clear(&i.experts);
                fs::write(i.experts.join(ADAPTER_CONFIG), "{}").unwrap();
            },
            &["experts", "this is one adapter"],
        ),
        (
            "a folder that is no adapter",
            |i| fs::create_dir(i.experts.join("zinnia")).unwrap(),
            &["experts/zinnia", "no adapter_config.json"],
        ),
        (
            "an adapter without weights",
            |i| fs::remove_file(adapter(i)).unwrap(),
            &[BIRCH, "No such file"],
        ),
        (
            "another rank",
            |i| other_expert(i, 4, 128),
            &["experts/birch", "rank", "8", "4", "aster"],
        ),
        (
            "another scale",
            |i| {
                edit_json(&i.expert(1).join(ADAPTER_CONFIG), |config| {
                    config["lora_alpha"] = json!(8)
                })
            },
            &["experts/birch", "scale", "aster"],
        ),
        (
            "another size",
            |i| other_expert(i, 8, 64),
            &["experts/birch", "shape", "(128, 128)", "(128, 64)"],
        ),
        (
            "another base by name",
            |i| {
                for (idx, name) in ["gemma", "mistral"].iter().enumerate() {
                    edit_json(&i.expert(idx).join(ADAPTER_CONFIG), |config| {
                        config["base_model_name_or_path"] = json!(name);
                    });
                }
            },
            &["experts/birch", "base_model_name_or_path", "gemma", "mistral"],
        ),
        (
            "a pool of another base",
            |i| {
                other_expert(i, 8, 64);
                for other in ["aster", "cedar"] {
                    clear(&i.experts.join(other));
                    copy_folder(&i.experts.join("birch"), &i.experts.join(other));
                }
            },
            &["experts", Q_PROJ, "maps 64 to 128 values, the base model's maps 128 to 128"],
        ),
        (
            "a module that the base lacks",
            |i| {
                for idx in 0..3 {
                    let weights = i.expert(idx).join(ADAPTER_WEIGHTS);
                    let text = "layers.1.mlp.up_proj";
                    replace_bytes(&weights, text.as_bytes(), b"layers.7.mlp.up_proj");
                }
            },
            &["experts", "model.layers.7.mlp.up_proj", "is not a linear layer of the base model"],
        ),
        (
            "a module that the configuration does not name",
            |i| replace_bytes(&adapter(i), b"layers.1.mlp.up_proj", b"layers.1.mlp.ux_proj"),
            &[BIRCH, "model.layers.1.mlp.ux_proj"],
        ),
        (
            "a module without its other half",
            |i| edit_tensors(&adapter(i), |header| rename(header, Q_A, "lora_C.weight")),
            &[BIRCH, "lora_C.weight", "is not LoRA of a linear layer"],
        ),
        (
            "DoRA",
            |i| {
                edit_json(&i.expert(1).join(ADAPTER_CONFIG), |config| {
                    config["use_dora"] = json!(true)
                })
            },
            &["birch/adapter_config.json", "use_dora"],
        ),
        (
            "a configuration that is not JSON",
            |i| resize(&i.expert(1).join(ADAPTER_CONFIG), 50),
            &["birch/adapter_config.json", "EOF"],
        ),
    ]);
}

#[test]
fn bases_that_cannot_be_run() {
    // Broken: a base model that we do not know would be run as if it were one that we know.
    check(&[
        (
            "no tokenizer",
            |i| fs::remove_file(i.base.join("tokenizer.json")).unwrap(),
            &["base/tokenizer.json", "is missing"],
        ),
        (
            "a cut tokenizer",
            |i| resize(&i.base.join("tokenizer.json"), 1000),
            &["base/tokenizer.json", "EOF"],
        ),
        (
            "no configuration",
            |i| fs::remove_file(i.base.join("config.json")).unwrap(),
            &["base/config.json", "No such file"],
        ),
        (
            "another architecture",
            |i| {
                edit_json(&i.base.join("config.json"), |config| {
                    config["model_type"] = json!("gpt2");
                    config["architectures"] = json!(["GPT2LMHeadModel"]);
                });
            },
            &["base/config.json", "gpt2"],
        ),
        (
            "heads out of all bounds",
            |i| {
                edit_json(&i.base.join("config.json"), |config| {
                    config["num_attention_heads"] = json!(1_u64 << 62);
                });
            },
            &["base/config.json", "num_attention_heads"],
        ),
        (
            "one layer too many",
            |i| {
                edit_json(&i.base.join("config.json"), |config| {
                    config["num_hidden_layers"] = json!(3);
                });
            },
            &["base", "model.layers.2."],
        ),
        ("no weights", |i| fs::remove_file(base(i)).unwrap(), &["base", "model.safetensors"]),
        ("no base", |i| fs::remove_dir_all(&i.base).unwrap(), &["base", "no such directory"]),
    ]);
}

#[test]
fn tasks_that_cannot_be_asked() {
    // Broken: a slip in a task file would change a result in silence.
    check(&[
        ("no task", |i| fs::remove_file(&i.task).unwrap(), &["task.toml", "No such file"]),
        (
            "an unknown kind",
            |i| edit_task(i, "multiple-choice", "multiple-chioce"),
            &["task.toml", "line 2", "unknown kind \"multiple-chioce\"", "exact-match"],
        ),
        (
            "a kind that is not there yet",
            |i| edit_task(i, "multiple-choice", "reward"),
            &["task.toml", "not supported yet"],
        ),
        (
            "a misspelt key",
            |i| edit_task(i, "max_new_tokens", "max_new_token"),
            &["task.toml", "line 4", "unknown field `max_new_token`"],
        ),
        ("not TOML", |i| edit_task(i, "kind = ", "kind "), &["task.toml", "line 2"]),
        ("no data", |i| edit_task(i, "task.json", "tusk.json"), &["tusk.json", "No such file"]),
        ("cut data", |i| resize(&i.data, 200), &["task.json", "EOF"]),
        (
            "an empty dev split",
            |i| edit_json(&i.data, |data| data["dev"] = json!([])),
            &["task.json", "the dev split is empty"],
        ),
        (
            "no dev split",
            |i| edit_json(&i.data, |data| drop(data.as_object_mut().unwrap().remove("dev"))),
            &["task.json", "no `dev`"],
        ),
        (
            "an answer that is no choice",
            |i| edit_json(&i.data, |data| data["test"][2]["answer"] = json!("E")),
            &["task.json", "test[2]", "\"E\" is not among the choices (A, B, C, D)"],
        ),
        (
            "a question that does not fit",
            |i| edit_json(&i.data, |data| data["test"][1]["question"] = json!("x ".repeat(9000))),
            &["base", "prompt 1", "the model takes 8192"],
        ),
        (
            "a conversation without a template",
            |i| {
                fs::write(&i.task, fs::read_to_string(&i.task).unwrap() + "chat = true\n").unwrap();
                edit_json(&i.base.join("tokenizer_config.json"), |config| {
                    config.as_object_mut().unwrap().remove("chat_template");
                });
            },
            &["base", "has no chat template"],
        ),
    ]);
}
