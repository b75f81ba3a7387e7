//! Memory-mapped safetensors files: opened and checked once, read by name, shape and dtype.
