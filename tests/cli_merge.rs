//! `model-swarms merge` as a user runs it, on the example's experts.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::cli::{
    ADAPTER_CONFIG, ADAPTER_WEIGHTS, Inputs, assert_same_files, example, files_of, model_swarms,
    run, run_ok, run_refused,
};
use common::spoil::{Q_A, adapter, base, edit_json, set_value};
use model_swarms::adapter::Expert;
use model_swarms::baseline::merge::update;
use serde_json::{Value, json};

/// What is done to a good set of inputs.
type Spoil = fn(&Inputs);

/// A name, the method and its options, the inputs, and what the message must contain.
type Case = (&'static str, &'static str, &'static [&'static str], Spoil, &'static [&'static str]);

/// A merge of the whole pool into `out`, with these options.
fn merge(inputs: &Inputs, method: &str, out: &Path, options: &[&str]) -> Command {
    let mut command = model_swarms(["merge", method, "--experts"]);
    command.arg(&inputs.experts).arg("--out").arg(out).args(options);
    command
}

/// A merge in full space.
fn merge_full(inputs: &Inputs, method: &str, out: &Path, options: &[&str]) -> Command {
    let mut command = merge(inputs, method, out, options);
    command.args(["--space", "full", "--base"]).arg(&inputs.base);
    command
}

/// All updates of an adapter, one after another.
fn updates(dir: &Path) -> Vec<f32> {
    let expert = Expert::open(dir).unwrap();
    (0..expert.layout().modules.len()).flat_map(|idx| update(&expert, idx, None)).collect()
}

/// The largest distance between two adapters' updates, as a share of the largest entry.
fn distance(left: &Path, right: &Path) -> f32 {
    let (left, right) = (updates(left), updates(right));
    assert_eq!(left.len(), right.len());
    let largest =
        |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |most, x| x.abs().max(most));
    let gap = largest(&mut left.iter().zip(&right).map(|(left, right)| left - right));
    gap / largest(&mut left.iter().copied())
}

#[test]
fn one_expert_with_all_the_weight_is_that_expert() {
    // Broken: weights would go to other experts than the user counts them for.
    let inputs = example().copy(3, 4, 4);
    let prompts = inputs.folder.join("prompts.jsonl");
    fs::write(
        &prompts,
        "{\"id\": 1, \"prompt\": \"one two\"}\n{\"id\": 2, \"tokens\": [9, 700]}\n",
    )
    .unwrap();
    let answers = |adapter: &Path| {
        let mut generate = inputs.generate(&prompts, 5);
        generate.arg("--logits").arg("--adapter").arg(adapter);
        let lines: Vec<Value> =
            run_ok(generate).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        lines.into_iter().map(|line| (line["tokens"].clone(), line["logits"].clone())).collect()
    };
    let wanted: Vec<(Value, Value)> = answers(&inputs.expert(1));
    for space in ["factor", "delta"] {
        let out = inputs.folder.join(space);
        let options = ["--weights", "0,1,0", "--space", space];
        run_ok(merge(&inputs, "linear", &out, &options));
        assert_eq!(answers(&out), wanted, "{space}");
    }
    let out = inputs.folder.join("full");
    run_ok(merge_full(&inputs, "linear", &out, &["--weights", "0,1,0"]));
    assert!(distance(&inputs.expert(1), &out) < 1e-4); // W0 + dW is rounded to W0's last digit
}

#[test]
fn delta_and_full_space_agree_but_for_slerp() {
    // Broken: the base's weights would leak into what is merged.
    let inputs = example().copy(2, 4, 4);
    let out = |name: &str| inputs.folder.join(name);
    let cases: [(&str, &[&str]); 5] = [
        ("linear", &["--weights", "1.5,-0.25"]),
        ("ties", &["--density", "1"]),
        ("dare-ties", &["--density", "0.7", "--seed", "5"]),
        ("dare-ties", &["--weights", "1,0.5"]),
        ("model-stock", &[]),
    ];
    for (method, options) in cases {
        run_ok(merge(&inputs, method, &out("delta"), &[options, &["--space", "delta"]].concat()));
        run_ok(merge_full(&inputs, method, &out("full"), options));
        let distance = distance(&out("delta"), &out("full"));
        assert!(distance < 1e-3, "{method} {options:?}: {distance}");
    }
    // The base's weights bring the experts nearer to parallel, and the arc nearer to a line.
    run_ok(merge(&inputs, "linear", &out("mean"), &["--space", "delta"]));
    run_ok(merge_full(&inputs, "slerp", &out("full"), &[]));
    run_ok(merge(&inputs, "slerp", &out("delta"), &["--space", "delta"]));
    let [full, delta] = ["full", "delta"].map(|name| distance(&out("mean"), &out(name)));
    println!("slerp: {full} and {delta} from the mean");
    assert!(0.01 < full && full < delta, "{full} and {delta}");
}

#[test]
fn a_merge_says_what_it_is() {
    // Broken: nobody could tell from an adapter how it was made, or repeat it.
    let inputs = example().copy(3, 4, 4);
    let out = inputs.folder.join("new/merged");
    let cases: [(&str, &[&str], Value); 5] = [
        ("linear", &[], json!({"space": "factor", "exact": false, "ranks": [8, 8]})),
        ("model-stock", &[], json!({"space": "delta", "exact": true, "ranks": [24, 24]})),
        ("ties", &[], json!({"space": "delta", "exact": true, "ranks": [64, 128]})),
        ("ties", &["--space", "factor"], json!({"space": "factor", "ranks": [8, 8]})),
        (
            "dare-ties",
            &["--density", "0.25", "--seed", "9"],
            json!({"space": "delta", "parameters": {
                "weights": [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0], "density": 0.25,
                "normalize": false, "rescale": "by density", "seed": 9,
            }}),
        ),
    ];
    for (method, options, wanted) in cases {
        let options = [options, &["--json"]].concat();
        let found: Value =
            serde_json::from_str(&run_ok(merge(&inputs, method, &out, &options))).unwrap();
        assert_eq!(found["method"], method);
        assert_eq!(found["experts"], json!(["aster", "birch", "cedar"]));
        for (field, wanted) in wanted.as_object().unwrap() {
            assert_eq!(found[field], *wanted, "{method}: {field}");
        }
        let card = fs::read_to_string(out.join("README.md")).unwrap();
        assert!(card.contains(&format!("# Merged by {method} in ")), "{card}");
        let hash = model_swarms::files::sha256(&inputs.expert(2).join(ADAPTER_WEIGHTS)).unwrap();
        assert!(card.contains(&format!("{hash}  cedar/{ADAPTER_WEIGHTS}\n")), "{card}");
        assert!(!card.contains(inputs.folder.to_str().unwrap()), "{card}");
    }
}

#[test]
fn a_merge_is_the_same_again_on_any_number_of_threads() {
    // Broken: two people with the same experts and seed would have two models.
    let inputs = example().copy(3, 4, 4);
    for (method, options) in [("dare-ties", ["--seed", "3"]), ("linear", ["--space", "delta"])] {
        let made = |threads: &str, options: &[&str]| {
            let out = inputs.folder.join("merged");
            let mut command = merge(&inputs, method, &out, options);
            command.env("RAYON_NUM_THREADS", threads);
            run_ok(command);
            files_of(&out)
        };
        let first = made("1", &options);
        assert_same_files(method, &made("3", &options), &first);
    }
}

#[test]
fn experts_are_taken_in_the_order_given() {
    // Broken: slerp's t would count from the wrong end.
    let inputs = example().copy(3, 4, 4);
    let out = inputs.folder.join("merged");
    for (first, second, t) in [(2, 0, "0"), (0, 2, "1")] {
        let mut command = model_swarms(["merge", "slerp", "--t", t, "--experts"]);
        command.args([inputs.expert(first), inputs.expert(second)]).arg("--out").arg(&out);
        run_ok(command);
        let [ours, wanted] = [&out, &inputs.expert(2)].map(|dir| Expert::open(dir).unwrap());
        assert_eq!(ours.to_flat(), wanted.to_flat());
    }
}

#[test]
fn bad_input_is_refused_and_nothing_is_written() {
    // Broken: a slip would end in a panic, or in an adapter that is not what was asked for.
    let good: Spoil = |_| {};
    let cases: [Case; 16] = [
        ("too few weights", "linear", &["--weights", "1,2"], good, &["2 weights for 3 experts"]),
        ("a weight of NaN", "linear", &["--weights", "1,NaN,1"], good, &["a weight is NaN"]),
        (
            "weights beyond f32",
            "linear",
            &["--weights", "1e300,0,0"],
            good,
            &["merged", "has no finite F32"],
        ),
        ("slerp of three", "slerp", &[], good, &["slerp is between two experts, 3 were given"]),
        ("density 0", "ties", &["--density", "0"], good, &["density is 0, wanted more than 0"]),
        ("density -1", "dare-ties", &["--density", "-1"], good, &["density is -1"]),
        ("t of linear", "linear", &["--t", "0.5"], good, &["--t means nothing to linear"]),
        ("seed of ties", "ties", &["--seed", "1"], good, &["--seed means nothing to ties"]),
        (
            "weights of model stock",
            "model-stock",
            &["--weights", "1,1,1"],
            good,
            &["--weights means nothing to model-stock"],
        ),
        ("no base", "ties", &["--space", "full"], good, &["--space full wants --base"]),
        ("idle base", "ties", &["--base", "x"], good, &["--base means nothing without"]),
        (
            "no such base",
            "ties",
            &["--space", "full", "--base", "/nowhere/x"],
            good,
            &["/nowhere/x", "there is no such directory"],
        ),
        (
            "an adapter with a NaN",
            "ties",
            &[],
            |i| set_value(&adapter(i), Q_A, f32::NAN),
            &["birch/adapter_model.safetensors", "is NaN at index 5"],
        ),
        (
            "another scale, in factors",
            "linear",
            &[],
            |i| {
                edit_json(&i.expert(1).join(ADAPTER_CONFIG), |config| {
                    config["lora_alpha"] = json!(5)
                })
            },
            &["birch", "the experts are not alike: scale of module"],
        ),
        (
            "another base",
            "model-stock",
            &[],
            |i| {
                for (idx, name) in [(0, "one"), (1, "two")] {
                    edit_json(&i.expert(idx).join(ADAPTER_CONFIG), |config| {
                        config["base_model_name_or_path"] = json!(name)
                    });
                }
            },
            &["birch", "base_model_name_or_path", "\"one\" in \"aster\" and \"two\" in \"birch\""],
        ),
        (
            "no configuration",
            "linear",
            &[],
            |i| fs::remove_file(i.expert(2).join(ADAPTER_CONFIG)).unwrap(),
            &["cedar", "no adapter_config.json in it"],
        ),
    ];
    let example = example();
    let words = merge(&example, "linear", &example.folder.join("merged"), &["--weights", "1,x"]);
    let ran = run(words);
    assert!(ran.code == 2 && ran.stderr.contains("invalid value 'x'"), "{}", ran.stderr);
    for (name, method, options, spoil, wanted) in cases {
        let inputs = example.copy(3, 4, 4);
        spoil(&inputs);
        let before = files_of(&inputs.folder);
        let out = inputs.folder.join("merged");
        run_refused(name, merge(&inputs, method, &out, options), wanted);
        assert_same_files(name, &files_of(&inputs.folder), &before);
    }
}

#[test]
fn a_base_or_a_place_that_does_not_fit_is_refused() {
    // Broken: experts would be merged on top of another model, or over one of themselves.
    let example = example();
    let inputs = example.copy(3, 4, 4);
    set_value(&base(&inputs), "model.layers.1.mlp.up_proj.weight", f32::INFINITY);
    let out = inputs.folder.join("merged");
    let before = files_of(&inputs.folder);
    let wanted = ["base", "model.layers.1.mlp.up_proj.weight", "inf at index 5"];
    run_refused("base with an infinity", merge_full(&inputs, "ties", &out, &[]), &wanted);
    assert_same_files("base with an infinity", &files_of(&inputs.folder), &before);

    let inputs = example.copy(3, 4, 4);
    let before = files_of(&inputs.folder);
    let expert = inputs.expert(1);
    let wanted = ["birch", "is one of the experts"];
    run_refused("over an expert", merge(&inputs, "linear", &expert, &[]), &wanted);
    let wanted = ["experts", "holds ", "wanted a folder of nothing but an adapter"];
    run_refused("over the pool", merge(&inputs, "linear", &inputs.experts, &[]), &wanted);
    assert_same_files("over", &files_of(&inputs.folder), &before);
}
