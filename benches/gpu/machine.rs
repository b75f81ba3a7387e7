//! What the benches ask of a device beside what the backend does: tensor maps, its size, and to
//! wait until it is done.
//!
//! Time is the host's, from the first launch until a wait for the last returns. Launches are
//! asynchronous, and a sample is 20 ms of them or more: what the host does meanwhile is hidden, and
//! the wait at the end, some 10 us, is a part in a thousand. Events would measure the same, on a
//! clock that neither end-to-end rows nor the CPU's benches have.

use model_swarms::backend::cuda::driver::{Arg, Driver, Tensor};
#[cfg(feature = "cuda")]
use model_swarms::backend::cuda::gpu::Gpu;

use crate::kernels_common::emulated::Emulated;

/// A device.
pub trait Machine: Driver {
    /// The tensor map of a matrix, as kernels take it.
    fn map_of(&self, tensor: Tensor) -> Arg;

    /// How many multiprocessors it has.
    fn n_processors(&self) -> usize;

    /// Whether it has the instructions of sm_90a.
    fn is_hopper(&self) -> bool;

    /// Waits until all that was asked for is done.
    fn wait(&self);
}

/// The emulated machine: two multiprocessors, so that a grid has several blocks.
impl Machine for Emulated {
    fn map_of(&self, tensor: Tensor) -> Arg {
        // `TensorMap` of hopper.h, its swizzle as CUDA numbers them.
        let Tensor { start, n_rows, n_cols, ld, box_rows, box_cols } = tensor;
        let swizzle = if box_cols == 64 { 3 } else { 2 };
        let [n_rows, n_cols, ld] = [n_rows, n_cols, ld].map(|n| n as u64);
        let in_box = box_cols as u64 | (box_rows as u64) << 32;
        Arg::new(&[start, n_cols, n_rows, 2 * ld, in_box, swizzle], 128)
    }

    fn n_processors(&self) -> usize {
        2
    }

    fn is_hopper(&self) -> bool {
        true
    }

    fn wait(&self) {}
}

#[cfg(feature = "cuda")]
impl Machine for Gpu {
    fn map_of(&self, tensor: Tensor) -> Arg {
        self.tensor_map(tensor).expect("a tensor map")
    }

    fn n_processors(&self) -> usize {
        self.n_multiprocessors().expect("a GPU that answers")
    }

    fn is_hopper(&self) -> bool {
        // The machine code is of sm_90a, which no other chip runs. Where wgmma or its copies are
        // found to be wrong, all else can still be measured without them.
        let is_refused = std::env::var_os("BENCH_WGMMA").is_some_and(|asked| asked == "0");
        !is_refused && self.compute_capability().expect("a GPU that answers") == (9, 0)
    }

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
