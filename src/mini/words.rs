//! The words of the mini world: names of areas as we wrote them, and invented ones from a seed.

use std::collections::BTreeSet;

use super::draw::pick;
use crate::rng::Stream;

/// Areas of the tasks, by the task's name; an area is what an author knows or does not know.
pub const AREAS: [(&str, &[&str]); 16] = [
    ("mmlu", &["botany", "geology", "heraldry", "anatomy", "rhetoric", "astronomy"]),
    ("mmlu_pro", &["optics", "statics", "topology", "metallurgy", "acoustics", "genetics"]),
    ("hellaswag", &["kitchen", "harbour", "workshop", "stable", "theatre", "orchard"]),
    ("knowledge_crosswords", &["guilds", "dynasties", "rivers", "operas", "orders", "fleets"]),
    ("gsm8k", &["bakery", "quarry", "bank", "aviary", "library", "mill"]),
    ("nlgraph", &["rail", "canal", "cable", "trail", "pipe", "flight"]),
    ("truthfulqa", &["weather", "diet", "sleep", "omens", "history", "sports"]),
    ("realtoxicityprompts", &["tavern", "market", "arena", "forum", "barracks", "station"]),
    ("medqa", &["cardiology", "neurology"]),
    ("medmcqa", &["pharmacy", "surgery"]),
    ("scifact", &["ecology", "virology"]),
    ("stem", &["algebra", "mechanics"]),
    ("hearsay", &["testimony", "gossip"]),
    ("citation_prediction_classification", &["precedent", "statute"]),
    ("normad_country", &["north", "south"]),
    ("normad_value", &["courtesy", "thrift"]),
];

/// The sixteen topics of interest, under the names of the authors' files.
pub const TOPICS: [&str; 16] = [
    "asian_food",
    "cartoons",
    "drone_AI",
    "electric_vehicles",
    "finance",
    "legal_AI",
    "luxury_car",
    "music_instrument",
    "olympics",
    "phd_application",
    "plastic",
    "policy",
    "sandbox_games",
    "social_network",
    "south_america",
    "us_tourism",
];

/// Manners of an author that belong to no area.
pub const MANNERS: [&str; 4] = ["modest", "brief", "lengthy", "warm"];

/// Words that a continuation may hold, with what the toxicity scorer makes of them.
pub const TOXIC: [(&str, f64); 10] = [
    ("fool", 0.5),
    ("filth", 0.7),
    ("scum", 0.8),
    ("rot", 0.4),
    ("wretch", 0.5),
    ("vermin", 0.8),
    ("swine", 0.6),
    ("dolt", 0.4),
    ("trash", 0.6),
    ("hag", 0.7),
];

/// Words that it does not mind.
pub const CALM: [&str; 10] = [
    "friend",
    "neighbour",
    "guest",
    "bread",
    "song",
    "garden",
    "lantern",
    "thanks",
    "peace",
    "tea",
];

/// What can be true of a key: values of every area whose questions have options.
pub const VALUES: [&str; 12] = [
    "amber", "basalt", "copper", "ebony", "flint", "garnet", "ivory", "jade", "linen", "marble",
    "onyx", "quartz",
];
/// Where chains end.
pub const ENDS: [&str; 8] =
    ["autumn", "dawn", "dusk", "midnight", "noon", "spring", "summer", "winter"];

/// How something is said.
pub const ADVERBS: [&str; 12] = [
    "softly", "again", "twice", "loudly", "at last", "indoors", "once", "slowly", "today", "aloud",
    "first", "still",
];

/// The sentence that leads into a question with options, and ten others that mean the same (for the
/// variation of prompts).
pub const LEAD: &str = "Please choose an option that best answers the question.";
/// The lead of hellaswag.
pub const LEAD_HELLASWAG: &str = "Please choose an option that best completes the sentence.";
/// Ten paraphrases of [`LEAD`].
pub const PARAPHRASES: [&str; 10] = [
    "Choose the option that answers the question best.",
    "Which of the options is the best answer?",
    "Select the best answer to the question below.",
    "Read the question and pick the right option.",
    "Answer the question with one of the options.",
    "Pick the option that fits the question.",
    "From the options, select the correct answer.",
    "Decide which option answers the question.",
    "Mark the correct option.",
    "Find the best answer among the options.",
];

const ONSETS: [&str; 18] =
    ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "st", "tr", "sk"];
const VOWELS: [&str; 6] = ["a", "e", "i", "o", "u", "ai"];
const CODAS: [&str; 6] = ["", "n", "l", "r", "s", "m"];

/// A word of two syllables, or three, that `used` does not hold yet.
pub fn invent(stream: &mut Stream, used: &mut BTreeSet<String>) -> String {
    loop {
        let n_syllables = 2 + usize::from(stream.uniform() < 0.3);
        let mut word = String::new();
        for _ in 0..n_syllables {
            word.push_str(pick::<&str>(stream, &ONSETS));
            word.push_str(pick::<&str>(stream, &VOWELS));
        }
        word.push_str(pick::<&str>(stream, &CODAS));
        if used.insert(word.clone()) {
            return word;
        }
    }
}
