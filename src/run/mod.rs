//! What the commands share: measuring adapters on a task, and keeping a run directory.

pub mod candidates;
pub mod evaluate;
pub mod fingerprint;
pub mod mixture;
mod program;
pub mod progress;
pub mod search;
pub mod table;
