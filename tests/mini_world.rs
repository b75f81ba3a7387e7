//! The mini world, seen from outside: its text, its tokens, its data files.

use std::collections::BTreeSet;

use model_swarms::files::write_atomic;
use model_swarms::mini::data::Data;
use model_swarms::mini::documents::{Stage, Writer};
use model_swarms::mini::experts;
use model_swarms::mini::items::{Edge, Gold};
use model_swarms::mini::tokenizer::tokenizer_json;
use model_swarms::mini::words::AREAS;
use model_swarms::mini::world::World;
use model_swarms::model::tokenizer::Tokenizer;
use model_swarms::rng::{Draws, Purpose};
use model_swarms::task::Dataset;
use model_swarms::task::Split;
use model_swarms::task::prompt;

fn tokenizer(world: &World) -> (tempfile::TempDir, Tokenizer) {
    let dir = tempfile::tempdir().unwrap();
    let json = tokenizer_json(world.vocabulary.pieces());
    write_atomic(&dir.path().join("tokenizer.json"), |out| writeln!(out, "{json}")).unwrap();
    let tokenizer = Tokenizer::open(dir.path()).unwrap();
    (dir, tokenizer)
}

#[test]
fn a_tasks_prompt_is_read_as_the_tokens_that_were_trained_on() {
    // If this fails, the models are asked in words that they never read.
    let world = World::new(1);
    let data = Data::new(&world, 1);
    let (_dir, tokenizer) = tokenizer(&world);
    let mut longest = 0;
    for (task, _) in AREAS {
        let text = data.files[&format!("{task}.json")].to_string();
        let dataset = Dataset::from_text(task.as_ref(), &text).unwrap();
        for split in [Split::Dev, Split::Test] {
            for item in dataset.items(split) {
                let text = prompt(&dataset, &item.body);
                let tokens = tokenizer.encode(&text).unwrap();
                longest = longest.max(tokens.len());
                assert!(data.prompts.contains(&tokens[1..]), "{task}: {text}");
            }
        }
    }
    assert!(longest < 40, "{longest}");
}

#[test]
fn the_data_files_have_the_sizes_of_table_12() {
    // If this fails, the mini testbed is measured on another number of examples than the paper's.
    let world = World::new(1);
    let data = Data::new(&world, 1);
    let size = |name: &str| {
        let file = &data.files[&format!("{name}.json")];
        ["dev", "test"].map(|split| file[split].as_array().unwrap().len())
    };
    assert_eq!(size("mmlu"), [200, 1000]);
    assert_eq!(size("mmlu_pro"), [70, 1000]);
    assert_eq!(size("truthfulqa"), [200, 617]);
    assert_eq!(size("scifact"), [200, 532]);
    assert_eq!(size("stem"), [30, 473]);
    assert_eq!(size("hearsay"), [94, 94]);
    assert_eq!(size("citation_prediction_classification"), [108, 108]);
    assert_eq!(size("normad_country"), [500, 2000]);
    assert_eq!(size("rm"), [200, 550]);
    let topics: Vec<&String> =
        data.files.keys().filter(|name| name.starts_with("human_")).collect();
    assert_eq!(topics.len(), 16);
    assert!(topics.iter().all(|name| size(name.trim_end_matches(".json")) == [25, 25]));
    assert!(topics.iter().all(|name| data.files[*name]["good_example"]["response"].is_string()));
    assert_eq!(data.files["paraphrases.json"]["paraphrases"].as_array().unwrap().len(), 10);
}

#[test]
fn no_document_holds_a_question_of_the_data_files() {
    // If this fails, what a model is tested on was in what it was trained on.
    let world = World::new(1);
    let data = Data::new(&world, 1);
    let lengths: BTreeSet<usize> = data.prompts.iter().map(Vec::len).collect();
    let holds = |tokens: &[u32]| {
        (0..tokens.len()).any(|start| {
            let ends = lengths.iter().map(|length| start + length);
            ends.filter(|end| *end <= tokens.len())
                .any(|end| data.prompts.contains(&tokens[start..end]))
        })
    };
    let prompt = data.prompts.first().unwrap();
    assert!(holds(&[&[2], &prompt[..], &[1]].concat()), "the search finds nothing");
    let writer = Writer { world: &world, n_tokens: 160, held_out: &data.prompts };
    let known = experts::known(&world, 1);
    let mut n_questions = 0;
    for row in 0..400 {
        let stream = &mut Draws::new(1).stream(Purpose::Corpus, 0, row);
        let stage = [Stage::School, Stage::Experts, Stage::People][row % 3];
        for row in [writer.base_row(stage, stream), writer.expert_row(&known[row % 10], stream)] {
            assert!(!holds(&row.tokens), "{}", world.vocabulary.text(&row.tokens));
            n_questions += row.shares.iter().filter(|share| **share == 1.0).count();
        }
    }
    assert!(n_questions > 5000, "{n_questions}");
}

#[test]
fn the_experts_together_know_every_area_and_none_knows_a_task() {
    // If this fails, some area can be answered by nobody, or one expert is all that is needed.
    let world = World::new(1);
    let known = experts::known(&world, 1);
    for (task, _) in AREAS.iter().take(8) {
        let areas = world.of_task(task);
        let knows = |area: usize| known.iter().any(|known| known.contains(&area));
        assert!(areas.iter().all(|area| knows(*area)), "{task}");
        let most = known.iter().map(|known| areas.iter().filter(|a| known.contains(a)).count());
        assert_eq!(most.max(), Some(areas.len() / 2), "{task}");
    }
}

#[test]
fn who_knows_nothing_is_right_by_chance() {
    // If this fails, the bare base is better or worse than guessing, and the experts look it, too.
    let world = World::new(1);
    for (task, chance) in [
        ("mmlu", 0.25),
        ("mmlu_pro", 0.1),
        ("hellaswag", 0.25),
        ("knowledge_crosswords", 0.25),
        ("nlgraph", 0.1),
        ("truthfulqa", 0.25),
        ("scifact", 0.5),
        ("normad_country", 1.0 / 3.0),
    ] {
        let areas = world.of_task(task);
        let n_items = 3000;
        let is_right = |item_idx: usize| {
            let stream = &mut Draws::new(1).stream(Purpose::Corpus, 0, item_idx);
            match world.item(areas[item_idx % areas.len()], stream).gold {
                Gold::Option { at, habit, .. } => at == habit,
                Gold::Path { right, habit } => {
                    let length = |path: &[Edge]| path.iter().map(|edge| edge.1).sum::<usize>();
                    length(&right) == length(&habit)
                }
                other => panic!("{task}: {other:?}"),
            }
        };
        let share = (0..n_items).filter(|idx| is_right(*idx)).count() as f64 / n_items as f64;
        assert!((share - chance).abs() < 0.04, "{task}: {share} of {chance}");
    }
}

#[test]
fn a_world_is_its_seeds_alone() {
    // If this fails, the testbed cannot be made again, or there is only one.
    let files = |seed| Data::new(&World::new(seed), seed).files;
    assert_eq!(files(1), files(1));
    assert_ne!(files(1)["mmlu.json"], files(2)["mmlu.json"]);
}
