//! The pieces of the mini testbed's tokenizer.
//!
//! A piece is a word with the space before it, or a whole phrase of the prompts: so a question
//! costs a dozen tokens. Everything else falls apart into characters and bytes, as in Gemma.

use std::collections::BTreeMap;

/// Ids 0 to 5, as in Gemma up to `<unk>`.
pub const SPECIAL: [&str; 6] =
    ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"];
/// End of an answer.
pub const EOS: u32 = 1;
/// Begin of a text.
pub const BOS: u32 = 2;
/// Begin of a turn of a conversation.
pub const START_OF_TURN: u32 = 4;
/// End of a turn.
pub const END_OF_TURN: u32 = 5;

/// Pieces by id, and ids by piece. Spaces are spaces.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    pieces: Vec<String>,
    ids: BTreeMap<String, u32>,
}

impl Vocabulary {
    /// The special tokens, bytes and characters that every vocabulary begins with.
    pub fn new() -> Self {
        let mut vocabulary = Self { pieces: Vec::new(), ids: BTreeMap::new() };
        SPECIAL.iter().for_each(|piece| _ = vocabulary.add(piece));
        (0..=255u8).for_each(|byte| _ = vocabulary.add(&format!("<0x{byte:02X}>")));
        vocabulary.add("\n");
        (' '..='~').for_each(|c| _ = vocabulary.add(&c.to_string()));
        vocabulary
    }

    /// The number of ids that no text yields by itself: special tokens and bytes.
    pub const N_RESERVED: usize = SPECIAL.len() + 256;

    /// The id of a piece, which is added if it is new.
    pub fn add(&mut self, piece: &str) -> u32 {
        if let Some(id) = self.ids.get(piece) {
            return *id;
        }
        let id = self.pieces.len() as u32;
        self.pieces.push(piece.to_owned());
        self.ids.insert(piece.to_owned(), id);
        id
    }

    /// The id of a piece that is there.
    pub fn id(&self, piece: &str) -> u32 {
        match self.ids.get(piece) {
            Some(id) => *id,
            None => panic!("{piece:?} is no piece of the vocabulary"),
        }
    }

    /// The pieces by id.
    pub fn pieces(&self) -> &[String] {
        &self.pieces
    }

    /// The text of some tokens.
    pub fn text(&self, tokens: &[u32]) -> String {
        tokens.iter().map(|id| self.pieces[*id as usize].as_str()).collect()
    }
}

impl Default for Vocabulary {
    fn default() -> Self {
        Self::new()
    }
}
