//! The `model-swarms` binary.

fn main() {}
