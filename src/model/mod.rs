//! The decoder: configuration, weights, forward pass, decoding, tokenizer and chat template.

pub mod config;
mod fields;
