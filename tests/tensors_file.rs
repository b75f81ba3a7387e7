//! Safetensors files: what is written is read back, and no claim of a hostile header is believed.

use std::collections::BTreeMap;
use std::path::Path;

use model_swarms::tensors::{self, Dtype, Tensors};
use proptest::prelude::*;

/// A file with this header text and `n_data` bytes 1, 2, 3, ...
fn file(directory: &Path, header: &str, n_data: usize) -> std::path::PathBuf {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend((0..n_data).map(|i| i as u8 + 1));
    raw_file(directory, &bytes)
}

fn raw_file(directory: &Path, bytes: &[u8]) -> std::path::PathBuf {
    let path = directory.join("weights.safetensors");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn refusal(header: &str, n_data: usize) -> String {
    let directory = tempfile::tempdir().unwrap();
    Tensors::open(&file(directory.path(), header, n_data)).unwrap_err().to_string()
}

#[track_caller]
fn assert_names(message: &str, wanted: &[&str]) {
    assert!(message.contains("weights.safetensors"), "no file in: {message}");
    for part in wanted {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}

#[test]
fn what_is_written_is_read_back_in_each_dtype() {
    // Saved experts would differ from the ones searched.
    let directory = tempfile::tempdir().unwrap();
    let values = [1.0, -0.5, 3.140_625, 0.0, 65504.0, 6.1e-5];
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let path = directory.path().join(format!("{dtype}.safetensors"));
        let tensors = [
            ("second".to_string(), vec![2, 2], &values[2..]),
            ("first".to_string(), vec![1, 2], &values[..2]),
            ("empty".to_string(), vec![0, 7], &values[..0]),
        ];
        tensors::write(&path, &tensors, dtype, &metadata).unwrap();
        let read = Tensors::open(&path).unwrap();
        assert_eq!(read.names().collect::<Vec<_>>(), ["empty", "first", "second"]);
        assert_eq!(read.metadata(), &metadata);
        for (name, shape, values) in &tensors {
            assert_eq!(read.shape(name), Some(shape.as_slice()));
            assert_eq!(read.dtype(name), Some(dtype));
            let rounded: Vec<f32> = values.iter().map(|&value| dtype.round(value)).collect();
            assert_eq!(read.get(name, shape).unwrap().to_f32(), rounded);
        }
        let peers = safetensors::SafeTensors::deserialize(&std::fs::read(&path).unwrap())
            .map(|peer| peer.len())
            .unwrap();
        assert_eq!(peers, 3, "the safetensors crate reads the same file");
    }
}

#[test]
fn values_at_odd_addresses_are_read() {
    // Files of other writers, whose data need not be aligned, would be misread or crash the run.
    let directory = tempfile::tempdir().unwrap();
    let plain = r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    for n_spaces in 0..8 {
        let header = format!("{plain}{}", " ".repeat(n_spaces));
        let read = Tensors::open(&file(directory.path(), &header, 8)).unwrap();
        let wanted = [f32::from_le_bytes([1, 2, 3, 4]), f32::from_le_bytes([5, 6, 7, 8])];
        assert_eq!(read.get("x", &[2]).unwrap().to_f32(), wanted);
    }
}

#[test]
fn a_part_of_a_tensor_can_be_read() {
    // Materialising reads experts block by block: a wrong block mixes wrong weights.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.safetensors");
    let values: Vec<f32> = (0..10).map(|i| i as f32).collect();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        tensors::write(&path, &[("x".into(), vec![10], &values)], dtype, &BTreeMap::new()).unwrap();
        let read = Tensors::open(&path).unwrap();
        for (start, len) in [(0, 0), (0, 10), (3, 4), (9, 1), (10, 0)] {
            let mut out = vec![-1.0; len];
            read.get("x", &[10]).unwrap().read_f32(start, &mut out);
            assert_eq!(out, values[start..start + len]);
        }
    }
}

#[test]
fn a_value_that_is_not_finite_is_found() {
    // A diverged expert would poison the whole pool without a word.
    let directory = tempfile::tempdir().unwrap();
    let mut data = vec![0u8; 4 * 5000];
    data[4 * 4500..4 * 4501].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
    let header = r#"{"x":{"dtype":"F32","shape":[5000],"data_offsets":[0,20000]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(data);
    let read = Tensors::open(&raw_file(directory.path(), &bytes)).unwrap();
    let found = read.get("x", &[5000]).unwrap().first_non_finite();
    assert_eq!(found, Some((4500, f32::NEG_INFINITY)));
}

#[test]
fn nothing_that_is_not_finite_is_written() {
    // A run would end by saving an expert that no run can open.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weights.safetensors");
    let cases = [(f32::NAN, Dtype::F32), (1e6, Dtype::F16), (f32::MAX, Dtype::BF16)];
    for (value, dtype) in cases {
        let tensors = [("x".to_string(), vec![2], &[0.0, value][..])];
        let error = tensors::write(&path, &tensors, dtype, &BTreeMap::new()).unwrap_err();
        assert_names(&error.to_string(), &["\"x\"", "index 1", &dtype.to_string()]);
        assert!(!path.exists());
    }
}

#[test]
fn hostile_headers_are_refused_with_the_tensor_named() {
    // A damaged or hand-made file would be read past its end, or as something it is not.
    let entry = |name: &str, dtype: &str, shape: &str, offsets: &str| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let cases: &[(&[String], usize, &[&str])] = &[
        (&[entry("x", "F32", "[2]", "[0,8]")], 7, &["\"x\"", "0 to 8", "out of the 7 bytes"]),
        (&[entry("x", "F32", "[2]", "[8,0]")], 8, &["\"x\"", "8 to 0"]),
        (&[entry("x", "F32", "[2]", "[0,8]")], 9, &["last 1 bytes belong to no tensor"]),
        (&[entry("x", "F32", "[3]", "[0,8]")], 8, &["\"x\"", "8 bytes", "12", "F32", "[3]"]),
        (&[entry("x", "F4", "[3]", "[0,1]")], 1, &["\"x\"", "1 bytes", "wanted 2"]),
        (&[entry("x", "F31", "[2]", "[0,8]")], 8, &["\"x\"", "F31"]),
        (
            &[entry("x", "F32", "[4294967296,4294967296,4294967296]", "[0,8]")],
            8,
            &["\"x\"", "larger than any file"],
        ),
        (
            &[entry("x", "F32", "[2]", "[0,8]"), entry("y", "F32", "[2]", "[4,12]")],
            12,
            &["\"y\" overlaps \"x\""],
        ),
        (
            &[entry("x", "F32", "[1]", "[0,4]"), entry("y", "F32", "[1]", "[8,12]")],
            12,
            &["4 bytes before tensor \"y\""],
        ),
        (
            &[entry("x", "F32", "[1]", "[0,4]"), entry("x", "F32", "[1]", "[4,8]")],
            8,
            &["\"x\" stands twice"],
        ),
        (&[r#""x":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}"#.into()], 4, &["\"x\"", "-1"]),
        (&[r#""x":{"dtype":"F32","data_offsets":[0,4]}"#.into()], 4, &["\"x\"", "shape"]),
        (&[r#""__metadata__":{"format":1}"#.into()], 0, &["__metadata__"]),
        (&["}".into()], 0, &["header is not valid"]),
    ];
    for (entries, n_data, wanted) in cases {
        let message = refusal(&format!("{{{}}}", entries.join(",")), *n_data);
        println!("{message}");
        assert_names(&message, wanted);
    }
}

#[test]
fn truncated_files_are_refused() {
    // A download that broke off would be taken for weights.
    let directory = tempfile::tempdir().unwrap();
    let cases: &[(&[u8], &[&str])] = &[
        (b"", &["truncated: 0 bytes"]),
        (b"\x01\0\0", &["truncated: 3 bytes"]),
        (b"\x10\0\0\0\0\0\0\0{}", &["truncated", "header of 16 bytes", "the file has 10"]),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff{}", &["18446744073709551615", "more than"]),
    ];
    for (bytes, wanted) in cases {
        let path = raw_file(directory.path(), bytes);
        assert_names(&Tensors::open(&path).unwrap_err().to_string(), wanted);
    }
    let error = Tensors::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
}

#[test]
fn a_tensor_is_given_only_as_what_it_is() {
    // A weight of another model or type would enter the forward pass.
    let directory = tempfile::tempdir().unwrap();
    let header = r#"{"i":{"dtype":"I32","shape":[1],"data_offsets":[0,4]},
        "d":{"dtype":"F64","shape":[1],"data_offsets":[4,12]},
        "f":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}"#;
    let read = Tensors::open(&file(directory.path(), header, 16)).unwrap();
    let refused = |name: &str, shape: &[usize]| read.get(name, shape).unwrap_err().to_string();
    assert_names(&refused("i", &[1]), &["\"i\"", "I32", "wanted F32, F16 or BF16"]);
    assert_names(&refused("d", &[1]), &["\"d\"", "F64"]);
    assert_names(&refused("f", &[2, 3]), &["\"f\"", "[1]", "wanted [2, 3]"]);
    assert_names(&refused("g", &[1]), &["no tensor \"g\""]);
    assert_eq!((read.dtype("i"), read.dtype("f")), (None, Some(Dtype::F32)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_files_never_panic(
        at in 0usize..200,
        bytes in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        // A damaged file would end the program with a backtrace instead of a sentence.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("w.safetensors");
        let values = [1.0, 2.0, 3.0, 4.0];
        let (a, b) = values.split_at(2);
        let tensors = [("a".to_string(), vec![2], a), ("b".to_string(), vec![2, 1], b)];
        tensors::write(&path, &tensors, Dtype::F32, &BTreeMap::new()).unwrap();
        let mut file = std::fs::read(&path).unwrap();
        let at = at.min(file.len());
        let end = (at + bytes.len()).min(file.len());
        file.splice(at..end, bytes);
        std::fs::write(&path, &file).unwrap();
        if let Ok(read) = Tensors::open(&path) {
            for name in read.names() {
                let shape = read.shape(name).unwrap();
                if let Ok(tensor) = read.get(name, shape) {
                    tensor.to_f32();
                }
            }
        }
    }
}
