//! How near the experts are to a question (cBTM): embeddings of the texts that they were trained
//! on, and of the questions.
//!
//! Either the base embeds both, by its own last hidden states; or a file brings embeddings of any
//! model, such as the paper's RoBERTa-base. That file has a JSON object a line, of two forms:
//!
//! ```json
//! {"expert": "cot", "embedding": [0.1, ...]}
//! {"query": "What does ...?", "embedding": [0.1, ...]}
//! ```
//!
//! one or more of the first for each expert, by the name of its folder, one for each training text;
//! and one of the second for each example, whose question or prompt it repeats to the letter. A
//! file of training texts has `{"text": "..."}` a line. All embeddings are brought to length 1.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Deserialize;

use crate::baseline::search::{centre, unit};
use crate::error::{Error, Result};
use crate::files::json_lines;
use crate::run::evaluate::{Base, Evaluator};
use crate::task::{Split, Task};
use crate::testbed::{NearnessFiles, training_texts};

/// What tells how near the experts are to a question.
pub struct Nearness {
    source: Source,
    centres: OnceLock<Vec<Vec<f64>>>, // (n, dim)
}

enum Source {
    /// Texts of each expert, `(n)`.
    Texts(Vec<Vec<String>>),
    /// Embeddings by query, all of one size, in this file.
    Embeddings(PathBuf, BTreeMap<String, Vec<f64>>),
}

impl Nearness {
    /// Opens and checks what the testbed has for the experts of these names.
    pub fn open(files: &NearnessFiles, experts: &[&str]) -> Result<Self> {
        match files {
            NearnessFiles::Texts(paths) => {
                let texts = paths.iter().map(|path| training_texts(path)).collect::<Result<_>>()?;
                Ok(Self { source: Source::Texts(texts), centres: OnceLock::new() })
            }
            NearnessFiles::Embeddings(path) => open_embeddings(path, experts),
        }
    }

    /// The files that it was read from.
    pub fn files(files: &NearnessFiles) -> &[PathBuf] {
        match files {
            NearnessFiles::Texts(paths) => paths,
            NearnessFiles::Embeddings(path) => std::slice::from_ref(path),
        }
    }

    /// The centre of each expert's training texts, `(n, dim)`; texts are embedded the first time.
    pub fn centres(&self, base: &Base, batch: Option<usize>) -> Result<&[Vec<f64>]> {
        if let (None, Source::Texts(texts)) = (self.centres.get(), &self.source) {
            let of_expert = |texts: &Vec<String>| Ok(centre(&base.embed(texts, batch)?));
            let centres = texts.iter().map(of_expert).collect::<Result<Vec<_>>>()?;
            let _ = self.centres.set(centres);
        }
        Ok(self.centres.get().expect("set above, or when the file was read"))
    }

    /// Each example's embedding, of length 1, by part.
    pub fn queries(&self, evaluator: &Evaluator, split: Split) -> Result<Vec<Vec<Vec<f64>>>> {
        match &self.source {
            Source::Texts(_) => {
                let embed = |prompts: Vec<String>| {
                    let embeddings = evaluator.base.embed(&prompts, evaluator.batch())?;
                    Ok(embeddings.iter().map(|embedding| unit(embedding)).collect())
                };
                evaluator.prompts(split)?.into_iter().map(embed).collect()
            }
            Source::Embeddings(path, known) => look_up(path, known, &evaluator.task, split),
        }
    }

    /// Refuses a task with an example that has no embedding.
    pub fn check(&self, task: &Task) -> Result<()> {
        if let Source::Embeddings(path, known) = &self.source {
            look_up(path, known, task, Split::Dev)?;
            look_up(path, known, task, Split::Test)?;
        }
        Ok(())
    }
}

/// The embeddings of a task's examples, each of length 1, by part.
fn look_up(
    path: &Path,
    known: &BTreeMap<String, Vec<f64>>,
    task: &Task,
    split: Split,
) -> Result<Vec<Vec<Vec<f64>>>> {
    let mut found = Vec::with_capacity(task.parts.len());
    for part in &task.parts {
        let find = |(idx, query): (usize, &str)| {
            known.get(query).map(|embedding| unit(embedding)).ok_or_else(|| {
                let (task, split) = (&part.name, split.name());
                Error::input(path, format!("has no embedding of {split}[{idx}] of {task}"))
            })
        };
        let of_part = part.queries(split).into_iter().enumerate().map(find);
        found.push(of_part.collect::<Result<_>>()?);
    }
    Ok(found)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbeddingLine {
    expert: Option<String>,
    query: Option<String>,
    embedding: Vec<f64>,
}

fn open_embeddings(path: &Path, experts: &[&str]) -> Result<Nearness> {
    let mut of_experts: Vec<Vec<Vec<f64>>> = vec![Vec::new(); experts.len()];
    let mut known = BTreeMap::new();
    let mut dim = None;
    for (line_idx, line) in json_lines::<EmbeddingLine>(path)?.into_iter().enumerate() {
        let refuse =
            |what: String| Err(Error::input(path, format!("line {}: {what}", line_idx + 1)));
        let found = line.embedding.len();
        let wanted = *dim.get_or_insert(found);
        if found == 0 || found != wanted {
            return refuse(format!("an embedding of {found} numbers, wanted {}", wanted.max(1)));
        }
        match (line.expert, line.query) {
            (Some(name), None) => match experts.iter().position(|expert| *expert == name) {
                Some(expert_idx) => of_experts[expert_idx].push(line.embedding),
                None => return refuse(format!("there is no expert {name:?}")),
            },
            (None, Some(query)) => {
                if known.insert(query, line.embedding).is_some() {
                    return refuse("the query has an embedding already".to_string());
                }
            }
            _ => return refuse("wanted either `expert` or `query`".to_string()),
        }
    }
    if let Some(lacking) = of_experts.iter().position(Vec::is_empty) {
        let what = format!("has no embedding of the expert {:?}", experts[lacking]);
        return Err(Error::input(path, what));
    }
    let centres: Vec<Vec<f64>> = of_experts.iter().map(|embeddings| centre(embeddings)).collect();
    let source = Source::Embeddings(path.to_path_buf(), known);
    Ok(Nearness { source, centres: OnceLock::from(centres) })
}
