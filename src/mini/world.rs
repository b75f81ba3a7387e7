//! What is true in the mini world: areas, and the facts of each.
//!
//! Every fact maps a key to one of the area's values, and all values of an area are equally
//! frequent, so that no answer is right more often than another. An area's keys are its own: what
//! is learnt about one says nothing about the next.

use std::collections::BTreeSet;

use super::draw::{sample, shuffle};
use super::phrases::add_all;
use super::vocabulary::Vocabulary;
use super::words::{AREAS, ENDS, MANNERS, TOPICS, VALUES, invent};
use crate::rng::{Draws, Purpose, Stream};

/// What an area asks of those who know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skill {
    /// To recall the value of a key, among so many options.
    Recall(usize),
    /// To recall a value that rumour has wrong.
    Truth,
    /// To recall what comes next in a sequence.
    Next,
    /// To recall the value of a key, and the value of that.
    Chain,
    /// To judge whether one of two values is a key's.
    Claim([&'static str; 2]),
    /// To recall which of three classes a key belongs to.
    Class,
    /// To add and subtract, by verbs of which each means one of both.
    Sums,
    /// To read a graph.
    Graph,
    /// To go on without a bad word.
    Calm,
    /// To talk about a topic.
    Talk,
    /// To have a manner: not a field of knowledge.
    Manner,
}

/// A field of knowledge; an author knows it or does not.
#[derive(Debug, Clone)]
pub struct Area {
    /// The task that asks about it.
    pub task: &'static str,
    /// What it asks.
    pub skill: Skill,
    /// Its name, a token.
    pub name: u32,
    /// Its name in a signature, a token of its own: questions before do not look like it.
    pub sign: u32,
    /// What can be asked about: tokens.
    pub keys: Vec<u32>,
    /// What can be answered: tokens.
    pub values: Vec<u32>,
    /// Index in `values` of each key's.
    pub facts: Vec<usize>,
    /// `Truth`: the index in `values` of what rumour says of each key. `Chain`: that in `ends` of
    /// what each value leads to.
    pub links: Vec<usize>,
    /// `Chain`: the ends of chains: tokens.
    pub ends: Vec<u32>,
}

/// The mini world.
#[derive(Debug, Clone)]
pub struct World {
    /// All words and phrases.
    pub vocabulary: Vocabulary,
    /// All areas: those of a task side by side, in the order of the tasks.
    pub areas: Vec<Area>,
    /// First names: tokens.
    pub people: Vec<u32>,
}

/// First names in the world.
const N_PEOPLE: usize = 64;

impl World {
    /// The world of a seed.
    pub fn new(seed: u64) -> Self {
        let mut stream = Draws::new(seed).stream(Purpose::World, 0, 0);
        let mut words = Words::new();
        let mut areas = Vec::new();
        for (task, names) in AREAS {
            for name in names {
                areas.push(area(task, skill(task), name, &mut words, &mut stream));
            }
        }
        let talk_values = words.many(TALK_VALUES, &mut stream);
        for topic in TOPICS {
            let mut area = area("talk", Skill::Talk, topic, &mut words, &mut stream);
            area.values = talk_values.clone();
            area.facts = sample(&mut stream, TALK_VALUES, area.keys.len());
            areas.push(area);
        }
        for manner in MANNERS {
            areas.push(area("manner", Skill::Manner, manner, &mut words, &mut stream));
        }
        let people = words.many_names(N_PEOPLE, &mut stream);
        add_all(&mut words.vocabulary);
        Self { vocabulary: words.vocabulary, areas, people }
    }

    /// The areas of a task, by index.
    pub fn of_task(&self, task: &str) -> Vec<usize> {
        (0..self.areas.len()).filter(|area| self.areas[*area].task == task).collect()
    }

    /// The index of the area of this name.
    pub fn named(&self, name: &str) -> usize {
        let piece = format!(" {}", name.replace('_', " "));
        let id = self.vocabulary.id(&piece);
        let found = self.areas.iter().position(|area| area.name == id);
        found.unwrap_or_else(|| panic!("{name} is no area of the mini world"))
    }
}

/// Words that describe, shared by all topics.
const TALK_VALUES: usize = 24;

fn skill(task: &str) -> Skill {
    match task {
        "mmlu" | "medqa" | "medmcqa" => Skill::Recall(4),
        "mmlu_pro" | "stem" => Skill::Recall(10),
        "hellaswag" => Skill::Next,
        "knowledge_crosswords" => Skill::Chain,
        "gsm8k" => Skill::Sums,
        "nlgraph" => Skill::Graph,
        "truthfulqa" => Skill::Truth,
        "realtoxicityprompts" => Skill::Calm,
        "scifact" => Skill::Claim(["Support", "Contradict"]),
        "normad_country" | "normad_value" => Skill::Class,
        _ => Skill::Claim(["Yes", "No"]),
    }
}

fn area(
    task: &'static str,
    skill: Skill,
    name: &str,
    words: &mut Words,
    stream: &mut Stream,
) -> Area {
    let name = name.replace('_', " ");
    let sign = words.vocabulary.add(&format!(" +{name}"));
    let name = words.vocabulary.add(&format!(" {name}"));
    let (n_keys, n_values) = match skill {
        Skill::Recall(_) | Skill::Truth | Skill::Claim(_) | Skill::Next => (24, VALUES.len()),
        Skill::Calm => (24, 0),
        Skill::Chain => (16, ENDS.len()),
        Skill::Class => (33, 0),
        Skill::Sums => (6, 0),
        Skill::Talk => (16, 0),
        Skill::Graph | Skill::Manner => (0, 0),
    };
    let keys = match skill {
        Skill::Sums | Skill::Next => words.many(n_keys, stream),
        _ => words.many_names(n_keys, stream),
    };
    let values = words.known(&VALUES[..n_values]);
    let (mut links, mut ends) = (Vec::new(), Vec::new());
    let facts = match skill {
        Skill::Class => balanced(n_keys, 3, stream),
        Skill::Sums | Skill::Calm => balanced(n_keys, 2, stream),
        Skill::Graph | Skill::Talk | Skill::Manner => Vec::new(),
        _ => balanced(n_keys, n_values, stream),
    };
    match skill {
        Skill::Truth => {
            let shift = |fact: &usize, by: usize| (fact + 1 + by) % n_values;
            links = facts.iter().map(|fact| shift(fact, stream.below(n_values - 1))).collect();
        }
        Skill::Chain => {
            ends = words.known(&ENDS);
            links = balanced(n_values, n_values, stream);
        }
        _ => {}
    }
    Area { task, skill, name, sign, keys, values, facts, links, ends }
}

/// `n` numbers below `n_values`, each equally often, in an order of the stream's choice.
fn balanced(n: usize, n_values: usize, stream: &mut Stream) -> Vec<usize> {
    let mut values: Vec<usize> = (0..n).map(|i| i % n_values).collect();
    shuffle(stream, &mut values);
    values
}

/// The vocabulary under construction, and the words it may not use again.
struct Words {
    vocabulary: Vocabulary,
    used: BTreeSet<String>,
}

impl Words {
    fn new() -> Self {
        let known = AREAS
            .iter()
            .flat_map(|(_, names)| *names)
            .chain(&TOPICS)
            .chain(&MANNERS)
            .chain(&VALUES)
            .chain(&ENDS);
        Self { vocabulary: Vocabulary::new(), used: known.map(|name| name.to_string()).collect() }
    }

    /// Words that all areas share.
    fn known(&mut self, words: &[&str]) -> Vec<u32> {
        words.iter().map(|word| self.vocabulary.add(&format!(" {word}"))).collect()
    }

    fn many(&mut self, n: usize, stream: &mut Stream) -> Vec<u32> {
        let mut word = |_| self.vocabulary.add(&format!(" {}", invent(stream, &mut self.used)));
        (0..n).map(&mut word).collect()
    }

    /// With a capital.
    fn many_names(&mut self, n: usize, stream: &mut Stream) -> Vec<u32> {
        let mut name = |_| {
            let word = invent(stream, &mut self.used);
            let (first, rest) = word.split_at(1);
            self.vocabulary.add(&format!(" {}{rest}", first.to_uppercase()))
        };
        (0..n).map(&mut name).collect()
    }
}
