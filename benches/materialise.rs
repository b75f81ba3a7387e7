//! Making all particles' adapters from the mapped experts, as a share of the triad's bandwidth.
//!
//! Bytes counted: every expert read once, every adapter written once. Adapters are made anew, and
//! once more in the memory of the last ones, as a search does it. Sampled elements are first held
//! to the plain sum, bit for bit.

mod common;

use common::table::Table;
use common::testbed::{GEMMA_7B, SMALL, Sizes, TOY, write_adapter};
use common::{Bench, Size, Work};
use model_swarms::adapter::{Adapter, Pool, materialise, materialise_into};
use model_swarms::backend::cpu::Isa;
use model_swarms::backend::cpu::gemm::Workers;
use model_swarms::tensors::Dtype;

const N_EXPERTS: usize = 10;
const N_PARTICLES: usize = 20;
const IN_PLACE: &str = "in place";
const ANEW: &str = "made anew";

/// Adapters of 1 M and 50 M parameters, in f32 and bf16.
fn main() {
    let bench = &mut Bench::from_arguments();
    let isa = Isa::from_environment().expect("an instruction set that this machine has");
    // Anew, the largest would keep the system busy with pages for a minute.
    let pools: &[(&str, Sizes, usize, &[&str])] = match bench.size() {
        Size::Small => &[("toy", TOY, 3, &[IN_PLACE, ANEW])],
        Size::Full => &[
            ("small, rank 11", SMALL, 11, &[IN_PLACE, ANEW]),
            ("gemma-7b, rank 16", GEMMA_7B, 16, &[IN_PLACE]),
        ],
    };
    let locations: Vec<Vec<f64>> = (0..N_PARTICLES).map(location).collect();
    let locations: Vec<&[f64]> = locations.iter().map(Vec::as_slice).collect();
    let mut table =
        Table::new("materialise: GB/s and share of the triad, 10 experts, 20 particles");
    for (name, sizes, rank, forms) in pools {
        for dtype in [Dtype::F32, Dtype::BF16] {
            let len = sizes.adapter_len(*rank);
            let row = format!("{name}, {:.1} M, {dtype}", len as f64 / 1e6);
            if !forms.iter().any(|form| bench.wants("materialise", &format!("{row} {form}"))) {
                continue;
            }
            let folder = tempfile::tempdir().expect("a folder for temporary files");
            for i in 0..N_EXPERTS {
                let dir = folder.path().join(format!("{i:02}"));
                write_adapter(&dir, sizes, *rank, i as u64, dtype);
            }
            let pool = Pool::open(folder.path()).expect("the pool just written");
            check(&pool, &locations, &materialise(isa, &pool, &locations));
            let bytes = len * (N_EXPERTS * dtype.n_bytes() + N_PARTICLES * size_of::<f32>());
            let work = Work::Bytes(bytes as f64);
            let mut adapters = Vec::new();
            for form in *forms {
                let timed =
                    bench.time("materialise", &format!("{row} {form}"), work, Workers::All, || {
                        if *form == ANEW {
                            adapters.clear();
                        }
                        materialise_into(isa, &pool, &locations, &mut adapters);
                    });
                let text = timed.map(|timed| {
                    let rate = work.amount() / timed.seconds / 1e9;
                    format!("{rate:.1} {:3.0} %", 100.0 * timed.share)
                });
                table.set(&row, form, text);
            }
        }
    }
    table.print();
    bench.finish();
}

/// Coefficients that sum to about 1, some of them negative.
fn location(particle_idx: usize) -> Vec<f64> {
    (0..N_EXPERTS).map(|i| 0.1 + 0.05 * ((particle_idx + 3 * i) % 7) as f64 - 0.15).collect()
}

fn check(pool: &Pool, locations: &[&[f64]], adapters: &[Adapter]) {
    let len = pool.layout().len;
    for e in (0..len).step_by(1.max(len / 97)) {
        let mut values = [0.0; N_EXPERTS];
        for (i, expert) in pool.experts.iter().enumerate() {
            expert.read(e, &mut values[i..i + 1]);
        }
        for (p, (row, adapter)) in locations.iter().zip(adapters).enumerate() {
            let terms = row.iter().zip(&values);
            let plain = terms.fold(0.0f32, |sum, (c, value)| (*c as f32).mul_add(*value, sum));
            let ours = adapter.data[e];
            assert_eq!(ours.to_bits(), plain.to_bits(), "[{p}][{e}]: {ours}, wanted {plain}");
        }
    }
}
