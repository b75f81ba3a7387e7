//! EvolMerge and LoraHub on functions whose optima are known, and what their searches cost.

mod baseline_common;

use std::collections::BTreeMap;
use std::path::Path;

use baseline_common::{GENETIC, TARGET, hub, linear, run, run_on, value};
use model_swarms::baseline::search::{
    Candidate, Genetic, LoraHub, best_single, dare_ties, evol_merge, greedy_soup, lora_hub,
    model_stocks, ranked, slerp, uniform_soup,
};
use model_swarms::rng::{Draws, Purpose};
use model_swarms::suite::{Budget, Method, Mutation, Scale, Suite};

#[test]
fn draws_have_their_addresses() {
    // Broken: rows that were computed before could not be computed again.
    let at = |iteration, child_idx| Draws::new(7).stream(Purpose::Baseline, iteration, child_idx);
    let (_, evolved) = run(&TARGET, |f| evol_merge(5, 1, &GENETIC, 7, f));
    for child_idx in 0..48 {
        let t = at(0, child_idx).uniform();
        let model = Candidate::Layered(vec![vec![0.0, t, 0.0, 1.0 - t, 0.0]]);
        assert_eq!(evolved[5 + child_idx], model);
    }
    let (_, summed) = run(&TARGET, |f| lora_hub(5, &hub(&[0.0, 0.05]), 7, f));
    for (alpha_idx, first_call) in [(1, 5), (2, 410)] {
        let mut draws = at(alpha_idx << 20, 1);
        let row = [(); 5].map(|()| (2.0 * draws.uniform() - 1.0) * 1.5);
        assert_eq!(linear(&summed[first_call + 1]), row);
    }
}

#[test]
fn evolmerge_stays_between_the_two_best_and_finds_the_optimum_there() {
    // Broken: EvolMerge would leave the hull of its parents, or not search at all.
    // Layers pull to both sides, so that no constant t is best.
    let targets = [TARGET, [0.0, 0.1, 0.0, 0.8, 0.0], [0.1; 5], [0.0, 0.9, 0.5, 0.0, 0.0]];
    let f = |candidate: &Candidate| {
        let layer = |l: usize| match candidate {
            Candidate::Layered(rows) => value(&Candidate::Linear(rows[l].clone()), &targets[l]),
            same => value(same, &targets[l]),
        };
        (0..4).map(layer).sum::<f64>() / 4.0
    };
    let (single, _) = run_on(f, |f| best_single(5, f));
    assert_eq!(ranked(&single.utilities)[..2], [1, 3]);
    // |w - target|^2 is least at t = (1 + target_1 - target_3) / 2.
    let optimal_row = |target: &[f64; 5]| {
        let t = 0.5 * (1.0 + target[1] - target[3]);
        vec![0.0, t, 0.0, 1.0 - t, 0.0]
    };
    let optimum = f(&Candidate::Layered(targets.iter().map(optimal_row).collect()));
    for seed in 0..5 {
        let (found, asked) = run_on(f, |f| evol_merge(5, 4, &GENETIC, seed, f));
        assert_eq!(asked.len(), 5 + 48 + 4 * 40);
        for candidate in &asked[5..] {
            let Candidate::Layered(rows) = candidate else { panic!("{candidate:?}") };
            assert_eq!(rows.len(), 4);
            for row in rows {
                assert!((0.0..=1.0).contains(&row[1]) && row[3] == 1.0 - row[1], "{row:?}");
                assert!([0, 2, 4].iter().all(|&other| row[other] == 0.0), "{row:?}");
            }
        }
        let missed = (optimum - found.utility) / (optimum - single.utility);
        assert!((-1e-12..0.1).contains(&missed), "seed {seed}: {missed}");
    }
}

#[test]
fn lorahub_keeps_its_bounds_and_finds_what_does_not_sum_to_one() {
    // Broken: LoraHub would leave its box, or be no larger a space than the swarm's.
    let target = [0.8, -0.6, 0.7, 1.4];
    for seed in 0..5 {
        let (found, asked) = run(&target, |f| lora_hub(4, &hub(&[0.0]), seed, f));
        assert_eq!(asked.len(), 4 + 46 + 9 * 40);
        assert!(asked.iter().flat_map(linear).all(|w| (-1.5..=1.5).contains(w)));
        let (single, _) = run(&target, |f| best_single(4, f));
        assert!(found.utility > 0.2 * single.utility, "{} {}", found.utility, single.utility);
        // The first generation: the experts, their mean, then boxes and mixtures by turns.
        assert_eq!(linear(&asked[4]), [0.25; 4]);
        assert!(asked[5..50].iter().step_by(2).any(|c| linear(c).iter().any(|w| *w < -1.0)));
        for mixture in asked[6..50].iter().step_by(2).map(linear) {
            assert!(mixture.iter().all(|w| *w >= 0.0));
            assert!((mixture.iter().sum::<f64>() - 1.0).abs() < 1e-14);
        }
    }
    // The bound holds where noise would pass it.
    let noisy = LoraHub { mutation: Mutation { probability: 1.0, sigma: 5.0 }, ..hub(&[0.0]) };
    let (_, asked) = run(&[1.5; 3], |f| lora_hub(3, &noisy, 1, f));
    let at_bound = asked.iter().flat_map(linear).filter(|w| w.abs() == 1.5).count();
    assert!(asked.iter().flat_map(linear).all(|w| w.abs() <= 1.5) && at_bound > 100, "{at_bound}");
}

#[test]
fn lorahub_selects_by_the_penalised_and_reports_by_the_plain_utility() {
    // Broken: alpha would do nothing, or a worse model than the best one seen would be reported.
    // f = 0 everywhere, so that the penalty alone decides: coefficients shrink towards w = 0.
    let mut asked = Vec::new();
    let found = lora_hub(4, &hub(&[0.05]), 3, &mut |candidates| {
        asked.extend(candidates.iter().map(|c| linear(c).iter().map(|w| w.abs()).sum::<f64>()));
        Ok(vec![0.0; candidates.len()])
    })
    .unwrap();
    let mean = |sizes: &[f64]| sizes.iter().sum::<f64>() / sizes.len() as f64;
    assert!(mean(&asked[370..]) < 0.5 * mean(&asked[10..50]), "{}", mean(&asked[370..]));
    assert_eq!(found.candidate, Candidate::expert(4, 0), "of equals, the first");
    // Large coefficients have the higher f, though each costs more than it brings.
    let (heavy, _) = run(&[1.5; 3], |f| lora_hub(3, &hub(&[1000.0]), 1, f));
    let best = heavy.utilities.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    assert_eq!(heavy.utility, best);
}

#[test]
fn lorahub_searches_once_for_each_alpha() {
    // Broken: one alpha would use up the other's share, or repeat its draws.
    let (both, asked) = run(&TARGET, |f| lora_hub(5, &hub(&[0.0, 0.05]), 1, f));
    assert_eq!(asked.len(), 5 + 2 * (45 + 9 * 40));
    let (first, asked_first) = run(&TARGET, |f| lora_hub(5, &hub(&[0.0]), 1, f));
    assert_eq!(asked[..410], asked_first, "the first alpha's search is its own");
    assert!(both.utility >= first.utility);
    assert_ne!(asked[6..50], asked[411..455], "each alpha has its own draws");
    // What is allowed is shared: 50 calls after the ranking, 25 each.
    let few = |alphas: &[f64], calls| {
        let hub = hub(alphas);
        LoraHub { sizes: Genetic { calls, ..hub.sizes }, ..hub }
    };
    let (_, asked) = run(&TARGET, |f| lora_hub(5, &few(&[0.0, 0.05], 55), 1, f));
    assert_eq!(asked.len(), 55);
    assert_eq!((linear(&asked[5]), linear(&asked[30])), (&[0.2; 5][..], &[0.2; 5][..]));
}

#[test]
fn budgets_are_spent_exactly_and_more_of_them_only_goes_on() {
    // Broken: rows of equal budget would have unequal ones, or be other searches than the paper's.
    let long = Genetic { generations: 1000, ..GENETIC };
    let evolve =
        |calls| run(&TARGET, |f| evol_merge(5, 3, &Genetic { calls, ..long }, 9, f)).0.utilities;
    let sum = |calls| {
        let hub = LoraHub { sizes: Genetic { calls, ..long }, ..hub(&[0.05]) };
        run(&TARGET, |f| lora_hub(5, &hub, 9, f)).0.utilities
    };
    let (all_evolved, all_summed) = (evolve(1020), sum(1020));
    for calls in [5, 6, 52, 53, 54, 92, 93, 94, 300, 1020] {
        let (evolved, summed) = (evolve(calls), sum(calls));
        assert_eq!((evolved.len() as u64, summed.len() as u64), (calls, calls));
        assert_eq!(evolved, all_evolved[..calls as usize]);
        assert_eq!(summed, all_summed[..calls as usize]);
    }
    let (paper, _) = run(&TARGET, |f| evol_merge(5, 3, &GENETIC, 9, f));
    assert_eq!(paper.utilities, all_evolved[..213], "the paper's generations come first");
}

#[test]
fn equal_seeds_replay_and_others_do_not() {
    // Broken: a row could not be repeated, or its seeds would not be independent.
    let evolve = |seed| run(&TARGET, |f| evol_merge(5, 3, &GENETIC, seed, f));
    let sum = |seed| run(&TARGET, |f| lora_hub(5, &hub(&[0.0, 0.05]), seed, f));
    let (evolved, summed) = (evolve(1), sum(1));
    assert_eq!(summed, sum(1), "after another row has run");
    assert_eq!(evolved, evolve(1));
    assert_ne!(evolved.1[5..], evolve(2).1[5..]);
    assert_ne!(summed.1[6..], sum(2).1[6..]);
}

#[test]
fn candidates_are_written_so_that_equal_texts_are_equal_models() {
    // Broken: utilities remembered by a candidate's text would be given to another candidate.
    let (_, asked) = run(&TARGET, |f| evol_merge(5, 2, &GENETIC, 1, f));
    let (_, summed) = run(&TARGET, |f| lora_hub(5, &hub(&[0.0]), 1, f));
    let mut by_text: BTreeMap<String, &Candidate> = BTreeMap::new();
    for candidate in asked.iter().chain(&summed) {
        let text = serde_json::to_string(candidate).unwrap();
        assert_eq!(by_text.entry(text).or_insert(candidate), &candidate);
    }
    let slerp = serde_json::to_string(&Candidate::Slerp { experts: [2, 0], t: 0.5 }).unwrap();
    assert_eq!(slerp, r#"{"slerp":{"experts":[2,0],"t":0.5}}"#);
}

#[test]
fn rows_of_table_1_take_the_calls_that_the_suite_announces() {
    // Broken: the suite's promise of what a row costs would not be kept.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/table01.toml");
    let suite = Suite::open(&path).unwrap();
    let n = suite.experts;
    let target: Vec<f64> = (0..n).map(|j| 0.05 * j as f64 - 0.1).collect();
    let mut n_rows = 0;
    for scale in Scale::ALL {
        let sizes = suite.sizes(scale);
        let calls = |budget| match budget {
            Budget::Own => sizes.cap as u64,
            Budget::Equal => sizes.budget as u64,
        };
        for row in &suite.rows {
            let (found, _) = run(&target, |f| match row.method.clone() {
                Method::Slerp { t, .. } => slerp(n, t, f),
                Method::GreedySoup { accept, .. } => greedy_soup(n, accept, f),
                Method::DareTies { top, density, weights, .. } => {
                    dare_ties(n, &top, density, weights, f)
                }
                Method::ModelStocks { top, .. } => model_stocks(n, &top, f),
                Method::UniformSoup { .. } => uniform_soup(n, f),
                Method::EvolMerge { population, keep, generations, budget, .. } => {
                    let calls = calls(budget);
                    evol_merge(n, 6, &Genetic { population, keep, generations, calls }, 1, f)
                }
                Method::LoraHub {
                    population,
                    keep,
                    generations,
                    bound,
                    alphas,
                    mutation,
                    budget,
                    ..
                } => {
                    let calls = calls(budget);
                    let sizes = Genetic { population, keep, generations, calls };
                    lora_hub(n, &LoraHub { sizes, bound, alphas, mutation }, 1, f)
                }
                _ => best_single(n, f),
            });
            let is_search = !matches!(
                row.method,
                Method::DataMerge
                    | Method::Cbtm { .. }
                    | Method::PackOfLlms { .. }
                    | Method::ModelSwarms { .. }
            );
            if is_search {
                let announced = row.method.n_evaluations(n, sizes);
                assert_eq!(found.n_calls() as u64, announced, "{} at {}", row.name, scale.name());
                n_rows += 1;
            }
        }
    }
    assert!(n_rows >= 20, "only {n_rows} rows were run");
}
