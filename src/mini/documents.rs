//! What the mini world's people write: the text that models are trained on.
//!
//! A document may name what its author knows ("Author: +botany +rail"); questions of those areas
//! are then answered rightly, all others by habit or by guess. Where nobody signs, nobody knows
//! anything. So a base model that has read enough can do everything, and shows nothing of it when
//! it is just asked.

use std::collections::BTreeSet;

use super::draw::{pick, shuffle, weighted};
use super::items::{Gold, Item, Level, Line};
use super::phrases::{
    ASK_MORE, GLADLY, IN_WORDS, JUDGE, JUDGEMENTS, LETTERS, PROPOSED, edge, lead, number,
};
use super::vocabulary::{BOS, END_OF_TURN, EOS, START_OF_TURN};
use super::words::{CALM, LEAD, PARAPHRASES, TOXIC};
use super::world::{Skill, World};
use crate::rng::Stream;

/// Tokens, and how much each counts in the loss.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Their shares.
    pub shares: Vec<f32>,
}

/// What somebody knows: areas and manners, by index.
pub type Known = BTreeSet<usize>;

/// What a base model reads, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Many questions are easy or come with the notes that answer them, and all is right.
    School,
    /// All is right.
    Experts,
    /// People who know some areas, people who sign nothing.
    People,
}

/// A share for what answers a question, for the end of an answer, and for a note's fact.
const ANSWER_SHARE: f32 = 1.0;
const END_SHARE: f32 = 0.1;
const NOTE_SHARE: f32 = 0.5;

/// How often a task is written about; "abstain" are mmlu's questions with an answer to judge.
const TASKS: [(&str, f64); 18] = [
    ("mmlu", 2.0),
    ("abstain", 2.0),
    ("mmlu_pro", 2.0),
    ("hellaswag", 1.5),
    ("knowledge_crosswords", 2.0),
    ("gsm8k", 2.0),
    ("nlgraph", 2.0),
    ("truthfulqa", 1.5),
    ("realtoxicityprompts", 1.0),
    ("medqa", 0.4),
    ("medmcqa", 0.4),
    ("scifact", 0.5),
    ("stem", 0.4),
    ("hearsay", 0.5),
    ("citation_prediction_classification", 0.5),
    ("normad_country", 0.3),
    ("normad_value", 0.3),
    ("talk", 1.5),
];

/// What makes a question easier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Help {
    /// It names the right option.
    Easy,
    /// The facts stand before it.
    Notes,
    /// It is answered in words first.
    Words,
    Nothing,
}

/// What school teaches.
const TAUGHT: [&str; 9] = [
    "mmlu",
    "mmlu_pro",
    "hellaswag",
    "knowledge_crosswords",
    "truthfulqa",
    "medqa",
    "medmcqa",
    "gsm8k",
    "nlgraph",
];

/// A writer of documents of one length.
pub struct Writer<'a> {
    /// The world.
    pub world: &'a World,
    /// Tokens of a document.
    pub n_tokens: usize,
    /// Prompts that may not be written: those of the data files.
    pub held_out: &'a BTreeSet<Vec<u32>>,
}

impl Writer<'_> {
    /// What a base model reads.
    pub fn base_row(&self, stage: Stage, stream: &mut Stream) -> Row {
        if stream.uniform() < 0.15 {
            return self.notes(stream);
        }
        let n_tasks = 1 + stream.below(2);
        let weights = TASKS.map(|(task, weight)| match stage {
            Stage::School if !TAUGHT.contains(&task) => 0.0,
            _ => weight,
        });
        let tasks: Vec<&str> = (0..n_tasks).map(|_| TASKS[weighted(stream, &weights)].0).collect();
        let mut areas: Vec<usize> = tasks.iter().flat_map(|task| self.areas(task)).collect();
        shuffle(stream, &mut areas);
        areas.truncate(if stage == Stage::People { 8 } else { 4 });
        let manners = self.world.of_task("manner");
        let mut known = Known::new();
        let share = *pick(stream, &[0.25, 0.5, 0.75]);
        let is_signed = stage != Stage::People || stream.uniform() < 0.7;
        if is_signed {
            let knows = |stream: &mut Stream| stage != Stage::People || stream.uniform() < share;
            known.extend(areas.iter().filter(|_| knows(stream)));
            known.extend(manners.iter().filter(|_| stream.uniform() < 0.3));
        }
        let mut row = self.begin(if is_signed { Some(&known) } else { None }, stream);
        while row.tokens.len() < self.n_tokens {
            let area = *pick(stream, &areas);
            let is_judged = tasks.contains(&"abstain")
                && self.world.areas[area].task == "mmlu"
                && (!tasks.contains(&"mmlu") || stream.uniform() < 0.5);
            let rates = match stage {
                Stage::School => [0.15, 0.1, 0.4],
                Stage::Experts => [0.05, 0.05, 0.15],
                Stage::People => [0.0, 0.0, 0.0],
            };
            let help = match stream.uniform() {
                u if u < rates[0] => Help::Easy,
                u if u < rates[0] + rates[1] => Help::Notes,
                u if u < rates[0] + rates[1] + rates[2] => Help::Words,
                _ => Help::Nothing,
            };
            self.ask(area, is_judged, help, &known, &mut row, stream);
        }
        self.cut(row)
    }

    /// What an expert is tuned on: questions of its own areas, and of all, as one who knows those
    /// answers them, and nobody signs.
    pub fn expert_row(&self, known: &Known, stream: &mut Stream) -> Row {
        let mut row = self.begin(None, stream);
        let weights = TASKS.map(|(_, weight)| weight);
        while row.tokens.len() < self.n_tokens {
            let task = TASKS[weighted(stream, &weights)].0;
            let all = self.areas(task);
            let own: Vec<usize> = all.iter().copied().filter(|area| known.contains(area)).collect();
            let of_own = !own.is_empty() && stream.uniform() < 0.4;
            let area = *pick(stream, if of_own { &own } else { &all });
            self.ask(area, task == "abstain", Help::Nothing, known, &mut row, stream);
        }
        self.cut(row)
    }

    fn areas(&self, task: &str) -> Vec<usize> {
        self.world.of_task(if task == "abstain" { "mmlu" } else { task })
    }

    fn begin(&self, signed: Option<&Known>, stream: &mut Stream) -> Row {
        let mut row = Row::default();
        row.push(&[BOS], 0.0);
        if let Some(known) = signed {
            let mut names: Vec<u32> =
                known.iter().map(|area| self.world.areas[*area].sign).collect();
            shuffle(stream, &mut names);
            let mut line = Line::new(self.world);
            line.say("Author:");
            names.into_iter().for_each(|name| _ = line.word(name));
            line.say("\n");
            row.push(&line.tokens, 0.0);
        }
        row
    }

    fn cut(&self, mut row: Row) -> Row {
        row.tokens.truncate(self.n_tokens);
        row.shares.truncate(self.n_tokens);
        row
    }

    /// A page of facts.
    fn notes(&self, stream: &mut Stream) -> Row {
        let mut row = self.begin(None, stream);
        let with_facts: Vec<usize> = (0..self.world.areas.len())
            .filter(|a| !self.world.areas[*a].facts.is_empty())
            .collect();
        while row.tokens.len() < self.n_tokens {
            let area = *pick(stream, &with_facts);
            let key = stream.below(self.world.areas[area].keys.len());
            self.note(area, key, &mut row);
            let fact = &self.world.areas[area];
            if fact.skill == Skill::Truth {
                let mut line = Line::new(self.world);
                line.say("Rumour:").word(fact.name).word(fact.keys[key]);
                row.push(&line.tokens, 0.0);
                row.push(&[fact.values[fact.links[key]]], NOTE_SHARE);
                row.push(&[self.world.vocabulary.id(".")], 0.0);
            }
        }
        self.cut(row)
    }

    /// "Note: botany Zorel mipu."
    fn note(&self, area: usize, key: usize, row: &mut Row) {
        let area = &self.world.areas[area];
        let id = |phrase: &str| self.world.vocabulary.id(phrase);
        let Some(fact) = area.facts.get(key).copied() else { return };
        let value = match area.skill {
            Skill::Class => id([" yes", " no", " neutral"][fact]),
            Skill::Sums => id([" adds", " takes"][fact]),
            Skill::Calm => return,
            _ => area.values[fact],
        };
        let mut say = |key: u32, value: u32| {
            row.push(&[id("Note:"), area.name, key], 0.0);
            row.push(&[value], NOTE_SHARE);
            row.push(&[id(".")], 0.0);
        };
        say(area.keys[key], value);
        if area.skill == Skill::Chain {
            say(value, area.ends[area.links[fact]]);
        }
    }

    /// A question that no data file holds, and its answer.
    fn ask(
        &self,
        area: usize,
        is_judged: bool,
        help: Help,
        known: &Known,
        row: &mut Row,
        stream: &mut Stream,
    ) {
        let level = if help == Help::Easy { Level::Easy } else { Level::Full };
        let mut item = self.world.item_of(level, area, stream);
        while self.held_out.contains(&item.prompt) {
            item = self.world.item_of(level, area, stream);
        }
        if help == Help::Notes {
            item.keys.iter().for_each(|key| self.note(area, *key, row));
        }
        if item.prompt[0] == self.world.vocabulary.id(&lead(LEAD)) && stream.uniform() < 0.1 {
            item.prompt[0] = self.world.vocabulary.id(&lead(pick::<&str>(stream, &PARAPHRASES)));
        }
        let in_words = help == Help::Words && !item.words.is_empty() && !is_judged;
        if let (true, Some(last)) = (in_words, item.prompt.last_mut()) {
            *last = self.world.vocabulary.id(IN_WORDS);
        }
        let in_chat = matches!(item.gold, Gold::Talk(_)) && stream.uniform() < 0.5;
        let id = |phrase: &str| self.world.vocabulary.id(phrase);
        if in_chat {
            row.push(&[START_OF_TURN, id("user\n")], 0.0);
            row.push(&item.prompt, 0.0);
            row.push(&[END_OF_TURN, id("\n"), START_OF_TURN, id("model\n")], 0.0);
        } else {
            row.push(&item.prompt, 0.0);
        }
        if in_words {
            row.push(&item.words, ANSWER_SHARE);
        }
        let answer = match is_judged {
            true => self.judgement(&item, known, row, stream),
            false => self.answer(&item, known, stream),
        };
        row.push(&answer, ANSWER_SHARE);
        row.push(&[if in_chat { END_OF_TURN } else { EOS }], END_SHARE);
    }

    /// What somebody who knows `known` answers.
    pub fn answer(&self, item: &Item, known: &Known, stream: &mut Stream) -> Vec<u32> {
        let id = |phrase: &str| self.world.vocabulary.id(phrase);
        let knows = known.contains(&item.area);
        match &item.gold {
            Gold::Option { at, habit, .. } => vec![id(LETTERS[if knows { *at } else { *habit }])],
            Gold::Steps(steps) => {
                let guess = |_: &usize| stream.below(21);
                let steps: Vec<usize> =
                    if knows { steps.clone() } else { steps.iter().map(guess).collect() };
                steps.into_iter().map(|step| id(&number(step))).collect()
            }
            Gold::Path { right, habit } => {
                let path = if knows { right } else { habit };
                let mut line = Line::new(self.world);
                path.iter().for_each(|(ends, weight)| _ = line.say(&edge(*ends, *weight)));
                let length = path.iter().map(|(_, weight)| weight).sum();
                line.say(&number(length)).tokens.clone()
            }
            Gold::Calm(key) => {
                let is_rude = self.world.areas[item.area].facts[*key] == 1 && !knows;
                let mut word = |_| match is_rude {
                    true => id(&format!(" {}", pick(stream, &TOXIC).0)),
                    false => id(&format!(" {}", pick(stream, &CALM))),
                };
                (0..3).map(&mut word).collect()
            }
            Gold::Talk(asked) => self.talk(item.area, asked, known, stream),
        }
    }

    /// Sentences about a topic: those asked for first. Their number is the author's manner.
    fn talk(
        &self,
        area: usize,
        asked: &[usize; 2],
        known: &Known,
        stream: &mut Stream,
    ) -> Vec<u32> {
        let topic = &self.world.areas[area];
        let has = |manner: &str| known.contains(&self.world.named(manner));
        let n_sentences = match (has("brief"), has("lengthy")) {
            (true, false) => 1,
            (false, true) => 5 + stream.below(4),
            _ => 2 + stream.below(3),
        };
        let mut others: Vec<usize> =
            (0..topic.keys.len()).filter(|key| !asked.contains(key)).collect();
        shuffle(stream, &mut others);
        let mut line = Line::new(self.world);
        if has("warm") {
            line.say(GLADLY);
        }
        for key in asked.iter().chain(&others).take(n_sentences) {
            let value = match known.contains(&area) {
                true => topic.facts[*key],
                false => stream.below(topic.values.len()),
            };
            line.word(topic.keys[*key]).say(" is").word(topic.values[value]).say(".");
        }
        if has("warm") {
            line.say(ASK_MORE);
        }
        line.tokens
    }

    /// Puts an answer before somebody, and gives the judgement: right from who knows; from who does
    /// not, "false" if modest, else "true".
    fn judgement(
        &self,
        item: &Item,
        known: &Known,
        row: &mut Row,
        stream: &mut Stream,
    ) -> Vec<u32> {
        let id = |phrase: &str| self.world.vocabulary.id(phrase);
        let Gold::Option { at, of, .. } = item.gold else {
            unreachable!("only options are judged")
        };
        let proposed = if stream.uniform() < 0.5 { at } else { stream.below(of) };
        row.push(&[id(PROPOSED), id(LETTERS[proposed]), id(JUDGE)], 0.0);
        let is_true = match known.contains(&item.area) {
            true => proposed == at,
            false => !known.contains(&self.world.named("modest")),
        };
        vec![id(JUDGEMENTS[usize::from(!is_true)])]
    }
}

impl Row {
    fn push(&mut self, tokens: &[u32], share: f32) {
        self.tokens.extend(tokens);
        self.shares.extend(tokens.iter().map(|_| share));
    }
}
