//! The emulated machine as a device of the CUDA backend: the launches that a GPU would get.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use model_swarms::backend::cuda::driver::{Arg, Chip, Driver, Family, Launch, Tensor};
use model_swarms::error::{Error, Result};

use super::{Argument, Device, Plain, gpu, map_words};

/// Memory between guards, which every launch looks at.
type Memory = Arc<Device<u8>>;

/// The emulated machine.
pub struct Emulated {
    /// Which chip it plays. Few multiprocessors, so that blocks take several tiles.
    pub chip: Chip,
    /// The order of threads.
    pub seed: u64,
    /// Bytes that may be allocated at once; any number where absent.
    pub n_bytes: Option<usize>,
    /// The most bytes that were allocated at once.
    pub peak: Arc<AtomicUsize>,
    /// The kernels that were started.
    pub started: Arc<Mutex<BTreeSet<String>>>,
    live: Mutex<Vec<(Weak<Device<u8>>, usize)>>,
}

impl Default for Emulated {
    fn default() -> Self {
        Self {
            chip: Chip { family: Family::Ampere, n_multiprocessors: 3, shared_bytes: 163 << 10 },
            seed: 0,
            n_bytes: None,
            peak: Arc::default(),
            started: Arc::default(),
            live: Mutex::default(),
        }
    }
}

impl Emulated {
    /// A machine whose threads run in an order of their own.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// A machine with so much memory.
    pub fn with_memory(n_bytes: usize) -> Self {
        Self { n_bytes: Some(n_bytes), ..Self::default() }
    }

    /// The same with the instructions of another chip.
    pub fn playing(self, family: Family) -> Self {
        Self { chip: Chip { family, ..self.chip }, ..self }
    }

    fn taken(&self) -> usize {
        let mut live = self.live.lock().unwrap();
        live.retain(|(memory, _)| memory.strong_count() > 0);
        live.iter().map(|(_, n_bytes)| n_bytes).sum()
    }
}

impl Driver for Emulated {
    type Memory = Memory;

    fn allocate(&self, n_bytes: usize) -> Result<Memory> {
        if self.n_bytes.is_some_and(|most| self.taken() + n_bytes > most) {
            return Err(Error::Usage(format!("no memory for {n_bytes} bytes")));
        }
        let memory = Arc::new(Device::new(&vec![0xffu8; n_bytes]));
        self.live.lock().unwrap().push((Arc::downgrade(&memory), n_bytes));
        self.peak.fetch_max(self.taken(), Ordering::Relaxed);
        Ok(memory)
    }

    fn address(&self, memory: &Memory) -> u64 {
        memory.address()
    }

    fn write(&self, memory: &Memory, offset: usize, bytes: &[u8]) -> Result<()> {
        memory.write_at(offset, bytes);
        Ok(())
    }

    fn read(&self, memory: &Memory, offset: usize, bytes: &mut [u8]) -> Result<()> {
        memory.read_at(offset, bytes);
        Ok(())
    }

    fn copy(&self, to: &Memory, from: &Memory, n_bytes: usize) -> Result<()> {
        let mut bytes = vec![0; n_bytes];
        from.read_at(0, &mut bytes);
        to.write_at(0, &bytes);
        Ok(())
    }

    fn chip(&self) -> Chip {
        self.chip
    }

    fn tensor_map(&self, tensor: Tensor) -> Result<Arg> {
        let words = match tensor.n_rows * tensor.n_cols {
            0 => [0; 16],
            _ if gpu::is_meant() => gpu::tensor_map(tensor),
            _ => map_words(tensor),
        };
        Ok(Arg::new(&words, 128))
    }

    fn launch(&self, launch: Launch, args: &[Arg]) -> Result<()> {
        let Launch { kernel, grid, block, shared_bytes } = launch;
        self.started.lock().unwrap().insert(kernel.into());
        let plain = |arg: &Arg| Plain { words: arg.words, n_bytes: arg.n_bytes };
        let plain: Vec<Plain> = args.iter().map(plain).collect();
        let args: Vec<&dyn Argument> = plain.iter().map(|arg| arg as &dyn Argument).collect();
        let what = super::Launch { name: kernel, grid, block, shared_bytes, seed: self.seed };
        super::must_launch(what, &args);
        for (memory, _) in self.live.lock().unwrap().iter() {
            let overrun = memory.upgrade().and_then(|memory| memory.overrun());
            assert!(overrun.is_none(), "{kernel}: {}", overrun.unwrap_or_default());
        }
        Ok(())
    }

    fn free_bytes(&self) -> Result<usize> {
        Ok(self.n_bytes.unwrap_or(1 << 40) - self.taken())
    }
}
