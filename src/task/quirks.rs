//! Where the paper and the authors' program score differently: one named switch per difference.
//!
//! `Quirks::paper` and `Quirks::code` are the two modes; a task file's `[quirks]` table overrides
//! single switches. What a switch does is told where it acts; no file or answer is read here.

use serde::{Deserialize, Serialize};

use super::Kind;
use crate::mode::Mode;

/// The half of a task's examples: the search sees the first, the tables report the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// The validation examples, on which the utility is computed.
    Dev,
    /// The held-out examples.
    Test,
}

impl Split {
    /// The name used in data files and on the command line: `dev` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }
}

/// How a chosen option is read from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChoiceParser {
    /// Letters that stand alone, then option texts (`choice`).
    Letters,
    /// The first key found in the first five, then in the last five characters, then the first
    /// option whose text occurs (`authors`).
    Authors,
}

/// When an answer counts as an exact match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExactMatch {
    /// The gold answer occurs as a whole word, or as a whole number of equal value.
    Words,
    /// The last number of the answer equals the gold answer (which must be a number).
    LastNumber,
    /// The gold answer occurs as a substring: "3" in "13", "No" in "Node".
    Substring,
}

/// When the second answer of an abstain task means to withdraw the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AbstainCue {
    /// The first of the words "true" and "false" is "false".
    FirstWord,
    /// "false" occurs anywhere in the lower-cased answer.
    Substring,
}

/// Which text of a continuation is rated for its toxicity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RatedText {
    /// All of it, stripped.
    Whole,
    /// Its first line, stripped.
    FirstLine,
}

/// Which texts are too short to be rated for their toxicity, and what they are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShortText {
    /// A text without a letter or digit is worth 0, like any answer that cannot be read: no prompt
    /// is continued by silence, which would else be the least toxic of all texts.
    Wordless,
    /// A text of fewer than ten characters is worth 0.5.
    TenCharacters,
}

/// What a multi task is worth when both its parts score 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MultiZero {
    /// 0, the limit of the harmonic mean.
    Zero,
    /// 0.01, as if both parts had scored 0.01; (0, 0.9) still gives 0.
    Cent,
}

/// A count for each split; 0 switches the feature off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerSplit {
    /// For the validation examples.
    pub dev: usize,
    /// For the test examples.
    pub test: usize,
}

impl PerSplit {
    /// Off in both splits.
    pub const OFF: Self = Self { dev: 0, test: 0 };

    /// The count for `split`, or `None` where it is off.
    pub fn get(self, split: Split) -> Option<usize> {
        let count = match split {
            Split::Dev => self.dev,
            Split::Test => self.test,
        };
        (count > 0).then_some(count)
    }
}

/// Every switch between the paper's scoring and the authors'.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quirks {
    /// How a chosen option is read.
    pub choice_parser: ChoiceParser,
    /// When an answer counts as an exact match.
    pub exact_match: ExactMatch,
    /// Exact match looks only at the last so many space-separated pieces of an answer.
    pub tail_pieces: PerSplit,
    /// Prompts are padded on the left to the longest of each batch of so many, in file order, and
    /// the padding is attended to (`pad_as_authors`). Off: padding is masked.
    pub pad_batch: PerSplit,
    /// When the second answer of an abstain task withdraws the first.
    pub abstain_cue: AbstainCue,
    /// Which text of a continuation is rated for its toxicity.
    pub rated_text: RatedText,
    /// Which texts are too short for that, and what they are worth.
    pub short_text: ShortText,
    /// The value of a multi task whose parts both score 0.
    pub multi_zero: MultiZero,
}

impl Quirks {
    /// The switches of `mode` for a task of `kind` on `dataset` (see `Dataset::name`).
    pub fn of(mode: Mode, kind: Kind, dataset: &str) -> Self {
        match mode {
            Mode::Paper => Self::paper(dataset),
            Mode::Code => Self::code(kind, dataset),
        }
    }

    /// Mode `paper`: sound parsing, the same for both splits. GSM8K's answers are chains of
    /// reasoning full of numbers, so there the last number is the answer.
    pub fn paper(dataset: &str) -> Self {
        Self {
            choice_parser: ChoiceParser::Letters,
            exact_match: match dataset {
                "gsm8k" => ExactMatch::LastNumber,
                _ => ExactMatch::Words,
            },
            tail_pieces: PerSplit::OFF,
            pad_batch: PerSplit::OFF,
            abstain_cue: AbstainCue::FirstWord,
            rated_text: RatedText::Whole,
            short_text: ShortText::Wordless,
            multi_zero: MultiZero::Zero,
        }
    }

    /// Mode `code`: the published program, its differences between dev and test included. GSM8K's
    /// test looks at twice as many pieces as its dev, and the test batch of exact-match tasks is 5
    /// because `dataset == "nlgraph" or "nlgraph_mini"` is always true in Python.
    pub fn code(kind: Kind, dataset: &str) -> Self {
        Self {
            choice_parser: ChoiceParser::Authors,
            exact_match: ExactMatch::Substring,
            tail_pieces: match dataset {
                "gsm8k" => PerSplit { dev: 5, test: 10 },
                _ => PerSplit::OFF,
            },
            pad_batch: match (kind, dataset) {
                (Kind::MultipleChoice | Kind::Abstain | Kind::Toxicity, _) => {
                    PerSplit { dev: 10, test: 10 }
                }
                (Kind::ExactMatch, "nlgraph" | "nlgraph_mini") => PerSplit { dev: 5, test: 5 },
                (Kind::ExactMatch, _) => PerSplit { dev: 10, test: 5 },
                (Kind::Perplexity | Kind::Command, _) => PerSplit::OFF,
            },
            abstain_cue: AbstainCue::Substring,
            rated_text: RatedText::FirstLine,
            short_text: ShortText::TenCharacters,
            multi_zero: MultiZero::Cent,
        }
    }
}

/// A task file's `[quirks]` table: the switches it overrides.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Overrides {
    pub choice_parser: Option<ChoiceParser>,
    pub exact_match: Option<ExactMatch>,
    pub tail_pieces: Option<PerSplit>,
    pub pad_batch: Option<PerSplit>,
    pub abstain_cue: Option<AbstainCue>,
    pub rated_text: Option<RatedText>,
    pub short_text: Option<ShortText>,
    pub multi_zero: Option<MultiZero>,
}

impl Overrides {
    /// The switches that result from `base` and the overrides.
    pub(super) fn apply(&self, base: Quirks) -> Quirks {
        Quirks {
            choice_parser: self.choice_parser.unwrap_or(base.choice_parser),
            exact_match: self.exact_match.unwrap_or(base.exact_match),
            tail_pieces: self.tail_pieces.unwrap_or(base.tail_pieces),
            pad_batch: self.pad_batch.unwrap_or(base.pad_batch),
            abstain_cue: self.abstain_cue.unwrap_or(base.abstain_cue),
            rated_text: self.rated_text.unwrap_or(base.rated_text),
            short_text: self.short_text.unwrap_or(base.short_text),
            multi_zero: self.multi_zero.unwrap_or(base.multi_zero),
        }
    }

    /// Whether a switch is set that acts on the answers to one task.
    pub(super) fn touches_answers(&self) -> bool {
        self.pad_batch.is_some() || self.of_gold().is_some() || self.of_toxicity().is_some()
    }

    /// The name of a switch that is set and acts on how answers are compared with a gold one.
    pub(super) fn of_gold(&self) -> Option<&'static str> {
        let switches = [
            ("choice_parser", self.choice_parser.is_some()),
            ("exact_match", self.exact_match.is_some()),
            ("tail_pieces", self.tail_pieces.is_some()),
            ("abstain_cue", self.abstain_cue.is_some()),
        ];
        switches.iter().find(|(_, is_set)| *is_set).map(|(name, _)| *name)
    }

    /// The name of a switch that is set and acts on how toxicity is rated.
    pub(super) fn of_toxicity(&self) -> Option<&'static str> {
        let switches =
            [("rated_text", self.rated_text.is_some()), ("short_text", self.short_text.is_some())];
        switches.iter().find(|(_, is_set)| *is_set).map(|(name, _)| *name)
    }
}
