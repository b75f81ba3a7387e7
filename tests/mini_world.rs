//! The mini world, seen from outside: its text, its tokens, its data files.

use std::collections::BTreeSet;

use model_swarms::files::write_atomic;
use model_swarms::mini::data::Data;
use model_swarms::mini::documents::{Known, Stage, Writer};
use model_swarms::mini::experts;
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
    let json = tokenizer_json(&world.vocabulary);
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
fn peek() {
    let world = World::new(1);
    let data = Data::new(&world, 1);
    println!("{} pieces", world.vocabulary.pieces().len());
    for (name, file) in &data.files {
        println!("{name}: {} bytes {}", file.to_string().len(), file["dev"][0]);
    }
    let known = experts::known(&world, 1);
    for (name, known) in experts::NAMES.iter().zip(&known) {
        let names: Vec<_> =
            known.iter().map(|a| world.vocabulary.text(&[world.areas[*a].name])).collect();
        println!("{name}:{}", names.concat());
    }
    let writer = Writer { world: &world, n_tokens: 160, held_out: &data.prompts };
    for row in 0..6 {
        let stream = &mut Draws::new(1).stream(Purpose::Corpus, 0, row);
        for stage in [Stage::School, Stage::Experts, Stage::People] {
            let row = writer.base_row(stage, stream);
            println!("--- {stage:?}\n{}", world.vocabulary.text(&row.tokens));
        }
        println!(
            "--- expert\n{}",
            world.vocabulary.text(&writer.expert_row(&known[row], stream).tokens)
        );
    }
    let _ = (Known::new(), BTreeSet::<u8>::new());
}
