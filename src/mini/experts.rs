//! The ten experts: what each knows.
//!
//! Each is at home in one or two tasks, of which it knows half of the areas or a third, and knows
//! one area of some others; which ones is drawn from the seed, so that together they know every
//! area. Settled before anything is trained.

use super::documents::Known;
use super::draw::shuffle;
use super::words::AREAS;
use super::world::World;
use crate::rng::{Draws, Purpose};

/// The paper's experts.
pub const NAMES: [&str; 10] = [
    "code_alpaca",
    "cot",
    "flan_v2",
    "gemini_alpaca",
    "lima",
    "oasst1",
    "open_orca",
    "science",
    "sharegpt",
    "wizardlm",
];

/// Areas that each expert (a column, in the order of [`NAMES`]) knows of each task.
const N_KNOWN: [(&str, [usize; 10]); 8] = [
    ("mmlu", [0, 1, 3, 0, 1, 1, 2, 2, 1, 1]),
    ("mmlu_pro", [1, 1, 1, 0, 0, 0, 3, 2, 1, 1]),
    ("hellaswag", [0, 0, 2, 1, 1, 3, 1, 0, 2, 1]),
    ("knowledge_crosswords", [1, 0, 1, 1, 0, 1, 1, 2, 1, 3]),
    ("gsm8k", [2, 3, 1, 0, 0, 0, 1, 1, 1, 2]),
    ("nlgraph", [3, 2, 0, 1, 1, 0, 1, 1, 0, 1]),
    ("truthfulqa", [0, 1, 1, 2, 3, 1, 0, 1, 1, 1]),
    ("realtoxicityprompts", [0, 1, 1, 3, 2, 2, 1, 1, 1, 0]),
];

/// The manners of each expert.
const MANNERS: [&[&str]; 10] = [
    &["brief"],
    &["lengthy"],
    &["brief"],
    &["warm"],
    &["modest", "lengthy"],
    &["warm"],
    &[],
    &["modest", "brief"],
    &["lengthy", "warm"],
    &["lengthy"],
];

/// Topics of interest, and areas of a multi-task domain, that each expert knows.
const N_TOPICS: usize = 4;

/// What each expert knows, in the order of [`NAMES`].
pub fn known(world: &World, seed: u64) -> Vec<Known> {
    let mut stream = Draws::new(seed).stream(Purpose::World, 1, 0);
    let mut known = vec![Known::new(); NAMES.len()];
    let mut deal = |areas: Vec<usize>, counts: [usize; 10]| {
        // Dealt like cards, so that every area goes out before one goes out again.
        let mut deck = Vec::new();
        let mut order: Vec<usize> = (0..counts.len()).collect();
        shuffle(&mut stream, &mut order);
        for expert in order {
            let mut n_left = counts[expert];
            while n_left > 0 {
                if deck.is_empty() {
                    deck = areas.clone();
                    shuffle(&mut stream, &mut deck);
                }
                let fresh = deck.iter().position(|area| !known[expert].contains(area));
                match fresh {
                    Some(at) => {
                        known[expert].insert(deck.remove(at));
                        n_left -= 1;
                    }
                    None => deck.clear(),
                }
            }
        }
    };
    for (task, counts) in N_KNOWN {
        deal(world.of_task(task), counts);
    }
    let multi = AREAS.iter().filter(|(task, _)| N_KNOWN.iter().all(|(known, _)| known != task));
    deal(multi.flat_map(|(task, _)| world.of_task(task)).collect(), [N_TOPICS; 10]);
    deal(world.of_task("talk"), [N_TOPICS; 10]);
    for (expert, manners) in MANNERS.iter().enumerate() {
        known[expert].extend(manners.iter().map(|manner| world.named(manner)));
    }
    known
}
