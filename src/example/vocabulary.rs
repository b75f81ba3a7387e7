//! The words of `words.rs`, single characters, and syllables for the rest: what the example is
//! written in.

use super::words::{COMMON, FACTS, PEOPLE, TOWNS};
use crate::mini::vocabulary::SPECIAL;

/// Pieces of the vocabulary.
pub const VOCAB_SIZE: usize = 1024;

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
