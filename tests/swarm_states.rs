//! The search on coefficients against the paper's literal arithmetic on weights, over real adapters.

mod common;

use std::path::Path;

use common::{golden_roots, sub_folders};
use model_swarms::adapter::{Adapter, Expert, Pool, materialise};
use model_swarms::backend::cpu::Isa;
use model_swarms::example::write_experts;
use model_swarms::rng::{Draws, Purpose};
use model_swarms::swarm::{Coefficients, Outcome, Search, Settings, Space, Weights};

const SEED: u64 = 3;
const N_ITERATIONS: u32 = 50;

/// Largest difference that is allowed, relative to the norm of the vector.
///
/// Each of 50 steps rounds x and v to f32 (6e-8), and steps contract towards p and g, so the two
/// stay within a few roundings of each other.
const TOLERANCE: f64 = 1e-5;

#[test]
fn the_examples_experts() {
    // Broken: the coefficients would not be what the paper's arithmetic on weights comes to.
    let folder = tempfile::tempdir().unwrap();
    write_experts(folder.path(), 1).unwrap();
    check("example", Pool::open(folder.path()).unwrap());
}

#[test]
fn golden_experts() {
    // Broken: the same, on adapters that PEFT has made.
    for root in golden_roots() {
        for model in sub_folders(&root.join("forward")) {
            let experts: Vec<Expert> = (0..10)
                .map(|i| model.join(format!("adapters/a{i}")))
                .filter(|folder| folder.join("adapter_config.json").exists())
                .map(|folder| Expert::open(&folder).unwrap())
                .collect();
            if experts.len() == 10 {
                check(&name_of(&model), Pool::from_experts(experts).unwrap());
            }
        }
    }
}

/// Searches for one mixture of the pool in both states; the utility sees weights alone.
fn check(name: &str, pool: Pool) {
    let isa = Isa::detect();
    let at = |row: &[f64]| materialise(isa, &pool, &[row]).remove(0);
    let wanted = at(&target(pool.experts.len()));
    let utility = |weights: &[f32]| -distance(weights, &wanted.data);

    let settings = Settings { max_iterations: N_ITERATIONS, patience: 1000, ..Settings::paper() };
    let n_particles = settings.n_particles(pool.experts.len());
    let rows = Coefficients::new(pool.experts.len(), n_particles);
    let mut light = Search::new(&settings, SEED, rows).unwrap();
    let in_rows = run(&mut light, |space, i| utility(&at(space.location(i)).data));

    let folder = tempfile::tempdir().unwrap();
    let load = |expert_idx: usize, out: &mut [f32]| {
        pool.experts[expert_idx].read(0, out);
        Ok(())
    };
    let weights =
        Weights::create(folder.path(), pool.experts.len(), n_particles, pool.layout().len, load);
    let mut heavy = Search::new(&settings, SEED, weights.unwrap()).unwrap();
    let in_weights = run(&mut heavy, |space, i| utility(space.location(i)));

    assert_eq!(in_rows.n_iterations, N_ITERATIONS);
    assert_eq!(in_rows.best.source, in_weights.best.source, "{name}: they went apart");
    let found = in_rows.best.source.iteration;
    assert!(found > 0, "{name}: the best must be one that has moved");
    let (light, heavy) = (light.space(), heavy.space());
    let mut worst: f64 = 0.0;
    let mut compare = |coefficients: &[f64], weights: &[f32]| {
        let Adapter { data, .. } = at(coefficients);
        worst = worst.max(distance(weights, &data) / norm(&data));
    };
    compare(light.global_best(), heavy.global_best());
    for i in 0..n_particles {
        compare(light.location(i), heavy.location(i));
        compare(light.personal_best(i), heavy.personal_best(i));
    }
    let utility = in_rows.best.utility / norm(&wanted.data);
    println!("{name}: at most {worst:.1e} apart; utility {utility:.3} in iteration {found}");
    assert!(worst <= TOLERANCE, "{name}: {worst:e} apart");
}

fn run<S: Space>(search: &mut Search<S>, utility: impl Fn(&S, usize) -> f64) -> Outcome {
    let evaluate =
        |space: &S, particles: &[usize]| Ok(particles.iter().map(|&i| utility(space, i)).collect());
    search.run(evaluate, |_| Ok(())).unwrap()
}

/// A location to be found: positive, and nowhere near an expert.
fn target(n_experts: usize) -> Vec<f64> {
    let mut draws = Draws::new(SEED).stream(Purpose::Shuffle, 0, 0);
    let drawn: Vec<f64> = (0..n_experts).map(|_| draws.uniform()).collect();
    let sum: f64 = drawn.iter().sum();
    drawn.iter().map(|value| value / sum).collect()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    squares.sum::<f64>().sqrt()
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

fn name_of(folder: &Path) -> String {
    folder.file_name().unwrap().to_string_lossy().into_owned()
}
