//! How the search behaves: it finds optima, and each switch of the settings does what it says.

mod swarm_common;

use model_swarms::error::Error;
use model_swarms::swarm::settings::ResultRule;
use model_swarms::swarm::{IterationRecord, Origin, Outcome, Settings, StopReason};
use swarm_common::{TARGET, closeness, search, with};

fn run(settings: &Settings, seed: u64) -> (Outcome, Vec<IterationRecord>) {
    let mut records = Vec::new();
    let mut search = search(settings, seed, TARGET.len());
    let outcome = search.run(closeness(&TARGET), |record| {
        records.push(record.clone());
        Ok(())
    });
    (outcome.unwrap(), records)
}

#[test]
fn the_search_finds_an_optimum_that_no_expert_holds() {
    // Broken: the search would not improve on the experts it starts from.
    // The best expert, 1, has -(|target|^2 - 2 * 0.6 + 1).
    let best_single = -0.46;
    let code = with(Settings::code(), &[("populate", "growing")]);
    for (settings, share) in [(Settings::paper(), 0.1), (code, 1.0)] {
        for seed in 0..10 {
            let (outcome, records) = run(&settings, seed);
            let best = &outcome.best;
            assert!(best.utility > share * best_single, "seed {seed}: {}", best.utility);
            let sum: f64 = best.coefficients.iter().sum();
            assert!((sum - 1.0).abs() < 1e-12, "a location is an affine combination, {sum}");
            assert!(outcome.personal_bests.iter().all(|found| found.utility <= best.utility));
            assert_eq!(outcome.n_evaluations, 20 * records.len() as u64);
        }
    }
}

#[test]
fn equal_seeds_give_equal_runs_and_others_do_not() {
    // Broken: a run could not be repeated, or repeats would not be independent.
    let [a, b, c] = [1, 1, 2].map(|seed| run(&Settings::paper(), seed));
    assert_eq!(a, b);
    assert_ne!(a.1[0].coefficients, c.1[0].coefficients);
}

#[test]
fn without_its_three_randomnesses_the_search_is_deterministic() {
    // Broken: Table 6 "w/o 1&2&3" would still depend on the seed.
    let off = [("populate", "off"), ("velocity", "zero"), ("randomness", "off")];
    let settings = with(Settings::paper(), &off);
    let (a, b) = (run(&settings, 1), run(&settings, 2));
    assert_eq!(a, b);
    assert_eq!(a.1[0].f.len(), TARGET.len(), "without crossover N is n");
    let phi = [0.2, 0.3, 0.4, 0.05].map(|phi| phi / (0.2 + 0.3 + 0.4 + 0.05));
    assert!(a.1[1..].iter().flat_map(|record| &record.weights).all(|&weights| weights == phi));
}

#[test]
fn each_way_of_aiming_gives_its_velocity() {
    // Broken: a row of Table 7 (velocity) would measure another start.
    let first = |velocity: &str| {
        let settings = with(Settings::paper(), &[("velocity", velocity)]);
        let mut search = search(&settings, 3, 4);
        search.advance(closeness(&TARGET)).unwrap();
        search
    };
    for (velocity, toward) in [("zero", None), ("best", Some(()))] {
        let search = first(velocity);
        let space = search.space();
        for i in 0..20 {
            let wanted: Vec<f64> = match toward {
                None => vec![0.0; 4],
                Some(()) => {
                    let gaps = space.global_best().iter().zip(space.location(i));
                    gaps.map(|(g, x)| g - x).collect()
                }
            };
            assert_eq!(space.velocity(i), wanted);
        }
    }
    for (velocity, may_rest) in [("random", true), ("random-other", false)] {
        let mut n_resting = 0;
        for seed in 0..20 {
            let settings = with(Settings::paper(), &[("velocity", velocity)]);
            let search = search(&settings, seed, 4);
            let space = search.space();
            n_resting += (0..20).filter(|&i| space.velocity(i).iter().all(|&v| v == 0.0)).count();
        }
        assert_eq!(n_resting > 0, may_rest, "{velocity}: {n_resting}");
    }
}

#[test]
fn populate_grows_from_the_parents_it_names() {
    // Broken: "only 15" would not have 15, or children would not lie where the paper puts them.
    let settings = with(Settings::paper(), &[("particles", "15")]);
    let children = |settings: &Settings| -> Vec<Vec<f64>> {
        let search = search(settings, 5, 4);
        let n = search.space().n_particles();
        (4..n).map(|i| search.space().location(i).to_vec()).collect()
    };
    let between = children(&settings);
    assert_eq!(between.len(), 11);
    for row in between {
        assert_eq!(row.iter().filter(|&&c| c != 0.0).count(), 2, "two experts: {row:?}");
        assert!(row.iter().all(|c| (0.0..=1.0).contains(c)), "between them: {row:?}");
    }
    let beyond = children(&with(settings, &[("populate", "growing")]));
    assert!(beyond.iter().flatten().any(|&c| c < 0.0), "half of the children extrapolate");
    assert!(beyond.iter().any(|row| row.iter().filter(|&&c| c != 0.0).count() > 2));
}

#[test]
fn repel_schedule_and_restart_can_be_taken_out() {
    // Broken: the rows of Table 7 would measure the full search.
    let (_, records) = run(&with(Settings::paper(), &[("repel", "0")]), 1);
    for weights in records.iter().flat_map(|record| &record.weights) {
        assert_eq!(weights[3], 0.0);
        assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "out of C too");
    }
    let (_, records) = run(&with(Settings::paper(), &[("step_factor", "1")]), 1);
    assert!(records.iter().all(|record| record.next_step == 0.8));
    let stubborn = [("patience", "40"), ("restart_after", "2")];
    let (_, records) = run(&with(Settings::paper(), &stubborn), 1);
    assert!(records.iter().any(|record| !record.restarted.is_empty()));
    let (_, records) = run(&with(with(Settings::paper(), &stubborn), &[("restart", "off")]), 1);
    assert!(records.iter().all(|record| record.restarted.is_empty()));
}

#[test]
fn the_step_shrinks_to_its_minimum() {
    // Broken: the code's floor would be missing, or the paper's schedule would have one.
    let long = [("patience", "200"), ("max_iterations", "60")];
    let last = |settings| run(&with(settings, &long), 1).1.pop().unwrap().next_step;
    assert_eq!(last(Settings::code()), 0.1);
    assert!(last(Settings::paper()) < 0.8 * 0.05);
}

#[test]
fn dropped_particles_move_but_keep_their_utility() {
    // Broken: Figure 9 would evaluate what it claims to skip, or improve on stale utilities.
    let drop = [("drop_particles", "0.5"), ("patience", "50")];
    let (outcome, records) = run(&with(Settings::paper(), &drop), 1);
    for pair in records.windows(2) {
        let [before, after] = pair else { unreachable!() };
        for i in (0..20).filter(|i| !after.evaluated.contains(i)) {
            assert_eq!(after.f[i], before.f[i]);
            assert_eq!(after.f_p[i], before.f_p[i]);
            assert_ne!(after.coefficients[i], before.coefficients[i]);
        }
    }
    let n_evaluated: usize = records.iter().map(|record| record.evaluated.len()).sum();
    assert_eq!(outcome.n_evaluations, n_evaluated as u64);
    assert!((450..600).contains(&(n_evaluated - 20)), "about half of 1000, not {n_evaluated}");

    let drop = [("drop_iterations", "0.5"), ("patience", "50")];
    let (_, records) = run(&with(Settings::paper(), &drop), 1);
    assert!(records.iter().all(|record| [0, 20].contains(&record.evaluated.len())));
    let n_skipped = records.iter().filter(|record| record.evaluated.is_empty()).count();
    assert!((15..35).contains(&n_skipped), "about half of 50, not {n_skipped}");

    let (outcome, _) = run(&with(Settings::paper(), &[("drop_iterations", "1")]), 1);
    assert_eq!((outcome.n_evaluations, outcome.n_iterations), (20, 10), "patience still counts");
}

#[test]
fn annealed_factors_are_redrawn_unless_literal() {
    // Broken: one draw with C near 0 would throw a particle away.
    let weights = |randomness: &str| -> Vec<f64> {
        let changes = [("randomness", randomness), ("patience", "50"), ("restart_after", "3")];
        let (_, records) = run(&with(Settings::paper(), &changes), 4);
        records.into_iter().flat_map(|record| record.weights).flatten().collect()
    };
    let [kept, literal] = ["annealed", "annealed-literal"].map(weights);
    let largest = |weights: &[f64]| weights.iter().fold(0.0f64, |most, a| most.max(a.abs()));
    // |a| = |r| phi / C <= phi_g / (0.05 sum phi) = 0.4 / (0.05 * 0.95).
    assert!(largest(&kept) < 8.43, "{}", largest(&kept));
    assert!(largest(&literal) > 8.43, "{}", largest(&literal));
    assert!(kept.iter().any(|&a| a < 0.0), "some step goes the reverse way");
    assert_ne!(kept, literal);
}

#[test]
fn without_weights_the_velocity_stays() {
    // Broken: C = 0 would divide by zero.
    let none = [("inertia", "0"), ("cognitive", "0"), ("social", "0"), ("repel", "0")];
    let mut search = search(&with(Settings::paper(), &none), 1, 4);
    search.advance(closeness(&TARGET)).unwrap();
    let before = search.space().velocity(7).to_vec();
    search.advance(closeness(&TARGET)).unwrap();
    assert_eq!(search.space().velocity(7), before);
}

/// Runs two particles on two experts with the given utilities, one pair per iteration.
fn scripted(settings: &Settings, script: &[[f64; 2]]) -> (Outcome, Vec<IterationRecord>) {
    let settings = with(settings.clone(), &[("populate", "off")]);
    let mut search = search(&settings, 1, 2);
    let mut records = Vec::new();
    for f in script {
        let Some(record) = search.advance(|_, _| Ok(f.to_vec())).unwrap() else { break };
        records.push(record);
    }
    (search.outcome(), records)
}

#[test]
fn ties_have_stated_winners() {
    // Broken: equal utilities would be settled by chance, or not as paper and code settle them.
    let script = [[0.0, 1.0], [1.0, -2.0], [-3.0, -3.0]];
    let (paper, records) = scripted(&Settings::paper(), &script);
    assert_eq!(paper.best.source, Origin { particle: 1, iteration: 0 }, "the first finder keeps g");
    assert_eq!(records[2].gw_source, Origin { particle: 0, iteration: 2 });
    let (code, records) = scripted(&Settings::code(), &script);
    assert_eq!(code.best.source, Origin { particle: 0, iteration: 1 }, "the lowest particle");
    assert_eq!(records[2].gw_source, Origin { particle: 1, iteration: 2 }, "the highest");
    assert_eq!(Settings::code().result, ResultRule::FirstBestParticle);
    let (_, records) = scripted(&Settings::code(), &[[1.0, 1.0]]);
    let first = Origin { particle: 0, iteration: 0 };
    assert_eq!((records[0].g_source, records[0].gw_source), (first, first));
}

#[test]
fn patience_and_restarts_count_as_paper_and_code_do() {
    // Broken: searches would stop or restart an iteration early or late.
    let stale = [[0.0, 1.0]; 30];
    let mut late = stale;
    late[3..].iter_mut().for_each(|f| f[1] = 2.0);
    let count = |settings: &Settings, script: &[[f64; 2]]| {
        let (outcome, records) = scripted(settings, script);
        assert_eq!(outcome.stop, Some(StopReason::Patience));
        let restarted = records.iter().find(|record| record.restarted.contains(&0));
        (outcome.n_iterations, restarted.unwrap().iteration)
    };
    // The paper: 10 unchanged iterations; back at the end of iteration 5.
    assert_eq!(count(&Settings::paper(), &stale), (10, 5));
    assert_eq!(count(&Settings::paper(), &late), (13, 5));
    // The code: 10 if g never changed, else 9; back at the start of iteration 5, or, with the
    // scripts' 0.67 * 10, of iteration 7.
    assert_eq!(count(&Settings::code(), &stale), (10, 5));
    assert_eq!(count(&Settings::code(), &late), (12, 5));
    let scripts = with(Settings::code(), &[("restart_after", "6.7")]);
    let (_, records) = scripted(&scripts, &late);
    let restarts = records.iter().filter(|record| record.restarted.contains(&0));
    let restarts: Vec<u32> = restarts.map(|record| record.iteration).collect();
    assert_eq!(restarts, [7, 8, 9, 10, 11, 12], "a restart does not reset the count");
}

#[test]
fn a_utility_that_is_no_number_is_an_error() {
    // Broken: NaN would silently never be best, and a journal could not hold it.
    for bad in [f64::NAN, f64::INFINITY] {
        let mut search = search(&Settings::paper(), 1, 4);
        let result = search.advance(|_, asked| {
            let mut f = vec![0.5; asked.len()];
            f[7] = bad;
            Ok(f)
        });
        let Err(Error::Usage(what)) = result else { panic!("{bad} was accepted") };
        assert!(what.contains("iteration 0") && what.contains("particle 7"), "{what}");
    }
}

#[test]
fn errors_of_the_caller_end_the_run() {
    // Broken: a failed evaluation or a full disk would be taken for a result.
    let refuse = || Error::Usage("no".into());
    let settings = Settings::paper();
    let result = search(&settings, 1, 4).run(|_, _| Err(refuse()), |_| Ok(()));
    assert!(matches!(result, Err(Error::Usage(_))));
    let result = search(&settings, 1, 4).run(closeness(&TARGET), |_| Err(refuse()));
    assert!(matches!(result, Err(Error::Usage(_))));
}
