//! Numbers for tests, and their comparison to the bit.

use half::bf16;

use super::Failure;

/// A number in [-1, 1) for each index and stream.
pub fn value(stream: u32, i: usize) -> f32 {
    let mut z = (i as u32).wrapping_mul(0x9e37_79b9) ^ stream.wrapping_mul(0x85eb_ca6b);
    z = (z ^ z >> 16).wrapping_mul(0x21f0_aaad);
    z = (z ^ z >> 15).wrapping_mul(0x735a_2d97);
    ((z ^ z >> 15) >> 8) as f32 / (1 << 23) as f32 - 1.0
}

/// `len` numbers of a stream.
pub fn values(stream: u32, len: usize) -> Vec<f32> {
    (0..len).map(|i| value(stream, i)).collect()
}

/// Numbers among which sums underflow and zeros have signs.
pub fn tiny_values(stream: u32, len: usize) -> Vec<f32> {
    let tiny = |i: usize| match i % 4 {
        0 => -0.0,
        1 => 0.0,
        _ => value(stream, i) * 1e-30,
    };
    (0..len).map(tiny).collect()
}

/// Whole numbers up to `most`.
pub fn whole(stream: u32, len: usize, most: f32) -> Vec<f32> {
    values(stream, len).iter().map(|x| (x * most).round() + 0.0).collect()
}

/// As bf16, rounded to nearest.
pub fn to_bits(values: &[f32]) -> Vec<u16> {
    values.iter().map(|x| bf16::from_f32(*x).to_bits()).collect()
}

/// What bf16 hold.
pub fn from_bits(bits: &[u16]) -> Vec<f32> {
    bits.iter().map(|bits| bf16::from_bits(*bits).to_f32()).collect()
}

/// Values that a bf16 can hold.
pub fn rounded(values: &[f32]) -> Vec<f32> {
    from_bits(&to_bits(values))
}

/// Rows of `n_cols` set `stride` apart; NaN between them.
pub fn strided(rows: &[f32], n_cols: usize, stride: usize) -> Vec<f32> {
    let mut out = Vec::new();
    for row in rows.chunks(n_cols.max(1)) {
        out.extend_from_slice(row);
        out.resize(out.len() + stride - n_cols, f32::NAN);
    }
    out
}

/// The first `n_cols` values of `n_rows` rows that stand `stride` apart.
pub fn unstrided(rows: &[f32], n_rows: usize, n_cols: usize, stride: usize) -> Vec<f32> {
    (0..n_rows).flat_map(|row_idx| rows[row_idx * stride..][..n_cols].to_vec()).collect()
}

/// Equal to the bit, but that any NaN equals any other: which one it is depends on the machine.
pub fn compare(ours: &[f32], wanted: &[f32]) -> Result<(), Failure> {
    let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    let failure = |message| Err(Failure { check: "bits".into(), message });
    if ours.len() != wanted.len() {
        return failure(format!("{} values, wanted {}", ours.len(), wanted.len()));
    }
    match ours.iter().zip(wanted).position(|pair| !same(pair)) {
        None => Ok(()),
        Some(i) => failure(format!("element {i}: {:e}, wanted {:e}", ours[i], wanted[i])),
    }
}

/// As [`compare`], where nothing may differ.
#[track_caller]
pub fn assert_bits(ours: &[f32], wanted: &[f32], case: &str) {
    if let Err(failure) = compare(ours, wanted) {
        panic!("{case}: {}", failure.message);
    }
}
