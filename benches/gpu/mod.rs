//! A device as benches see it: numbers that are drawn on it, and what it can do at most.
#![allow(dead_code)] // each bench uses its own part

pub mod array;
pub mod machine;
pub mod peaks;
