//! How the authors' program treats text, quirk by quirk: mode `code` is held to this.
//!
//! Python's string semantics (characters, not bytes; `split(" ")` keeps empty pieces; `strip()`
//! takes all Unicode white space), their choice parser, and their attended left padding.
//! Whether any of it is wise is not asked here.

/// Python's `text.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_python_space)
}

/// Python's `str.isspace` of one character: Unicode white space and the four separators U+001C to
/// U+001F, which Rust does not count.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Python's `text[:n]`.
pub fn first_chars(text: &str, n: usize) -> &str {
    match text.char_indices().nth(n) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// Python's `text[-n:]`, for n >= 1.
pub fn last_chars(text: &str, n: usize) -> &str {
    match text.char_indices().rev().nth(n - 1) {
        Some((start, _)) => &text[start..],
        None => text,
    }
}

/// Python's `" ".join(text.split(" ")[-n:])`, for n >= 1: only the blank separates, and two blanks
/// in a row enclose an empty piece, which counts.
pub fn last_pieces(text: &str, n: usize) -> &str {
    match text.rmatch_indices(' ').nth(n - 1) {
        Some((at, blank)) => &text[at + blank.len()..],
        None => text,
    }
}

/// The authors' choice parser: the first key, in the file's order, that occurs in the first five
/// characters of `answer` (stripped); else in the last five; else the first option whose text
/// occurs anywhere, without regard to case. `None` is their "Z".
///
/// So "B. An" is A, "B: Apples" is A, "(D) All" is A and "Both" is B.
pub fn parse_choice<'a>(choices: &'a [(String, String)], answer: &str) -> Option<&'a str> {
    let head = first_chars(answer, 5);
    let tail = last_chars(answer, 5);
    let lower = answer.to_lowercase();
    let by_key = |window: &str| choices.iter().find(|(key, _)| window.contains(key.as_str()));
    by_key(head)
        .or_else(|| by_key(tail))
        .or_else(|| choices.iter().find(|(_, text)| lower.contains(&text.to_lowercase())))
        .map(|(key, _)| key.as_str())
}

/// The authors' padding: in each batch of `batch` prompts, in the order given, every prompt gets
/// end-of-sequence tokens in front until it is as long as the longest one. They pass no attention
/// mask, so the padding is attended to and moves every position: a prompt's answer depends on its
/// batch.
///
/// # Panics
/// If `batch` is 0.
pub fn pad_as_authors(prompts: &mut [Vec<u32>], batch: usize, eos: u32) {
    assert!(batch > 0, "a batch holds at least one prompt");
    for batch in prompts.chunks_mut(batch) {
        let longest = batch.iter().map(Vec::len).max().unwrap_or(0);
        for tokens in batch {
            let n_pads = longest - tokens.len();
            tokens.splice(0..0, std::iter::repeat_n(eos, n_pads));
        }
    }
}
