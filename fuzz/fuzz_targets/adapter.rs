//! No bytes in an adapter's folder may end in a panic: configuration and weights at once.
//!
//! The first two bytes of the input say how long the configuration is; the weights follow it. What
//! opens must also be readable, and must open again after it was saved.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use model_swarms::adapter::{Expert, save};

fuzz_target!(|input: &[u8]| {
    let Some((length, rest)) = input.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (config, weights) = rest.split_at(length);

    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().join("expert");
    fs::create_dir(&dir).expect("a folder in it");
    fs::write(dir.join("adapter_config.json"), config).expect("a file in it");
    fs::write(dir.join("adapter_model.safetensors"), weights).expect("a file in it");

    let Ok(expert) = Expert::open(&dir) else { return };
    expert.module_norms();
    let adapter = expert.to_adapter();
    let saved = folder.path().join("saved");
    save(&saved, &adapter, expert.config(), expert.dtype(), "").expect("finite in its own type");
    let again = Expert::open(&saved).expect("what was saved opens");
    assert_eq!(again.layout(), expert.layout());
    assert_eq!(again.to_flat(), adapter.data);
});
