//! The machine's operations of `ptx.cuh` and `hopper.cuh`: their host halves, on the emulated
//! machine, against statements of their own. Hardware is held to the same table; what it proves
//! there is that the device halves are the ones that all other tests of kernels have run.
#![cfg(feature = "kernel-tests")]

mod kernels_common;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use kernels_common::probes::hopper::{self, Kind, Matrix};
use kernels_common::probes::table::{HOPPER_PROBES, PROBES};
use kernels_common::probes::{BLOCK, Probe};
use kernels_common::{Device, Launch, Map, SEEDS, must_launch};

const N_BLOCKS: usize = 3;

fn all_probes() -> impl Iterator<Item = &'static Probe> {
    PROBES.iter().chain(HOPPER_PROBES)
}

/// The words that a probe gives on the emulated machine.
fn run(probe: &Probe, given: &[u32], seed: u64) -> Vec<u32> {
    let n_blocks = given.len() / (BLOCK * probe.n_in());
    let (from, to) = (Device::new(given), Device::new(&vec![0u32; n_blocks * BLOCK * probe.n_out]));
    let what = Launch {
        name: &format!("probe_{}", probe.name),
        grid: [n_blocks, 1, 1],
        block: BLOCK,
        shared_bytes: probe.shared_bytes,
        seed,
    };
    must_launch(what, &[&from, &to]);
    to.read()
}

/// What is wrong with a probe, if anything is.
fn fault_of(probe: &Probe) -> Option<String> {
    for seed in SEEDS {
        let given = probe.draw(N_BLOCKS, seed as u32);
        let ours = run(probe, &given, seed);
        let blocks = given.chunks(BLOCK * probe.n_in()).zip(ours.chunks(BLOCK * probe.n_out));
        for (given, ours) in blocks {
            if let Err(found) = probe.check(given, ours) {
                return Some(format!("seed {seed}: {found}"));
            }
        }
    }
    None
}

#[test]
fn host_halves_are_what_they_say() {
    // Broken: kernels pass their tests by an operation that no machine has. On hardware a wrong
    // operation must not hide the others, so all are tried, and told together.
    let fault = |probe: &Probe| {
        let tried = catch_unwind(|| fault_of(probe));
        let found = tried.unwrap_or_else(|_| Some("it did not run".into()))?;
        Some(format!("{} {:?} {found}", probe.name, probe.inputs))
    };
    let faults: Vec<String> = all_probes().filter_map(fault).collect();
    assert!(faults.is_empty(), "{} are wrong:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_wrong_bit_is_found() {
    // Broken: the table takes whatever a machine gives.
    for probe in all_probes() {
        let given = probe.draw(N_BLOCKS, 1);
        let given = &given[..BLOCK * probe.n_in()];
        let ours = &run(probe, given, 0)[..BLOCK * probe.n_out];
        // A bit that no rounding reaches; of numbers that are NaN it may say nothing.
        let is_found = |word: &usize| {
            let mut changed = ours.to_vec();
            changed[*word] ^= 1 << 30;
            probe.check(given, &changed).is_err()
        };
        let n_found = (0..64).filter(is_found).count();
        assert!(n_found > 32, "{} {:?}: {n_found} of 64", probe.name, probe.inputs);
    }
}

fn map<'a>(device: &'a Device<u16>, matrix: &Matrix, box_rows: usize, box_cols: usize) -> Map<'a> {
    let Matrix { n_rows, n_cols, ld, .. } = *matrix;
    Map { device, n_rows, n_cols, ld, box_rows, box_cols }
}

#[test]
fn tiles_are_copied_as_they_say() {
    // Broken: the emulated machine copies other tiles than the tensor memory accelerator, at a
    // matrix's edge or where the swizzle puts a chunk.
    for (box_cols, seed) in [(64, 0), (32, 0), (64, 4), (32, 3)] {
        for matrix in hopper::matrices(seed as u32) {
            let corners = hopper::corners(&matrix, box_cols);
            let n_words = 32 * box_cols;
            let from = Device::new(&matrix.bits);
            let places = Device::new(corners.as_flattened());
            let to = Device::new(&vec![u32::MAX; corners.len() * n_words]);
            let what = Launch {
                name: "probe_tile",
                grid: [corners.len(), 1, 1],
                block: BLOCK,
                shared_bytes: hopper::TILE_BYTES,
                seed,
            };
            let from = map(&from, &matrix, 64, box_cols);
            must_launch(what, &[&from, &places, &to, &(n_words as i32)]);
            for (ours, corner) in to.read().chunks(n_words).zip(corners) {
                let is_right = ours == hopper::tile(&matrix, corner, box_cols);
                let size = [matrix.n_rows, matrix.n_cols];
                assert!(is_right, "{box_cols} columns of {size:?} from {corner:?}, seed {seed}");
            }
        }
    }
}

#[test]
fn products_of_tiles_are_what_they_say() {
    // Broken: the emulated machine finds numbers in other places of a tile, or puts sums in other
    // registers, than the tensor core.
    for sizes in hopper::PRODUCTS {
        for kind in [Kind::Wholes, Kind::TinyWholes, Kind::Alike] {
            for seed in [0, 2, 4] {
                let given = hopper::product(sizes, kind, seed as u32);
                let (a, b) = (Device::new(&given.a.bits), Device::new(&given.b.bits));
                let to = Device::new(&given.sums);
                let (name, shared_bytes) = (sizes.name, sizes.shared_bytes());
                let what = Launch { name, grid: [1, 1, 1], block: 128, shared_bytes, seed };
                if sizes.is_turned {
                    must_launch(what, &[&a, &b, &to]);
                } else {
                    let (n_k, n_cols) = (sizes.n_k, sizes.n_cols);
                    let (a, b) = (map(&a, &given.a, 64, n_k), map(&b, &given.b, n_cols, n_k));
                    must_launch(what, &[&a, &b, &to]);
                }
                let found = given.check(kind, &to.read());
                assert!(found.is_ok(), "{sizes:?} {kind:?} seed {seed}: {found:?}");
            }
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of a folder of `kernels/` whose names begin and end so.
fn texts(folder: &str, begin: &str, end: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let is_meant = |path: &Path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(begin) && name.ends_with(end)
    };
    paths.iter().filter(|path| is_meant(path)).map(|path| read(path)).collect()
}

/// `name(type of the first argument)` of each operation that a header defines.
fn operations(header: &str) -> Vec<String> {
    let definitions = header.split("\nDEVICE ").skip(1);
    let signature = |definition: &str| {
        let (head, arguments) = definition.split_once('(').unwrap();
        let name = head.split_whitespace().next_back().unwrap();
        let first = arguments.split([',', '{']).next().unwrap();
        let first = first.split(" AND_HERE").next().unwrap().split("HERE").next().unwrap();
        let first = first.trim_end_matches([')', ' ']);
        // The name goes; what has one word only is no argument.
        let kind = first.rsplit_once(' ').map_or("", |(kind, _)| kind);
        format!("{name}({kind})")
    };
    definitions.map(signature).collect()
}

#[test]
fn every_operation_has_a_probe() {
    // Broken: an operation of the header is one thing on a GPU and another on the host, and no run
    // on hardware would tell.
    let headers = [texts("kernels", "ptx", ".cuh"), texts("kernels", "hopper", ".cuh")].concat();
    let defined: BTreeSet<String> = headers.iter().flat_map(|text| operations(text)).collect();
    assert!(defined.len() > 50 && defined.contains("fma_rn(double)"), "{defined:?}");
    assert!(defined.contains("arrive(Barrier*)"), "{defined:?}");
    let proved = all_probes().flat_map(|probe| probe.proves);
    let known: BTreeSet<String> =
        proved.chain(hopper::PROVES).chain(hopper::UNPROVED).map(|name| name.to_string()).collect();
    assert_eq!(known, defined, "the probes' operations, and those of the headers");
}

#[test]
fn every_probe_is_in_the_table() {
    // Broken: a probe is compiled, and nobody runs it.
    let texts = texts("kernels/probes", "", ".cu");
    // `PROBE(name, ...)`, or `PROBE_OF_ROWS(name)`.
    let name = |part: &str| {
        let (_, arguments) = part.split_once('(').unwrap();
        arguments.split([',', ')']).next().unwrap().to_string()
    };
    let written: BTreeSet<String> =
        texts.iter().flat_map(|text| text.split("\nPROBE").skip(1).map(name)).collect();
    let listed: BTreeSet<String> = all_probes().map(|probe| probe.name.to_string()).collect();
    assert_eq!(listed, written);
}
