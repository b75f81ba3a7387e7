//! The baselines that rank and choose, on functions whose optima are known.

mod baseline_common;

use baseline_common::{GENETIC, TARGET, hub, linear, run};
use model_swarms::baseline::search::{
    Candidate, Found, Genetic, LoraHub, Utility, best_single, cbtm, dare_ties, evol_merge,
    greedy_soup, lora_hub, model_stocks, pack_of_llms, ranked, slerp, uniform_soup,
};
use model_swarms::error::{Error, Result};
use model_swarms::suite::{Accept, Weights};

/// f from a table: what is not in it has f = -1.
fn from_table(table: &[(Vec<f64>, f64)]) -> impl FnMut(&[Candidate]) -> Result<Vec<f64>> {
    let table = table.to_vec();
    move |candidates| {
        let look_up = |candidate: &Candidate| {
            let row = table.iter().find(|(row, _)| *candidate == Candidate::Linear(row.clone()));
            row.map_or(-1.0, |(_, f)| *f)
        };
        Ok(candidates.iter().map(look_up).collect())
    }
}

#[test]
fn best_single_and_uniform_soup_are_what_they_say() {
    // Broken: the simplest rows of the tables would name the wrong model, or count wrong calls.
    let (best, asked) = run(&TARGET, |f| best_single(5, f));
    assert_eq!(best.candidate, Candidate::Linear(vec![0.0, 1.0, 0.0, 0.0, 0.0]));
    assert_eq!(asked.len(), 5);
    let (soup, asked) = run(&TARGET, |f| uniform_soup(5, f));
    assert_eq!(soup.candidate, Candidate::Linear(vec![0.2; 5]));
    assert_eq!(asked.len(), 1);
    // Of equal experts the first is the best single.
    let (best, _) = run(&[0.5, 0.5], |f| best_single(2, f));
    assert_eq!(best.candidate, Candidate::expert(2, 0));
}

#[test]
fn experts_are_ranked_by_utility_and_then_by_place() {
    // Broken: which experts are merged would depend on how a sort treats equals.
    assert_eq!(ranked(&[0.2, 0.9, 0.2, -0.0, 0.0, 0.9]), [1, 5, 0, 2, 3, 4]);
    assert!(ranked(&[]).is_empty());
}

#[test]
fn greedy_soup_takes_in_what_helps() {
    // Broken: the soup would lose against the expert it starts from, or keep what spoils it.
    for target in [TARGET, [0.0, 0.0, 0.0, 0.5, 0.5], [0.2; 5], [0.0, 0.0, 1.0, 0.0, 0.0]] {
        let (single, _) = run(&target, |f| best_single(5, f));
        let (soup, asked) = run(&target, |f| greedy_soup(5, Accept::Better, f));
        assert!(soup.utility >= single.utility);
        assert_eq!(asked.len(), 9);
        let row = linear(&soup.candidate);
        let n_in = row.iter().filter(|w| **w > 0.0).count();
        assert!(row.iter().all(|&w| w == 0.0 || w == 1.0 / n_in as f64), "a mean, {row:?}");
    }
    let (soup, asked) = run(&[0.0, 0.0, 0.0, 0.5, 0.5], |f| greedy_soup(5, Accept::Better, f));
    assert_eq!(linear(&soup.candidate), [0.0, 0.0, 0.0, 0.5, 0.5]);
    // Rank 3, 4, 0, 1, 2; what is refused is not in later soups.
    let tried: Vec<&[f64]> = asked[5..].iter().map(linear).collect();
    let third = 1.0 / 3.0;
    assert_eq!(tried[0], [0.0, 0.0, 0.0, 0.5, 0.5]);
    assert_eq!(tried[1], [third, 0.0, 0.0, third, third]);
    assert_eq!(tried[3], [0.0, 0.0, third, third, third]);
}

#[test]
fn greedy_soup_decides_about_equals_as_it_is_told() {
    // Broken: "strictly better" and "no worse" would be the same row.
    let table = [(vec![1.0, 0.0], 0.5), (vec![0.0, 1.0], 0.25), (vec![0.5, 0.5], 0.5)];
    for (accept, row) in [(Accept::Better, [1.0, 0.0]), (Accept::NoWorse, [0.5, 0.5])] {
        let found = greedy_soup(2, accept, &mut from_table(&table)).unwrap();
        assert_eq!(linear(&found.candidate), row);
        assert_eq!(found.utility, 0.5);
    }
}

#[test]
fn merges_take_the_best_experts() {
    // Broken: slerp, Dare-ties and model stocks would merge other experts than the best.
    // Rank by target: 1, 3, then 0 and 4, then 2.
    let (found, asked) = run(&TARGET, |f| slerp(5, 0.5, f));
    assert_eq!(found.candidate, Candidate::Slerp { experts: [1, 3], t: 0.5 });
    assert_eq!(asked.len(), 6);
    assert!(found.utility < found.best_so_far()[5], "a merge is reported even where it lost");

    let (found, asked) = run(&TARGET, |f| dare_ties(5, &[2, 3, 4, 5], 0.5, Weights::Mean, f));
    let experts = vec![1, 3];
    assert_eq!(found.candidate, Candidate::DareTies { experts, density: 0.5, weight: 0.5 });
    assert_eq!(asked.len(), 9);
    let experts = vec![1, 3, 0, 4, 2];
    assert_eq!(asked[8], Candidate::DareTies { experts, density: 0.5, weight: 0.2 });
    let (found, _) = run(&TARGET, |f| dare_ties(5, &[3], 1.0, Weights::One, f));
    let experts = vec![1, 3, 0];
    assert_eq!(found.candidate, Candidate::DareTies { experts, density: 1.0, weight: 1.0 });

    let (found, asked) = run(&TARGET, |f| model_stocks(5, &[3, 4, 5], f));
    assert_eq!(found.candidate, Candidate::ModelStock { experts: vec![1, 3, 0] });
    assert_eq!(asked.len(), 8);
    // Of merges with equal f the first is taken.
    let (found, _) = run(&[0.25; 4], |f| model_stocks(4, &[3, 2, 4], f));
    assert_eq!(found.candidate, Candidate::ModelStock { experts: vec![0, 1, 2] });
}

#[test]
fn prompt_methods_try_their_one_parameter() {
    // Broken: a temperature or a number of experts would be left out, or the wrong one kept.
    let temperatures: Vec<f64> = (1..=10).map(|tenths| f64::from(tenths) / 10.0).collect();
    let (found, asked) =
        run(&[0.5, 0.3, 0.2], |f| pack_of_llms(&[1.0, 1.2, 1.4], &temperatures, f));
    assert_eq!(asked.len(), 10);
    for (candidate, temperature) in asked.iter().zip(&temperatures) {
        let row = linear(candidate);
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        let ratio = (0.2f64 / temperature).exp();
        assert!((row[0] / row[1] / ratio - 1.0).abs() < 1e-13, "softmax(-loss / tau)");
        assert!((row[1] / row[2] / ratio - 1.0).abs() < 1e-13, "softmax(-loss / tau)");
    }
    // ln(.5 / .2) / .4 and its neighbours ask for a temperature of about .44.
    assert_eq!(found.candidate, asked[3]);

    let (found, asked) = run(&TARGET, |f| cbtm(&[2, 3, 4, 5], f));
    assert_eq!((found.candidate, asked.len()), (Candidate::Mixture { top: 3 }, 4));
}

#[test]
fn small_pools_are_searched_or_refused() {
    // Broken: a pool of one or two experts would end in a panic.
    let one = [1.0];
    assert_eq!(run(&one, |f| best_single(1, f)).0.candidate, Candidate::Linear(vec![1.0]));
    assert_eq!(run(&one, |f| uniform_soup(1, f)).0.candidate, Candidate::Linear(vec![1.0]));
    let (soup, asked) = run(&one, |f| greedy_soup(1, Accept::Better, f));
    assert_eq!((soup.candidate, asked.len()), (Candidate::Linear(vec![1.0]), 1));
    let (pack, _) = run(&one, |f| pack_of_llms(&[3.0], &[0.1], f));
    assert_eq!(pack.candidate, Candidate::Linear(vec![1.0]));
    let (found, asked) = run(&[0.6], |f| lora_hub(1, &hub(&[0.0]), 1, f));
    assert!(found.utility > -1e-3 && asked.len() == 1 + 49 + 9 * 40, "{}", found.utility);

    let two = [0.7, 0.3];
    assert_eq!(
        run(&two, |f| slerp(2, 0.25, f)).0.candidate,
        Candidate::Slerp { experts: [0, 1], t: 0.25 }
    );
    let (found, asked) = run(&two, |f| evol_merge(2, 1, &GENETIC, 1, f));
    assert!(found.utility > -1e-3 && asked.len() == 2 + 48 + 4 * 40);
    let (found, _) = run(&two, |f| lora_hub(2, &hub(&[0.05]), 1, f));
    assert!(found.utility > -1e-2);

    let refused = |search: &dyn Fn(&mut Utility) -> Result<Found>| {
        let mut f = |_: &[Candidate]| -> Result<Vec<f64>> { panic!("nothing is to be evaluated") };
        match search(&mut f) {
            Err(Error::Usage(what)) => what,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        refused(&|f| slerp(1, 0.5, f)),
        "slerp merges the best 2 experts, wanted 2 or more, and the pool has 1"
    );
    refused(&|f| dare_ties(3, &[2, 4], 1.0, Weights::Mean, f));
    refused(&|f| model_stocks(3, &[1], f));
    assert_eq!(
        refused(&|f| evol_merge(1, 3, &GENETIC, 1, f)),
        "evolmerge crosses the two best experts, and the pool has 1"
    );
    assert_eq!(
        refused(&|f| evol_merge(9, 3, &Genetic { calls: 8, ..GENETIC }, 1, f)),
        "evolmerge: 8 evaluations do not cover the ranking of the experts, of which there are 9"
    );
    assert_eq!(
        refused(&|f| evol_merge(5, 3, &Genetic { keep: 50, ..GENETIC }, 1, f)),
        "evolmerge: 50 are kept, wanted at least 2 and fewer than the population of 50"
    );
    refused(&|f| evol_merge(5, 3, &Genetic { keep: 1, ..GENETIC }, 1, f));
    refused(&|f| evol_merge(5, 3, &Genetic { population: 2, ..GENETIC }, 1, f));
    refused(&|f| evol_merge(5, 3, &Genetic { generations: 0, ..GENETIC }, 1, f));
    refused(&|f| evol_merge(5, 3, &Genetic { population: usize::MAX, ..GENETIC }, 1, f));
    refused(&|f| lora_hub(50, &hub(&[0.0]), 1, f));
    refused(&|f| lora_hub(5, &LoraHub { bound: 0.5, ..hub(&[0.0]) }, 1, f));
    refused(&|f| lora_hub(5, &LoraHub { bound: f64::NAN, ..hub(&[0.0]) }, 1, f));
}

#[test]
fn what_goes_wrong_in_f_ends_the_search() {
    // Broken: a failed evaluation, or a utility that is no number, would be taken for a result.
    let failed = greedy_soup(3, Accept::Better, &mut |candidates| match linear(&candidates[0]) {
        row if row.contains(&0.5) => Err(Error::Usage("the disk is full".into())),
        _ => Ok(vec![0.5; candidates.len()]),
    });
    assert!(matches!(failed, Err(Error::Usage(what)) if what == "the disk is full"));
    let failed = best_single(3, &mut |_| Ok(vec![0.1, f64::NAN, 0.2])).unwrap_err();
    assert_eq!(failed.to_string(), "the utility of call 2 is NaN; it must be a finite number");
    assert_eq!(failed.exit_code(), 2);
    let failed = pack_of_llms(&[1.0, f64::INFINITY], &[1.0], &mut |_| Ok(vec![0.0])).unwrap_err();
    assert_eq!(failed.to_string(), "the loss of expert 1 is inf; it must be a finite number");
}
