//! f of candidates on one task: a candidate becomes an adapter in its row's space, the adapter is
//! measured, and the number is remembered by what the candidate is, for all rows of the column.

use std::collections::BTreeMap;

use super::inputs::Inputs;
use crate::adapter::{Adapter, Expert, ModuleLayout};
use crate::baseline::merge::{
    self, BaseOf, DareTies, Divide, Election, Grain, Masks, Merged, Ties, merge, merge_layers,
};
use crate::baseline::search::{Candidate, prompt_weights};
use crate::error::Result;
use crate::model::Adapted;
use crate::model::lora::Places;
use crate::model::mixture::Share;
use crate::model::weights::BaseFiles;
use crate::run::candidates::Candidates;
use crate::run::evaluate::Evaluator;
use crate::suite::{Rescale, Space};
use crate::task::{Score, Split};

/// How a row makes adapters of its candidates.
#[derive(Debug, Clone, Copy)]
pub struct Making {
    /// What is mixed.
    pub space: Space,
    /// How DARE makes up for what it drops.
    pub rescale: Rescale,
    /// The seed of DARE's masks.
    pub seed: u64,
}

/// f of something, and on the test split what each example was worth where f is their mean.
#[derive(Debug, Clone)]
pub struct Measured {
    /// f.
    pub utility: f64,
    /// In file order; none where f is no mean over examples.
    pub scores: Vec<f64>,
}

impl Measured {
    /// The mean of these.
    pub fn mean(scores: Vec<f64>) -> Self {
        Self { utility: scores.iter().sum::<f64>() / scores.len() as f64, scores }
    }

    fn of(score: &Score, split: Split) -> Self {
        let utility = score.utility;
        if split == Split::Test {
            let mean = Self::mean(score.predictions.iter().map(|example| example.score).collect());
            if mean.utility == utility {
                return mean;
            }
        }
        Self { utility, scores: Vec::new() }
    }
}

/// Measures candidates on one task and remembers their utilities.
pub struct Judge<'a> {
    inputs: &'a Inputs,
    evaluator: &'a Evaluator,
    known: [BTreeMap<String, Measured>; 2], // by split
    experts: [Option<Vec<Score>>; 2],       // by split
    queries: [Option<Queries>; 2],          // by split
}

/// Each example's embedding, by part: (n_parts, n_examples, dim)
type Queries = Vec<Vec<Vec<f64>>>;

impl<'a> Judge<'a> {
    /// Knows nothing yet.
    pub fn new(inputs: &'a Inputs, evaluator: &'a Evaluator) -> Self {
        let (known, experts, queries) = Default::default();
        Self { inputs, evaluator, known, experts, queries }
    }

    /// n.
    pub fn n_experts(&self) -> usize {
        self.inputs.pool().experts.len()
    }

    /// Adapters of the pool's layout that are measured at once.
    fn at_once(&self) -> usize {
        self.evaluator.base.model.at_once(self.inputs.pool().layout())
    }

    /// How many examples `split` has.
    pub fn n_examples(&self, split: Split) -> usize {
        self.evaluator.task.n_examples(split)
    }

    /// The utilities of candidates on the validation examples, in their order.
    pub fn utilities(&mut self, making: Making, candidates: &[Candidate]) -> Result<Vec<f64>> {
        let measured = self.measured(making, Split::Dev, candidates)?;
        Ok(measured.into_iter().map(|measured| measured.utility).collect())
    }

    /// What a candidate does on the test examples, where there are some.
    pub fn test(&mut self, making: Making, candidate: &Candidate) -> Result<Option<Measured>> {
        if self.n_examples(Split::Test) == 0 {
            return Ok(None);
        }
        let candidate = std::slice::from_ref(candidate);
        Ok(self.measured(making, Split::Test, candidate)?.pop())
    }

    fn measured(
        &mut self,
        making: Making,
        split: Split,
        candidates: &[Candidate],
    ) -> Result<Vec<Measured>> {
        let keys: Vec<String> = candidates.iter().map(|candidate| key(making, candidate)).collect();
        let (mut rows, mut layered, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let mut asked: Vec<&String> = Vec::new();
        for (key, candidate) in keys.iter().zip(candidates) {
            if self.known[at(split)].contains_key(key) || asked.contains(&key) {
                continue;
            }
            asked.push(key);
            match candidate {
                Candidate::Linear(row) if is_in_pool(making, candidate) => {
                    rows.push((key, row.as_slice()));
                }
                Candidate::Layered(rows) => layered.push((key, rows)),
                other => others.push((key, other)),
            }
        }
        let (pool, n_together) = (self.inputs.pool(), self.at_once());
        for group in rows.chunks(n_together) {
            let rows: Vec<&[f64]> = group.iter().map(|(_, row)| *row).collect();
            let candidates = Candidates::Locations { experts: &self.inputs.experts, rows: &rows };
            let scores = self.evaluator.scores(&candidates, split)?;
            self.remember(split, group.iter().map(|(key, _)| *key), &scores);
        }
        for group in layered.chunks(n_together) {
            let made = group.iter().map(|(_, rows)| {
                let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
                merge_layers(pool, &rows)
            });
            let scores = self.in_pool(&made.collect::<Result<Vec<_>>>()?, split)?;
            self.remember(split, group.iter().map(|(key, _)| *key), &scores);
        }
        for (key, candidate) in others {
            let score = self.merged(&self.merge(making, candidate)?, split)?;
            self.remember(split, std::iter::once(key), &[score]);
        }
        Ok(keys.iter().map(|key| self.known[at(split)][key].clone()).collect())
    }

    /// The experts' scores with all their answers.
    pub fn expert_scores(&mut self, split: Split) -> Result<&[Score]> {
        if self.experts[at(split)].is_none() {
            let n_experts = self.n_experts();
            let experts = &self.inputs.pool().experts;
            let mut scores = Vec::with_capacity(n_experts);
            for group in experts.chunks(self.at_once()) {
                let adapters: Vec<Adapter> = group.iter().map(Expert::to_adapter).collect();
                scores.extend(self.in_pool(&adapters, split)?);
            }
            self.experts[at(split)] = Some(scores);
        }
        Ok(self.experts[at(split)].as_deref().unwrap_or_default())
    }

    /// How unlikely each expert finds the validation prompts, `(n)`.
    pub fn prompt_losses(&self) -> Result<Vec<f64>> {
        let experts = &self.inputs.pool().experts;
        let mut losses = Vec::with_capacity(experts.len());
        for group in experts.chunks(self.at_once()) {
            let adapters: Vec<Adapter> = group.iter().map(Expert::to_adapter).collect();
            losses.extend(self.evaluator.prompt_losses(&self.pool_candidates(&adapters))?);
        }
        Ok(losses)
    }

    /// f of the adapter of merged data, which the plan has found to be there.
    pub fn data_merge(&self, split: Split) -> Result<Measured> {
        let Some((expert, places)) = &self.inputs.data_merge else {
            panic!("a row without its adapter was planned")
        };
        let adapters = [expert.to_adapter()];
        let (config, dtype) = (expert.config(), expert.dtype());
        let candidates = Candidates::Adapters { adapters: &adapters, places, config, dtype };
        Ok(Measured::of(&self.evaluator.scores(&candidates, split)?[0], split))
    }

    /// f of the experts' mixed probabilities, by the `top` experts nearest to each
    /// prompt, and the mean over the examples of the entropy of all experts' weights, in nats. The
    /// plan has found that nearness can be told.
    pub fn mixture(
        &mut self,
        temperature: f64,
        top: usize,
        split: Split,
    ) -> Result<(Measured, f64)> {
        let Self { inputs, evaluator, .. } = *self;
        let Some(nearness) = &inputs.nearness else {
            panic!("a row without embeddings was planned")
        };
        let centres = nearness.centres(&evaluator.base, evaluator.batch())?;
        let queries = match self.queries[at(split)].take() {
            Some(queries) => queries,
            None => nearness.queries(evaluator, split)?,
        };
        let mut entropy = 0.0;
        let mut shares = Vec::with_capacity(queries.len());
        for part in &queries {
            let mut of_part = Vec::with_capacity(part.len());
            for query in part {
                let found = prompt_weights(query, centres, temperature, top)?;
                entropy += found.entropy;
                let weights = found.weights.into_iter().enumerate();
                let weights = weights.filter(|(_, weight)| *weight > 0.0);
                let share = |(expert_idx, weight)| Share { expert_idx, weight };
                of_part.push(weights.map(share).collect::<Vec<_>>());
            }
            shares.push(of_part);
        }
        self.queries[at(split)] = Some(queries);
        let n_examples = self.n_examples(split) as f64;
        let score = evaluator.mixed_score(&self.adapted_experts()?, &shares, split)?;
        Ok((Measured::of(&score, split), entropy / n_examples))
    }

    /// All experts at once; where their copies of the linears would take too much memory together,
    /// they are applied beside the base's.
    fn adapted_experts(&self) -> Result<Adapted> {
        let (model, places) = (&self.evaluator.base.model, self.inputs.experts.places());
        let fits = self.n_experts() <= self.at_once();
        let experts: Vec<Adapter> =
            self.inputs.pool().experts.iter().map(Expert::to_adapter).collect();
        let experts: Vec<&Adapter> = experts.iter().collect();
        if fits { model.adapt(places, &experts) } else { model.adapt_beside(places, &experts) }
    }

    fn remember<'k>(
        &mut self,
        split: Split,
        keys: impl Iterator<Item = &'k String>,
        scores: &[Score],
    ) {
        for (key, score) in keys.zip(scores) {
            self.known[at(split)].insert(key.clone(), Measured::of(score, split));
        }
    }

    fn pool_candidates<'b>(&'b self, adapters: &'b [Adapter]) -> Candidates<'b> {
        let (pool, places) = (self.inputs.pool(), self.inputs.experts.places());
        let config = pool.experts[0].config();
        Candidates::Adapters { adapters, places, config, dtype: pool.dtype() }
    }

    /// Scores of adapters of the pool's layout.
    fn in_pool(&self, adapters: &[Adapter], split: Split) -> Result<Vec<Score>> {
        self.evaluator.scores(&self.pool_candidates(adapters), split)
    }

    fn merged(&self, merged: &Merged, split: Split) -> Result<Score> {
        let source = self.inputs.pool().experts[0].dir();
        let config = &self.evaluator.base.model.config;
        let places = Places::find(&merged.adapter.layout, config, source)?;
        let candidates = Candidates::Adapters {
            adapters: std::slice::from_ref(&merged.adapter),
            places: &places,
            config: &merged.config,
            dtype: merged.dtype,
        };
        Ok(self.evaluator.scores(&candidates, split)?.remove(0))
    }

    /// A candidate that is no sum of factors.
    fn merge(&self, making: Making, candidate: &Candidate) -> Result<Merged> {
        let all: Vec<usize> = (0..self.n_experts()).collect();
        let (experts, method) = match candidate {
            Candidate::Linear(row) => {
                let divide = Divide::ByNothing;
                (&all[..], merge::Method::Linear { weights: row.clone(), divide })
            }
            Candidate::Slerp { experts, t } => (&experts[..], merge::Method::Slerp { t: *t }),
            Candidate::ModelStock { experts } => {
                (&experts[..], merge::Method::ModelStock { grain: Grain::Tensor })
            }
            Candidate::DareTies { experts, density, weight } => {
                let ties = Ties {
                    weights: vec![*weight; experts.len()],
                    densities: vec![*density; experts.len()],
                    election: Election::Sum,
                    divide: Divide::ByNothing,
                };
                let rescale = match making.rescale {
                    Rescale::Density => merge::Rescale::ByDensity,
                    Rescale::L1Norm => merge::Rescale::ByL1Norm,
                };
                let masks = Masks::Drawn { seed: making.seed };
                (&experts[..], merge::Method::DareTies(DareTies { ties, rescale, masks }))
            }
            Candidate::Layered(_) | Candidate::Mixture { .. } => {
                panic!("{candidate:?} is no merge of experts")
            }
        };
        let pool = &self.inputs.pool().experts;
        let experts: Vec<Expert> =
            experts.iter().map(|&idx| Expert::open(pool[idx].dir())).collect::<Result<_>>()?;
        match making.space {
            Space::Factor => merge(&experts, &method, merge::Space::Factor),
            Space::Delta => merge(&experts, &method, merge::Space::Delta),
            Space::Full => {
                let base = BaseFiles::open(self.evaluator.base.dir())?;
                let weights_of = |module: &ModuleLayout| base.adapted_by(module);
                let weights_of: BaseOf = &weights_of;
                merge(&experts, &method, merge::Space::Full(weights_of))
            }
        }
    }
}

fn at(split: Split) -> usize {
    match split {
        Split::Dev => 0,
        Split::Test => 1,
    }
}

/// Whether a sum of the experts is of the pool's own layout: sums of factors are, and an expert by
/// itself, which is the same in every space.
fn is_in_pool(making: Making, candidate: &Candidate) -> bool {
    let Candidate::Linear(row) = candidate else { return false };
    let is_lone = row.iter().filter(|c| **c == 1.0).count() == 1
        && row.iter().all(|c| *c == 0.0 || *c == 1.0);
    making.space == Space::Factor || is_lone
}

/// A text that two candidates share only if they are the same model.
fn key(making: Making, candidate: &Candidate) -> String {
    let Making { space, rescale, seed } = making;
    let space = match candidate {
        Candidate::Layered(_) => Space::Factor,
        _ if is_in_pool(making, candidate) => Space::Factor,
        _ => space,
    };
    let drawn = match candidate {
        Candidate::DareTies { density, .. } if *density < 1.0 => Some((rescale, seed)),
        Candidate::DareTies { .. } => Some((rescale, 0)),
        _ => None,
    };
    serde_json::to_string(&(space, drawn, candidate)).expect("plain data")
}
