//! The CUDA backend: launches of the kernels in `kernels/`, on any device that runs them.
//!
//! `driver` is what a device offers, `gpu` a GPU behind it, `memory` what lies on it, `adapters`
//! how experts become adapters there, `ops` the launches, and `device` makes them a
//! [`crate::backend::Backend`]. Precision `exact`: f32 in the
//! CPU's order, with the CPU's bits. What a kernel demands of its arguments stands above it; it is
//! asserted where it is launched.

pub mod adapters;
pub mod device;
pub mod driver;
#[cfg(feature = "cuda")]
pub mod gpu;
pub mod memory;
mod ops;
