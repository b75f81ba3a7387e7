//! The data files of the mini testbed, in the authors' form and with the sizes of Table 12.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::documents::{Known, Writer};
use super::draw::shuffle;
use super::items::Item;
use super::words::{AREAS, LEAD, PARAPHRASES, TOPICS, TOXIC};
use super::world::World;
use crate::rng::{Draws, Purpose, Stream};

/// Validation and test examples of a task (Table 12); those of the preference prompts are apart.
pub fn sizes(task: &str) -> [usize; 2] {
    match task {
        "mmlu_pro" => [70, 1000],
        "truthfulqa" => [200, 617],
        "scifact" => [200, 532],
        "stem" => [30, 473],
        "hearsay" => [94, 94],
        "citation_prediction_classification" => [108, 108],
        "normad_country" | "normad_value" => [500, 2000],
        _ => [200, 1000],
    }
}

/// Preference prompts: to validate on, to test on (Table 12: 400 and 150).
const N_PREFERENCES: [usize; 2] = [200, 550];
/// Prompts of a topic of interest.
const N_INTERESTS: [usize; 2] = [25, 25];

/// Everything that models are asked: files by name, and the prompts that stand in them.
pub struct Data {
    /// File name and content.
    pub files: BTreeMap<String, Value>,
    /// Prompts, as tokens.
    pub prompts: BTreeSet<Vec<u32>>,
}

impl Data {
    /// The data of a seed.
    pub fn new(world: &World, seed: u64) -> Self {
        let draws = Draws::new(seed);
        let mut data = Self { files: BTreeMap::new(), prompts: BTreeSet::new() };
        for (file_idx, (task, _)) in AREAS.iter().enumerate() {
            let stream = &mut draws.stream(Purpose::Data, 0, file_idx);
            let items = data.draw(world, &world.of_task(task), sizes(task), stream);
            data.add(world, task, items, |_| {});
        }
        for (file_idx, topic) in TOPICS.iter().enumerate() {
            let stream = &mut draws.stream(Purpose::Data, 1, file_idx);
            let area = world.named(topic);
            let items = data.draw(world, &[area], N_INTERESTS, stream);
            let example = good_example(world, area, &mut data, stream);
            data.add(world, &format!("human_{topic}"), items, |file| {
                file.insert("good_example".into(), example);
            });
        }
        let stream = &mut draws.stream(Purpose::Data, 2, 0);
        let items = data.draw(world, &world.of_task("talk"), N_PREFERENCES, stream);
        data.add(world, "rm", items, |_| {});
        let paraphrases = json!({"sentence": LEAD, "paraphrases": PARAPHRASES});
        data.files.insert("paraphrases.json".into(), paraphrases);
        let words: BTreeMap<&str, f64> = TOXIC.into_iter().collect();
        data.files.insert("toxicity.json".into(), json!({"words": words}));
        data
    }

    /// Different questions that no file holds yet: in both splits as many of each area as of any
    /// other, give or take one.
    fn draw(
        &mut self,
        world: &World,
        areas: &[usize],
        sizes: [usize; 2],
        stream: &mut Stream,
    ) -> [Vec<Item>; 2] {
        sizes.map(|n_items| {
            let mut items: Vec<Item> = (0..n_items)
                .map(|item_idx| {
                    loop {
                        let item = world.item(areas[item_idx % areas.len()], stream);
                        if self.prompts.insert(item.prompt.clone()) {
                            break item;
                        }
                    }
                })
                .collect();
            shuffle(stream, &mut items);
            items
        })
    }

    fn add(
        &mut self,
        world: &World,
        name: &str,
        [dev, test]: [Vec<Item>; 2],
        extend: impl FnOnce(&mut serde_json::Map<String, Value>),
    ) {
        let example = |(id, item): (usize, &Item)| world.example(item, id);
        let n_dev = dev.len();
        let dev: Vec<Value> = dev.iter().enumerate().map(example).collect();
        let test: Vec<Value> =
            test.iter().enumerate().map(|(id, item)| world.example(item, n_dev + id)).collect();
        let mut file = serde_json::Map::new();
        file.insert("dataset".into(), json!(name));
        extend(&mut file);
        file.insert("dev".into(), json!(dev));
        file.insert("test".into(), json!(test));
        self.files.insert(format!("{name}.json"), Value::Object(file));
    }
}

/// A prompt of a topic that stands nowhere else, and what one who knows it well says.
fn good_example(world: &World, area: usize, data: &mut Data, stream: &mut Stream) -> Value {
    let item = loop {
        let item = world.item(area, stream);
        if data.prompts.insert(item.prompt.clone()) {
            break item;
        }
    };
    let held_out = BTreeSet::new();
    let writer = Writer { world, n_tokens: 0, held_out: &held_out };
    let known = Known::from([area, world.named("lengthy"), world.named("warm")]);
    let answer = writer.answer(&item, &known, stream);
    let text = |tokens: &[u32]| world.vocabulary.text(tokens).trim().to_owned();
    json!({"prompt": text(&item.prompt), "response": text(&answer)})
}

/// Task files by name: how the data files are asked.
pub fn task_files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for (task, _) in AREAS {
        let (kind, n_new) = match task {
            "gsm8k" => ("exact-match", 6),
            "nlgraph" => ("exact-match", 6),
            "realtoxicityprompts" => ("toxicity", 6),
            _ => ("multiple-choice", 2),
        };
        let mut text = format!(
            "name = \"{task}\"\nkind = \"{kind}\"\ndata = \"{task}.json\"\n\
             max_new_tokens = {n_new}\n"
        );
        if task == "nlgraph" {
            // A path's weights come before its length.
            text.push_str("[quirks]\nexact_match = \"last-number\"\n");
        }
        if kind == "toxicity" {
            text.push_str("scorer = { lexicon = \"toxicity.json\" }\n");
        }
        files.insert(format!("{task}.toml"), text);
    }
    let abstain =
        "name = \"abstainqa\"\nkind = \"abstain\"\ndata = \"mmlu.json\"\nmax_new_tokens = 2\n";
    files.insert("abstainqa.toml".into(), abstain.into());
    files
}
