//! The header of a safetensors file: eight bytes of length, then JSON.
//!
//! `{"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {...}}`,
//! offsets counted from the end of the header. Every size in it is a claim by a stranger: nothing
//! is allocated or added up on its word.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Dtype, Entry};

/// The longest header that the format allows, in bytes.
const MAX_HEADER_BYTES: u64 = 100_000_000;

const METADATA: &str = "__metadata__";

/// What a header says, with byte ranges counted from the start of the file.
#[derive(Debug)]
pub(super) struct Header {
    pub entries: BTreeMap<String, Entry>,
    pub metadata: BTreeMap<String, String>,
}

/// Reads and checks the header of a whole file's `bytes`. The error is a clause about the file.
pub(super) fn parse(bytes: &[u8]) -> Result<Header, String> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        let n_bytes = bytes.len();
        return Err(format!("truncated: {n_bytes} bytes, wanted a safetensors header"));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES {
        return Err(format!(
            "claims a header of {length} bytes, more than the {MAX_HEADER_BYTES} that safetensors \
             allows"
        ));
    }
    let Some((json, data)) = rest.split_at_checked(length as usize) else {
        let n_bytes = bytes.len();
        return Err(format!(
            "truncated: claims a header of {length} bytes, the file has {n_bytes}"
        ));
    };
    let raw: RawHeader = serde_json::from_slice(json)
        .map_err(|error| format!("the safetensors header is not valid: {error}"))?;

    let data_start = bytes.len() - data.len();
    let mut entries = BTreeMap::new();
    for (name, claim) in raw.tensors {
        let [start, end] = check_size(&name, &claim, data.len())?;
        let range = data_start + start..data_start + end;
        entries.insert(name, Entry { dtype: claim.dtype, shape: claim.shape, range });
    }
    check_cover(&entries, data_start, bytes.len())?;
    Ok(Header { entries, metadata: raw.metadata })
}

/// The header of a file with these tensors one after the other, padded to a multiple of eight
/// bytes.
pub(super) fn render<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a [usize])>,
    dtype: Dtype,
    metadata: &BTreeMap<String, String>,
) -> String {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert(METADATA.to_string(), serde_json::json!(metadata));
    }
    let mut start = 0;
    for (name, shape) in tensors {
        let end = start + shape.iter().product::<usize>() * dtype.n_bytes();
        let entry = serde_json::json!({
            "dtype": dtype.to_string(), "shape": shape, "data_offsets": [start, end],
        });
        let twice = header.insert(name.to_string(), entry);
        assert!(twice.is_none(), "two tensors are named {name}");
        start = end;
    }
    let mut text = serde_json::Value::Object(header).to_string();
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    text
}

/// One tensor's line of the header.
#[derive(Deserialize)]
struct Claim {
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

struct RawHeader {
    tensors: BTreeMap<String, Claim>,
    metadata: BTreeMap<String, String>,
}

/// The offsets of one tensor, once they are known to lie in the data and to hold its shape.
fn check_size(name: &str, claim: &Claim, n_data_bytes: usize) -> Result<[usize; 2], String> {
    let Claim { dtype, shape, data_offsets: [start, end] } = claim;
    if start > end || *end > n_data_bytes {
        return Err(format!(
            "tensor {name:?} lies at bytes {start} to {end}, out of the {n_data_bytes} bytes of \
             data"
        ));
    }
    let total_bits = shape
        .iter()
        .try_fold(dtype.bitsize(), |product, &dim| product.checked_mul(dim))
        .ok_or_else(|| {
            format!("tensor {name:?} has shape {shape:?}, larger than any file can be")
        })?;
    let n_bytes = end - start;
    if total_bits % 8 != 0 || total_bits / 8 != n_bytes {
        return Err(format!(
            "tensor {name:?} has {n_bytes} bytes, wanted {} for {dtype} of shape {shape:?}",
            total_bits.div_ceil(8)
        ));
    }
    Ok([*start, *end])
}

/// The tensors must cover the data exactly: no byte twice, no byte unnamed.
fn check_cover(
    entries: &BTreeMap<String, Entry>,
    data_start: usize,
    data_end: usize,
) -> Result<(), String> {
    let mut in_place: Vec<_> = entries.iter().collect();
    in_place.sort_by_key(|(name, entry)| (entry.range.start, entry.range.end, *name));
    let mut covered = data_start;
    let mut before = "the header";
    for (name, entry) in in_place {
        let start = entry.range.start;
        if start < covered {
            return Err(format!("tensor {name:?} overlaps {before:?}"));
        }
        if start > covered {
            let n_lost = start - covered;
            return Err(format!("{n_lost} bytes before tensor {name:?} belong to no tensor"));
        }
        (covered, before) = (entry.range.end, name);
    }
    if covered < data_end {
        return Err(format!("the last {} bytes belong to no tensor", data_end - covered));
    }
    Ok(())
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// Reads the header's map by hand, since a derived one would let a second entry of the same name
/// replace the first.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a map from tensor names to dtype, shape and data_offsets")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<RawHeader, M::Error> {
        let mut tensors = BTreeMap::new();
        let mut metadata = None;
        while let Some(name) = map.next_key::<String>()? {
            let named = |error: M::Error| M::Error::custom(format!("{name:?}: {error}"));
            let twice = if name == METADATA {
                metadata.replace(map.next_value().map_err(named)?).is_some()
            } else {
                let claim: Claim = map.next_value().map_err(named)?;
                tensors.insert(name.clone(), claim).is_some()
            };
            if twice {
                return Err(M::Error::custom(format!("the name {name:?} stands twice")));
            }
        }
        Ok(RawHeader { tensors, metadata: metadata.unwrap_or_default() })
    }
}
