//! Statistics at their edges, and against values that can be worked out by hand.

use model_swarms::stats::{
    Half, Level, SIGN_DRAWS, Transitions, entropy, level, mcnemar, normal_tail, one_tailed_z,
    paired, pearson, stars, summarize, wilson,
};

fn near(found: f64, wanted: f64, relative: f64) {
    assert!((found - wanted).abs() <= relative * wanted.abs(), "{found}, wanted {wanted}");
}

#[test]
fn the_normal_tail_is_right_from_centre_to_far_out() {
    // Broken: p-values are wrong where the two formulas of erfc meet, or far out.
    // The wanted values are erfc's of a C library, halved.
    for (z, wanted) in [
        (0.0, 0.5),
        (1.0, 0.158_655_253_931_457_05),
        (1.644_853_626_951_472_2, 0.05),
        (2.326_347_874_040_840_8, 0.01),
        (3.0, 1.349_898_031_630_095_7e-3),
        (6.0, 9.865_876_450_377_012e-10),
        (10.0, 7.619_853_024_160_593e-24),
        (30.0, 4.906_713_927_148_764e-198),
    ] {
        near(normal_tail(z), wanted, 2e-13);
        near(normal_tail(-z), 1.0 - wanted, 1e-14);
    }
    let meeting = 2.0 * std::f64::consts::SQRT_2;
    near(normal_tail(meeting - 1e-12), normal_tail(meeting + 1e-12), 1e-11);
    assert_eq!(normal_tail(40.0), 0.0);
    assert_eq!(normal_tail(f64::INFINITY), 0.0);
    assert_eq!(normal_tail(f64::NEG_INFINITY), 1.0);
    let mut last = 1.0;
    for step in -400..400 {
        let tail = normal_tail(f64::from(step) / 40.0);
        assert!(tail < last || step <= 0 && tail == last, "not falling at {step}");
        last = tail;
    }
}

#[test]
fn a_z_test_without_a_variance_decides_nothing() {
    // Broken: a method that solves everything divides by zero.
    for (a, n_a, b, n_b) in
        [(1.0, 9, 1.0, 9), (0.0, 9, 0.0, 9), (0.5, 0, 0.2, 9), (-0.3, 9, -0.2, 9)]
    {
        let test = one_tailed_z(a, n_a, b, n_b);
        assert_eq!((test.z, test.p_value), (0.0, 0.5));
    }
    assert_eq!([0.2, 0.1, 0.0999, 0.05, 0.049, 0.01, 0.0099].map(stars), [0, 0, 1, 1, 2, 2, 3]);
    // Unequal sizes: pooled 0.55, z = 0.1 / sqrt(0.2475 (1/50 + 1/150)).
    let test = one_tailed_z(0.625, 50, 0.525, 150);
    near(test.z, 0.1 / (0.2475f64 * (1.0 / 50.0 + 1.0 / 150.0)).sqrt(), 1e-14);
}

#[test]
fn mcnemar_counts_only_what_differs() {
    // Broken: the paired test is not exact, or looks at the wrong tail.
    let pairs = |only_first, only_second, both: usize| {
        let mut first = vec![true; only_first];
        let mut second = vec![false; only_first];
        first.extend(vec![false; only_second]);
        second.extend(vec![true; only_second]);
        first.extend(vec![true; both]);
        second.extend(vec![true; both]);
        mcnemar(&first, &second)
    };
    let test = pairs(5, 1, 100); // (C(6,5) + C(6,6)) / 64, less half of C(6,5) / 64
    assert_eq!((test.only_first, test.only_second), (5, 1));
    near(test.exact, 7.0 / 64.0, 1e-15);
    near(test.mid_p, 4.0 / 64.0, 1e-15);
    let turned = pairs(1, 5, 100);
    near(turned.exact, 63.0 / 64.0, 1e-15);
    let none = pairs(0, 0, 3);
    assert_eq!((none.exact, none.mid_p), (1.0, 0.5));
    // 2^-1500 has no f64; the middle of a long row must not need it.
    let long = pairs(751, 749, 0);
    assert!((0.48..0.5).contains(&long.exact) && long.mid_p < long.exact, "{long:?}");
    assert!(pairs(1500, 0, 0).exact < 1e-300);
}

#[test]
fn wilson_stays_within_0_and_1() {
    // Broken: error bars of a table leave the page, or are too narrow.
    assert_eq!(wilson(0, 0), (0.0, 1.0));
    assert_eq!(wilson(0, 10).0, 0.0);
    assert_eq!(wilson(10, 10).1, 1.0);
    let (low, high) = wilson(81, 263); // Newcombe 1998, table I: 0.2553 to 0.3662
    assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5, "{low} {high}");
    let (low, high) = wilson(0, 20); // ibid.: 0 to 0.1611
    assert!(low == 0.0 && (high - 0.1611).abs() < 5e-5, "{high}");
}

#[test]
fn a_level_is_about_more_than_half() {
    // Broken: a question that half of the particles answer is in two levels or none.
    use Level::{All, LessThanHalf, MoreThanHalf, None};
    let levels = |n: usize, half| (0..=n).map(|right| level(right, n, half)).collect::<Vec<_>>();
    let even = [None, LessThanHalf, LessThanHalf, MoreThanHalf, All];
    assert_eq!(levels(4, Half::Down), even);
    assert_eq!(levels(4, Half::Up), [None, LessThanHalf, MoreThanHalf, MoreThanHalf, All]);
    for half in [Half::Down, Half::Up] {
        assert_eq!(levels(3, half), [None, LessThanHalf, MoreThanHalf, All]);
        assert_eq!(levels(1, half), [None, All]);
    }
    let nothing = Transitions::of(&[], 4, &[], 4, Half::Down);
    assert_eq!((nothing.surge(), nothing.emerge()), (Option::None, Option::None));
    let solved = Transitions::of(&[1, 4], 4, &[2, 4], 4, Half::Up);
    assert_eq!((solved.surge(), solved.emerge(), solved.n_half), (Some(0.5), Option::None, 1));
}

#[test]
fn summaries_of_few_values_promise_nothing() {
    // Broken: one seed seems to have a spread, or a constant a correlation.
    assert_eq!(summarize(&[]), None);
    assert_eq!(summarize(&[0.3]).unwrap().sd, None);
    let summary = summarize(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
    assert_eq!((summary.n, summary.mean), (8, 5.0));
    near(summary.sd.unwrap(), (32.0f64 / 7.0).sqrt(), 1e-15);
    assert_eq!(pearson(&[]), None);
    assert_eq!(pearson(&[(1.0, 2.0)]), None);
    assert_eq!(pearson(&[(1.0, 2.0), (1.0, 3.0)]), None);
    near(pearson(&[(1.0, 3.0), (2.0, 5.0), (4.0, 9.0)]).unwrap(), 1.0, 1e-15);
    near(pearson(&[(0.0, 1.0), (1.0, 0.0)]).unwrap(), -1.0, 1e-15);
    near(pearson(&[(1.0, 1.0), (2.0, 3.0), (3.0, 2.0)]).unwrap(), 0.5, 1e-15);
}

#[test]
fn what_cannot_be_parsed_is_an_answer_of_its_own() {
    // Broken: a model that answers nothing sensible seems to be sure of itself.
    let answers = [Some("A"), None, Some("A"), None];
    near(entropy(&answers).bits, 1.0, 1e-15);
    assert_eq!(entropy::<&str>(&[]).nats, 0.0);
    assert_eq!(entropy(&[None::<&str>, None]).nats, 0.0);
    let (one, other) = ([Some(1), Some(2), Some(2)], [Some(7), Some(7), Some(3)]);
    assert_eq!(entropy(&one).nats.to_bits(), entropy(&other).nats.to_bits());
}

#[test]
fn a_paired_test_flips_signs() {
    // Broken: a lead on a task whose answers are worth more than right and wrong gets the p-value
    // of another lead.
    // Right and wrong: McNemar's, here 1/2^4 for four leads and no other difference.
    let (first, second) = ([1.0, 1.0, 1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    assert_eq!(paired(&first, &second), 1.0 / 16.0);
    assert_eq!(paired(&second, &first), 1.0);
    assert_eq!(paired(&[], &[]), 1.0);

    // Five differences: of the 32 assignments of signs, those with a sum as high, counted by hand.
    for (differences, n_as_high) in [
        ([0.5, 0.5, 0.5, 0.5, 0.5], 1),
        ([1.5, 0.5, 0.5, 0.0, 0.0], 4), // two zeros have two signs each
        ([-0.5, 0.5, 0.5, 0.5, 0.5], 6),
        ([0.0, 0.0, 0.0, 0.0, 0.0], 32),
        ([-0.5, -0.5, -0.5, -0.5, -0.5], 32),
        ([0.1, 0.2, 0.3, -0.3, -0.1], 14), // 0.2 and more: sums of tenths differ in last bits
    ] {
        let zeros = [0.0; 5];
        let (found, wanted) = (paired(&differences, &zeros), f64::from(n_as_high) / 32.0);
        // Four standard errors of a share of the draws.
        let most = 4.0 * (wanted * (1.0 - wanted) / f64::from(SIGN_DRAWS)).sqrt() + 1e-4;
        assert!((found - wanted).abs() <= most, "{differences:?}: {found}, wanted {wanted}");
        assert_eq!(found, paired(&differences, &zeros), "drawn otherwise the second time");
    }
}
