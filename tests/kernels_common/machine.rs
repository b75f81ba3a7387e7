//! The emulated machine of `kernels/host`, as it is called.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use super::{Argument, Failure, Launch};

#[repr(C)]
struct RawLaunch {
    name: *const c_char,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: usize,
    args: *const *mut c_void,
    arg_bytes: *const usize,
    n_args: usize,
    seed: u64,
}

#[repr(C)]
struct RawFailure {
    check: [c_char; 32],
    message: [c_char; 512],
}

unsafe extern "C" {
    fn kernels_launch(launch: *const RawLaunch, failure: *mut RawFailure) -> c_int;
}

/// An argument's bytes, on the boundary that a tensor map needs.
#[repr(C, align(64))]
struct Value([u64; 16]);

/// Runs a kernel to its end, on one order of its threads.
pub fn launch(launch: Launch, args: &[&dyn Argument]) -> Result<(), Failure> {
    let words: Vec<([u64; 16], usize)> = args.iter().map(|arg| arg.words()).collect();
    let arg_bytes: Vec<usize> = words.iter().map(|(_, n_bytes)| *n_bytes).collect();
    let mut values: Vec<Value> = words.iter().map(|(words, _)| Value(*words)).collect();
    let pointers: Vec<*mut c_void> =
        values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
    let name = CString::new(launch.name).unwrap();
    let raw = RawLaunch {
        name: name.as_ptr(),
        grid: launch.grid.map(|n| n as u32),
        block: [launch.block as u32, 1, 1],
        shared_bytes: launch.shared_bytes,
        args: pointers.as_ptr(),
        arg_bytes: arg_bytes.as_ptr(),
        n_args: args.len(),
        seed: launch.seed,
    };
    let mut failure = RawFailure { check: [0; 32], message: [0; 512] };
    // SAFETY: the arguments live until the call returns, and the harness holds their number and
    // sizes against the kernel's; strings end with a zero. What a kernel does to memory that is not
    // its own is what these tests are about.
    let code = unsafe { kernels_launch(&raw, &mut failure) };
    if code != 0 {
        // SAFETY: the harness ends both strings with a zero.
        let text =
            |text: &[c_char]| unsafe { CStr::from_ptr(text.as_ptr()) }.to_str().unwrap().into();
        return Err(Failure { check: text(&failure.check), message: text(&failure.message) });
    }
    Ok(())
}
