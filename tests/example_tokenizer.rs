//! The example's tokenizer, and what damaged copies of it do.

use std::fs;

use model_swarms::example;
use model_swarms::mini::tokenizer::tokenizer_json;
use model_swarms::model::tokenizer::Tokenizer;
use serde_json::{Value, json};

/// The place of every value in `file`, as a JSON pointer; of long lists the first three only.
fn pointers(file: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match file {
        Value::Array(items) => {
            for (idx, item) in items.iter().enumerate().take(3) {
                pointers(item, &format!("{at}/{idx}"), found);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                pointers(field, &format!("{at}/{name}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn a_damaged_tokenizer_is_an_error_or_harmless() {
    // Broken: a damaged tokenizer.json would end the program in a panic or an endless allocation.
    let file = tokenizer_json(&example::pieces());
    let mut places = Vec::new();
    pointers(&file, "", &mut places);
    let dir = tempfile::tempdir().unwrap();
    let (mut n_refused, mut n_opened) = (0, 0);
    for place in &places {
        for damage in [json!(null), json!(-1), json!(u64::MAX), json!(""), json!([]), json!({})] {
            let mut damaged = file.clone();
            *damaged.pointer_mut(place).unwrap() = damage;
            fs::write(dir.path().join("tokenizer.json"), damaged.to_string()).unwrap();
            let Ok(tokenizer) = Tokenizer::open(dir.path()) else {
                n_refused += 1;
                continue;
            };
            n_opened += 1;
            let ids = tokenizer.encode("Question: What colour is ½ <eos>\n?").unwrap_or_default();
            let _ = tokenizer.decode(&ids);
            let _ = tokenizer.decode(&[0, 5, 262, u32::MAX]);
        }
    }
    let mut undefined = file;
    undefined["post_processor"]["special_tokens"] = json!({});
    fs::write(dir.path().join("tokenizer.json"), undefined.to_string()).unwrap();
    let complaint = Tokenizer::open(dir.path()).err().unwrap().to_string();
    assert!(complaint.contains("\"<bos>\", which it does not define"), "{complaint}");
    assert!(n_refused > 400 && n_opened > 50, "{n_refused} refused, {n_opened} opened");
}
