//! The tokenizer and the chat template against transformers' own, and on files that are damaged.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use model_swarms::model::chat::{ChatTemplate, Message};
use model_swarms::model::tokenizer::Tokenizer;
use serde_json::{Value, json};

use common::{golden_roots, read_json, sub_folders};

/// The models that have goldens.
fn golden_models() -> Vec<PathBuf> {
    let folders = golden_roots().into_iter().flat_map(|root| sub_folders(&root.join("forward")));
    folders.filter(|folder| folder.join("golden.json").exists()).collect()
}

/// A path within the goldens' `forward`, unless they are absent: then says so.
fn golden(name: &str) -> Option<PathBuf> {
    let found = golden_roots().into_iter().map(|root| root.join("forward").join(name));
    let found = found.into_iter().find(|path| path.exists());
    if found.is_none() {
        println!("skipped: no golden {name}");
    }
    found
}

fn ids_of(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn messages_of(value: &Value) -> Vec<Message> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let message =
        |entry: &Value| Message { role: text(&entry["role"]), content: text(&entry["content"]) };
    value.as_array().unwrap().iter().map(message).collect()
}

#[test]
fn golden_prompts_are_encoded_as_transformers_does() {
    // Broken: a prompt would reach the model as other tokens than the reference's.
    for dir in golden_models() {
        let model = dir.file_name().unwrap().to_string_lossy().into_owned();
        let tokenizer = Tokenizer::open(&dir.join("model")).unwrap();
        let file = read_json(&dir.join("golden.json"));
        for (prompt_idx, prompt) in file["prompts"].as_array().unwrap().iter().enumerate() {
            let Some(text) = prompt["text"].as_str() else { continue };
            let expected = ids_of(&prompt["input_ids"]);
            assert_eq!(tokenizer.encode(text).unwrap(), expected, "{model} {text:?}");
            if let Some(decoded) = prompt["decoded"].as_str() {
                assert_eq!(tokenizer.decode(&expected).unwrap(), decoded, "{model} {text:?}");
            }
            println!("golden {model} prompt {prompt_idx}: {} ids", expected.len());
        }
    }
}

#[test]
fn golden_answers_are_decoded_as_transformers_does() {
    // Broken: a right answer could be read as a wrong one.
    for dir in golden_models() {
        let model = dir.file_name().unwrap().to_string_lossy().into_owned();
        let tokenizer = Tokenizer::open(&dir.join("model")).unwrap();
        for case in read_json(&dir.join("golden.json"))["cases"].as_array().unwrap() {
            let outputs = case["outputs"].as_array().unwrap();
            for output in outputs {
                let text = tokenizer.decode(&ids_of(&output["new_ids"])).unwrap();
                // The goldens keep answers as the authors read them: without space at the ends.
                assert_eq!(
                    text.trim_matches(is_python_space),
                    output["new_text"],
                    "{model} {}",
                    case["adapter"]
                );
            }
            println!("golden {model} adapter {}: {} answers", case["adapter"], outputs.len());
        }
    }
}

#[test]
fn golden_conversation_is_rendered_as_transformers_does() {
    // Broken: an instruct model would be prompted in a form it was not tuned on.
    let Some(path) = golden("chat.json") else { return };
    let file = read_json(&path);
    let models = sub_folders(path.parent().unwrap()).into_iter().map(|dir| dir.join("model"));
    let dir = models.into_iter().find(|dir| dir.exists()).unwrap();
    let rendered =
        ChatTemplate::open(&dir).unwrap().render(&messages_of(&file["messages"])).unwrap();
    assert_eq!(rendered, file["rendered"]);
    let ids = Tokenizer::open(&dir).unwrap().encode_chat(&rendered).unwrap();
    assert_eq!(ids, ids_of(&file["ids"]));
    println!("golden chat.json: {} ids", ids.len());
}

#[test]
fn golden_template_refuses_a_conversation_it_does_not_know() {
    // Broken: a template's own refusal would be lost, or end in a panic.
    let Some(dir) = golden("tiny-mha-bf16/model") else { return };
    let template = ChatTemplate::open(&dir).unwrap();
    let system = messages_of(&json!([{"role": "system", "content": "Be brief."}]));
    let complaint = template.render(&system).unwrap_err().to_string();
    assert!(complaint.contains("chat_template.jinja"), "{complaint}");
    assert!(complaint.contains("System role not supported"), "{complaint}");
    println!("golden tiny-mha-bf16: {complaint}");
}

#[test]
fn golden_tokenizers_settings_do_not_cut_or_fill() {
    // Broken: long prompts would be truncated, or short ones padded, because a file says so.
    let Some(source) = golden("tiny-mha-bf16/model/tokenizer.json") else { return };
    let mut file = read_json(&source);
    file["truncation"] = json!({
        "direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0
    });
    file["padding"] = json!({
        "strategy": {"Fixed": 50}, "direction": "Left", "pad_to_multiple_of": null, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "<pad>"
    });
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tokenizer.json"), file.to_string()).unwrap();
    let tokenizer = Tokenizer::open(dir.path()).unwrap();
    assert_eq!(tokenizer.encode("Yes").unwrap(), [2, 319, 457]);
    println!("golden tiny-mha-bf16: neither truncated nor padded");
}

#[test]
fn a_missing_or_damaged_tokenizer_is_an_error() {
    // Broken: a half-downloaded model would end in a panic.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let complaint = |dir: &Path| match Tokenizer::open(dir) {
        Ok(_) => panic!("opened"),
        Err(found) => found.to_string(),
    };
    assert!(complaint(dir.path()).contains("tokenizer.json: is missing"));
    for text in ["", "{", "[]", "{}", r#"{"model": {"type": "BPE"}}"#, r#"{"model": 1}"#] {
        fs::write(&path, text).unwrap();
        assert!(complaint(dir.path()).contains("tokenizer.json: "), "{text}");
    }
}

/// What Python's `str.strip` takes away: four separators more than Unicode's white space.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// A model directory with this `tokenizer_config.json` and nothing else.
fn with_tokenizer_config(file: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tokenizer_config.json"), file.to_string()).unwrap();
    dir
}

fn say(template: &str) -> Result<String, String> {
    let file = json!({"chat_template": template, "bos_token": "<s>", "eos_token": null});
    let dir = with_tokenizer_config(&file);
    let template = ChatTemplate::open(dir.path()).map_err(|found| found.to_string())?;
    template.render_question(" Why? ").map_err(|found| found.to_string())
}

#[test]
fn templates_live_in_the_tokenizers_settings_too() {
    // Broken: models saved before transformers 4.43 could not be prompted as a conversation.
    let bos = json!({"__type": "AddedToken", "content": "<s>", "special": true});
    let source = "{{ bos_token }}{{ messages[0]['content'].strip() }}{{ eos_token }}";
    let named = json!([
        {"name": "tool_use", "template": "no"}, {"name": "default", "template": source}
    ]);
    for chat_template in [json!(source), named] {
        let file = json!({"bos_token": bos, "eos_token": "</s>", "chat_template": chat_template});
        let dir = with_tokenizer_config(&file);
        let template = ChatTemplate::open(dir.path()).unwrap();
        assert_eq!(template.render_question(" Why? ").unwrap(), "<s>Why?</s>");
    }
}

#[test]
fn templates_run_as_in_transformers() {
    // Broken: line breaks or values of a real template would differ from the reference's.
    let cases = [
        ("{% if true %}\n  {% set x = 1 %}\nA\n{% endif %}\nB\n", "A\nB"),
        ("{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "1"),
        ("{{ {'a': [1, true], 'b': '<é>'} | tojson }}", r#"{"a": [1, true], "b": "<é>"}"#),
        ("{{ [{}, 'é'] | tojson(indent=1, ensure_ascii=False) }}", "[\n {},\n \"é\"\n]"),
        ("{% if strftime_now is defined %}now{% else %}no clock{% endif %}", "no clock"),
        ("{{ bos_token }}{{ eos_token if eos_token }}{{ missing }}", "<s>"),
        ("{{ messages[0].content.strip().startswith('Wh') }}", "True"),
        (
            "{% set ns = namespace(n=0) %}{% set ns.n = 2 %}{{ ns.n }}{{ messages[1:] | length }}",
            "20",
        ),
    ];
    for (template, expected) in cases {
        assert_eq!(say(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn golden_templates_of_many_families_render_as_in_transformers() {
    // Broken: an instruct model of that family would be prompted in a form it was not tuned on.
    let golden =
        read_json(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chat_templates.json"));
    for family in golden["templates"].as_array().unwrap() {
        let mut file = golden["tokens"].clone();
        file["chat_template"] = family["template"].clone();
        let dir = with_tokenizer_config(&file);
        let template = ChatTemplate::open(dir.path()).unwrap();
        let cases = family["cases"].as_array().unwrap();
        for case in cases {
            let ours = template.render(&messages_of(&case["messages"]));
            match case["error"].as_str() {
                None => assert_eq!(ours.unwrap(), case["rendered"], "{}", family["name"]),
                Some(refusal) => {
                    let complaint = ours.unwrap_err().to_string();
                    assert!(complaint.contains(refusal), "{complaint}, wanted {refusal}");
                }
            }
        }
        println!("golden chat template {}: {} conversations", family["name"], cases.len());
    }
}

#[test]
fn a_template_that_cannot_be_used_is_an_error() {
    // Broken: a broken or endless template would hang or end the program.
    for template in ["{% if %}", "{{ x.y.z }}", "{{ raise_exception('no') }}", "{{ 1 // 0 }}"] {
        let complaint = say(template).unwrap_err();
        assert!(complaint.contains("tokenizer_config.json: the chat template"), "{complaint}");
    }
    let endless =
        "{% for i in range(9999) %}{% for j in range(9999) %}{{ i }}{% endfor %}{% endfor %}";
    assert!(say(endless).unwrap_err().contains("fuel"));
    let nameless = with_tokenizer_config(&json!({"chat_template": [{"name": "rag"}]}));
    assert!(ChatTemplate::open(nameless.path()).is_err());
    let without = with_tokenizer_config(&json!({}));
    let complaint = ChatTemplate::open(without.path()).err().unwrap().to_string();
    assert!(complaint.contains("has no chat template"), "{complaint}");
}
