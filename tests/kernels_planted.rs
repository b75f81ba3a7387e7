//! The harness of the kernels, held to its word: bugs that were planted on purpose are found, each
//! by the check that is meant to find it, and nothing is found where nothing is wrong.
#![cfg(feature = "kernel-tests")]

mod kernels_common;

use std::process::Command;

use kernels_common::values::{compare, to_bits, values, whole};
use kernels_common::{Argument, Device, Failure, Launch, Map, SANITIZER, SEEDS, launch};

/// A planted bug, and what finds it.
struct Bug {
    name: &'static str,
    n: usize,
    /// The harness's check; `bits` where wrong results show it.
    check: &'static str,
    /// What AddressSanitizer and ThreadSanitizer say, where it is theirs to see.
    address: Option<&'static str>,
    thread: Option<&'static str>,
}

const OVERFLOW: Option<&str> = Some("AddressSanitizer: heap-buffer-overflow");
const BOUNDS: Option<&str> = Some("index 64 out of bounds for type 'float [64]'"); // UBSan's
const RACE: Option<&str> = Some("ThreadSanitizer: data race");

const fn bug(name: &'static str, check: &'static str) -> Bug {
    Bug { name, n: 128, check, address: None, thread: None }
}

const fn hopper(name: &'static str, check: &'static str) -> Bug {
    Bug { n: 200, ..bug(name, check) }
}

const fn turned(name: &'static str, check: &'static str) -> Bug {
    Bug { n: 3, ..bug(name, check) }
}

const BUGS: [Bug; 54] = [
    Bug { thread: RACE, ..bug("planted_missing_barrier", "bits") },
    Bug { thread: RACE, ..bug("planted_missing_second_barrier", "bits") },
    Bug { thread: RACE, ..bug("planted_missing_lane_barrier", "bits") },
    Bug { thread: RACE, ..bug("planted_weak_wait", "bits") },
    Bug { thread: RACE, ..bug("planted_wait_without_barrier", "bits") },
    bug("planted_unwaited_copy", "unwaited-copy"),
    bug("planted_divergent_shuffle", "divergent-warp"),
    bug("planted_uneven_shuffles", "divergent-warp"),
    bug("planted_divergent_barrier", "divergent-barrier"),
    Bug { n: 100, ..bug("planted_early_return", "divergent-barrier") },
    Bug { address: BOUNDS, ..bug("planted_shared_overrun", "shared-overrun") },
    Bug { address: BOUNDS, ..bug("planted_shared_overread", "bits") },
    Bug { n: 100, address: OVERFLOW, ..bug("planted_missing_guard", "global-overrun") },
    bug("planted_misaligned", "misaligned"),
    bug("planted_unset_shared", "bits"),
    Bug { thread: RACE, ..bug("planted_racing_blocks", "bits") },
    bug("planted_unknown", "launch"),
    Bug { thread: RACE, ..bug("planted_product_weak_wait", "bits") },
    Bug { thread: RACE, ..bug("planted_product_missing_barrier", "bits") },
    Bug { thread: RACE, ..bug("planted_product_early_copy", "bits") },
    bug("planted_product_misaligned_row", "misaligned"),
    bug("planted_product_bank_conflict", "bank-conflict"),
    bug("planted_product_divergent", "divergent-warp"),
    bug("planted_product_lost_half", "bits"),
    bug("planted_update_other_tile", "bits"),
    bug("planted_update_lost_slot", "bits"),
    bug("planted_update_others_rows", "bits"),
    hopper("planted_hopper_missing_product_wait", "unwaited-product"),
    hopper("planted_hopper_weak_product_wait", "changed-operand"),
    hopper("planted_hopper_missing_barrier_wait", "stuck-barrier"),
    hopper("planted_hopper_late_barrier_wait", "changed-operand"),
    hopper("planted_hopper_more_bytes", "wrong-bytes"),
    hopper("planted_hopper_fewer_bytes", "wrong-bytes"),
    hopper("planted_hopper_missing_fence", "missing-fence"),
    hopper("planted_hopper_unpublished_barrier", "missing-fence"),
    hopper("planted_hopper_unset_barrier", "barrier"),
    hopper("planted_hopper_other_parity", "stuck-barrier"),
    hopper("planted_hopper_wrong_swizzle", "bits"),
    hopper("planted_hopper_lost_warp", "divergent-warpgroup"),
    hopper("planted_hopper_half_warp", "divergent-warp"),
    hopper("planted_hopper_missing_arrival", "stuck-barrier"),
    hopper("planted_hopper_touched_sums", "touched-sums"),
    hopper("planted_hopper_misaligned_tile", "misaligned"),
    turned("planted_turned_missing_tile_fence", "missing-fence"),
    turned("planted_turned_early_tile_fence", "missing-fence"),
    turned("planted_turned_lone_tile_fence", "missing-fence"),
    turned("planted_turned_missing_barrier", "bits"),
    turned("planted_turned_missing_fence", "missing-fence"),
    turned("planted_turned_touched_operand", "touched-operand"),
    turned("planted_turned_reused_operand", "touched-operand"),
    turned("planted_turned_wrong_panel", "bits"),
    turned("planted_turned_no_swizzle", "bits"),
    turned("planted_turned_late_copy", "changed-operand"),
    turned("planted_turned_misaligned_tile", "misaligned"),
];

/// Runs a kernel that should reverse blocks of 64 values.
fn reverse(name: &str, n: usize, seed: u64) -> Result<(), Failure> {
    let values = values(1, n);
    let mut wanted: Vec<f32> = values.chunks(64).flat_map(|b| b.iter().rev().copied()).collect();
    if name == "planted_racing_blocks" {
        wanted.drain(..64); // the last block's, where blocks run in order
    }
    let (device, out) = (Device::new(&values), Device::unset(wanted.len()));
    let n_blocks = if name == "planted_missing_second_barrier" { 1 } else { n.div_ceil(64) };
    let what = Launch { name, grid: [n_blocks, 1, 1], block: 64, shared_bytes: 0, seed };
    launch(what, &[&device, &out, &(n as i32)])?;
    compare(&out.read(), &wanted)
}

/// Runs a kernel that should multiply a matrix of (16, n) with itself, on tensor cores.
fn product(name: &str, n: usize, seed: u64) -> Result<(), Failure> {
    // Small whole numbers: any order of additions is exact.
    let rows: Vec<f32> = values(1, 16 * n).iter().map(|x| (x * 8.0).round()).collect();
    let dot = |i: usize, j: usize| -> f32 {
        (0..n).map(|k| rows[i * n + k] * rows[j * n + k]).sum::<f32>() + 0.0
    };
    let wanted: Vec<f32> = (0..256).map(|at| dot(at / 16, at % 16)).collect();
    let stored = to_bits(&rows);
    let (device, out) = (Device::new(&stored), Device::unset(256));
    let what = Launch { name, grid: [1, 1, 1], block: 64, shared_bytes: 0, seed };
    launch(what, &[&device, &out, &(n as i32)])?;
    compare(&out.read(), &wanted)
}

/// Runs a kernel that should multiply 64 rows of a matrix of (256, n) with all of them, by wgmma.
fn wide_product(name: &str, n: usize, seed: u64) -> Result<(), Failure> {
    let rows: Vec<f32> = values(1, 256 * n).iter().map(|x| (x * 8.0).round()).collect();
    let dot = |i: usize, j: usize| -> f32 {
        (0..n).map(|k| rows[i * n + k] * rows[j * n + k]).sum::<f32>() + 0.0
    };
    let wanted: Vec<f32> = (0..64 * 256).map(|at| dot(at / 256, at % 256)).collect();
    let stored = to_bits(&rows);
    let (device, out) = (Device::new(&stored), Device::unset(64 * 256));
    let map = Map { device: &device, n_rows: 256, n_cols: n, ld: n, box_rows: 256, box_cols: 64 };
    let what = Launch { name, grid: [1, 1, 1], block: 160, shared_bytes: 67 << 10, seed };
    launch(what, &[&map, &out, &(n as i32)])?;
    compare(&out.read(), &wanted)
}

/// Runs a kernel that should multiply n rows, of which each has one of three adapters.
fn updated_product(name: &str, n: usize, seed: u64) -> Result<(), Failure> {
    let [x, w, shrunk, b] = [(1, n), (2, 8), (3, n), (4, 3 * 8)]
        .map(|(stream, n_rows)| whole(stream, n_rows * 16, 3.0));
    // Tiles of 16 rows with one adapter, with two, with all.
    let adapter_of: Vec<i32> =
        (0..n).map(|i| ((i / 16 + i % (i / 16 % 3 + 1)) % 3) as i32).collect();
    let (mut slots, mut first_slots) = (Vec::new(), vec![0]);
    for (tile, adapters) in adapter_of.chunks(16).enumerate() {
        let has = |adapter: &i32| adapters.contains(adapter);
        slots.extend((0..3).filter(has).flat_map(|adapter| [tile as i32, adapter]));
        first_slots.push(slots.len() as i32 / 2);
    }
    let dot = |x: &[f32], i: usize, y: &[f32], j: usize| -> f32 {
        (0..16).map(|k| x[i * 16 + k] * y[j * 16 + k]).sum()
    };
    let of_row = |i: usize, j: usize| {
        dot(&x, i, &w, j) + dot(&shrunk, i, &b, adapter_of[i] as usize * 8 + j)
    };
    let wanted: Vec<f32> = (0..8 * n).map(|at| of_row(at / 8, at % 8) + 0.0).collect();
    let [x, w, shrunk, b] = [&x, &w, &shrunk, &b].map(|values| Device::new(&to_bits(values)));
    let ints = [&adapter_of, &slots, &first_slots].map(|ints| Device::new(ints));
    let out = Device::unset(8 * n);
    let what = Launch { name, grid: [n / 16, 1, 1], block: 32, shared_bytes: 0, seed };
    launch(what, &[&x, &w, &shrunk, &b, &ints[0], &ints[1], &ints[2], &out])?;
    compare(&out.read(), &wanted)
}

/// Runs a kernel that should multiply matrices of (64, 16 n) and (16 n, 128), by wgmma.
fn turned_product(name: &str, n: usize, seed: u64) -> Result<(), Failure> {
    let n_k = 16 * n;
    let (x, y) = (whole(1, 64 * n_k, 8.0), whole(2, n_k * 128, 8.0));
    let sum = |i: usize, j: usize| -> f32 {
        (0..n_k).map(|k| x[i * n_k + k] * y[k * 128 + j]).sum::<f32>() + 0.0
    };
    let wanted: Vec<f32> = (0..64 * 128).map(|at| sum(at / 128, at % 128)).collect();
    let [x, y] = [&x, &y].map(|values| Device::new(&to_bits(values)));
    let out = Device::unset(64 * 128);
    let what = Launch { name, grid: [1, 1, 1], block: 128, shared_bytes: 18 << 10, seed };
    launch(what, &[&x, &y, &out, &(n as i32)])?;
    compare(&out.read(), &wanted)
}

/// Runs a kernel of `planted/` and compares what it gives.
fn run(name: &str, n: usize, seed: u64) -> Result<(), Failure> {
    let run = match name {
        _ if name.starts_with("planted_product") => product,
        _ if name.starts_with("planted_update") => updated_product,
        _ if name.starts_with("planted_hopper") => wide_product,
        _ if name.starts_with("planted_turned") => turned_product,
        _ => reverse,
    };
    run(name, n, seed)
}

/// What the schedules find, the first of them.
fn found(name: &str, n: usize) -> Option<Failure> {
    SEEDS.into_iter().find_map(|seed| run(name, n, seed).err())
}

#[test]
fn a_right_kernel_passes_every_check() {
    // Broken: the harness cries wolf.
    for n in [64, 128, 640] {
        for seed in 0..20 {
            assert_eq!(run("planted_reverse", n, seed), Ok(()), "{n} seed {seed}");
            assert_eq!(run("planted_product", n, seed), Ok(()), "{n} seed {seed}");
            assert_eq!(run("planted_update", n, seed), Ok(()), "{n} seed {seed}");
            assert_eq!(run("planted_hopper", n, seed % 5), Ok(()), "{n} seed {seed}");
            let n_steps = 1 + seed as usize % 4;
            assert_eq!(run("planted_turned", n_steps, seed), Ok(()), "{n_steps} seed {seed}");
        }
    }
}

#[test]
fn planted_bugs_are_found_by_their_checks() {
    // Broken: a kernel with such a bug would pass its tests.
    for bug in BUGS {
        let by_sanitizer = match SANITIZER {
            "address" => bug.address,
            "thread" => bug.thread,
            _ => None,
        };
        match by_sanitizer {
            Some(report) => assert_reported(&bug, report),
            None => {
                let failure = found(bug.name, bug.n);
                println!("{}: {failure:?}", bug.name);
                let check = failure.map(|failure| failure.check);
                assert_eq!(check.as_deref(), Some(bug.check), "{}", bug.name);
            }
        }
    }
}

/// Which bug a child of `assert_reported` runs.
const CHILD: &str = "KERNELS_PLANTED_BUG";

/// Runs a bug in a process of its own, which the sanitizer ends with this report, naming the file.
fn assert_reported(bug: &Bug, report: &str) {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args(["--exact", "a_child_runs_one_bug", "--nocapture"])
        .env(CHILD, bug.name)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    println!("{}: {}", bug.name, said.lines().find(|line| line.contains(report)).unwrap_or("-"));
    assert!(!output.status.success(), "{}: the sanitizer saw nothing", bug.name);
    assert!(said.contains(report) && said.contains("planted/"), "{}:\n{said}", bug.name);
}

#[test]
fn a_child_runs_one_bug() {
    // Broken: the sanitizers' builds have nothing to report.
    let Ok(name) = std::env::var(CHILD) else { return };
    let bug = BUGS.into_iter().find(|bug| bug.name == name).unwrap();
    for seed in SEEDS {
        let _ = run(bug.name, bug.n, seed);
    }
}

/// Sums of squares of `n_rows` rows, by a kernel of `numbers.cu`.
fn squares(name: &str, rows: &[f32], n: usize) -> Vec<f32> {
    let out = Device::unset(rows.len() / n);
    let what = Launch { name, grid: [rows.len() / n, 1, 1], block: 32, shared_bytes: 0, seed: 0 };
    launch(what, &[&Device::new(rows) as &dyn Argument, &out, &(n as i32)]).unwrap();
    out.read()
}

#[test]
fn other_orders_and_batch_variance_are_found() {
    // Broken: a kernel that rounds otherwise than the CPU, or differently from batch to batch,
    // would pass for bit-exact.
    let (n, rows) = (100, values(1, 800));
    let wanted: Vec<f32> =
        rows.chunks(n).map(|row| row.iter().fold(0.0, |sum, x| x.mul_add(*x, sum))).collect();
    let check = |name| compare(&squares(name, &rows, n), &wanted).err().map(|found| found.check);
    assert_eq!(check("planted_square"), None);
    assert_eq!(check("planted_unfused").as_deref(), Some("bits"));
    assert_eq!(check("planted_other_order").as_deref(), Some("bits"));
    // Right for all rows together; a row alone gives it away.
    assert_eq!(check("planted_batch_variance"), None);
    let alone = squares("planted_batch_variance", &rows[..n], n);
    let failure = compare(&alone, &wanted[..1]).unwrap_err();
    assert_eq!(failure.check, "bits");
}

#[test]
fn launches_that_a_driver_would_refuse_are_refused() {
    // Broken: a kernel reads arguments of other sizes than it was given.
    let (device, out) = (Device::new(&[1.0f32; 64]), Device::unset(64));
    let what =
        Launch { name: "planted_reverse", grid: [1, 1, 1], block: 64, shared_bytes: 0, seed: 0 };
    let refused = |what: Launch, args: &[&dyn Argument]| launch(what, args).unwrap_err().check;
    assert_eq!(refused(what, &[&device, &out]), "launch");
    assert_eq!(refused(what, &[&device, &out, &1i64]), "launch");
    assert_eq!(refused(Launch { block: 2048, ..what }, &[&device, &out, &64i32]), "launch");
    assert_eq!(
        refused(Launch { grid: [1, 70_000, 1], ..what }, &[&device, &out, &64i32]),
        "launch"
    );
    let large = Launch { shared_bytes: 200 << 10, ..what };
    assert_eq!(refused(large, &[&device, &out, &64i32]), "shared-memory-limit");
    let few = Launch { name: "planted_uneven_shuffles", block: 16, ..what };
    assert_eq!(refused(few, &[&device, &out, &64i32]), "partial-warp");
    let few = Launch { name: "planted_product_divergent", ..few };
    let stored = Device::new(&[0u16; 256 * 64]);
    assert_eq!(refused(few, &[&stored, &out, &64i32]), "partial-warp");
    // sm_90a has more shared memory, yet not any; what cannot be a tensor map is refused at a copy.
    let map = Map { device: &stored, n_rows: 256, n_cols: 64, ld: 64, box_rows: 256, box_cols: 64 };
    let large = Launch { name: "planted_hopper", block: 160, shared_bytes: 228 << 10, ..what };
    let out = Device::unset(64 * 256);
    assert_eq!(refused(large, &[&map, &out, &64i32]), "shared-memory-limit");
    let right = Launch { shared_bytes: 227 << 10, ..large };
    assert_eq!(launch(right, &[&map, &out, &64i32]), Ok(()));
    assert_eq!(refused(right, &[&Map { ld: 60, ..map }, &out, &60i32]), "tensor-map");
    let few = Launch { name: "planted_hopper_missing_barrier_wait", block: 96, ..right };
    assert_eq!(refused(few, &[&map, &out, &64i32]), "partial-warpgroup");
}
