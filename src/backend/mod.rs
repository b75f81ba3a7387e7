//! The operations that the forward pass and the swarm need. Knows neither Gemma nor tasks.

pub mod cpu;
