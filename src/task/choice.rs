//! Reads the chosen option from an answer: mode `paper`'s parser.
//!
//! The paper does not say how a choice is read, and the authors' substring search takes the A of
//! "B. An" for an answer. This parser only trusts a key that stands alone, and prefers no answer
//! to a guess. In this order:
//!
//! 1. the whole answer, without punctuation, is a key (in either case) or one option's text;
//! 2. it begins with a key or with an option's text, and lists no other: "C) Because", "(D) All";
//! 3. it announces a key: "the correct answer is B", "Option C";
//! 4. only one key stands alone in it;
//! 5. only one option's text occurs in it.
//!
//! A key touches no letter, digit or apostrophe, is not part of an option's text that occurs
//! ("Hepatitis B"), does not follow "not", and is not English prose: "A dog", "I think".

use std::ops::Range;

use super::exact::is_word;

/// The key of the option that `answer` chooses, or `None` if it chooses none or several.
pub fn parse_choice<'a>(choices: &'a [(String, String)], answer: &str) -> Option<&'a str> {
    let answer = Text::new(answer.trim());
    let options: Vec<Choice> =
        choices.iter().map(|(key, text)| Choice { key, text: Text::new(text.trim()) }).collect();
    if let Some(key) = whole_answer(&options, &answer) {
        return Some(key);
    }
    let texts = text_spans(&options, &answer);
    let keys = standing_keys(&options, &texts, &answer);
    opening(&options, &texts, &keys, &answer)
        .or_else(|| announced(&keys, &answer))
        .or_else(|| only(keys.iter().map(|key| key.name)))
        .or_else(|| only(texts.iter().map(|span| options[span.option_idx].key)))
}

/// A text as characters, with a twin in lower case, character by character.
struct Text {
    chars: Vec<char>,
    lower: Vec<char>,
}

impl Text {
    fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let lower = chars.iter().map(|c| c.to_lowercase().next().unwrap_or(*c)).collect();
        Self { chars, lower }
    }

    /// The range from the first to the last word character.
    fn core(&self) -> Range<usize> {
        let Some(start) = self.chars.iter().position(|c| is_word(*c)) else { return 0..0 };
        let end = self.chars.iter().rposition(|c| is_word(*c)).map_or(start, |last| last + 1);
        start..end
    }

    /// Whether no word character touches `range` at an end that is one itself.
    fn stands_alone(&self, range: &Range<usize>) -> bool {
        let at = |idx: usize| self.chars.get(idx).copied().is_some_and(is_word);
        let opens = range.start > 0 && at(range.start) && at(range.start - 1);
        let closes = at(range.end - 1) && at(range.end);
        !opens && !closes
    }

    /// The lower-case word that begins at `start`; empty where none does.
    fn word_at(&self, start: usize) -> String {
        let rest = self.lower.get(start..).unwrap_or(&[]);
        rest.iter().take_while(|c| is_word(**c)).collect()
    }

    /// The first position from `start` on that holds a word character.
    fn skip_to_word(&self, start: usize) -> usize {
        let rest = self.chars.get(start..).unwrap_or(&[]);
        start + rest.iter().take_while(|c| !is_word(**c)).count()
    }
}

struct Choice<'a> {
    key: &'a str,
    text: Text,
}

/// Where an option's text occurs.
struct TextSpan {
    option_idx: usize,
    range: Range<usize>,
}

/// Where a key stands alone.
struct Key<'a> {
    name: &'a str,
    range: Range<usize>,
}

/// The one value of `names`, however often it occurs.
fn only<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let first = names.next()?;
    names.all(|name| name == first).then_some(first)
}

/// Rule 1. A text is compared with its punctuation and capitals first ("-3" is not "3", the
/// genotype ABab is not aBAb), then without.
fn whole_answer<'a>(options: &[Choice<'a>], answer: &Text) -> Option<&'a str> {
    let core = answer.core();
    let text: String = answer.chars[core.clone()].iter().collect();
    let lower: String = answer.lower[core.clone()].iter().collect();
    let one = |is_meant: &dyn Fn(&Choice) -> bool| {
        only(options.iter().filter(|option| is_meant(option)).map(|option| option.key))
    };
    one(&|option| option.key == text)
        .or_else(|| one(&|option| option.key.to_lowercase() == lower))
        .or_else(|| one(&|option| option.text.chars == answer.chars))
        .or_else(|| one(&|option| option.text.lower == answer.lower))
        .or_else(|| {
            let answer = &answer.lower[core.clone()];
            one(&|option| !answer.is_empty() && option.text.lower[option.text.core()] == *answer)
        })
}

/// Where option texts occur, less the occurrences inside that of a longer text.
fn text_spans(options: &[Choice], answer: &Text) -> Vec<TextSpan> {
    let mut spans = Vec::new();
    for (option_idx, option) in options.iter().enumerate() {
        let wanted = &option.text.lower;
        if wanted.is_empty() || wanted.len() > answer.lower.len() {
            continue;
        }
        for (start, window) in answer.lower.windows(wanted.len()).enumerate() {
            let range = start..start + wanted.len();
            if window == wanted && answer.stands_alone(&range) {
                spans.push(TextSpan { option_idx, range });
            }
        }
    }
    let ranges: Vec<Range<usize>> = spans.iter().map(|span| span.range.clone()).collect();
    spans.retain(|span| {
        !ranges.iter().any(|other| {
            other.len() > span.range.len()
                && other.start <= span.range.start
                && span.range.end <= other.end
        })
    });
    spans
}

/// The keys that stand alone, from left to right.
fn standing_keys<'a>(options: &[Choice<'a>], texts: &[TextSpan], answer: &Text) -> Vec<Key<'a>> {
    let mut keys = Vec::new();
    for start in 0..answer.chars.len() {
        let here = options.iter().filter_map(|option| {
            let n_chars = option.key.chars().count();
            let range = start..start + n_chars;
            let is_here = answer.chars.get(range.clone())?.iter().copied().eq(option.key.chars());
            let in_text =
                |span: &TextSpan| span.range.len() > n_chars && span.range.contains(&start);
            let is_key = is_here
                && answer.stands_alone(&range)
                && !texts.iter().any(in_text)
                && !follows_not(answer, start)
                && !has_apostrophe(answer, &range)
                && !is_prose(options, answer, option.key, range.end);
            is_key.then_some(Key { name: option.key, range })
        });
        keys.extend(here.max_by_key(|key| key.range.len()));
    }
    keys
}

/// "not A" does not choose A.
fn follows_not(answer: &Text, start: usize) -> bool {
    let Some(before) = start.checked_sub(4) else { return false };
    let is_not = answer.lower[before..start].iter().copied().eq("not ".chars());
    is_not && (before == 0 || !is_word(answer.chars[before - 1]))
}

/// "A's" and "I'm" hold no key.
fn has_apostrophe(answer: &Text, range: &Range<usize>) -> bool {
    let is_apostrophe = |c: &char| matches!(c, '\'' | '\u{2019}');
    answer.chars.get(range.end).is_some_and(is_apostrophe)
        && answer.chars.get(range.end + 1).copied().is_some_and(char::is_alphabetic)
}

/// A and I are English words where a blank and a word follow, other than a key or one of the few
/// words that follow an answer ("A is correct", "A and B").
fn is_prose(options: &[Choice], answer: &Text, key: &str, end: usize) -> bool {
    if !matches!(key, "A" | "I") || answer.chars.get(end) != Some(&' ') {
        return false;
    }
    let next = answer.word_at(end + 1);
    let is_key = options.iter().any(|option| option.key.to_lowercase() == next);
    next.chars().any(char::is_alphabetic)
        && !is_key
        && !matches!(next.as_str(), "is" | "and" | "or")
}

/// Rule 2. A list of options, such as "A and B" or "yes or no", is no choice.
fn opening<'a>(
    options: &[Choice<'a>],
    texts: &[TextSpan],
    keys: &[Key<'a>],
    answer: &Text,
) -> Option<&'a str> {
    let first = answer.skip_to_word(0);
    let begins = |span: &&TextSpan| span.range.start <= first && first < span.range.end;
    let (name, end) = match keys.iter().find(|key| key.range.start == first) {
        Some(key) => (key.name, key.range.end),
        None => {
            let begun = || texts.iter().filter(begins);
            let name = only(begun().map(|span| options[span.option_idx].key))?;
            (name, begun().next()?.range.end)
        }
    };
    let mut next = answer.skip_to_word(end);
    let ends_line = |c: &char| matches!(c, '\n' | '.' | ':' | ')' | ']');
    let goes_on = !answer.chars[end..next].iter().any(ends_line);
    if matches!(answer.word_at(next).as_str(), "and" | "or") {
        next = answer.skip_to_word(next + answer.word_at(next).chars().count());
    }
    let key_follows = keys.iter().any(|key| key.range.start == next && key.name != name);
    let text_follows =
        texts.iter().any(|span| span.range.start == next && options[span.option_idx].key != name);
    (!goes_on || !key_follows && !text_follows).then_some(name)
}

/// Rule 3: the first key that follows "answer", "option" or "choice", with or without "is".
fn announced<'a>(keys: &[Key<'a>], answer: &Text) -> Option<&'a str> {
    let mut at = answer.skip_to_word(0);
    while at < answer.chars.len() {
        let word = answer.word_at(at);
        let mut next = answer.skip_to_word(at + word.chars().count());
        if matches!(word.as_str(), "answer" | "option" | "choice") {
            if answer.word_at(next) == "is" {
                next = answer.skip_to_word(next + 2);
            }
            if let Some(key) = keys.iter().find(|key| key.range.start == next) {
                return Some(key.name);
            }
            next = answer.skip_to_word(at + word.chars().count());
        }
        at = next;
    }
    None
}
