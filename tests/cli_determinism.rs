//! The same bytes from any number of threads, any batch size and any instruction set, and the same
//! answers in any order of the questions.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::cli::{Inputs, assert_same_files, example, files_of, run, run_ok};
use common::read_json;
use model_swarms::rng::{Draws, Purpose};
use serde_json::Value;

/// Everything of a run that must not depend on how it was computed: all but the paths in run.toml,
/// which are the same here, too.
fn searched(inputs: &Inputs, settings: &[&str], how: &How) -> Option<BTreeMap<String, Vec<u8>>> {
    let out = inputs.folder.join("run");
    let mut search = inputs.search(&out, settings);
    if let Some(threads) = how.threads {
        search.env("RAYON_NUM_THREADS", threads);
    }
    if let Some(isa) = how.isa {
        search.env("MODEL_SWARMS_ISA", isa);
    }
    if let Some(batch) = how.batch {
        search.args(["--batch", batch]);
    }
    let ran = run(search);
    if ran.stderr.contains("this machine has only") {
        println!("skipped: {}", ran.stderr.trim_end());
        return None;
    }
    assert_eq!(ran.code, 0, "{how:?}: {}", ran.stderr);
    let files = files_of(&out);
    for name in ["journal.jsonl", "predictions-dev.jsonl", "predictions-test.jsonl"] {
        assert!(!files[name].is_empty(), "{name} is empty");
    }
    for name in ["run.toml", "results.json", "table.txt", "best/adapter_model.safetensors"] {
        assert!(!files[name].is_empty(), "{name} is empty");
    }
    fs::remove_dir_all(out).unwrap();
    Some(files)
}

/// How a run is computed; what is not said is left to the program.
#[derive(Debug, Default)]
struct How {
    threads: Option<&'static str>,
    isa: Option<&'static str>,
    batch: Option<&'static str>,
}

#[test]
fn the_same_bytes_however_it_is_computed() {
    // Broken: a result could not be checked on another machine, or be resumed there.
    let inputs = example().copy(4, 12, 6);
    let settings = ["particles=5", "max_iterations=3"];
    let wanted = searched(&inputs, &settings, &How::default()).unwrap();
    let threads = |threads| How { threads: Some(threads), ..How::default() };
    let batch = |batch| How { batch: Some(batch), ..How::default() };
    let isa = |isa| How { isa: Some(isa), ..How::default() };
    for how in [
        threads("1"),
        threads("2"),
        threads("5"),
        batch("1"),
        batch("7"),
        batch("64"),
        isa("avx512"),
        isa("avx2"),
        isa("scalar"),
        How { threads: Some("1"), isa: Some("avx2"), batch: Some("5") },
    ] {
        if let Some(found) = searched(&inputs, &settings, &how) {
            assert_same_files(&format!("{how:?}"), &found, &wanted);
        }
    }
}

#[test]
fn the_same_likelihoods_however_they_are_computed() {
    // Broken: sums of many small numbers would depend on who adds them up.
    let inputs = example().copy(3, 9, 5);
    let data = read_json(&inputs.data);
    inputs.write_task("name = \"p\"\nkind = \"perplexity\"\ndata = \"task.json\"\n", &data);
    let settings = ["particles=4", "max_iterations=2", "state=weights"];
    let wanted = searched(&inputs, &settings, &How::default()).unwrap();
    for how in [
        How { threads: Some("1"), batch: Some("1"), ..How::default() },
        How { threads: Some("2"), batch: Some("7"), ..How::default() },
        How { isa: Some("avx2"), ..How::default() },
        How { isa: Some("scalar"), batch: Some("3"), ..How::default() },
    ] {
        if let Some(found) = searched(&inputs, &settings, &how) {
            assert_same_files(&format!("{how:?}"), &found, &wanted);
        }
    }
}

#[test]
fn the_same_answers_in_any_order() {
    // Broken: an answer would depend on its neighbours in the batch.
    let inputs = example().copy(4, 40, 20);
    let shuffled = example().copy(4, 40, 20);
    let mut data = read_json(&shuffled.data);
    for (split_idx, split) in ["dev", "test"].into_iter().enumerate() {
        let items = data[split].as_array_mut().unwrap();
        let mut draws = Draws::new(7).stream(Purpose::Shuffle, 0, split_idx);
        for idx in (1..items.len()).rev() {
            items.swap(idx, draws.below(idx + 1));
        }
    }
    fs::write(&shuffled.data, data.to_string()).unwrap();
    let outs = [&inputs, &shuffled].map(|inputs| {
        let out = inputs.folder.join("run");
        run_ok(inputs.search(&out, &["particles=5", "max_iterations=3"]));
        out
    });
    for split in ["dev", "test"] {
        let [straight, shuffled] = outs.each_ref().map(|out| predictions(out, split));
        assert_eq!(straight.len(), if split == "dev" { 40 } else { 20 });
        assert_eq!(straight, shuffled, "{split}");
    }
    // Sums of zeros and ones are exact, so every iteration is the same: only the first line, which
    // names the task's bytes, is another one.
    let [straight, shuffled] =
        outs.map(|out| fs::read_to_string(out.join("journal.jsonl")).unwrap());
    assert_ne!(straight, shuffled);
    assert!(straight.lines().skip(1).eq(shuffled.lines().skip(1)));
}

/// A run's predictions by the example's id, without their place in the file.
fn predictions(out: &Path, split: &str) -> BTreeMap<String, Value> {
    let text = fs::read_to_string(out.join(format!("predictions-{split}.jsonl"))).unwrap();
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        value.as_object_mut().unwrap().remove("index").unwrap();
        (value["id"].as_str().unwrap().to_owned(), value)
    };
    text.lines().map(line).collect()
}
