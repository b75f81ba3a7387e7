//! A GPU behind CUDA's driver library, which is looked for when the program runs.
//!
//! One stream, so that everything happens in the order in which it is asked for; memory is given
//! back in that order too, and kept for the next that asks. The kernels are a part of the program:
//! machine code for sm_80 and sm_90a, and PTX that later chips translate.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::{CudaContext, CudaStream, sys};

use super::driver::{Arg, Chip, Driver, FIXED_SHARED_BYTES, Family, Launch, Tensor};
use crate::error::{Error, Result};

/// All kernels, for all chips.
static KERNELS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin"));

/// Shared memory that a launch may choose without asking.
const PLAIN_SHARED_BYTES: usize = (48 << 10) - FIXED_SHARED_BYTES;

/// The oldest chips that the kernels are made for.
const OLDEST: (i32, i32) = (8, 0);

/// The one that has sm_90a's instructions: what is built for it runs nowhere else.
const HOPPER: (i32, i32) = (9, 0);

/// A GPU.
pub struct Gpu(Arc<Device>);

struct Device {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    chip: Chip,
    has_pools: bool, // of memory, in the stream's order; virtual GPUs may have none
    reads_pageable: bool, // the host's memory, by the host's own page tables
    modules: Mutex<Vec<sys::CUmodule>>,
    functions: Mutex<BTreeMap<String, Function>>,
}

#[derive(Clone, Copy)]
struct Function {
    handle: sys::CUfunction,
    shared_bytes: usize, // that it may be launched with
}

// SAFETY: the driver's handles may be used from any thread that is bound to their context, which
// every use below sees to.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

/// Memory of a GPU.
pub struct Memory {
    start: sys::CUdeviceptr,
    n_bytes: usize,
    device: Arc<Device>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        // What fails here fails again where it can be told.
        let Device { context, stream, has_pools, .. } = &*self.device;
        if context.bind_to_thread().is_err() {
            return;
        }
        // SAFETY: it was allocated on this stream, or is used by nothing that is under way; nobody
        // else holds it.
        let _ = unsafe {
            if *has_pools {
                result::free_async(self.start, stream.cu_stream())
            } else {
                stream.synchronize().and_then(|()| result::free_sync(self.start))
            }
        };
    }
}

/// For `map_err`: what the driver said when the GPU was to `doing`.
fn failed(doing: &str) -> impl FnOnce(DriverError) -> Error {
    let doing = doing.to_owned();
    move |error| Error::Usage(format!("the GPU cannot {doing}: {error}"))
}

impl Gpu {
    /// The first GPU, with the kernels loaded.
    ///
    /// # Errors
    /// No driver, no GPU, or one that the kernels are not made for.
    pub fn open() -> Result<Self> {
        // SAFETY: it looks whether the library can be opened; opening CUDA's has no other effect.
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::Usage("no CUDA driver was found (libcuda.so)".into()));
        }
        let context = CudaContext::new(0).map_err(failed("be opened"))?;
        let version = context.compute_capability().map_err(failed("tell what it is"))?;
        if version < OLDEST {
            let (major, minor) = version;
            let what =
                format!("the GPU has compute capability {major}.{minor}, wanted 8.0 or later");
            return Err(Error::Usage(what));
        }
        let family = if version == HOPPER { Family::Hopper } else { Family::Ampere };
        use sys::CUdevice_attribute as attribute;
        let tell = |what| context.attribute(what).map_err(failed("tell what it has"));
        let chip = Chip {
            family,
            n_multiprocessors: tell(attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize,
            shared_bytes: tell(attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?
                as usize,
        };
        let has_pools = tell(attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED)? != 0;
        let reads_pageable =
            tell(attribute::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES)? != 0;
        if has_pools {
            keep_freed_memory().map_err(failed("keep its memory"))?;
        }
        let gpu = Self(Arc::new(Device {
            stream: context.new_stream().map_err(failed("make a stream"))?,
            context,
            chip,
            has_pools,
            reads_pageable,
            modules: Mutex::default(),
            functions: Mutex::default(),
        }));
        gpu.load(KERNELS)?;
        Ok(gpu)
    }

    /// Adds the kernels of a fatbin.
    pub fn load(&self, fatbin: &[u8]) -> Result<()> {
        self.bind()?;
        let mut image = vec![0u64; fatbin.len().div_ceil(8)]; // begins as a fatbin's header wants
        bytemuck::cast_slice_mut(&mut image)[..fatbin.len()].copy_from_slice(fatbin);
        // SAFETY: the bytes are a whole fatbin, of which the driver keeps what it needs.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) }
            .map_err(failed("load the kernels"))?;
        let mut modules = self.0.modules.lock().unwrap_or_else(|held| held.into_inner());
        modules.push(module);
        Ok(())
    }

    /// Its name, as its maker gives it.
    pub fn name(&self) -> Result<String> {
        self.0.context.name().map_err(failed("tell its name"))
    }

    /// Waits until all that was asked for is done.
    pub fn finish(&self) -> Result<()> {
        self.bind()?;
        self.0.stream.synchronize().map_err(failed("finish what it was given"))
    }

    fn bind(&self) -> Result<sys::CUstream> {
        self.0.context.bind_to_thread().map_err(failed("be used from this thread"))?;
        Ok(self.0.stream.cu_stream())
    }

    /// The kernel of this name, allowed to be launched with so much shared memory.
    fn function(&self, name: &str, shared_bytes: usize) -> Result<sys::CUfunction> {
        let mut functions = self.0.functions.lock().unwrap_or_else(|held| held.into_inner());
        let known = functions.get(name).copied();
        let mut function = match known {
            Some(function) => function,
            None => {
                let modules = self.0.modules.lock().unwrap_or_else(|held| held.into_inner());
                let find = |module: &sys::CUmodule| {
                    let c_name = CString::new(name).expect("names of kernels hold no zero");
                    // SAFETY: modules stay loaded as long as the device.
                    unsafe { result::module::get_function(*module, c_name) }.ok()
                };
                let handle = modules.iter().find_map(find).ok_or_else(|| {
                    Error::Usage(format!("the GPU's kernels have none that is called {name}"))
                })?;
                Function { handle, shared_bytes: PLAIN_SHARED_BYTES }
            }
        };
        if shared_bytes > function.shared_bytes {
            let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the handle is of a kernel of the loaded module.
            unsafe {
                result::function::set_function_attribute(function.handle, most, shared_bytes as i32)
            }
            .map_err(failed(&format!("give {name} {shared_bytes} bytes of shared memory")))?;
            function.shared_bytes = shared_bytes;
        }
        functions.insert(name.to_owned(), function);
        Ok(function.handle)
    }
}

/// Memory that is given back stays with the program.
fn keep_freed_memory() -> std::result::Result<(), DriverError> {
    let device = result::device::get(0)?;
    let mut most = u64::MAX;
    // SAFETY: the pool is the device's own, and the attribute's value is a u64.
    unsafe {
        let mut pool = std::mem::MaybeUninit::uninit();
        sys::cuDeviceGetDefaultMemPool(pool.as_mut_ptr(), device).result()?;
        let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        let value = (&raw mut most).cast();
        sys::cuMemPoolSetAttribute(pool.assume_init(), threshold, value).result()
    }
}

impl Driver for Gpu {
    type Memory = Memory;

    fn allocate(&self, n_bytes: usize) -> Result<Memory> {
        let stream = self.bind()?;
        let size = n_bytes.max(1);
        // SAFETY: the stream is the device's, which is bound.
        let start = unsafe {
            if self.0.has_pools {
                result::malloc_async(stream, size)
            } else {
                result::malloc_sync(size)
            }
        };
        let start = start.map_err(failed(&format!("give {n_bytes} bytes of memory")))?;
        Ok(Memory { start, n_bytes, device: Arc::clone(&self.0) })
    }

    fn address(&self, memory: &Memory) -> u64 {
        memory.start
    }

    fn write(&self, memory: &Memory, offset: usize, bytes: &[u8]) -> Result<()> {
        assert!(offset + bytes.len() <= memory.n_bytes, "a write past {} bytes", memory.n_bytes);
        let stream = self.bind()?;
        // SAFETY: the range lies within the memory. The bytes are not pinned: they have been read
        // when the driver returns, which copies them first, or when the stream is done.
        unsafe { result::memcpy_htod_async(memory.start + offset as u64, bytes, stream) }
            .map_err(failed(&format!("take {} bytes", bytes.len())))?;
        if self.0.reads_pageable { self.finish() } else { Ok(()) }
    }

    fn read(&self, memory: &Memory, offset: usize, bytes: &mut [u8]) -> Result<()> {
        assert!(offset + bytes.len() <= memory.n_bytes, "a read past {} bytes", memory.n_bytes);
        let (stream, n_bytes) = (self.bind()?, bytes.len());
        // SAFETY: the range lies within the memory; the bytes are there when the stream is done.
        unsafe { result::memcpy_dtoh_async(bytes, memory.start + offset as u64, stream) }
            .map_err(failed(&format!("give back {n_bytes} bytes")))?;
        self.0.stream.synchronize().map_err(failed("finish what it was given"))
    }

    fn copy(&self, to: &Memory, from: &Memory, n_bytes: usize) -> Result<()> {
        assert!(n_bytes <= to.n_bytes && n_bytes <= from.n_bytes, "a copy past the end");
        let stream = self.bind()?;
        // SAFETY: both ranges were checked.
        unsafe { result::memcpy_dtod_async(to.start, from.start, n_bytes, stream) }
            .map_err(failed(&format!("copy {n_bytes} bytes")))
    }

    fn chip(&self) -> Chip {
        self.0.chip
    }

    fn tensor_map(&self, tensor: Tensor) -> Result<Arg> {
        let Tensor { start, n_rows, n_cols, ld, box_rows, box_cols } = tensor;
        let mut map = Arg::new(&[], size_of::<sys::CUtensorMap>());
        if n_rows == 0 || n_cols == 0 {
            return Ok(map);
        }
        assert!(start.is_multiple_of(16) && ld.is_multiple_of(8) && n_cols <= ld, "{tensor:?}");
        self.bind()?;
        let (sizes, strides) = ([n_cols as u64, n_rows as u64], [2 * ld as u64]);
        let (in_box, steps) = ([box_cols as u32, box_rows as u32], [1, 1]);
        let swizzle = match box_cols {
            64 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            32 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_64B,
            _ => panic!("boxes of {box_cols} columns"),
        };
        // SAFETY: the map is as large and lies as CUDA's; the arrays hold as many values as the
        // rank, 2, says, the strides one less.
        unsafe {
            sys::cuTensorMapEncodeTiled(
                map.words.as_mut_ptr().cast(),
                sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                2,
                start as *mut std::ffi::c_void,
                sizes.as_ptr(),
                strides.as_ptr(),
                in_box.as_ptr(),
                steps.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                swizzle,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        }
        .result()
        .map_err(failed("make a tensor map"))?;
        Ok(map)
    }

    fn launch(&self, launch: Launch, args: &[Arg]) -> Result<()> {
        let Launch { kernel, grid, block, shared_bytes } = launch;
        let stream = self.bind()?;
        let function = self.function(kernel, shared_bytes)?;
        let mut args = args.to_vec();
        let mut pointers: Vec<_> =
            args.iter_mut().map(|arg| arg.words.as_mut_ptr().cast()).collect();
        let [x, y, z] = grid.map(|n| n as u32);
        // SAFETY: the arguments are those of the kernel, which the tests of the launchers on the
        // emulated machine hold to its declaration, and live until the driver has copied them.
        unsafe {
            let block = (block as u32, 1, 1);
            result::launch_kernel(
                function,
                (x, y, z),
                block,
                shared_bytes as u32,
                stream,
                &mut pointers,
            )
        }
        .map_err(failed(&format!("start {kernel}")))
    }

    fn free_bytes(&self) -> Result<usize> {
        self.bind()?;
        let (free, _) = result::mem_get_info().map_err(failed("tell its free memory"))?;
        Ok(free)
    }
}
