//! A GPU in the place of the emulated machine, for the same tests: `MODEL_SWARMS_GPU=1` asks for
//! it, in a build that has the feature `cuda`.

use model_swarms::backend::cuda::driver::Family;

use super::{Argument, Launch};

/// Whether kernels are to run on a GPU.
pub fn is_meant() -> bool {
    std::env::var_os("MODEL_SWARMS_GPU").is_some_and(|asked| asked == "1")
}

/// Whether kernels for sm_90a run: on a GPU that is one, and on the emulated machine.
pub fn has_hopper() -> bool {
    !is_meant() || chip().family == Family::Hopper
}

#[cfg(feature = "cuda")]
pub use with_driver::{Block, chip, launch, tensor_map};

#[cfg(not(feature = "cuda"))]
pub use without_driver::{Block, chip, launch, tensor_map};

#[cfg(feature = "cuda")]
mod with_driver {
    use std::sync::OnceLock;

    use model_swarms::backend::cuda::driver::{Arg, Chip, Driver, Launch as OnDevice, Tensor};
    use model_swarms::backend::cuda::gpu::{Gpu, Memory};

    use super::{Argument, Launch};

    /// The machine's operations, one by one.
    static PROBES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probes.fatbin"));

    fn gpu() -> &'static Gpu {
        static GPU: OnceLock<Gpu> = OnceLock::new();
        GPU.get_or_init(|| {
            let opened = Gpu::open().and_then(|gpu| gpu.load(PROBES).map(|()| gpu));
            opened.unwrap_or_else(|error| panic!("MODEL_SWARMS_GPU=1: {error}"))
        })
    }

    /// A GPU's memory.
    pub struct Block(Memory);

    impl Block {
        pub fn new(n_bytes: usize) -> Self {
            Self(gpu().allocate(n_bytes).unwrap())
        }

        pub fn address(&self) -> u64 {
            gpu().address(&self.0)
        }

        pub fn write(&self, offset: usize, bytes: &[u8]) {
            gpu().write(&self.0, offset, bytes).unwrap();
        }

        pub fn read(&self, offset: usize, bytes: &mut [u8]) {
            gpu().read(&self.0, offset, bytes).unwrap();
        }
    }

    pub fn chip() -> Chip {
        gpu().chip()
    }

    pub fn tensor_map(tensor: Tensor) -> [u64; 16] {
        gpu().tensor_map(tensor).unwrap().words
    }

    /// Runs a kernel to its end.
    #[track_caller]
    pub fn launch(launch: Launch, args: &[&dyn Argument]) {
        let Launch { name: kernel, grid, block, shared_bytes, .. } = launch;
        let arg = |arg: &&dyn Argument| {
            let (words, n_bytes) = arg.words();
            match arg.tensor() {
                Some(tensor) => Arg::new(&tensor_map(tensor), n_bytes),
                None => Arg::new(&words, n_bytes),
            }
        };
        let args: Vec<Arg> = args.iter().map(arg).collect();
        gpu().launch(OnDevice { kernel, grid, block, shared_bytes }, &args).unwrap();
    }
}

#[cfg(not(feature = "cuda"))]
mod without_driver {
    use model_swarms::backend::cuda::driver::{Chip, Tensor};

    use super::{Argument, Launch};

    const WHY: &str = "MODEL_SWARMS_GPU=1: this build has no CUDA; build with --features cuda";

    /// No memory.
    pub struct Block;

    impl Block {
        pub fn new(_: usize) -> Self {
            panic!("{WHY}")
        }

        pub fn address(&self) -> u64 {
            0
        }

        pub fn write(&self, _: usize, _: &[u8]) {}

        pub fn read(&self, _: usize, _: &mut [u8]) {}
    }

    pub fn chip() -> Chip {
        panic!("{WHY}")
    }

    pub fn tensor_map(_: Tensor) -> [u64; 16] {
        panic!("{WHY}")
    }

    pub fn launch(_: Launch, _: &[&dyn Argument]) {
        panic!("{WHY}")
    }
}
