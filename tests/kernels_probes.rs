//! The machine's operations of `ptx.cuh`: their host halves, on the emulated machine, against
//! statements of their own. Hardware is held to the same table; what it proves there is that the
//! device halves are the ones that all other tests of kernels have run.
#![cfg(feature = "kernel-tests")]

mod kernels_common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kernels_common::probes::table::PROBES;
use kernels_common::probes::{BLOCK, Probe};
use kernels_common::{Device, Launch, SEEDS, must_launch};

const N_BLOCKS: usize = 3;

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

#[test]
fn host_halves_are_what_they_say() {
    // Broken: kernels pass their tests by an operation that no machine has.
    for probe in PROBES {
        for seed in SEEDS {
            let given = probe.draw(N_BLOCKS, seed as u32);
            let ours = run(probe, &given, seed);
            let blocks = given.chunks(BLOCK * probe.n_in()).zip(ours.chunks(BLOCK * probe.n_out));
            for (given, ours) in blocks {
                if let Err(found) = probe.check(given, ours) {
                    panic!("{} {:?} seed {seed}: {found}", probe.name, probe.inputs);
                }
            }
        }
    }
}

#[test]
fn a_wrong_bit_is_found() {
    // Broken: the table takes whatever a machine gives.
    for probe in PROBES {
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
    let headers = texts("kernels", "ptx", ".cuh");
    let defined: BTreeSet<String> = headers.iter().flat_map(|text| operations(text)).collect();
    assert!(defined.len() > 30 && defined.contains("fma_rn(double)"), "{defined:?}");
    let proved: BTreeSet<String> =
        PROBES.iter().flat_map(|probe| probe.proves.iter().map(|name| name.to_string())).collect();
    assert_eq!(proved, defined, "the probes' operations, and those of the headers");
}

#[test]
fn every_probe_is_in_the_table() {
    // Broken: a probe is compiled, and nobody runs it.
    let texts = texts("kernels/probes", "", ".cu");
    let name = |part: &str| part.split(',').next().unwrap().to_string();
    let written: BTreeSet<String> =
        texts.iter().flat_map(|text| text.split("\nPROBE(").skip(1).map(name)).collect();
    let listed: BTreeSet<String> = PROBES.iter().map(|probe| probe.name.to_string()).collect();
    assert_eq!(listed, written);
}
