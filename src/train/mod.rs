//! Training from scratch and fine-tuning: what the mini testbed is built with (feature `train`).
//!
//! candle differentiates; the steps, their order and their state are ours, so that a training can
//! be stopped anywhere and goes on as if it had not been. Knows no language and no task: batches
//! come from the caller.

pub mod checkpoint;
pub mod decoder;
pub mod fit;
pub mod optimizer;
