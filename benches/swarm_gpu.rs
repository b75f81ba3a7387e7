//! The search's work on a GPU, end to end, on a model of Gemma-7B's shapes in bf16: a prefill as a
//! share of the matrix peak, what adapters add to it, a step of decoding as a share of the time
//! that its bytes take, and one iteration of the search.
//!
//! `BENCH_FOLDER` names a folder with 20 GB of room, best in memory; the model, ten experts and the
//! prompts are written there, drawn from a seed, and stay, with some answers, for peers to open the
//! very same files (`kernels/gpu_peers.py`). What takes too long is measured in part, and the
//! results say which part.
//!
//! As a test: the same code on a toy model on the CPU. `cargo bench --features cuda,kernel-tests`
//! measures.

#[cfg(feature = "kernel-tests")]
mod common;
#[cfg(feature = "kernel-tests")]
mod gpu;
#[cfg(feature = "kernel-tests")]
#[path = "../tests/kernels_common/mod.rs"]
mod kernels_common;
#[cfg(feature = "kernel-tests")]
#[path = "swarm_gpu/rows.rs"]
mod rows;

#[cfg(not(feature = "kernel-tests"))]
fn main() {
    println!("skipped: a GPU's search is measured with the features cuda and kernel-tests");
}

#[cfg(feature = "kernel-tests")]
use measured::main;

#[cfg(feature = "kernel-tests")]
mod measured {
    use std::fs;
    use std::path::Path;
    use std::time::Instant;

    use model_swarms::adapter::Pool;
    use model_swarms::backend::cpu::Isa;
    use model_swarms::model::lora::Places;
    use model_swarms::model::memory::Held;
    use model_swarms::model::{Device, Model};
    use model_swarms::tensors::Dtype;

    use crate::common::testbed::{GEMMA_7B, TOY, noise, write_adapter, write_base};
    use crate::common::{Bench, Size, results};
    use crate::gpu::machine::Machine;
    use crate::gpu::peaks::Peaks;
    use crate::kernels_common::emulated::Emulated;
    use crate::rows::{Swarm, Work};

    /// The paper's search: 200 prompts of about 200 tokens, 20 particles, 10 new tokens.
    const FULL: Work = Work {
        sizes: GEMMA_7B,
        rank: 16,
        n_experts: 10,
        n_particles: 20,
        n_prompts: 200,
        lens: [150, 250],
        n_new: 10,
        n_sequences: 256,
        n_steps: 100,
        n_turns: 3,
        most_seconds: 75.0,
    };

    const SMALL: Work = Work {
        sizes: TOY,
        rank: 2,
        n_experts: 3,
        n_particles: 3,
        n_prompts: 5,
        lens: [3, 7],
        n_new: 4,
        n_sequences: 6,
        n_steps: 3,
        n_turns: 1,
        most_seconds: 75.0,
    };

    /// All rows.
    pub fn main() {
        let bench = Bench::from_arguments();
        let named = std::env::var_os("BENCH_FOLDER").filter(|folder| !folder.is_empty());
        if bench.size() == Size::Small {
            let temporary = tempfile::tempdir().expect("a folder for temporary files");
            let folder = named.as_deref().map_or(temporary.path(), Path::new);
            return measure(&Emulated::default(), Size::Small, Device::Cpu, folder, SMALL);
        }
        #[cfg(feature = "cuda")]
        {
            use model_swarms::backend::Precision;
            let Some(folder) = named else {
                println!("skipped: BENCH_FOLDER names no folder with 20 GB of room");
                return;
            };
            let (machine, device) = (crate::gpu::machine::open(), Device::Cuda(Precision::Fast));
            measure(&machine, Size::Full, device, Path::new(&folder), FULL);
        }
        #[cfg(not(feature = "cuda"))]
        {
            println!("skipped: no GPU; its search is measured with the feature cuda");
            let _ = FULL;
        }
    }

    fn measure<M: Machine>(machine: &M, size: Size, device: Device, folder: &Path, work: Work) {
        let started = Instant::now();
        let prompts = write(folder, &work);
        results::number("write_seconds", started.elapsed().as_secs_f64());

        let isa = Isa::from_environment().expect("an instruction set that this machine has");
        let mut peaks = Peaks::new(machine, size); // before the model's memory is planned
        let started = Instant::now();
        let pool = Pool::open(&folder.join("experts")).expect("the pool just written");
        let held = Held::made_of(&pool, work.n_particles);
        let model = Model::open(&folder.join("base"), device, isa, None, held).expect("the base");
        let places = Places::find(pool.layout(), &model.config, folder).expect("its experts");
        let experts = model.experts(pool, places).expect("its experts");
        results::number("open_seconds", started.elapsed().as_secs_f64());
        results::text("plan", &model.concern().unwrap_or("all is on the device".into()));

        let swarm = Swarm { model: &model, experts: &experts, prompts, work, size };
        let per_particle = swarm.prefill(&mut peaks);
        swarm.decode(&mut peaks);
        swarm.iteration(&mut peaks, per_particle, folder);
        if size == Size::Full {
            print!("{peaks}");
        }
    }

    /// Base, experts and prompts, as peers read them.
    fn write(folder: &Path, work: &Work) -> Vec<Vec<u32>> {
        let Work { sizes, rank, n_experts, n_prompts, lens: [least, most], .. } = *work;
        write_base(&folder.join("base"), &sizes, Dtype::BF16);
        for i in 0..n_experts {
            let dir = folder.join("experts").join(format!("{i:02}"));
            write_adapter(&dir, &sizes, rank, 1 + i as u64, Dtype::BF16);
        }
        let drawn = |prompt_idx: usize, i: usize, n: usize| {
            let unit = 0.5 + 0.5 * noise(((3 << 50) + (prompt_idx << 20) + i) as u64);
            ((unit * n as f32) as usize).min(n - 1)
        };
        // Padding, end and beginning are the first three tokens.
        let prompt = |idx: usize| -> Vec<u32> {
            let len = least + drawn(idx, 0, most - least + 1);
            (1..=len).map(|i| 3 + drawn(idx, i, sizes.vocab - 3) as u32).collect()
        };
        let prompts: Vec<Vec<u32>> = (0..n_prompts).map(prompt).collect();
        let text = serde_json::to_string(&prompts).expect("plain data");
        fs::write(folder.join("prompts.json"), text).expect("room for the bench");
        prompts
    }
}
