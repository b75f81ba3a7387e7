//! What the benches ask of a device beside what the backend does: to wait until it is done.
//!
//! Time is the host's, from the first launch until a wait for the last returns. Launches are
//! asynchronous, and a sample is 20 ms of them or more: what the host does meanwhile is hidden, and
//! the wait at the end, some 10 us, is a part in a thousand. Events would measure the same, on a
//! clock that neither end-to-end rows nor the CPU's benches have.

use model_swarms::backend::cuda::driver::{Driver, Family};
#[cfg(feature = "cuda")]
use model_swarms::backend::cuda::gpu::Gpu;

use crate::kernels_common::emulated::Emulated;

/// A device.
pub trait Machine: Driver {
    /// Waits until all that was asked for is done.
    fn wait(&self);

    /// How many multiprocessors it has.
    fn n_processors(&self) -> usize {
        self.chip().n_multiprocessors
    }

    /// Whether it has the instructions of sm_90a. Where wgmma or its copies are found to be wrong,
    /// kernels can still be measured without them: `BENCH_WGMMA=0`.
    fn is_hopper(&self) -> bool {
        let is_refused = std::env::var_os("BENCH_WGMMA").is_some_and(|asked| asked == "0");
        !is_refused && self.chip().family == Family::Hopper
    }
}

/// The emulated machine.
impl Machine for Emulated {
    fn wait(&self) {}
}

#[cfg(feature = "cuda")]
impl Machine for Gpu {
    fn wait(&self) {
        self.finish().expect("work that ends");
    }
}

/// The first GPU, with the probes loaded.
#[cfg(feature = "cuda")]
pub fn open() -> Gpu {
    /// Among them what measures the peaks.
    static PROBES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probes.fatbin"));
    let opened = Gpu::open().and_then(|gpu| gpu.load(PROBES).map(|()| gpu));
    opened.unwrap_or_else(|error| panic!("{error}"))
}
