//! The other methods of the paper's tables: those that merge experts, and those that search or
//! choose. Models, tasks and devices are not known here.

pub mod search;
