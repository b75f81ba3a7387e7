//! The authors' start, weights against coefficients, and experts that come and go.

mod swarm_common;

use model_swarms::error::Error;
use model_swarms::rng::{Draws, Purpose};
use model_swarms::swarm::modular::{Admission, remove_expert};
use model_swarms::swarm::settings::{DrawSource, Populate};
use model_swarms::swarm::{Coefficients, Origin, Search, Settings, Space, Weights};
use swarm_common::{TARGET, closeness, search, with};

#[test]
fn golden_the_authors_seed_42_starts_the_swarm_of_every_run_of_theirs() {
    // Broken: mode `code` would not replay the published program's population.
    let [code_alpaca, cot, flan, gemini, lima, oasst, orca, sharegpt, wizard] =
        [0, 1, 2, 3, 4, 5, 6, 8, 9];
    let children: [([usize; 2], f64); 10] = [
        ([cot, code_alpaca], 1.4831009995196658),
        ([gemini, flan], 1.4729424283280248),
        ([10, 11], 1.7843591354096908),
        ([cot, wizard], 0.8438436393705409),
        ([code_alpaca, cot], 0.4372759496072067),
        ([sharegpt, wizard], 0.05307193936772725),
        ([orca, 13], 0.4408812440813934),
        ([sharegpt, code_alpaca], 1.5176147342595345),
        ([oasst, 13], 0.6805010330359837),
        ([lima, orca], 1.9144261444135624),
    ];
    let partners = [10, 3, 12, 11, 11, 19, 8, 1, 14, 17, 3, 12, 2, 17, 9, 19, 11, 18, 6, 2];
    let next_draw = 0.045824383655662215;
    let settings = with(Settings::code(), &[("populate", "growing"), ("particles", "20")]);
    assert_eq!(settings.draws, DrawSource::Authors42);
    let swarm = search(&settings, 7, 10);
    let space = swarm.space();
    for (m, ([a, b], w)) in children.into_iter().enumerate() {
        let pairs = space.location(a).iter().zip(space.location(b));
        let wanted: Vec<f64> = pairs.map(|(a, b)| w * a + (1.0 - w) * b).collect();
        assert_eq!(space.location(10 + m), wanted, "child {m}");
    }
    check_partners(space, &partners);
    for (probability, n_evaluated) in [(next_draw, 20), (next_draw + 1e-9, 0)] {
        let settings = Settings { drop_iterations: probability, ..settings.clone() };
        let mut search = search(&settings, 7, 10);
        let evaluate = |_: &Coefficients, asked: &[usize]| Ok(vec![0.5; asked.len()]);
        search.advance(evaluate).unwrap();
        let record = search.advance(evaluate).unwrap().unwrap();
        assert_eq!(record.evaluated.len(), n_evaluated, "the draw after the velocities");
    }
    let bare = search(&Settings::code(), 7, 10);
    check_partners(bare.space(), &[1, 0, 4, 2, 1, 8, 1, 9, 6, 0]);
}

fn check_partners(space: &Coefficients, partners: &[usize]) {
    for (i, &j) in partners.iter().enumerate() {
        let wanted = space.location(j).iter().zip(space.location(i)).map(|(a, b)| a - b);
        assert!(wanted.eq(space.velocity(i).iter().copied()), "partner of {i}");
    }
}

#[test]
fn weights_and_coefficients_agree_after_50_iterations() {
    // Broken: locations would not be the affine combinations that the coefficients claim.
    let (n_experts, dim) = (10, 1003);
    let experts: Vec<Vec<f32>> = (0..n_experts)
        .map(|expert| {
            let mut draws = Draws::new(9).stream(Purpose::Baseline, 0, expert);
            (0..dim).map(|_| (2.0 * draws.uniform() - 1.0) as f32).collect()
        })
        .collect();
    let target: Vec<f64> = (0..n_experts).map(|j| if j % 2 == 0 { 0.4 } else { -0.2 }).collect();
    for (mode, repel) in [(Settings::paper(), "0.05"), (Settings::code(), "0.3")] {
        let changes = [("patience", "99"), ("max_iterations", "50"), ("restart_after", "4")];
        let settings = with(with(mode, &changes), &[("repel", repel), ("velocity", "best")]);
        let settings = Settings { populate: Populate::Growing, ..settings };
        let directory = tempfile::tempdir().unwrap();
        let load = |expert: usize, out: &mut [f32]| {
            out.copy_from_slice(&experts[expert]);
            Ok(())
        };
        let space = Weights::create(directory.path(), n_experts, 20, dim, load).unwrap();
        let mut by_weights = Search::new(&settings, 1, space).unwrap();
        let utility = closeness(&target);
        let a = by_weights.run(|space, asked| utility(space.coefficients(), asked), |_| Ok(()));
        let mut by_rows = search(&settings, 1, n_experts);
        let b = by_rows.run(&utility, |_| Ok(()));
        assert_eq!(a.unwrap(), b.unwrap());
        let space = by_weights.space();
        for i in 0..20 {
            check_near(space.location(i), by_rows.space().location(i), &experts);
            check_near(space.personal_best(i), by_rows.space().personal_best(i), &experts);
        }
        check_near(space.global_best(), by_rows.space().global_best(), &experts);
        check_near(space.global_worst(), by_rows.space().global_worst(), &experts);
    }
}

fn check_near(weights: &[f32], row: &[f64], experts: &[Vec<f32>]) {
    let (mut gap, mut size) = (0.0, 0.0);
    for (d, &weight) in weights.iter().enumerate() {
        let wanted: f64 = row.iter().zip(experts).map(|(c, x)| c * f64::from(x[d])).sum();
        gap += (f64::from(weight) - wanted) * (f64::from(weight) - wanted);
        size += wanted * wanted;
    }
    // Each of 50 steps rounds x and v once to 24 bits: 50 * 2 * 6e-8 at the very worst.
    assert!(gap.sqrt() <= 1e-5 * size.sqrt(), "relative gap {}", (gap / size).sqrt());
}

#[test]
fn a_newcomer_joins_only_as_the_best_unless_forced() {
    // Broken: Figure 13 would inject experts that the paper keeps out, or lose their column.
    let mut search = search(&Settings::paper(), 1, 4);
    search.run(closeness(&TARGET), |_| Ok(())).unwrap();
    let g = search.outcome().best;
    let before = search.next_iteration();
    let append = |space: &mut Coefficients| {
        space.append_expert();
        Ok(())
    };
    assert_eq!(search.inject(g.utility, Admission::IfBest, append).unwrap(), None);
    assert!(search.stop_reason().is_some(), "kept out, it changes nothing");
    assert_eq!(search.inject(g.utility + 1.0, Admission::IfBest, append).unwrap(), Some(20));
    let space = search.space();
    assert_eq!(space.location(20), [0.0, 0.0, 0.0, 0.0, 1.0]);
    assert_eq!(space.global_best(), space.location(20));
    assert_eq!(space.velocity(20)[4], -1.0, "it moves towards a particle that has none of it");
    assert_eq!(search.stop_reason(), None, "the search goes on");
    let record = search.advance(|_, asked| Ok(vec![0.0; asked.len()])).unwrap().unwrap();
    assert_eq!((record.iteration, record.f.len()), (before, 21));
    assert_eq!(record.g_source, Origin { particle: 20, iteration: before - 1 });
    assert_eq!(search.inject(-9.0, Admission::Always, append).unwrap(), Some(21));
    assert_eq!(search.outcome().best.source.particle, 20, "forced in, it is not best");
    assert_eq!(search.space().global_worst(), search.space().location(21));
}

#[test]
fn an_expert_that_is_all_of_a_location_cannot_be_removed() {
    // Broken: the rest would be divided by nearly nothing.
    assert!(matches!(remove_expert(&[0.0005, 0.9995], 1), Err(Error::Usage(_))));
    assert_eq!(remove_expert(&[0.5, 0.25, 0.25], 0).unwrap(), [0.5, 0.5]);
    assert_eq!(remove_expert(&[-1.0, 2.0], 1).unwrap(), [1.0]);
}
