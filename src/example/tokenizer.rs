//! The example's `tokenizer.json` and `tokenizer_config.json`.
//!
//! A unigram model in Gemma's layout: spaces become U+2581, what is unknown falls back to bytes,
//! `<bos>` is put first. Its pieces are the words of `words.rs`, single characters, and syllables
//! for the rest. A piece's score hardly depends on the piece, so that the fewest pieces win.

use serde_json::{Value, json};

use super::words::{COMMON, FACTS, PEOPLE, TOWNS};

/// Pieces of the vocabulary.
pub const VOCAB_SIZE: usize = 1024;

/// Ids 0 to 5, as in Gemma up to `<unk>`.
const SPECIAL: [&str; 6] = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"];

/// The four answers as the model says them: a space and a letter.
pub const ANSWERS: [&str; 4] = ["\u{2581}A", "\u{2581}B", "\u{2581}C", "\u{2581}D"];

/// The vocabulary: piece by id, each once.
pub fn pieces() -> Vec<String> {
    let mut pieces: Vec<String> = SPECIAL.map(String::from).to_vec();
    pieces.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    pieces.push("\n".into());
    pieces.extend(('!'..='~').map(String::from));
    pieces.push("\u{2581}".into());
    pieces.extend(["Please", "Question", "The", "user", "model"].map(String::from));
    let mut wanted: Vec<String> = COMMON.split_whitespace().map(spaced).collect();
    wanted.extend(content_pieces());
    let open_syllables = "bcdfghjklmnprstvwyz".chars().flat_map(|consonant| {
        "aeiou"
            .chars()
            .flat_map(move |vowel| [format!("{consonant}{vowel}"), format!("{vowel}{consonant}")])
    });
    wanted.extend(["s", "ed", "er", "ing", "ly", "tion"].map(String::from));
    wanted.extend(open_syllables);
    for piece in wanted {
        if pieces.len() < VOCAB_SIZE && !pieces.contains(&piece) {
            pieces.push(piece);
        }
    }
    assert_eq!(pieces.len(), VOCAB_SIZE, "too few words for the vocabulary");
    pieces
}

/// The pieces by which one question differs from another: people, towns and values.
pub fn content_pieces() -> Vec<String> {
    let values = FACTS.iter().flat_map(|fact| fact.values);
    PEOPLE.into_iter().chain(TOWNS).chain(values).map(spaced).collect()
}

fn spaced(word: &str) -> String {
    format!("\u{2581}{word}")
}

/// `tokenizer.json`.
pub fn tokenizer_json() -> Value {
    let pieces = pieces();
    let n_reserved = SPECIAL.len() + 256;
    let vocab: Vec<Value> = pieces
        .iter()
        .enumerate()
        .map(|(id, piece)| {
            // Specials and bytes are never read from text as pieces; of two ways to cut a text into
            // equally many pieces, the one with the lower ids wins.
            let score = if id < n_reserved { -1000.0 } else { -10.0 - id as f64 / 4096.0 };
            json!([piece, score])
        })
        .collect();
    let added: Vec<Value> = SPECIAL
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true
            })
        })
        .collect();
    let bos = |type_id: u8| json!({"SpecialToken": {"id": "<bos>", "type_id": type_id}});
    let text = |id: &str, type_id: u8| json!({"Sequence": {"id": id, "type_id": type_id}});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
        "pre_tokenizer": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos(0), text("A", 0)],
            "pair": [bos(0), text("A", 0), bos(1), text("B", 1)],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}}
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"}
            ]
        },
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": true}
    })
}

/// Gemma's form of a conversation.
const CHAT_TEMPLATE: &str = "\
{{- bos_token -}}
{%- for message in messages -%}
  {%- if message.role != ('assistant' if loop.index0 % 2 else 'user') -%}
    {{- raise_exception('turns must alternate between user and assistant, the user first') -}}
  {%- endif -%}
  {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else 'user') + '\\n' -}}
  {{- message.content | trim + '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<start_of_turn>model\\n' -}}
{%- endif -%}
";

/// `tokenizer_config.json`.
pub fn tokenizer_config_json() -> Value {
    json!({
        "bos_token": "<bos>",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": false,
        "eos_token": "<eos>",
        "model_max_length": 8192,
        "pad_token": "<pad>",
        "padding_side": "left",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>"
    })
}
