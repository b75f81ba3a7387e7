//! `model-swarms example`: a tiny testbed whose gold answers are those of a secret mixture of its
//! experts, so that there is something to find.

use std::fs;

use serde_json::json;

use super::{Format, print_as};
use crate::adapter::{Pool, materialise};
use crate::backend::cpu::Isa;
use crate::cli::ExampleArgs;
use crate::error::{Error, Result};
use crate::example::{self, LETTERS, MAX_QUESTIONS, Question};
use crate::model::Device;
use crate::model::decode::{Job, Report};
use crate::model::lora::Places;
use crate::model::memory::Held;
use crate::run::evaluate::{Base, Options};
use crate::task::PromptForm;

const N_DEV: usize = 200;
const N_TEST: usize = 1000;

/// Runs the command.
pub fn run(args: ExampleArgs, format: Format) -> Result<()> {
    let isa = Isa::from_environment()?;
    let out = &args.out;
    if out.exists() {
        return Err(Error::input(out, "exists already, wanted the name of a new folder"));
    }
    fs::create_dir_all(out).map_err(Error::io(out, "create"))?;
    example::write_base(&out.join("base"), args.seed)?;
    example::write_experts(&out.join("experts"), args.seed)?;

    let options = Options { device: Device::Cpu, isa, application: None, batch: None };
    let base = Base::open(&out.join("base"), options, Held::default())?;
    let pool = Pool::open(&out.join("experts"))?;
    let places = Places::find(pool.layout(), &base.model.config, &out.join("experts"))?;
    let secret = materialise(isa, &pool, &[&example::secret_location(args.seed)]).remove(0);
    let adapted = base.model.adapt(&places, &[&secret])?;

    let mut questions = example::questions(args.seed, MAX_QUESTIONS);
    let prompts: Vec<String> = questions.iter().map(example::prompt).collect();
    let tokens = base.tokens(&prompts, PromptForm::Raw, 1)?;
    let jobs: Vec<Job> =
        tokens.iter().map(|tokens| Job { adapter_idx: 0, tokens, max_new_tokens: 1 }).collect();
    let answers = base.model.generate(&adapted, &jobs, &base.eos, None, Report::Tokens)?;
    let mut settled: Vec<Question> = Vec::new();
    for (mut question, answer) in questions.drain(..).zip(answers) {
        let text = base.tokenizer.decode(&answer.tokens)?;
        let letter = LETTERS.iter().position(|letter| text.trim() == letter.to_string());
        if let Some(letter) = letter {
            question.answer = letter;
            settled.push(question);
        }
    }
    let chosen = example::balanced(&settled, N_DEV + N_TEST);
    if chosen.len() < N_DEV + N_TEST {
        return Err(Error::Usage(format!(
            "seed {}: the secret mixture's letters are too uneven; try another seed",
            args.seed
        )));
    }
    let (dev, test) = chosen.split_at(N_DEV);
    example::write_task(out, dev, test)?;
    example::write_prompts(&out.join("prompts.jsonl"), dev)?;

    let at = |name: &str| out.join(name).to_string_lossy().into_owned();
    let made = json!({
        "base": at("base"), "experts": at("experts"), "task": at("task.toml"),
        "prompts": at("prompts.jsonl"),
    });
    print_as(format, &made, |_| {
        let out = out.display();
        format!(
            "{out}/base       a Gemma of half a million parameters\n\
             {out}/experts    ten LoRA adapters of it\n\
             {out}/task.toml  {N_DEV} validation and {N_TEST} test questions, answered by a secret \
             mixture of the experts\n\
             {out}/prompts.jsonl\n"
        )
    })
}
