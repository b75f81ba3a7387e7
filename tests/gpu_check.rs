//! `kernels/gpu_check.sh`, on a machine that has no GPU and on binaries that only pretend: what it
//! does when parts fail, hang or say nothing. The first minutes of a GPU are too precious to find
//! that out there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use toml::{Table, Value};

/// A program of one part, which says and writes what the real one would.
fn pretend(dir: &Path, name: &str, script: &str) {
    let path = dir.join(name);
    fs::create_dir_all(dir).unwrap();
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

const MACHINE: [(&str, &str); 3] = [
    ("nvidia-smi", r#"case "$1" in *name*) echo "NVIDIA H200";; *) echo 580.1;; esac"#),
    ("python3", "echo 'torch = \"2.11\"'\necho cublas_seconds = 1.0e-2\necho '# peft took 1 s'"),
    ("compute-sanitizer", "shift 4\nexec \"$@\""),
];

/// Its tests `two` and `three` fail together; `three` passes alone.
const HALF_BROKEN: &str = r#"
if [ "$1" = --list ]; then echo "one: test"; echo "two: test"; echo "three: test"; exit; fi
if [ "$1" = --exact ]; then [ "$2" = three ]; exit; fi
echo "test one ... ok"; echo "test two ... FAILED"; echo "test three ... FAILED"; exit 101"#;

const PASSES: &str = r#"echo "test one ... ok""#;

/// Waits for ever, unless it is to do without wgmma.
const KERNELS: &str = r#"[ "$1" = --bench ] || { [ "$BENCH_WGMMA" = 0 ] || sleep 60; exit; }
[ "$BENCH_WGMMA" = 0 ] || exit 1
cat >>"$BENCH_RESULTS" <<END
step_particles = 2.000000e1
kernels."gemm_hopper qkv 8192" = { seconds = 1.2e-3, share = 0.812, bound = "matrix" }
peaks.copy = 4.3e12
gemm_seconds = 1.250000e-2
materialise_share = 9.100000e-1
END"#;

const SWARM: &str = r#"cat >>"$BENCH_RESULTS" <<END
prefill_part = "2 of 20 particles"
prefill_seconds_with_adapters = 1.070000e0
prefill_seconds_of_base = 1.000000e0
END
exit 1"#;

/// Runs the check for some seconds on binaries that pretend.
fn check(dir: &Path, binaries: &[(&str, &str)], parts: &[&str]) -> Output {
    MACHINE.iter().for_each(|(name, script)| pretend(&dir.join("bin"), name, script));
    binaries.iter().for_each(|(name, script)| pretend(&dir.join("gpu"), name, script));
    fs::write(dir.join("gpu/commit"), "0123456789abcdef\n").unwrap();
    let path = std::env::var("PATH").unwrap();
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/gpu_check.sh"))
        .args([dir.join("gpu"), dir.join("out")])
        .args(parts)
        .env("PATH", format!("{}:{path}", dir.join("bin").display()))
        .env("GPU_CHECK_SECONDS", "100")
        .output()
        .unwrap()
}

fn report(dir: &Path) -> Table {
    let text = fs::read_to_string(dir.join("out/nvidia-h200.toml")).unwrap();
    text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// `table[section][name][key]`
fn at<'a>(report: &'a Table, section: &str, name: &str, key: &str) -> &'a Value {
    let found = report.get(section).and_then(|it| it.get(name)).and_then(|it| it.get(key));
    found.unwrap_or_else(|| panic!("{section}.{name}.{key} is missing:\n{report}"))
}

#[test]
fn what_fails_or_hangs_does_not_hide_the_rest() {
    // Broken: one wrong operation, or one hang, costs everything else that a GPU had to tell.
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let binaries = [
        ("kernels_probes", PASSES),
        ("kernels_rows", HALF_BROKEN),
        ("kernels_backend", "exit 134"),
        ("model-swarms", "echo as expected"),
        ("bench_kernels", KERNELS),
        ("bench_swarm_gpu", SWARM),
    ];
    let done = check(dir, &binaries, &[]);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let report = report(dir);
    for (part, passed) in [
        ("kernels_probes", true),
        ("kernels_rows", false),
        ("kernels_rows three", true),
        ("kernels_rows two", false),
        ("kernels_backend", false),
        ("smoke", true),
        ("full", true),
        ("bench_kernels_small", false),
        ("bench_kernels_small without wgmma", true),
        ("bench_kernels", true),
        ("bench_swarm_gpu", false),
        ("peers", true),
        ("racecheck", true),
    ] {
        assert_eq!(at(&report, "parts", part, "passed").as_bool(), Some(passed), "{part}");
    }
    let complaints = String::from_utf8(done.stderr).unwrap();
    for why in ["kernels_rows two: ended with 1", "bench_kernels_small: stopped after"] {
        assert!(complaints.contains(&format!("gpu-check: {why}")), "{why}: {complaints}");
    }

    // What a bench wrote before it broke is kept, and so are targets that lack a side.
    let target = |name: &str, key: &str| at(&report, "targets", name, key).clone();
    assert_eq!(target("gemm", "ratio"), Value::Float(0.8));
    assert_eq!(target("gemm", "reached"), Value::Boolean(false));
    assert_eq!(target("adapters", "ratio"), Value::Float(1.07));
    assert_eq!(target("adapters", "reached"), Value::Boolean(true));
    assert!(target("adapters", "what").as_str().unwrap().contains("2 of 20 particles"));
    assert_eq!(target("materialise", "reached"), Value::Boolean(true));
    let missing = target("iteration_over_peft", "missing");
    let wanted = "iteration_seconds_per_particle, peft_seconds_per_particle";
    assert_eq!(missing.as_str(), Some(wanted));
    let share = at(&report, "kernels", "gemm_hopper qkv 8192", "share");
    assert_eq!(share.as_float(), Some(0.812));
    assert_eq!(report["peaks"]["copy"].as_float(), Some(4.3e12));
    assert_eq!(report["peers"]["torch"].as_str(), Some("2.11"));
    assert_eq!(report["commit"].as_str(), Some("0123456789abcdef"));
}

#[test]
fn parts_can_be_chosen() {
    // Broken: the one part that is wanted waits for all others, or one that is not asked for fails.
    let folder = tempfile::tempdir().unwrap();
    let binaries = [("kernels_probes", PASSES), ("kernels_rows", "exit 1")];
    let done = check(folder.path(), &binaries, &["probes", "sanitizer"]);
    let report = report(folder.path());
    let parts: Vec<&String> = report["parts"].as_table().unwrap().keys().collect();
    assert_eq!(parts, ["kernels_probes", "memcheck", "racecheck", "synccheck"]);
    // No bench was there to be looked at.
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert_eq!(at(&report, "parts", "kernels_probes", "passed").as_bool(), Some(true));
}

#[test]
fn all_that_passes_is_said_in_one_line() {
    // Broken: the exit status says that something failed where nothing did.
    let folder = tempfile::tempdir().unwrap();
    let binaries = [("kernels_probes", PASSES), ("kernels_rows", PASSES)];
    let done = check(folder.path(), &binaries, &["probes", "kernels"]);
    assert!(done.status.success(), "{done:?}");
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(said.contains("gpu-check: all passed in"), "{said}");
}

#[test]
fn without_a_gpu_it_ends_at_once() {
    // Broken: somebody waits ten minutes to read that there is no GPU, once for each part, or
    // keeps a report of no device.
    let folder = tempfile::tempdir().unwrap();
    let none = "echo 'MODEL_SWARMS_GPU=1: no CUDA driver was found (libcuda.so)'\nexit 101";
    let binaries = [("kernels_probes", none), ("kernels_rows", none)];
    let done = check(folder.path(), &binaries, &[]);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let complaints = String::from_utf8(done.stderr).unwrap();
    let last = "gpu-check: there is no GPU to check: no CUDA driver was found (libcuda.so)";
    assert_eq!(complaints.lines().last(), Some(last), "{complaints}");
    assert_eq!(complaints.matches("kernels_rows").count(), 0, "{complaints}");
    assert_eq!(fs::read_dir(folder.path().join("out")).unwrap().count(), 0);
}
