//! The other methods of the paper's tables: those that merge experts by a formula, and those that
//! search or choose. Models, tasks and devices are not known here: a base's weights are given as a
//! function, and so is a utility.

pub mod merge;
pub mod search;
