//! What the CUDA backend launches for a base in bf16, and the swarm's arithmetic, at the paper's
//! shapes: as shares of what the device can do at most, measured in the same run. What adapters add
//! within a product of precision fast is measured end to end (`swarm_gpu`).
//!
//! A case's floor is the longer of two times: its bytes, each input read and each output written
//! once, at the speed of a copy; its operations at the peak of the units that do them. Cases that
//! are bound by memory are larger than any second-level cache. Answers are first held to plain f64
//! at some places.
//!
//! As a test, on the emulated machine: the same cases at small sizes, through the same code; on a
//! GPU where `MODEL_SWARMS_GPU=1` asks for it. `cargo bench --features cuda,kernel-tests` measures.

#[cfg(feature = "kernel-tests")]
#[path = "kernels/mod.rs"]
mod cases;
#[cfg(feature = "kernel-tests")]
mod common;
#[cfg(feature = "kernel-tests")]
mod gpu;
#[cfg(feature = "kernel-tests")]
#[path = "../tests/kernels_common/mod.rs"]
mod kernels_common;

#[cfg(not(feature = "kernel-tests"))]
fn main() {
    println!("skipped: kernels are measured with the features cuda and kernel-tests");
}

#[cfg(feature = "kernel-tests")]
use measured::main;

#[cfg(feature = "kernel-tests")]
mod measured {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::process::Command;

    use model_swarms::backend::cuda::driver::Family;

    use crate::cases;
    use crate::cases::case::{Shapes, run};
    use crate::cases::products::{Version, product_name, products};
    use crate::common::table::Table;
    use crate::common::testbed::{GEMMA_7B, Sizes};
    use crate::common::{Bench, Size, Timed, results};
    use crate::gpu::machine::Machine;
    use crate::gpu::peaks::Peaks;
    use crate::kernels_common::emulated::Emulated;

    /// Gemma-7B, and a pool of adapters of 200 M parameters.
    const FULL: Shapes = Shapes {
        sizes: GEMMA_7B,
        n_rows: 8192,
        n_prompt: 200,
        n_steps: 256,
        n_adapters: 2,
        rank: 16,
        n_experts: 10,
        n_particles: 20,
        adapter_len: 200_000_000,
    };

    /// Sizes of no tile.
    const SMALL: Shapes = Shapes {
        sizes: Sizes {
            vocab: 300,
            dim: 72,
            ffn_dim: 136,
            n_layers: 1,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 24,
        },
        n_rows: 70,
        n_prompt: 33,
        n_steps: 3,
        n_adapters: 2,
        rank: 16,
        n_experts: 3,
        n_particles: 5,
        adapter_len: 1030,
    };

    /// All cases.
    pub fn main() {
        let mut bench = Bench::from_arguments();
        let is_meant = std::env::var_os("MODEL_SWARMS_GPU").is_some_and(|asked| asked == "1");
        match bench.size() {
            Size::Small if !is_meant => emulate(&mut bench),
            #[cfg(feature = "cuda")]
            Size::Small => measure(&mut bench, &crate::gpu::machine::open(), SMALL),
            #[cfg(feature = "cuda")]
            Size::Full => measure(&mut bench, &crate::gpu::machine::open(), FULL),
            #[cfg(not(feature = "cuda"))]
            _ => {
                assert!(!is_meant, "MODEL_SWARMS_GPU=1: built without the feature cuda");
                println!("skipped: no GPU; kernels are measured with the feature cuda");
                let _ = FULL;
            }
        }
    }

    /// On the emulated machine; then once more by itself without wgmma, as `BENCH_WGMMA=0` asks.
    fn emulate(bench: &mut Bench) {
        let machine = Emulated::default().playing(Family::Hopper);
        measure(bench, &machine, SMALL);
        let is_of_hopper = |kernel: &String| kernel.contains("hopper") || kernel == "peak_wgmma";
        let has_started = machine.started.lock().unwrap().iter().any(is_of_hopper);
        assert_eq!(has_started, machine.is_hopper(), "BENCH_WGMMA=0 is for all kernels of sm_90a");
        if machine.is_hopper() {
            let program = std::env::current_exe().expect("this program");
            let without = Command::new(program).env("BENCH_WGMMA", "0").status();
            assert!(without.expect("this program").success(), "without wgmma");
        }
    }

    fn measure<M: Machine>(bench: &mut Bench, machine: &M, mut shapes: Shapes) {
        // The step's particles are three vectors each; where they do not fit there are fewer.
        let free_bytes = machine.free_bytes().expect("a device that answers");
        let peaks = &mut Peaks::new(machine, bench.size());
        let of_particle = 3 * shapes.adapter_len * size_of::<f32>();
        let n_fitting = (free_bytes / 10 * 8 / of_particle).saturating_sub(1);
        shapes.n_particles = shapes.n_particles.min(n_fitting).max(1);
        results::number("step_particles", shapes.n_particles as f64);
        peaks.keep();

        let mut table =
            Table::new("kernels: microseconds, and the share of them that they must take");
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        for (name, make) in cases::all(machine, shapes) {
            // One that is wrong must not hide those that follow.
            let tried = catch_unwind(AssertUnwindSafe(|| {
                run(bench, peaks, machine, &mut table, &name, &*make)
            }));
            match tried {
                Ok(Some(timed)) => {
                    judge(&name, &timed);
                    found.push((name, timed));
                }
                Ok(None) => {}
                Err(_) => failed.push(name),
            }
        }
        table.print();
        bench.finish();
        if bench.size() == Size::Full {
            print!("{peaks}");
        }

        // The products of a layer by the best version, for whoever compares them with a library's.
        let version = if machine.is_hopper() { Version::Hopper } else { Version::Fast };
        let of_layer = products(&shapes.sizes).map(|(product, ..)| {
            let wanted = product_name(version, product, shapes.n_rows);
            found.iter().find(|(name, _)| *name == wanted).map(|(_, timed)| timed.seconds)
        });
        if let Some(sum) = of_layer.into_iter().sum() {
            results::number("gemm_seconds", sum);
            results::text("gemm_kernel", version.name());
        }
        assert!(failed.is_empty(), "wrong: {failed:?}");
    }

    /// What the swarm's arithmetic is judged by.
    fn judge(case: &str, timed: &Timed) {
        for (key, judged) in [("materialise_share", "combine_f32"), ("step_share", "step")] {
            if case == judged {
                results::number(key, timed.share);
            }
        }
    }
}
