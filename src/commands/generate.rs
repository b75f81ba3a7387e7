//! `model-swarms generate`

use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Format, options, print};
use crate::adapter::{Adapter, Expert, Layout};
use crate::cli::GenerateArgs;
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::model::Adapted;
use crate::model::decode::{Job, Report};
use crate::model::locate::locate;
use crate::model::lora::Places;
use crate::model::memory::Held;
use crate::run::evaluate::Base;
use crate::task::PromptForm;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptLine {
    id: Value,
    prompt: Option<String>,
    tokens: Option<Vec<u32>>,
}

#[derive(Serialize)]
struct AnswerLine<'a> {
    id: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<String>,
    text: String,
    tokens: &'a [u32],
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<&'a [f32]>,
}

#[derive(Serialize)]
struct Summary {
    prompts: usize,
    adapters: usize,
    prompt_tokens: usize,
    new_tokens: usize,
    seconds: f64,
    tokens_per_second: f64,
}

/// Runs the command.
pub fn run(args: GenerateArgs, format: Format) -> Result<()> {
    let options = options(&args.run)?;
    let open = |dir: &PathBuf| Expert::open(dir);
    let experts: Vec<Expert> = args.adapter.par_iter().map(open).collect::<Result<_>>()?;
    let layouts: Vec<&Layout> = experts.iter().map(|expert| &**expert.layout()).collect();
    let base = Base::open(&locate(&args.base)?, options, Held::all(&layouts))?;
    let form = if args.chat { PromptForm::Chat } else { PromptForm::Raw };
    let (ids, tokens) = read_prompts(&args.prompts, &base, form, args.max_new_tokens)?;
    let started = Instant::now();
    let eos: &[u32] = if args.ignore_eos { &[] } else { &base.eos };
    let report = if args.logits { Report::Logits } else { Report::Tokens };
    let mut answers = Vec::new();
    for adapted in adapted_sets(&base, &experts)? {
        let mut jobs = Vec::with_capacity(adapted.n_adapters() * tokens.len());
        for adapter_idx in 0..adapted.n_adapters() {
            let max_new_tokens = args.max_new_tokens;
            jobs.extend(tokens.iter().map(|tokens| Job { adapter_idx, tokens, max_new_tokens }));
        }
        answers.extend(base.model.generate(&adapted, &jobs, eos, options.batch, report)?);
    }
    let seconds = started.elapsed().as_secs_f64();

    let mut out = String::new();
    for (idx, answer) in answers.iter().enumerate() {
        let adapter = args.adapter.get(idx / tokens.len());
        let line = AnswerLine {
            id: &ids[idx % tokens.len()],
            adapter: adapter.map(|dir| dir.display().to_string()),
            text: base.tokenizer.decode(&answer.tokens)?,
            tokens: &answer.tokens,
            logits: answer.logits.as_deref(),
        };
        out.push_str(&serde_json::to_string(&line).expect("plain data"));
        out.push('\n');
    }
    let n_rounds = answers.len() / tokens.len().max(1);
    let prompt_tokens = n_rounds * tokens.iter().map(Vec::len).sum::<usize>();
    let new_tokens: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
    let summary = Summary {
        prompts: tokens.len(),
        adapters: args.adapter.len(),
        prompt_tokens,
        new_tokens,
        seconds,
        tokens_per_second: (prompt_tokens + new_tokens) as f64 / seconds,
    };
    match format {
        Format::Json => {
            out.push_str(&serde_json::to_string(&summary).expect("plain data"));
            out.push('\n');
        }
        Format::Text => eprintln!(
            "{} prompts, {} prompt tokens and {} new ones in {seconds:.2} s: {:.0} tokens/s",
            summary.prompts, prompt_tokens, new_tokens, summary.tokens_per_second
        ),
    }
    print(&out)
}

/// These adapters, in order; neighbours of one layout are one set. Without any, the base.
fn adapted_sets(base: &Base, experts: &[Expert]) -> Result<Vec<Adapted>> {
    if experts.is_empty() {
        return Ok(vec![Adapted::base()]);
    }
    let mut sets = Vec::new();
    for alike in experts.chunk_by(|left, right| left.layout() == right.layout()) {
        let places = Places::find(alike[0].layout(), &base.model.config, alike[0].dir())?;
        let adapters: Vec<Adapter> = alike.par_iter().map(Expert::to_adapter).collect();
        sets.push(base.model.adapt(&places, &adapters.iter().collect::<Vec<_>>())?);
    }
    Ok(sets)
}

/// The ids and the tokens of every line.
fn read_prompts(
    path: &Path,
    base: &Base,
    form: PromptForm,
    n_new: usize,
) -> Result<(Vec<Value>, Vec<Vec<u32>>)> {
    let text = read_text(path)?;
    let (mut ids, mut tokens) = (Vec::new(), Vec::new());
    for (idx, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |what: String| Error::input(path, format!("line {}: {what}", idx + 1));
        let line: PromptLine =
            serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let these = match (line.prompt, line.tokens) {
            (Some(prompt), None) => {
                let encoded = base.tokens(&[prompt], form, n_new);
                encoded.map_err(|error| wrong(error.to_string()))?.remove(0)
            }
            (None, Some(tokens)) => {
                base.check(&tokens, "it", n_new).map_err(|error| wrong(error.to_string()))?;
                tokens
            }
            _ => return Err(wrong("wanted either \"prompt\" or \"tokens\"".into())),
        };
        ids.push(line.id);
        tokens.push(these);
    }
    if ids.is_empty() {
        return Err(Error::input(path, "holds no prompt"));
    }
    Ok((ids, tokens))
}
