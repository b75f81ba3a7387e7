//! Seeds by address: what a cell draws depends on the suite's seed and on its own names alone, so
//! rows and columns can come, go and change places without changing each other.

use sha2::{Digest, Sha256};

/// The seed at an address: the first 53 bits of the SHA-256 of `seed` (8 bytes, little-endian) and
/// of each part with its length (8 bytes) before it; 53, so that every JSON reader takes it whole.
pub fn seed_at(seed: u64, parts: &[&str]) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let digest = hasher.finalize();
    let first = digest.iter().take(8).fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    first >> 11
}
