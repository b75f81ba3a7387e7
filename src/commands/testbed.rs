//! `model-swarms testbed`: what can be known of a testbed before any search; the mini testbed's
//! build.

use serde_json::json;

use super::{Format, open_testbed, options, print_as};
use crate::adapter::{Expert, Pool};
use crate::check::{MOST_AT_ONCE, best_of, check, mixing, text};
use crate::cli::{BuildArgs, CheckArgs, TestbedArgs, TestbedCommand};
use crate::error::{Error, Result};
use crate::mode::Mode;
use crate::model::lora::Places;
use crate::model::memory::Held;
use crate::run::evaluate::{Base, Evaluator};
use crate::testbed::{NearnessFiles, training_texts};

/// The nine tasks of Table 1.
const TASKS: [&str; 9] = [
    "mmlu",
    "mmlu_pro",
    "hellaswag",
    "knowledge_crosswords",
    "gsm8k",
    "nlgraph",
    "truthfulqa",
    "realtoxicityprompts",
    "abstainqa",
];

/// Runs the command.
pub fn run(args: TestbedArgs, format: Format) -> Result<()> {
    match args.command {
        TestbedCommand::Check(args) => run_check(&args, format),
        TestbedCommand::Build(args) => build(&args),
    }
}

fn run_check(args: &CheckArgs, format: Format) -> Result<()> {
    let testbed = open_testbed(&args.testbed)?;
    let found = testbed.find(&TASKS, Mode::Paper)?;
    for missing in &found.missing {
        eprintln!("missing: {missing}");
    }
    let (Some(base), false) = (&found.base, found.experts.is_empty()) else {
        return Err(Error::input(testbed.path(), "has no base or no experts, wanted both"));
    };
    let options = options(&args.run)?;
    let experts = found.experts.iter().map(|dir| Expert::open(dir)).collect::<Result<_>>()?;
    let pool = Pool::from_experts(experts)?;
    let mut base = Base::open(base, options, Held::made_of(&pool, MOST_AT_ONCE))?;
    let places = Places::find(pool.layout(), &base.model.config, &found.experts[0])?;
    let experts = base.model.experts(pool, places)?;
    let texts = match &found.nearness {
        Some(NearnessFiles::Texts(paths)) => paths.iter().map(|p| training_texts(p)).collect(),
        _ => Ok(Vec::new()),
    };
    let texts = texts?.concat();
    let mut checks = Vec::new();
    for task in found.tasks.into_iter().flatten() {
        let evaluator = Evaluator::new(base, task, options.batch);
        checks.push(check(&evaluator, &experts, (args.seed, &texts))?);
        eprintln!("checked {}", evaluator.task.name);
        base = evaluator.base;
    }
    let pool = experts.pool();
    let mixing = mixing(options.isa, pool);
    let best: std::collections::BTreeSet<usize> =
        checks.iter().map(|check| best_of(&check.experts)).collect();
    let names = pool.names();
    let result = json!({
        "tasks": checks, "mixing": mixing, "experts": names, "different_best": best.len()
    });
    print_as(format, &result, |_| text(&checks, &mixing, &names))
}

#[cfg(feature = "train")]
fn build(args: &BuildArgs) -> Result<()> {
    let work = args.work.clone().unwrap_or_else(|| args.out.with_extension("work"));
    crate::build::build(&args.out, &work, args.seed, &mut |line| eprintln!("{line}"))
}

#[cfg(not(feature = "train"))]
fn build(args: &BuildArgs) -> Result<()> {
    let what = "this program was built without the feature `train`";
    Err(Error::Usage(format!("cannot build {}: {what}", args.out.display())))
}
