//! The CUDA backend: launches of the kernels in `kernels/`, on any device that runs them.
//!
//! `driver` is what a device offers, `gpu` a GPU behind it, `memory` what lies on it, `adapters`
//! how experts become adapters there, `rows` what a batch is, `ops` the launches, `attention` those
//! of attention, `fast` those of precision `fast`'s products, `products` a product with its update
//! in either precision; `device` makes them a [`crate::backend::Backend`]. Precision `exact`: f32
//! in the CPU's order, with the CPU's bits. What a kernel demands of its arguments stands above it;
//! it is asserted where it is launched.

pub mod adapters;
mod attention;
pub mod device;
pub mod driver;
pub(crate) mod fast;
#[cfg(feature = "cuda")]
pub mod gpu;
pub mod memory;
mod ops;
mod products;
pub(crate) mod rows;
