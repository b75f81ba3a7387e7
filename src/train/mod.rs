//! Training from scratch and fine-tuning: what the mini testbed is built with (feature `train`).
//!
//! A small Gemma with its gradients written out (`decoder`, `backward`), AdamW and the loop around
//! them. Sums run in a fixed order and no libm is called: the same seed gives the same bits on any
//! number of threads, and a training that was stopped goes on as if it had not been. Knows no
//! language and no task: batches come from the caller.

pub mod attention;
pub mod backward;
pub mod checkpoint;
pub mod decoder;
pub mod fit;
pub mod linear;
pub mod ops;
pub mod optimizer;
pub mod product;
