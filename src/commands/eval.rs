//! `model-swarms eval`

use serde::Serialize;

use super::{Format, is_same, options, print_as};
use crate::adapter::Expert;
use crate::cli::EvalArgs;
use crate::error::{Error, Result};
use crate::files::check_writable;
use crate::model::locate::locate;
use crate::model::lora::Places;
use crate::model::memory::Held;
use crate::run::candidates::Candidates;
use crate::run::evaluate::{Base, Evaluator};
use crate::run::search::write_predictions;
use crate::task::{PartScore, Split, Task};

#[derive(Serialize)]
struct Report {
    task: String,
    split: &'static str,
    utility: f64,
    parts: Vec<PartScore>,
    n_examples: usize,
    n_unparsed: usize,
}

/// Runs the command.
pub fn run(args: EvalArgs, format: Format) -> Result<()> {
    let options = options(&args.run)?;
    let split = Split::from(args.split);
    let task = Task::open(&args.task, args.mode.into())?;
    if let Some(path) = &args.predictions {
        if task.inputs.iter().any(|input| is_same(input, path)) {
            return Err(Error::input(path, "is a file of the task, wanted another"));
        }
        check_writable(path)?;
    }
    let expert = args.adapter.as_deref().map(Expert::open).transpose()?;
    let held = expert.as_ref().map_or(Held::default(), |expert| Held::of(expert.layout(), 1));
    let base = Base::open(&locate(&args.base)?, options, held)?;
    let evaluator = Evaluator::new(base, task, options.batch);
    let mut scores = match &expert {
        None => evaluator.scores(&Candidates::Base, split)?,
        Some(expert) => {
            let config = &evaluator.base.model.config;
            let candidates = Candidates::Adapters {
                adapters: &[expert.to_adapter()],
                places: &Places::find(expert.layout(), config, expert.dir())?,
                config: expert.config(),
                dtype: expert.dtype(),
            };
            evaluator.scores(&candidates, split)?
        }
    };
    let score = scores.remove(0);
    if let Some(path) = &args.predictions {
        write_predictions(path, &score)?;
    }
    let report = Report {
        task: evaluator.task.name.clone(),
        split: split.name(),
        utility: score.utility,
        parts: score.parts,
        n_examples: evaluator.task.n_examples(split),
        n_unparsed: score.n_unparsed,
    };
    print_as(format, &report, |report| {
        let mut text = format!(
            "{} {}: utility {:.4} over {} examples, {} of them without a readable answer\n",
            report.task, report.split, report.utility, report.n_examples, report.n_unparsed
        );
        if report.parts.len() > 1 {
            for part in &report.parts {
                text.push_str(&format!("  {}: {:.4}\n", part.task, part.utility));
            }
        }
        text
    })
}
