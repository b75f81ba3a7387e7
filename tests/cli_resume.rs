//! A run killed at any moment goes on to the same bytes, and whatever a run has visited can be made
//! again.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::cli::{ADAPTER_WEIGHTS, assert_same_files, example, files_of, model_swarms, run_ok};
use common::read_json;
use model_swarms::adapter::Expert;
use model_swarms::rng::{Draws, Purpose, Stream};
use serde_json::Value;

/// How many times a run must be killed while it is running.
const N_KILLS: usize = 100;

#[test]
fn a_killed_run_goes_on() {
    // Broken: a search of days would be lost, or come to another end than without the interruption.
    let inputs = example().copy(3, 8, 4);
    let mut draws = Draws::new(1).stream(Purpose::Shuffle, 0, 0);
    let mut stages = BTreeMap::new();
    for state in ["coefficients", "weights"] {
        let state = format!("state={state}");
        let settings = ["particles=4", "max_iterations=6", &state];
        let out = inputs.folder.join("run");
        let started = Instant::now();
        run_ok(inputs.search(&out, &settings));
        let mut longest = started.elapsed();
        let wanted = files_of(&out);
        fs::remove_dir_all(&out).unwrap();

        let search = || {
            let mut search = inputs.search(&out, &settings);
            search.arg("--resume");
            search
        };
        let (mut n_kills, mut n_ends) = (0, 0);
        while n_kills < N_KILLS / 2 || n_ends == 0 {
            // Kills are to hit all stages, on a machine that is now fast and now slow.
            if kill_within(search(), longest, &mut draws) {
                n_kills += 1;
                longest = longest.mul_f64(1.05);
                *stages.entry(stage(&out)).or_insert(0) += 1;
            } else {
                n_ends += 1;
                longest = longest.mul_f64(0.8);
                check_end(&state, &out, &wanted);
            }
        }
        run_ok(search());
        check_end(&state, &out, &wanted);
    }
    let stages: Vec<String> = stages.iter().map(|(stage, n)| format!("{n} {stage}")).collect();
    println!("killed: {}", stages.join(", "));
    assert!(stages.len() > 4, "the kills came all at the same stages");
}

fn check_end(name: &str, out: &Path, wanted: &BTreeMap<String, Vec<u8>>) {
    assert_same_files(name, &files_of(out), wanted);
    fs::remove_dir_all(out).unwrap();
}

/// Whether the process could be killed before it came to its end, which must be a good one.
fn kill_within(mut command: Command, longest: Duration, draws: &mut Stream) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + longest.mul_f64(draws.uniform());
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        sleep(Duration::from_millis(1));
    }
    let _ = child.kill(); // SIGKILL; it may have ended
    let output = child.wait_with_output().unwrap();
    if let Some(code) = output.status.code() {
        assert_eq!(code, 0, "{}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.code().is_none()
}

/// How far a run has come, for the record of what was tested.
fn stage(out: &Path) -> String {
    let Ok(journal) = fs::read_to_string(out.join("journal.jsonl")) else {
        return "before the journal".into();
    };
    if out.join("table.txt").exists() {
        return "at the very end".into();
    }
    if out.join("predictions-dev.jsonl").exists() {
        return "writing the results".into();
    }
    let tail = if journal.ends_with('\n') || journal.is_empty() { "" } else { " and a half" };
    format!("after {} lines{tail}", journal.lines().count())
}

#[test]
fn half_a_line_is_cut_off() {
    // Broken: a kill in the middle of a write would make the journal unreadable.
    let inputs = example().copy(3, 4, 2);
    let out = inputs.folder.join("run");
    let settings = ["particles=4", "max_iterations=3"];
    run_ok(inputs.search(&out, &settings));
    let wanted = files_of(&out);
    let journal = &wanted["journal.jsonl"];
    let second_last = journal[..journal.len() - 1].iter().rposition(|&b| b == b'\n').unwrap() + 1;
    let header = journal.iter().position(|&b| b == b'\n').unwrap();
    for n_bytes in [0, 1, header, header + 1, second_last, second_last + 1, journal.len() - 1] {
        fs::write(out.join("journal.jsonl"), &journal[..n_bytes]).unwrap();
        let mut search = inputs.search(&out, &settings);
        search.arg("--resume");
        run_ok(search);
        assert_same_files(&format!("{n_bytes} bytes"), &files_of(&out), &wanted);
    }
}

#[test]
fn what_a_kill_left_behind_goes() {
    // Broken: a kill while the results are written would leave a run that no one can finish.
    let inputs = example().copy(3, 4, 2);
    let out = inputs.folder.join("run");
    let settings = ["particles=4", "max_iterations=1", "state=weights"];
    run_ok(inputs.search(&out, &settings));
    let wanted = files_of(&out);
    fs::rename(out.join("best"), out.join(".best.replaced")).unwrap();
    fs::remove_file(out.join(".best.replaced/adapter_config.json")).unwrap();
    fs::create_dir_all(out.join(".best.partial")).unwrap();
    fs::write(out.join(".best.partial").join(ADAPTER_WEIGHTS), "half").unwrap();
    fs::write(out.join(".table.txt.partial"), "half").unwrap();
    fs::write(out.join("predictions-dev.jsonl"), "").unwrap();
    fs::create_dir_all(out.join("state")).unwrap();
    fs::write(out.join("state/swarm.f32"), "half").unwrap();
    let mut search = inputs.search(&out, &settings);
    search.arg("--resume");
    run_ok(search);
    assert_same_files("after a kill", &files_of(&out), &wanted);
}

#[test]
fn what_was_visited_can_be_made_again() {
    // Broken: the journal would not tell which adapters its utilities belong to.
    let inputs = example().copy(4, 10, 4);
    for state in ["coefficients", "weights"] {
        let out = inputs.folder.join(state);
        let state = format!("state={state}");
        run_ok(
            inputs.search(&out, &["particles=6", "max_iterations=5", "restart_after=2", &state]),
        );
        let (particle, iteration) = found_by(&out);
        let best = rebuild(&out, iteration, particle);
        let weights = |folder: &Path| fs::read(folder.join(ADAPTER_WEIGHTS)).unwrap();
        assert_eq!(weights(&best), weights(&out.join("best")), "{state}: the best");

        let records = journal(&out);
        for (iteration, particle) in [(0, 0), (0, 5), (2, 1), (3, 4), (5, 0), (5, 5)] {
            let rebuilt = rebuild(&out, iteration, particle);
            let mut eval = inputs.eval(Some(&rebuilt), "dev");
            eval.arg("--json");
            let measured: Value = serde_json::from_str(&run_ok(eval)).unwrap();
            let name = format!("{state}, particle {particle} of iteration {iteration}");
            assert_eq!(measured["utility"], records[iteration]["f"][particle], "{name}");
            if iteration == 0 && particle < 4 {
                assert_eq!(weights(&rebuilt), weights(&inputs.expert(particle)), "{name}");
            }
        }
    }
}

#[test]
fn both_states_find_the_same() {
    // Broken: the coefficients would not be what the paper's arithmetic on weights comes to.
    let inputs = example().copy(10, 10, 0);
    let [coefficients, weights] = ["coefficients", "weights"].map(|state| {
        let out = inputs.folder.join(state);
        let state = format!("state={state}");
        run_ok(inputs.search(&out, &["max_iterations=50", "patience=1000", &state]));
        assert_eq!(journal(&out).len(), 51);
        out
    });
    assert_eq!(found_by(&coefficients), found_by(&weights));
    let mut worst = distance(&coefficients.join("best"), &weights.join("best"));
    println!("best: {worst:.1e}");
    for particle in [0, 7, 19] {
        let rebuilt = [&coefficients, &weights].map(|out| rebuild(out, 50, particle));
        let apart = distance(&rebuilt[0], &rebuilt[1]);
        println!("particle {particle} of iteration 50: {apart:.1e}");
        worst = worst.max(apart);
    }
    assert!(worst <= 1e-5, "{worst:e} relative");
}

/// |a - b| / |b| of two adapters' weights.
fn distance(a: &Path, b: &Path) -> f64 {
    let [a, b] = [a, b].map(|folder| Expert::open(folder).unwrap().to_flat());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let apart = norm(&mut a.iter().zip(&b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    apart / norm(&mut b.iter().map(|b| f64::from(*b)))
}

/// The iterations of a run.
fn journal(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("journal.jsonl")).unwrap();
    text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The particle and iteration of a run's result.
fn found_by(out: &Path) -> (usize, usize) {
    let found = &read_json(&out.join("results.json"))["found_by"];
    (found[0].as_u64().unwrap() as usize, found[1].as_u64().unwrap() as usize)
}

fn rebuild(out: &Path, iteration: usize, particle: usize) -> PathBuf {
    let name = out.file_name().unwrap().to_str().unwrap();
    let adapter = out.with_file_name(format!("{name}-{iteration}-{particle}"));
    let mut command = model_swarms(["rebuild", "--iteration", &iteration.to_string()]);
    command.args(["--particle", &particle.to_string(), "--out"]).arg(&adapter).arg(out);
    run_ok(command);
    adapter
}
