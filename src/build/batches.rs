//! The documents of every training step, each from its own address of the seed.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::mini::documents::{Known, Stage, Writer};
use crate::mini::experts;
use crate::mini::vocabulary::EOS;
use crate::rng::{Draws, Purpose, Stream};
use crate::train::fit::Batch;

/// Tokens of a document.
pub const N_TOKENS: usize = 160;

/// Steps of the base's training, and when its stages end.
pub const BASE_STEPS: usize = 20_000;
const SCHOOL_SHARE: f64 = 0.075;
const EXPERTS_SHARE: f64 = 0.45;
const BASE_ROWS: usize = 12;

/// Steps of an expert's training.
pub const EXPERT_STEPS: usize = 500;
const EXPERT_ROWS: usize = 8;

/// The model number of the base in the addresses of draws.
const BASE_MODEL: usize = 255;

fn rows(seed: u64, model: usize, step: usize, n_rows: usize) -> Vec<Stream> {
    let draws = Draws::new(seed);
    let address = |row| draws.stream(Purpose::Corpus, step as u32, model * 256 + row);
    (0..n_rows).map(address).collect()
}

/// What the base reads in a step.
pub fn base_batch(writer: &Writer, seed: u64, step: usize) -> Batch {
    let stage = match step as f64 / BASE_STEPS as f64 {
        done if done < SCHOOL_SHARE => Stage::School,
        done if done < EXPERTS_SHARE => Stage::Experts,
        _ => Stage::People,
    };
    let mut batch = Batch::default();
    for mut stream in rows(seed, BASE_MODEL, step, BASE_ROWS) {
        let row = writer.base_row(stage, &mut stream);
        batch.rows.push(row.tokens);
        batch.shares.push(row.shares);
    }
    batch
}

/// What the adapter of number `idx` is tuned on in a step: rows of those who know `known`, in turn.
pub fn expert_batch(
    writer: &Writer,
    known: &[&Known],
    idx: usize,
    seed: u64,
    step: usize,
) -> Batch {
    let mut batch = Batch::default();
    for (row_idx, mut stream) in rows(seed, idx, step, EXPERT_ROWS).into_iter().enumerate() {
        let whose = known[(step * EXPERT_ROWS + row_idx) % known.len()];
        let row = writer.expert_row(whose, &mut stream);
        batch.rows.push(row.tokens);
        batch.shares.push(row.shares);
    }
    batch
}

/// Texts of an expert's sample.
const N_TEXTS: usize = 200;
const N_TEXT_ROWS: usize = 64;

/// A sample of what each expert is trained on: questions with their answers, one a text.
pub fn texts(writer: &Writer, known: &[Known], seed: u64) -> BTreeMap<&'static str, Vec<String>> {
    let sample = |(idx, known): (usize, &Known)| {
        let mut texts = Vec::new();
        for stream in &mut rows(seed, idx, 0, N_TEXT_ROWS) {
            let row = writer.expert_row(known, stream);
            let answered = row.tokens.split_inclusive(|token| *token == EOS);
            let whole = answered.filter(|tokens| tokens.last() == Some(&EOS));
            texts.extend(whole.map(|tokens| {
                let words: Vec<u32> = tokens.iter().copied().filter(|t| *t > EOS + 1).collect();
                writer.world.vocabulary.text(&words)
            }));
        }
        texts.truncate(N_TEXTS);
        (experts::NAMES[idx], texts)
    };
    known.iter().enumerate().map(sample).collect()
}

/// Looks in every document that a model is trained on for a prompt of the data files, and says what
/// it compared; a prompt that is found is an error.
pub fn compare(writer: &Writer, known: &[Known], seed: u64) -> Result<String> {
    let prompts = Prompts::new(writer.held_out);
    let all: Vec<&Known> = known.iter().collect();
    let adapters = (0..=known.len()).flat_map(|idx| (0..EXPERT_STEPS).map(move |step| (idx, step)));
    let adapters: Vec<(usize, usize)> = adapters.collect();
    let of_base = (0..BASE_STEPS).into_par_iter().map(|step| base_batch(writer, seed, step));
    let of_adapters = adapters.par_iter().map(|(idx, step)| {
        let whose = if *idx < known.len() { &all[*idx..=*idx] } else { &all[..] };
        expert_batch(writer, whose, *idx, seed, *step)
    });
    let n_found: usize = of_base
        .chain(of_adapters)
        .map(|batch| batch.rows.iter().filter(|row| prompts.stand_in(row)).count())
        .sum();
    let n_documents = BASE_STEPS * BASE_ROWS + adapters.len() * EXPERT_ROWS;
    let text = format!(
        "{} prompts of the data files, validation and test, compared with all {n_documents} \
         training documents: {n_found} hold one",
        writer.held_out.len()
    );
    if n_found > 0 { Err(Error::Usage(text)) } else { Ok(text) }
}

/// Prompts by how they begin, so that most places of a document need one look.
struct Prompts<'a> {
    all: &'a BTreeSet<Vec<u32>>,
    begins: BTreeSet<&'a [u32]>,
    lengths: BTreeSet<usize>,
    n_begin: usize,
}

impl<'a> Prompts<'a> {
    fn new(all: &'a BTreeSet<Vec<u32>>) -> Self {
        let lengths: BTreeSet<usize> = all.iter().map(Vec::len).collect();
        let n_begin = lengths.first().copied().unwrap_or(0).min(5);
        let begins = all.iter().map(|prompt| &prompt[..n_begin]).collect();
        Self { all, begins, lengths, n_begin }
    }

    fn stand_in(&self, row: &[u32]) -> bool {
        (0..row.len()).any(|start| {
            let rest = &row[start..];
            self.begins.contains(&rest[..self.n_begin.min(rest.len())])
                && self.lengths.iter().any(|n| *n <= rest.len() && self.all.contains(&rest[..*n]))
        })
    }
}
