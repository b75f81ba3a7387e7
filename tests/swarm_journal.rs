//! A run can be killed at any byte and resumed; a journal that was changed is refused.

use std::cell::Cell;
use std::path::Path;

use model_swarms::error::{Error, Result};
use model_swarms::swarm::{
    Coefficients, Header, Journal, Mode, Recording, Search, Settings, Space, Start, Weights,
};
use serde_json::json;

const N_EXPERTS: usize = 3;
const DIM: usize = 5;

fn header(seed: u64) -> Header {
    let mut settings = Settings::paper();
    let changes = [("particles", "4"), ("max_iterations", "3"), ("restart_after", "2")];
    changes.iter().for_each(|(key, value)| settings.set(key, value).unwrap());
    settings.drop_particles = 0.2;
    let experts = ["a", "b", "c"].map(String::from).to_vec();
    let fingerprint = json!({"base": "00ff", "scale": 0.1});
    Header::new(seed, Mode::Paper, settings, experts, fingerprint)
}

fn fresh(header: &Header) -> Search<Coefficients> {
    let n_particles = header.settings.n_particles(N_EXPERTS);
    let space = Coefficients::new(N_EXPERTS, n_particles);
    Search::new(&header.settings, header.seed, space).unwrap()
}

fn fresh_weights(header: &Header, directory: &Path) -> Search<Weights> {
    let load = |expert: usize, out: &mut [f32]| {
        out.iter_mut().enumerate().for_each(|(d, out)| *out = (expert * d) as f32 - 1.5);
        Ok(())
    };
    let n_particles = header.settings.n_particles(N_EXPERTS);
    let space = Weights::create(directory, N_EXPERTS, n_particles, DIM, load).unwrap();
    Search::new(&header.settings, header.seed, space).unwrap()
}

fn utilities<S: Space>(space: &S, asked: &[usize]) -> Result<Vec<f64>> {
    let rows = space.coefficients();
    let at = |&i: &usize| 1.0 / (1.0 + (rows.location(i)[1] - 0.7) * (rows.location(i)[1] - 0.7));
    Ok(asked.iter().map(at).collect())
}

/// Runs to the end from wherever the journal stands; returns how often f was asked for.
fn run(path: &Path, header: &Header, start: Start) -> Result<usize> {
    let n_asked = Cell::new(0);
    let mut journal = Journal::open(path, header, start)?;
    let evaluate = |space: &Coefficients, asked: &[usize]| {
        n_asked.set(n_asked.get() + asked.len());
        utilities(space, asked)
    };
    let mut n_seen = 0;
    let outcome = journal.run(&mut fresh(header), evaluate, |record| {
        assert_eq!(record.iteration, n_seen);
        n_seen += 1;
        Ok(())
    })?;
    assert_eq!(outcome.n_iterations + 1, n_seen);
    Ok(n_asked.get())
}

/// In memory where the system has such a place: thousands of lines are synced here.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn complete() -> (tempfile::TempDir, std::path::PathBuf, Vec<u8>) {
    let directory = scratch();
    let path = directory.path().join("journal.jsonl");
    run(&path, &header(1), Start::Fresh).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    (directory, path, bytes)
}

fn refusal<T>(result: Result<T>) -> String {
    match result {
        Err(error @ Error::Input { .. }) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("nothing was refused"),
    }
}

#[test]
fn a_run_cut_at_any_byte_is_resumed_to_the_same_bytes() {
    // Broken: a killed run would be lost, or would go on as another run.
    let (_directory, path, bytes) = complete();
    let n_lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
    assert_eq!(n_lines, 1 + 4, "a header, iteration 0 and three more");
    let mut asked_before = usize::MAX;
    for cut in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let n_asked = run(&path, &header(1), Start::Resume).unwrap();
        assert!(n_asked <= asked_before, "what is recorded is not evaluated again");
        asked_before = n_asked;
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "cut at byte {cut}");
    }
    assert_eq!(asked_before, 0);
}

#[test]
fn resuming_nothing_starts_a_run_and_a_fresh_start_keeps_an_old_one() {
    // Broken: a run killed before its first write could not be resumed, or one could be overwritten.
    let (_directory, path, bytes) = complete();
    assert!(refusal(Journal::open(&path, &header(1), Start::Fresh)).contains("resume it"));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    std::fs::remove_file(&path).unwrap();
    run(&path, &header(1), Start::Resume).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_journal_of_another_run_is_refused_by_the_first_field_that_differs() {
    // Broken: two runs would be mixed in one journal.
    let (_directory, path, bytes) = complete();
    let asked = |header: &Header| refusal(Journal::open(&path, header, Start::Resume));
    assert!(asked(&header(2)).contains("seed is 1, but this run asks for 2"));
    let mut other = header(1);
    other.settings.inertia = 0.25;
    assert!(asked(&other).contains("settings.inertia is 0.2, but this run asks for 0.25"));
    let mut other = header(1);
    other.experts[2] = "d".into();
    assert!(asked(&other).contains("experts[2] is \"c\""));
    let mut other = header(1);
    other.fingerprint["base"] = json!("00fe");
    assert!(asked(&other).contains("fingerprint.base is \"00ff\""));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_changed_line_is_named() {
    // Broken: a run would go on from locations that it never visited.
    let (_directory, path, bytes) = complete();
    let text = String::from_utf8(bytes).unwrap();
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    let write = |lines: &[String]| std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    let resume = || refusal(run(&path, &header(1), Start::Resume));

    let third = lines[3].clone();
    let start = third.find("\"coefficients\":[[").unwrap() + 17;
    let end = start + third[start..].find(',').unwrap();
    lines[3] = format!("{}0.123{}", &third[..start], &third[end..]);
    write(&lines);
    let what = resume();
    assert!(what.contains("line 4: coefficients[0][0] is 0.123, but replaying"), "{what}");

    lines[3] = third.replacen("\"f\":[", "\"f\":[9,", 1);
    write(&lines);
    assert!(resume().contains("line 4:"));
    lines[3] = third.replacen("\"iteration\":2", "\"iteration\":3", 1);
    write(&lines);
    assert!(resume().contains("line 4: iteration is 3, wanted 2"));
    lines[3] = third.replacen('{', "{ ", 1);
    write(&lines);
    assert!(resume().contains("line 4: not written as this program writes it"));
    lines[3] = third[..third.len() / 2].into();
    write(&lines);
    assert!(resume().contains("line 4:"));
    lines[3] = third;
    lines[0] = lines[0].replacen("\"format\":1", "\"format\":2", 1);
    write(&lines);
    assert!(resume().contains("line 1: format is 2, wanted 1"));
}

#[test]
fn no_bytes_make_it_panic() {
    // Broken: a damaged disk would show a user a stack trace.
    let (_directory, path, bytes) = complete();
    for at in (0..bytes.len()).step_by(7) {
        for byte in [0, b'9', b'\n', b'{', 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] = byte;
            std::fs::write(&path, &damaged).unwrap();
            let Ok(recording) = Recording::read(&path) else { continue };
            let header = recording.header();
            if header.settings.check(N_EXPERTS).is_err() || header.settings.particles > 100 {
                continue;
            }
            if let Ok(last) = u32::try_from(recording.len()) {
                let _ = recording.replay_to(&mut fresh(header), last.saturating_sub(1));
            }
        }
    }
}

#[test]
fn only_one_process_writes_a_journal() {
    // Broken: two resumed runs would interleave their lines.
    let (_directory, path, _) = complete();
    let first = Journal::open(&path, &header(1), Start::Resume).unwrap();
    let second = Journal::open(&path, &header(1), Start::Resume);
    assert!(refusal(second).contains("another process"));
    drop(first);
    Journal::open(&path, &header(1), Start::Resume).unwrap();
}

#[test]
fn any_particle_of_any_iteration_can_be_rebuilt_in_either_space() {
    // Broken: `rebuild` would give another adapter than the one that was evaluated.
    let header = header(3);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.jsonl");
    let mut visited: Vec<Vec<Vec<f32>>> = Vec::new();
    let mut journal = Journal::open(&path, &header, Start::Fresh).unwrap();
    let mut search = fresh_weights(&header, &directory.path().join("state"));
    while journal.advance(&mut search, utilities).unwrap().is_some() {
        visited.push((0..4).map(|i| search.space().location(i).to_vec()).collect());
    }
    let recording = Recording::read(&path).unwrap();
    assert_eq!(recording.len(), visited.len());
    for (k, wanted) in visited.iter().enumerate() {
        let mut rows = fresh(recording.header());
        let record = recording.replay_to(&mut rows, k as u32).unwrap();
        let again_at = directory.path().join("again");
        let mut again = fresh_weights(recording.header(), &again_at);
        recording.replay_to(&mut again, k as u32).unwrap();
        for (i, wanted) in wanted.iter().enumerate() {
            assert_eq!(rows.space().location(i), record.coefficients[i], "{k}, {i}");
            assert_eq!(again.space().location(i), wanted, "{k}, {i}");
        }
    }
    let beyond = recording.replay_to(&mut fresh(&header), visited.len() as u32);
    assert!(refusal(beyond).contains("iteration 4 is not recorded; there are 4"));
}
