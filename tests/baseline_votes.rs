//! What experts decide question by question: votes over answers, and weights by prompt.

use std::path::{Path, PathBuf};

use model_swarms::baseline::search::{centre, plurality, prompt_weights};
use serde_json::Value;

#[test]
fn the_answer_with_most_votes_is_given() {
    // Broken: prediction merge would not be a plurality vote.
    assert_eq!(*plurality(&["A", "B", "B"], &[0.9, 0.1, 0.1]), "B");
    assert_eq!(*plurality(&["A"], &[0.0]), "A");
    // An answer that could not be parsed is one like any other.
    assert_eq!(*plurality(&[None, None, Some("A")], &[0.1, 0.1, 0.9]), None);
    assert!(plurality(&[true, false, true], &[0.1, 0.9, 0.2]));
}

#[test]
fn equal_votes_are_weighed_by_utility_and_then_by_rank() {
    // Broken: ties would be decided by the order of the experts.
    assert_eq!(*plurality(&["B", "A", "A", "B"], &[0.1, 0.9, 0.9, 0.1]), "A");
    // Utilities may be negative: the sum decides among answers with equally many voters alone.
    assert_eq!(*plurality(&["A", "A", "B", "B", "C"], &[-0.3, -0.4, -0.1, -0.2, -0.05]), "B");
    // Equal sums: 0.5 + 0.25 = 0.75 + 0; the best-ranked expert says C.
    assert_eq!(*plurality(&["A", "A", "C", "C"], &[0.5, 0.25, 0.75, 0.0]), "C");
    // All experts equal: the first of the pool is the best-ranked.
    assert_eq!(*plurality(&["D", "A", "A", "D"], &[0.5; 4]), "D");
}

#[test]
fn golden_votes() {
    // Broken: where the authors' program does what it intends, ours would differ.
    let golden = std::env::var_os("MODEL_SWARMS_GOLDEN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden"),
        PathBuf::from,
    );
    let Ok(text) = std::fs::read_to_string(golden.join("metrics.json")) else {
        println!("skipped: no goldens");
        return;
    };
    let metrics: Value = serde_json::from_str(&text).unwrap();
    // Theirs, and where another answer is right by the definition, that one.
    let cases = [
        ("clear_plurality", None),
        ("tie_positive_utilities", Some("A")),
        ("tie_negative_utilities", Some("A")),
        ("tie_zero_utility", Some("A")),
        ("scores_vote_01", None),
    ];
    for (name, ours) in cases {
        println!("{name}");
        let all = metrics["plurality_vote_authors_code"].as_array().unwrap();
        let case = all.iter().find(|case| case["name"] == name).unwrap();
        let utilities: Vec<f64> = serde_json::from_value(case["utility"].clone()).unwrap();
        let of_experts: Vec<Vec<Value>> = serde_json::from_value(case["preds"].clone()).unwrap();
        for (question, theirs) in case["result"].as_array().unwrap().iter().enumerate() {
            let answers: Vec<Value> = of_experts.iter().map(|all| all[question].clone()).collect();
            let ours = ours.map_or(theirs.clone(), Value::from);
            assert_eq!(*plurality(&answers, &utilities), ours, "{name}, question {question}");
        }
    }
}

#[test]
fn near_experts_speak_for_a_prompt() {
    // Broken: cBTM would mix experts by something else than their distance to the prompt.
    let centres = [vec![1.0, 0.0], vec![0.0, 1.0], vec![-1.0, 0.0], vec![0.6, 0.8]];
    let query = [0.8, 0.6];
    let all = prompt_weights(&query, &centres, 0.1, 9).unwrap();
    // Squared distances: .4, .8, 3.6, .08.
    let parts = [0.4f64, 0.8, 3.6, 0.08].map(|distance| (-distance / 0.1).exp());
    let sum: f64 = parts.iter().sum();
    let mut entropy = 0.0;
    for (weight, part) in all.weights.iter().zip(parts) {
        assert!((weight - part / sum).abs() < 1e-14, "{weight} {}", part / sum);
        entropy -= part / sum * (part / sum).ln();
    }
    assert!((all.entropy - entropy).abs() < 1e-13, "{} {entropy}", all.entropy);
    let two = prompt_weights(&query, &centres, 0.1, 2).unwrap();
    assert_eq!((two.weights[1], two.weights[2]), (0.0, 0.0));
    assert!((two.weights[0] - parts[0] / (parts[0] + parts[3])).abs() < 1e-14);
    assert_eq!(two.entropy, all.entropy, "of all experts");
}

#[test]
fn weights_hold_at_the_edges() {
    // Broken: equal or far experts would give weights that are no numbers, or not sum to 1.
    let same = vec![vec![0.0, 1.0]; 3];
    let even = prompt_weights(&[1.0, 0.0], &same, 0.1, 2).unwrap();
    assert_eq!(even.weights, [0.5, 0.5, 0.0], "of equals, the first");
    assert!((even.entropy - 3f64.ln()).abs() < 1e-14);
    let far = prompt_weights(&[0.0], &[vec![0.0], vec![1e9]], 1e-3, 2).unwrap();
    assert_eq!(far.weights[0], 1.0);
    assert!(far.weights[1] < 1e-300 && far.entropy < 1e-290);
    assert!(prompt_weights(&[0.0], &[vec![f64::NAN]], 0.1, 1).is_err());

    assert_eq!(centre(&[vec![3.0, 4.0]]), [0.6000000000000001, 0.8]);
    let mean = centre(&[vec![10.0, 0.0], vec![0.0, 0.5]]);
    assert!((mean[0] - 0.5f64.sqrt()).abs() < 1e-15 && mean[0] == mean[1], "{mean:?}");
    assert_eq!(centre(&[vec![0.0, 0.0]]), [0.0, 0.0]);
}
