//! A job becomes a result: the method searches or chooses with f on the validation examples, and
//! what it found is measured on the test examples.

use serde_json::{Value, json};

use super::utility::{Judge, Making, Measured};
use crate::adapter::Layout;
use crate::baseline::merge::n_layers;
use crate::baseline::search::{
    Candidate, Found, Genetic, LoraHub, Utility, best_single, cbtm, dare_ties, evol_merge,
    greedy_soup, lora_hub, model_stocks, pack_of_llms, plurality, slerp, uniform_soup,
};
use crate::error::{Error, Result};
use crate::plan::{Job, SwarmRun};
use crate::suite::{Method, Rescale, Space, Vote};
use crate::swarm::{Coefficients, Search};
use crate::task::{Score, Split};

/// A method's result.
pub struct Done {
    /// f on the validation examples.
    pub dev: f64,
    /// The same on the test examples, where there are some.
    pub test: Option<Measured>,
    /// f of every candidate that was asked for, in that order.
    pub utilities: Vec<f64>,
    /// What won, for a reader and for whoever wants to make it again.
    pub winner: Value,
}

/// Runs the job's method.
pub fn compute(job: &Job, layout: &Layout, judge: &mut Judge) -> Result<Done> {
    let making = making(job);
    let found = match &job.method {
        Method::DataMerge => return data_merge(judge),
        Method::PredictionMerge { vote } => return prediction_merge(*vote, judge),
        Method::ModelSwarms { .. } => return swarms(&job.runs, making, judge),
        Method::Cbtm { top, temperature } => return mixtures(top, *temperature, judge),
        Method::PackOfLlms { temperatures, .. } => {
            let losses = judge.prompt_losses()?;
            let mut f = |candidates: &[Candidate]| judge.utilities(making, candidates);
            pack_of_llms(&losses, temperatures, &mut f)?
        }
        method => {
            let n_experts = judge.n_experts();
            let mut f = |candidates: &[Candidate]| judge.utilities(making, candidates);
            search(method, job, n_experts, layout, &mut f)?
        }
    };
    let test = judge.test(making, &found.candidate)?;
    let winner = json!(found.candidate);
    Ok(Done { dev: found.utility, test, utilities: found.utilities, winner })
}

/// The methods that are given nothing but f.
fn search(method: &Method, job: &Job, n: usize, layout: &Layout, f: &mut Utility) -> Result<Found> {
    let seed = job.seed.unwrap_or_default();
    match method {
        Method::BestSingle => best_single(n, f),
        Method::UniformSoup { .. } => uniform_soup(n, f),
        Method::GreedySoup { accept, .. } => greedy_soup(n, *accept, f),
        Method::Slerp { t, .. } => slerp(n, *t, f),
        Method::DareTies { top, density, weights, .. } => dare_ties(n, top, *density, *weights, f),
        Method::ModelStocks { top, .. } => model_stocks(n, top, f),
        Method::EvolMerge { population, keep, generations, .. } => {
            let Some(n_layers) = n_layers(layout) else {
                let what = "evolmerge wants adapters whose modules are all in layers";
                return Err(Error::Usage(what.into()));
            };
            let sizes = genetic(*population, *keep, *generations, job.calls);
            evol_merge(n, n_layers, &sizes, seed, f)
        }
        Method::LoraHub { population, keep, generations, bound, alphas, mutation, .. } => {
            let sizes = genetic(*population, *keep, *generations, job.calls);
            let (bound, alphas, mutation) = (*bound, alphas.clone(), *mutation);
            lora_hub(n, &LoraHub { sizes, bound, alphas, mutation }, seed, f)
        }
        other => panic!("{other:?} has a procedure of its own"),
    }
}

fn genetic(population: usize, keep: usize, generations: usize, calls: u64) -> Genetic {
    Genetic { population, keep, generations, calls }
}

/// The best of the runs, the first of equals; each is Algorithm 1 over rows of coefficients.
fn swarms(runs: &[SwarmRun], making: Making, judge: &mut Judge) -> Result<Done> {
    let n_experts = judge.n_experts();
    let mut utilities = Vec::new();
    let mut best: Option<(usize, f64, Vec<f64>)> = None;
    for (run_idx, run) in runs.iter().enumerate() {
        let space = Coefficients::new(n_experts, run.settings.n_particles(n_experts));
        let mut search = Search::new(&run.settings, run.seed, space)?;
        let f = |space: &Coefficients, particles: &[usize]| {
            let at = |particle: &usize| Candidate::Linear(space.location(*particle).to_vec());
            let candidates: Vec<Candidate> = particles.iter().map(at).collect();
            let found = judge.utilities(making, &candidates)?;
            utilities.extend_from_slice(&found);
            Ok(found)
        };
        let outcome = search.run(f, |_| Ok(()))?;
        if best.as_ref().is_none_or(|(_, highest, _)| outcome.best.utility > *highest) {
            best = Some((run_idx, outcome.best.utility, outcome.best.coefficients));
        }
    }
    let Some((run_idx, dev, row)) = best else { panic!("a swarm without runs was planned") };
    let candidate = Candidate::Linear(row);
    let test = judge.test(making, &candidate)?;
    Ok(Done { dev, test, utilities, winner: json!({"run": run_idx, "candidate": candidate}) })
}

fn data_merge(judge: &Judge) -> Result<Done> {
    let dev = judge.data_merge(Split::Dev)?.utility;
    let test = (judge.n_examples(Split::Test) > 0).then(|| judge.data_merge(Split::Test));
    let winner = json!("data-merge");
    Ok(Done { dev, test: test.transpose()?, utilities: vec![dev], winner })
}

/// The best number of experts that speak for a prompt together.
fn mixtures(top: &[usize], temperature: f64, judge: &mut Judge) -> Result<Done> {
    let mixture = |judge: &mut Judge, candidate: &Candidate, split| {
        let Candidate::Mixture { top } = candidate else { panic!("{candidate:?} is no mixture") };
        judge.mixture(temperature, *top, split)
    };
    let mut entropy = 0.0;
    let found = cbtm(top, &mut |candidates: &[Candidate]| {
        let f = |candidate: &Candidate| {
            let (measured, of_weights) = mixture(judge, candidate, Split::Dev)?;
            entropy = of_weights; // of all experts, the same for each `top`
            Ok(measured.utility)
        };
        candidates.iter().map(f).collect()
    })?;
    let candidate = &found.candidate;
    let winner = json!({"candidate": candidate, "entropy": entropy});
    let test = match judge.n_examples(Split::Test) {
        0 => None,
        _ => Some(mixture(judge, candidate, Split::Test)?.0),
    };
    Ok(Done { dev: found.utility, test, utilities: found.utilities, winner })
}

/// The experts vote on every question; equal votes are decided by their f.
fn prediction_merge(vote: Vote, judge: &mut Judge) -> Result<Done> {
    let scores = judge.expert_scores(Split::Dev)?;
    let utilities: Vec<f64> = scores.iter().map(|score| score.utility).collect();
    let dev = voted(vote, scores, &utilities).utility;
    let test = match judge.n_examples(Split::Test) {
        0 => None,
        _ => Some(voted(vote, judge.expert_scores(Split::Test)?, &utilities)),
    };
    let winner = json!({"vote": vote, "utilities": utilities});
    Ok(Done { dev, test, utilities, winner })
}

/// Whether the answer with most votes is right, question by question, and the share of these.
fn voted(vote: Vote, scores: &[Score], utilities: &[f64]) -> Measured {
    let n_questions = scores[0].predictions.len();
    let is_right = |question: usize| {
        // An answer carries whether it is right, which all who give it share.
        let answers = scores.iter().map(|score| {
            let prediction = &score.predictions[question];
            let text = match vote {
                Vote::Answers => prediction.parsed.as_deref(),
                Vote::Correctness => None,
            };
            (text, prediction.score > 0.5)
        });
        let answers: Vec<(Option<&str>, bool)> = answers.collect();
        plurality(&answers, utilities).1
    };
    Measured::mean((0..n_questions).map(|question| f64::from(is_right(question))).collect())
}

/// How the job's method makes adapters of its candidates.
fn making(job: &Job) -> Making {
    let rescale = match &job.method {
        Method::DareTies { rescale, .. } => *rescale,
        _ => Rescale::Density,
    };
    Making { space: space(&job.method), rescale, seed: job.seed.unwrap_or_default() }
}

/// Where the method mixes; the swarm, and methods that mix nothing, use factors.
pub fn space(method: &Method) -> Space {
    match method {
        Method::UniformSoup { space }
        | Method::Slerp { space, .. }
        | Method::ModelStocks { space, .. }
        | Method::GreedySoup { space, .. }
        | Method::PackOfLlms { space, .. }
        | Method::EvolMerge { space, .. }
        | Method::LoraHub { space, .. }
        | Method::DareTies { space, .. } => *space,
        Method::BestSingle
        | Method::DataMerge
        | Method::PredictionMerge { .. }
        | Method::Cbtm { .. }
        | Method::ModelSwarms { .. } => Space::Factor,
    }
}
