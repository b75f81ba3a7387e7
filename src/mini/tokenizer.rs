//! `tokenizer.json` and `tokenizer_config.json` of models that we make.
//!
//! A unigram model in Gemma's layout: spaces become U+2581, what is unknown falls back to bytes,
//! `<bos>` is put first. All pieces score nearly the same, so that the fewest win.

use serde_json::{Value, json};

use super::vocabulary::{SPECIAL, Vocabulary};

/// `tokenizer.json` of a vocabulary whose first pieces are the reserved ones.
pub fn tokenizer_json(pieces: &[String]) -> Value {
    let piece = |(id, piece): (usize, &String)| {
        // Of two ways to cut a text into equally many pieces, the one with the lower ids wins.
        let is_reserved = id < Vocabulary::N_RESERVED;
        let score = if is_reserved { -1000.0 } else { -10.0 - id as f64 / 65536.0 };
        let piece = if is_reserved { piece.clone() } else { piece.replace(' ', "\u{2581}") };
        json!([piece, score])
    };
    let pieces: Vec<Value> = pieces.iter().enumerate().map(piece).collect();
    let added = |(id, token): (usize, &&str)| {
        json!({
            "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        })
    };
    let added: Vec<Value> = SPECIAL.iter().enumerate().map(added).collect();
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
        "model": {"type": "Unigram", "unk_id": 3, "vocab": pieces, "byte_fallback": true}
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
