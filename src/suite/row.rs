//! A row of a suite: which parameters its method takes, all of which it needs.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Spanned, Value};

use super::check::{
    Found, Numbers, count, distinct, fault, names, number, numbers, settings, text,
};
use super::method::{Accept, Budget, Method, Mutation, Rescale, Space, Vote, Weights};
use super::{Column, Row};

/// Sizes that a row may not set for itself; of the number of particles there is an ablation.
const SIZE_SETTINGS: [&str; 3] = ["max_iterations", "patience", "restart_after"];

/// A row as written: its name, and any method's parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRow {
    /// The row's name.
    pub name: Spanned<String>,
    group: Spanned<String>,
    method: Spanned<String>,
    not_for: Option<Spanned<Vec<Spanned<String>>>>,
    vote: Option<Spanned<Vote>>,
    space: Option<Spanned<Space>>,
    t: Option<Spanned<f64>>,
    top: Option<Spanned<Vec<Spanned<u64>>>>,
    density: Option<Spanned<f64>>,
    rescale: Option<Spanned<Rescale>>,
    weights: Option<Spanned<Weights>>,
    accept: Option<Spanned<Accept>>,
    temperature: Option<Spanned<f64>>,
    temperatures: Option<Numbers>,
    population: Option<Spanned<u64>>,
    keep: Option<Spanned<u64>>,
    generations: Option<Spanned<u64>>,
    bound: Option<Spanned<f64>>,
    alphas: Option<Numbers>,
    mutation: Option<Spanned<Mutation>>,
    set: Option<Spanned<BTreeMap<Spanned<String>, Spanned<Value>>>>,
    budget: Option<Spanned<Budget>>,
}

impl RawRow {
    /// The row, for a pool of `experts` and a table of `columns`.
    pub fn check(&self, experts: usize, columns: &[Column]) -> Found<Row> {
        let name = text("name", &self.name)?;
        let not_for = match &self.not_for {
            None => Vec::new(),
            Some(raw) => {
                let not_for = names("not_for", raw)?;
                let is_known = |name: &String| columns.iter().any(|column| column.name == *name);
                if let Some((unknown, raw)) =
                    not_for.iter().zip(raw.get_ref()).find(|(name, _)| !is_known(name))
                {
                    return fault(raw.span().start, format!("no column is called {unknown:?}"));
                }
                if not_for.len() == columns.len() {
                    return fault(raw.span().start, format!("row {name:?} is for no column"));
                }
                not_for
            }
        };
        self.check_keys()?;
        Ok(Row { name, group: text("group", &self.group)?, method: self.method(experts)?, not_for })
    }

    /// Refuses an unknown method, and parameters that it does not take.
    fn check_keys(&self) -> Found<()> {
        let method = self.method.get_ref();
        let at = self.method.span().start;
        let Some((_, taken)) = Method::ALL.iter().find(|(name, _)| name == method) else {
            let known = Method::ALL.map(|(name, _)| name).join(", ");
            return fault(at, format!("unknown method {method:?}, wanted one of {known}"));
        };
        for (key, at) in self.given() {
            if let Some(at) = at
                && !taken.contains(&key)
            {
                return fault(at, format!("a {method} row takes no `{key}`"));
            }
        }
        Ok(())
    }

    /// Every parameter's key, and where it is given.
    fn given(&self) -> [(&'static str, Option<usize>); 18] {
        [
            ("vote", at(&self.vote)),
            ("space", at(&self.space)),
            ("t", at(&self.t)),
            ("top", at(&self.top)),
            ("density", at(&self.density)),
            ("rescale", at(&self.rescale)),
            ("weights", at(&self.weights)),
            ("accept", at(&self.accept)),
            ("temperature", at(&self.temperature)),
            ("temperatures", at(&self.temperatures)),
            ("population", at(&self.population)),
            ("keep", at(&self.keep)),
            ("generations", at(&self.generations)),
            ("bound", at(&self.bound)),
            ("alphas", at(&self.alphas)),
            ("mutation", at(&self.mutation)),
            ("set", at(&self.set)),
            ("budget", at(&self.budget)),
        ]
    }

    fn method(&self, experts: usize) -> Found<Method> {
        Ok(match self.method.get_ref().as_str() {
            "best-single" => Method::BestSingle,
            "data-merge" => Method::DataMerge,
            "prediction-merge" => Method::PredictionMerge { vote: self.need("vote", &self.vote)? },
            "uniform-soup" => Method::UniformSoup { space: self.space()? },
            "slerp" => Method::Slerp { space: self.space()?, t: self.number("t", &self.t, 0.0)? },
            "dare-ties" => Method::DareTies {
                space: self.space()?,
                top: self.top(experts)?,
                density: self.number("density", &self.density, f64::MIN_POSITIVE)?,
                rescale: self.need("rescale", &self.rescale)?,
                weights: self.need("weights", &self.weights)?,
            },
            "model-stocks" => Method::ModelStocks { space: self.space()?, top: self.top(experts)? },
            "greedy-soup" => Method::GreedySoup {
                space: self.space()?,
                accept: self.need("accept", &self.accept)?,
            },
            "pack-of-llms" => Method::PackOfLlms {
                space: self.space()?,
                temperatures: {
                    let raw = self.there("temperatures", &self.temperatures)?;
                    numbers("temperatures", raw, f64::MIN_POSITIVE, 1e6)?
                },
            },
            "cbtm" => Method::Cbtm {
                top: self.top(experts)?,
                temperature: {
                    let raw = self.there("temperature", &self.temperature)?;
                    number("temperature", raw, f64::MIN_POSITIVE, 1e6)?
                },
            },
            "evolmerge" => {
                let (population, keep, generations) = self.genetic(2)?;
                let (space, budget) = (self.space()?, self.need("budget", &self.budget)?);
                Method::EvolMerge { space, population, keep, generations, budget }
            }
            "lorahub" => {
                let (population, keep, generations) = self.genetic(experts)?;
                let bound = self.there("bound", &self.bound)?;
                let alphas = self.there("alphas", &self.alphas)?;
                Method::LoraHub {
                    space: self.space()?,
                    population,
                    keep,
                    generations,
                    bound: number("bound", bound, f64::MIN_POSITIVE, 1e6)?,
                    alphas: numbers("alphas", alphas, 0.0, 1e6)?,
                    mutation: self.mutation()?,
                    budget: self.need("budget", &self.budget)?,
                }
            }
            _ => Method::ModelSwarms {
                set: self.set(experts)?,
                budget: self.need("budget", &self.budget)?,
            },
        })
    }

    /// A parameter with its place, which the method needs.
    fn there<'a, T>(&self, key: &str, raw: &'a Option<Spanned<T>>) -> Found<&'a Spanned<T>> {
        let lacks = || format!("a {} row without `{key}`", self.method.get_ref());
        raw.as_ref().map_or_else(|| fault(self.name.span().start, lacks()), Ok)
    }

    fn need<T: Copy>(&self, key: &str, raw: &Option<Spanned<T>>) -> Found<T> {
        Ok(*self.there(key, raw)?.get_ref())
    }

    /// A number up to 1.
    fn number(&self, key: &str, raw: &Option<Spanned<f64>>, least: f64) -> Found<f64> {
        number(key, self.there(key, raw)?, least, 1.0)
    }

    fn space(&self) -> Found<Space> {
        self.need("space", &self.space)
    }

    /// How many of the best experts are merged: at least two, and no more than there are.
    fn top(&self, experts: usize) -> Found<Vec<usize>> {
        let raw = self.there("top", &self.top)?;
        distinct("top", raw)?;
        let check = |raw: &Spanned<u64>| match count("top", raw)? {
            k if (2..=experts).contains(&k) => Ok(k),
            k => fault(raw.span().start, format!("`top` holds {k}, wanted 2 to {experts}")),
        };
        raw.get_ref().iter().map(check).collect()
    }

    /// Population, survivors and generations; more than `known` models make the first generation.
    fn genetic(&self, known: usize) -> Found<(usize, usize, usize)> {
        let raw = self.there("population", &self.population)?;
        let population = count("population", raw)?;
        if population <= known {
            let what = format!("`population` is {population}, wanted more than {known}");
            return fault(raw.span().start, what);
        }
        let raw = self.there("keep", &self.keep)?;
        let keep = count("keep", raw)?;
        if !(2..population).contains(&keep) {
            let what = format!("`keep` is {keep}, wanted at least 2 and fewer than {population}");
            return fault(raw.span().start, what);
        }
        Ok((population, keep, count("generations", self.there("generations", &self.generations)?)?))
    }

    fn mutation(&self) -> Found<Mutation> {
        let raw = self.there("mutation", &self.mutation)?;
        let Mutation { probability, sigma } = *raw.get_ref();
        if (0.0..=1.0).contains(&probability) && (0.0..=1e6).contains(&sigma) {
            return Ok(*raw.get_ref());
        }
        let what = format!("`mutation` is {probability} with sigma {sigma}");
        fault(
            raw.span().start,
            format!("{what}, wanted a probability, and a sigma of 0 to 1000000"),
        )
    }

    fn set(&self, experts: usize) -> Found<Vec<(String, String)>> {
        let raw = self.there("set", &self.set)?;
        let set = settings(raw.get_ref(), &SIZE_SETTINGS)?;
        if let Some((_, particles)) = set.iter().find(|(key, _)| key == "particles")
            && !particles.parse().is_ok_and(|n: usize| (experts..=1_000_000).contains(&n))
        {
            let what = format!("setting `particles` is {particles}");
            return fault(raw.span().start, format!("{what}, wanted {experts} to 1000000"));
        }
        Ok(set)
    }
}

fn at<T>(raw: &Option<Spanned<T>>) -> Option<usize> {
    raw.as_ref().map(|raw| raw.span().start)
}
