//! The example's files: loadable by everything that loads real models, and equal everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use model_swarms::example::{
    EXPERTS, MAX_QUESTIONS, balanced, questions, secret_location, write_base, write_experts,
    write_prompts, write_task,
};
use model_swarms::files::sha256;
use model_swarms::model::chat::ChatTemplate;
use model_swarms::model::config::{Config, eos_ids};
use model_swarms::model::tokenizer::Tokenizer;
use model_swarms::task::{Mode, Split, Task, Work};
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::Value;

fn shapes(path: &Path) -> BTreeMap<String, Vec<usize>> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec())).collect()
}

#[test]
fn the_base_is_a_gemma_directory() {
    // Broken: the README's first example could not open its own model.
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    write_base(&base, 0).unwrap();
    let config = Config::open(&base).unwrap();
    assert_eq!((config.vocab_size, config.dim, config.n_layers), (1024, 128, 2));
    assert_eq!(eos_ids(&base, &config).unwrap(), [1, 5]);
    let shapes = shapes(&base.join("model.safetensors"));
    assert_eq!(shapes["model.embed_tokens.weight"], [1024, 128]);
    assert_eq!(shapes["model.layers.1.self_attn.k_proj.weight"], [64, 128]);
    assert_eq!(shapes["model.layers.0.mlp.down_proj.weight"], [128, 256]);
    assert_eq!(shapes.len(), 2 + 9 * config.n_layers);
    let template = ChatTemplate::open(&base).unwrap();
    let rendered = template.render_question(" Why? ").unwrap();
    assert_eq!(rendered, "<bos><start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n");
    let ids = Tokenizer::open(&base).unwrap().encode_chat(&rendered).unwrap();
    assert_eq!(ids[..2], [2, 4]);
}

#[test]
fn the_experts_fit_the_base() {
    // Broken: an expert of the example would lack a layer, or change one that is not there.
    let dir = tempfile::tempdir().unwrap();
    write_base(&dir.path().join("base"), 0).unwrap();
    write_experts(&dir.path().join("experts"), 0).unwrap();
    let base = shapes(&dir.path().join("base/model.safetensors"));
    for expert in EXPERTS {
        let folder = dir.path().join("experts").join(expert);
        let adapter = shapes(&folder.join("adapter_model.safetensors"));
        assert_eq!(adapter.len(), 2 * 2 * 7);
        for (name, shape) in adapter {
            let module = name.strip_prefix("base_model.model.").unwrap();
            let (module, factor) = module.rsplit_once(".lora_").unwrap();
            let [n_rows, n_columns] = base[&format!("{module}.weight")][..] else { panic!() };
            let expected = if factor == "A.weight" { [8, n_columns] } else { [n_rows, 8] };
            assert_eq!(shape, expected, "{name}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_everywhere() {
    // Broken: the README's numbers would differ from one machine to the next.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base/model.safetensors");
    write_base(&dir.path().join("base"), 0).unwrap();
    assert_eq!(sha256(&path).unwrap(), BASE_SHA256);
    write_base(&dir.path().join("base"), 1).unwrap();
    assert_ne!(sha256(&path).unwrap(), BASE_SHA256);
    write_experts(&dir.path().join("experts"), 0).unwrap();
    let path = dir.path().join("experts/aster/adapter_model.safetensors");
    assert_eq!(sha256(&path).unwrap(), EXPERT_SHA256);
}

const BASE_SHA256: &str = "47397e17fd45a0d9e58fc8a6e5d31d01b8fd69757e1b898ff73e9ec263b6fe82";
const EXPERT_SHA256: &str = "64df034f45a9853ac23567b7be9ffdf9fdd357198657022884058d58da7eeae0";

#[test]
fn questions_are_distinct_and_balanced() {
    // Broken: a constant answer, or one remembered from dev, would score above chance.
    let all = questions(7, MAX_QUESTIONS);
    assert_eq!(all.iter().map(|q| &q.text).collect::<BTreeSet<_>>().len(), MAX_QUESTIONS);
    for (idx, question) in all.iter().enumerate() {
        assert_eq!(question.id, format!("q{idx:04}"));
        assert_eq!(question.choices.iter().collect::<BTreeSet<_>>().len(), 4, "{question:?}");
    }
    for four in all.chunks(4) {
        assert_eq!(four.iter().map(|q| q.answer).collect::<BTreeSet<_>>().len(), 4);
    }
    assert_eq!(questions(7, 10), all[..10]);
    assert_ne!(questions(8, 10), all[..10]);

    let mut skewed = all[..400].to_vec();
    skewed.iter_mut().step_by(2).for_each(|question| question.answer = 2);
    let chosen = balanced(&skewed, 100);
    for letter_idx in 0..4 {
        assert_eq!(chosen.iter().filter(|q| q.answer == letter_idx).count(), 25);
    }
    assert!(chosen.windows(2).all(|pair| pair[0].id < pair[1].id));
}

#[test]
fn the_task_and_the_prompts_ask_the_same() {
    // Broken: what `generate` is shown would not be what `search` is scored on.
    let dir = tempfile::tempdir().unwrap();
    let made = questions(0, 12);
    write_task(dir.path(), &made[..4], &made[4..]).unwrap();
    write_prompts(&dir.path().join("prompts.jsonl"), &made[..4]).unwrap();
    let task = Task::open(&dir.path().join("task.toml"), Mode::Paper).unwrap();
    assert_eq!((task.n_examples(Split::Dev), task.n_examples(Split::Test)), (4, 8));
    let Work::Generate { prompts, .. } = task.parts[0].work(Split::Dev).unwrap() else {
        panic!("not a task of generation")
    };
    let lines = fs::read_to_string(dir.path().join("prompts.jsonl")).unwrap();
    for (line, (asked, question)) in lines.lines().zip(prompts.iter().zip(&made)) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["id"], question.id);
        assert_eq!(line["prompt"], *asked);
    }
}

#[test]
fn prompts_are_short_in_tokens() {
    // Broken: words of the questions would fall apart into characters, and the example be slow.
    let dir = tempfile::tempdir().unwrap();
    write_base(&dir.path().join("base"), 0).unwrap();
    let tokenizer = Tokenizer::open(&dir.path().join("base")).unwrap();
    for question in questions(0, 200) {
        let ids = tokenizer.encode(&question.text).unwrap();
        assert!(ids.len() <= 13, "{} is {} tokens", question.text, ids.len());
    }
    for answer in [" A", " B", " C", " D"] {
        assert_eq!(tokenizer.encode(answer).unwrap().len(), 2, "{answer}");
    }
}

#[test]
fn the_secret_is_a_location() {
    // Broken: the gold answers would come from outside of the space that a search walks.
    for seed in 0..100 {
        let location = secret_location(seed);
        assert_eq!(location.iter().sum::<f64>(), 1.0);
        assert!(location.iter().all(|&coefficient| coefficient <= 0.5));
    }
}

proptest! {
    #[test]
    fn any_text_survives_the_tokenizer(text in "\\PC{0,40}|[ -~\n\t]{0,40}") {
        // Broken: an answer could differ from what the model said.
        let dir = tempfile::tempdir().unwrap();
        let pieces = model_swarms::example::pieces();
        let file = model_swarms::mini::tokenizer::tokenizer_json(&pieces).to_string();
        fs::write(dir.path().join("tokenizer.json"), file).unwrap();
        let tokenizer = Tokenizer::open(dir.path()).unwrap();
        // U+2581 is how the tokenizer itself writes a space; special tokens are not text.
        prop_assume!(!text.contains('\u{2581}') && !text.contains('<'));
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(ids[0], 2);
        prop_assert!(ids.iter().all(|&id| id < 1024));
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}
