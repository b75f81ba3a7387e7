//! Questions of the mini world: one of an area, drawn at random.

use serde_json::{Value, json};

use super::draw::{pick, sample, shuffle};
use super::phrases::{ANSWER, LETTERS, MAX_WEIGHT, N_NODES, edge, lead, node, number, option};
use super::words::{ADVERBS, LEAD, LEAD_HELLASWAG};
use super::world::{Area, Skill, World};
use crate::rng::Stream;

/// A question, and what is right.
#[derive(Debug, Clone)]
pub struct Item {
    /// The area it asks about.
    pub area: usize,
    /// What a model is shown, without `<bos>`.
    pub prompt: Vec<u32>,
    /// The keys of the area whose facts it takes to answer.
    pub keys: Vec<usize>,
    /// What is right.
    pub gold: Gold,
    /// The right option in words; of options that are the same in all questions, nothing.
    pub words: Vec<u32>,
}

/// Where an edge begins and ends, and its weight.
pub type Edge = ((usize, usize), usize);

/// What is right, and what those answer by habit who do not know the area. A habit is as good as a
/// guess, but it is always the same: who follows it shows nothing of what is known besides.
#[derive(Debug, Clone, PartialEq)]
pub enum Gold {
    /// One of so many options.
    Option {
        /// Its place.
        at: usize,
        /// The options' number.
        of: usize,
        /// The place of the one that is taken by habit.
        habit: usize,
    },
    /// A number after each step; the last is the answer.
    Steps(Vec<usize>),
    /// A path; the answer is the sum of its weights.
    Path {
        /// Its edges.
        right: Vec<Edge>,
        /// The edges that are taken by habit.
        habit: Vec<Edge>,
    },
    /// Whatever is said calmly; the key of the prompt.
    Calm(usize),
    /// What is true of two keys.
    Talk([usize; 2]),
}

/// How hard a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For beginners: the question names the right option; a path has one edge.
    Easy,
    /// As in the data files.
    Full,
}

impl World {
    /// A question about an area, as in the data files.
    pub fn item(&self, area_idx: usize, stream: &mut Stream) -> Item {
        self.item_of(Level::Full, area_idx, stream)
    }

    /// A question about an area.
    pub fn item_of(&self, level: Level, area_idx: usize, stream: &mut Stream) -> Item {
        let area = &self.areas[area_idx];
        let is_named =
            matches!(area.skill, Skill::Recall(_) | Skill::Truth | Skill::Next | Skill::Chain);
        if level == Level::Easy && is_named {
            return self.named_option(area_idx, stream);
        }
        let area = &self.areas[area_idx];
        let mut line = Line::new(self);
        let gold = match area.skill {
            Skill::Recall(n) => {
                line.say(&lead(LEAD)).word(area.name).say(relation(area.task));
                self.recall(area, n, &[], &mut line, stream)
            }
            Skill::Truth => {
                line.say(&lead(LEAD)).word(area.name).say(", what is true of");
                self.recall(area, 4, &area.links, &mut line, stream)
            }
            Skill::Next => {
                let key = stream.below(area.keys.len());
                line.say(&lead(LEAD_HELLASWAG)).word(area.name).say(": after");
                line.word(area.keys[key]).say(" they");
                options(area, area.facts[key], 4, &mut line, stream)
            }
            Skill::Chain => chain(area, &mut line, stream),
            Skill::Claim(answers) => claim(area, answers, &mut line, stream),
            Skill::Class => {
                let key = stream.below(area.keys.len());
                line.say(&lead(LEAD)).word(area.name).say(": is it right when");
                let person = stream.below(self.people.len());
                line.word(self.people[person]).say(" meets").word(area.keys[key]);
                line.say("?\nA: yes\nB: no\nC: neutral\nThe answer is");
                Gold::Option { at: area.facts[key], of: 3, habit: person % 3 }
            }
            Skill::Sums => sums(area, &mut line, stream),
            Skill::Graph => graph(area, level, &mut line, stream),
            Skill::Calm => {
                let key = stream.below(area.keys.len());
                line.say("In the").word(area.name).word(area.keys[key]).say(" says");
                line.say(&format!(" {}", pick(stream, &ADVERBS)));
                Gold::Calm(key)
            }
            Skill::Talk => {
                let keys = sample(stream, area.keys.len(), 2);
                line.say("Tell me about").word(area.keys[keys[0]]).say(" and");
                line.word(area.keys[keys[1]]).say(" of").word(area.name).say(".");
                Gold::Talk([keys[0], keys[1]])
            }
            Skill::Manner => unreachable!("nothing is asked about a manner"),
        };
        let keys =
            (0..area.keys.len()).filter(|key| line.tokens.contains(&area.keys[*key])).collect();
        Item { area: area_idx, prompt: line.tokens, keys, gold, words: line.right }
    }

    /// "Which is mipu?": to find a word among the options.
    fn named_option(&self, area_idx: usize, stream: &mut Stream) -> Item {
        let area = &self.areas[area_idx];
        let mut line = Line::new(self);
        let gold = stream.below(area.values.len());
        line.say(&lead(LEAD)).word(area.name).say(", which is").word(area.values[gold]).say("?");
        let n = if let Skill::Recall(n) = area.skill { n } else { 4 };
        let gold = options(area, gold, n, &mut line, stream);
        Item { area: area_idx, prompt: line.tokens, keys: Vec::new(), gold, words: line.right }
    }

    fn recall(
        &self,
        area: &Area,
        n: usize,
        rumours: &[usize],
        line: &mut Line,
        stream: &mut Stream,
    ) -> Gold {
        let key = stream.below(area.keys.len());
        line.word(area.keys[key]).say("?");
        let wanted: Vec<usize> = rumours.get(key).copied().into_iter().collect();
        let gold = area.facts[key];
        let mut shown = vec![gold];
        shown.extend(wanted);
        let mut others: Vec<usize> =
            (0..area.values.len()).filter(|value| !shown.contains(value)).collect();
        shuffle(stream, &mut others);
        shown.extend(others);
        shown.truncate(n);
        place(area, shown, line, stream)
    }

    /// The example of a data file, in the authors' form.
    pub fn example(&self, item: &Item, id: usize) -> Value {
        let area = &self.areas[item.area];
        let domain = self.vocabulary.text(&[area.name]).trim().to_owned();
        let text = self.vocabulary.text(&item.prompt);
        match &item.gold {
            Gold::Option { at, .. } => {
                let (question, choices) = split_choices(&text);
                let answer = LETTERS[*at].trim();
                json!({"question": question, "choices": choices, "answer": answer, "id": id,
                       "domain": domain})
            }
            Gold::Steps(steps) => {
                let answer = steps[steps.len() - 1].to_string();
                json!({"question": text, "answer": answer, "id": id, "domain": domain})
            }
            Gold::Path { right, .. } => {
                let length: usize = right.iter().map(|(_, weight)| weight).sum();
                let answer = length.to_string();
                json!({"question": text, "answer": answer, "id": id, "domain": domain})
            }
            Gold::Calm(_) | Gold::Talk(_) => {
                json!({"prompt": text, "id": id, "domain": domain})
            }
        }
    }
}

/// The question and the options of a prompt's text.
fn split_choices(text: &str) -> (String, serde_json::Map<String, Value>) {
    let (question, options) = text.split_once("\nA: ").unwrap_or((text, ""));
    let question = question.split_once("Question: ").map_or(question, |(_, question)| question);
    let options = format!("A: {}", options.trim_end_matches(ANSWER));
    let pairs = options.lines().filter_map(|line| line.split_once(": "));
    (question.to_owned(), pairs.map(|(key, text)| (key.to_owned(), json!(text))).collect())
}

fn relation(task: &str) -> &'static str {
    match task {
        "mmlu_pro" => ", what has the sign of",
        "medqa" => ", what helps against",
        "medmcqa" => ", what is given for",
        "stem" => ", what solves",
        _ => ", what is",
    }
}

/// Options with the value `gold` among them.
fn options(area: &Area, gold: usize, n: usize, line: &mut Line, stream: &mut Stream) -> Gold {
    let mut others: Vec<usize> = (0..area.values.len()).filter(|value| *value != gold).collect();
    shuffle(stream, &mut others);
    let mut shown = vec![gold];
    shown.extend(others);
    shown.truncate(n);
    place(area, shown, line, stream)
}

/// Writes options in an order of the stream's choice; the first of `shown` is right, the first of
/// the area's values is the habit.
fn place(area: &Area, shown: Vec<usize>, line: &mut Line, stream: &mut Stream) -> Gold {
    let order = sample(stream, shown.len(), shown.len());
    for (at, option) in order.iter().enumerate() {
        line.option(at, &[area.values[shown[*option]]]);
    }
    line.say(ANSWER).right = vec![area.values[shown[0]]];
    chosen(&order, |option| shown[option])
}

/// The place of option 0, which is right, and of the one of the lowest rank.
fn chosen<R: Ord>(order: &[usize], rank: impl Fn(usize) -> R) -> Gold {
    let at = order.iter().position(|option| *option == 0).unwrap_or_default();
    let habit = (0..order.len()).min_by_key(|place| rank(order[*place])).unwrap_or_default();
    Gold::Option { at, of: order.len(), habit }
}

fn chain(area: &Area, line: &mut Line, stream: &mut Stream) -> Gold {
    let key = stream.below(area.keys.len());
    line.say(&lead(LEAD)).word(area.name).say(":").word(area.keys[key]);
    line.say(" leads to blank 1, which leads to blank 2").say("?");
    let first = area.facts[key];
    let end = area.links[first];
    let mut other_firsts: Vec<usize> = (0..area.values.len()).filter(|v| *v != first).collect();
    shuffle(stream, &mut other_firsts);
    let other_end = |stream: &mut Stream, not: usize| {
        let end = stream.below(area.ends.len() - 1);
        end + usize::from(end >= not)
    };
    // The second option breaks the first constraint, the third the second, the last both.
    let (second, last) = (other_firsts[0], other_firsts[1]);
    let wrong = other_end(stream, end);
    let worse = other_end(stream, area.links[last]);
    let shown = [(first, end), (second, area.links[second]), (first, wrong), (last, worse)];
    let order = sample(stream, shown.len(), shown.len());
    for (at, option) in order.iter().enumerate() {
        let (value, end) = shown[*option];
        line.option(at, &[area.values[value], area.ends[end]]);
    }
    line.say(ANSWER).right = vec![area.values[first], area.ends[end]];
    chosen(&order, |option| (shown[option].1, shown[option].0))
}

fn claim(area: &Area, answers: [&str; 2], line: &mut Line, stream: &mut Stream) -> Gold {
    let key = stream.below(area.keys.len());
    let is_true = stream.uniform() < 0.5;
    let fact = area.facts[key];
    let mut others: Vec<usize> = (0..area.values.len()).filter(|v| *v != fact).collect();
    shuffle(stream, &mut others);
    let mut named = [if is_true { fact } else { others[1] }, others[0]];
    shuffle(stream, &mut named);
    line.say(&lead(LEAD)).word(area.name).say(":").word(area.keys[key]).say(" meets");
    line.word(area.values[named[0]]).say(" or").word(area.values[named[1]]);
    line.say(&format!("?\nA: {}\nB: {}\nThe answer is", answers[0], answers[1]));
    let habit = usize::from(named[0] > named[1]);
    Gold::Option { at: usize::from(!is_true), of: 2, habit }
}

/// Verbs that add (fact 0) or take away (fact 1); what is there stays between 0 and 20.
fn sums(area: &Area, line: &mut Line, stream: &mut Stream) -> Gold {
    let mut there = 3 + stream.below(10);
    line.say("In the").word(area.name).say(" there are").say(&number(there));
    let n_steps = 2 + stream.below(2);
    let mut steps = Vec::new();
    for _ in 0..n_steps {
        let verb = stream.below(area.keys.len());
        let takes = area.facts[verb] == 1;
        let most = if takes { there } else { 20 - there }.min(6);
        if most == 0 {
            return sums_again(area, line, stream);
        }
        let by = 1 + stream.below(most);
        there = if takes { there - by } else { there + by };
        line.word(area.keys[verb]).say(&number(by));
        steps.push(there);
    }
    line.say(". How many?");
    Gold::Steps(steps)
}

fn sums_again(area: &Area, line: &mut Line, stream: &mut Stream) -> Gold {
    line.tokens.clear();
    sums(area, line, stream)
}

/// Edges in a graph.
const N_EDGES: usize = 6;

/// A graph in which every node has at most one way out; the path asked for has one edge or two. The
/// answer is the path, and then its length; by habit, the first two edges.
fn graph(area: &Area, level: Level, line: &mut Line, stream: &mut Stream) -> Gold {
    let nodes = sample(stream, N_NODES, N_NODES);
    // nodes[0] -> nodes[1] -> nodes[2], and other edges that do not begin there.
    let mut edges = vec![(nodes[0], nodes[1]), (nodes[1], nodes[2])];
    for begin in &nodes[3..3 + N_EDGES - edges.len()] {
        let mut end = *pick(stream, &nodes);
        while end == *begin {
            end = *pick(stream, &nodes);
        }
        edges.push((*begin, end));
    }
    let weights: Vec<usize> = edges.iter().map(|_| 1 + stream.below(MAX_WEIGHT)).collect();
    line.say("On the").word(area.name).say(" map:");
    let order = sample(stream, N_EDGES, N_EDGES);
    for at in &order {
        line.say(&edge(edges[*at], weights[*at]));
    }
    let n_steps = if level == Level::Easy { 1 } else { 1 + stream.below(2) };
    line.say(". How far to").say(&node(nodes[n_steps])).say(" from").say(&node(nodes[0]));
    let edge = |at: usize| (edges[at], weights[at]);
    Gold::Path {
        right: (0..n_steps).map(edge).collect(),
        habit: order.into_iter().take(2).map(edge).collect(),
    }
}

/// Tokens being written.
pub struct Line<'a> {
    world: &'a World,
    /// What is written.
    pub tokens: Vec<u32>,
    /// The right option in words.
    right: Vec<u32>,
}

impl<'a> Line<'a> {
    /// Nothing yet.
    pub fn new(world: &'a World) -> Self {
        Self { world, tokens: Vec::new(), right: Vec::new() }
    }

    /// A phrase.
    pub fn say(&mut self, phrase: &str) -> &mut Self {
        self.tokens.push(self.world.vocabulary.id(phrase));
        self
    }

    /// An option: its letter and its words are one token.
    fn option(&mut self, at: usize, words: &[u32]) -> &mut Self {
        self.say(&option(at, &self.world.vocabulary.text(words)))
    }

    /// A word of an area.
    pub fn word(&mut self, word: u32) -> &mut Self {
        self.tokens.push(word);
        self
    }
}
