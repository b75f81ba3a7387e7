//! What the machine's operations give, said once more in Rust: from a block's records of words to
//! the words that must come out.

use half::bf16;

pub fn f32s(words: &[u32]) -> Vec<f32> {
    words.iter().map(|bits| f32::from_bits(*bits)).collect()
}

pub fn f64_of(words: &[u32]) -> f64 {
    f64::from_bits(u64::from(words[0]) | u64::from(words[1]) << 32)
}

/// What an operation on f32 gives, record by record.
pub fn on_f32<const N: usize>(words: &[u32], op: fn([f32; N]) -> f32) -> Vec<u32> {
    let op = |record: &[u32]| op(f32s(record).try_into().unwrap()).to_bits();
    words.chunks(N).map(op).collect()
}

/// The same on f64.
pub fn on_f64<const N: usize>(words: &[u32], op: fn([f64; N]) -> f64) -> Vec<u32> {
    let op = |record: &[u32]| {
        let numbers: Vec<f64> = record.chunks(2).map(f64_of).collect();
        let bits = op(numbers.try_into().unwrap()).to_bits();
        [bits as u32, (bits >> 32) as u32]
    };
    words.chunks(2 * N).flat_map(op).collect()
}

pub fn powers(words: &[u32]) -> Vec<u32> {
    on_f32(words, |[x]| f64::from(x).exp2() as f32)
}

/// Whether a power of two may stand for the right one: 2^0 and 2^-infinity must be exact.
pub fn is_power(x: f32, ours: f32, right: f32) -> bool {
    if x == 0.0 || x == f32::NEG_INFINITY || right.is_nan() {
        return ours.to_bits() == right.to_bits() || ours.is_nan() && right.is_nan();
    }
    let is_within =
        |right: f32| ours.is_sign_positive() && ours.to_bits().abs_diff(right.to_bits()) <= 2;
    // What lies below the smallest normal may be 0; so may what 2 ulp bring there.
    let may_be_zero = right.to_bits() < f32::MIN_POSITIVE.to_bits() + 2;
    is_within(right) || may_be_zero && ours.to_bits() == 0
}

/// What comes of each word, or each half of one.
pub fn on_words(words: &[u32], op: fn(u32) -> u32) -> Vec<u32> {
    words.iter().map(|word| op(*word)).collect()
}

pub fn on_halves(words: &[u32], op: fn(u16) -> f32) -> Vec<u32> {
    let both = |word: &u32| [*word as u16, (*word >> 16) as u16].map(|half| op(half).to_bits());
    words.iter().flat_map(both).collect()
}

pub fn narrow(word: u32) -> u32 {
    u32::from(bf16::from_f32(f32::from_bits(word)).to_bits())
}

pub fn narrow2(words: &[u32]) -> Vec<u32> {
    words.chunks(2).map(|two| narrow(two[0]) | narrow(two[1]) << 16).collect()
}

/// In groups of so many records, the record of each place is that of another.
pub fn moved(words: &[u32], n: usize, group: usize, from: impl Fn(usize) -> usize) -> Vec<u32> {
    let n_records = words.len() / n;
    let source = |i: usize| i / group * group + from(i % group);
    (0..n_records).flat_map(|i| words[source(i) * n..][..n].to_vec()).collect()
}

/// Shuffles: records of a value of `n` words and a lane, or a mask that the block's first record
/// has for all.
pub fn shuffled(words: &[u32], n: usize, is_xor: bool) -> Vec<u32> {
    let records: Vec<&[u32]> = words.chunks(n + 1).collect();
    let source = |i: usize| match is_xor {
        true => i ^ (records[0][n] % 32) as usize,
        false => i / 32 * 32 + (records[i][n] % 32) as usize,
    };
    (0..records.len()).flat_map(|i| records[source(i)][..n].to_vec()).collect()
}

pub fn copied(words: &[u32]) -> Vec<u32> {
    let records: Vec<&[u32]> = words.chunks(12).collect();
    let copy = |record: &[u32], which: usize| -> Vec<u32> {
        let bytes = record[4 * which..][..4].iter().flat_map(|word| word.to_le_bytes());
        let n = record[8 + which] as usize;
        let kept: Vec<u8> = bytes.take(n).chain([0; 16]).take(16).collect();
        kept.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
    };
    let both = |i: usize| [copy(records[i], 0), copy(records[255 - i], 1)].concat();
    (0..records.len()).flat_map(both).collect()
}

/// Lane 4 g + t gets columns 2 t and 2 t + 1 (one word) of row g of each of four matrices, or, where
/// they are transposed, rows 2 t and 2 t + 1 of column g; row i of matrix m is named by lane 8 m + i,
/// and is the row of the lane that differs by the mask.
fn dealt_as(words: &[u32], is_transposed: bool) -> Vec<u32> {
    let records: Vec<&[u32]> = words.chunks(5).collect();
    let mask = (records[0][4] % 32) as usize;
    let element = |warp: usize, m: usize, row: usize, column: usize| {
        let record = records[32 * warp + ((8 * m + row) ^ mask)];
        record[column / 2] >> (column % 2 * 16) & 0xffff
    };
    let word = |lane: usize, m: usize| {
        let (warp, g, t) = (lane / 32, lane % 32 / 4, lane % 4);
        let [low, high] = [2 * t, 2 * t + 1].map(|i| match is_transposed {
            true => element(warp, m, i, g),
            false => element(warp, m, g, i),
        });
        low | high << 16
    };
    (0..records.len()).flat_map(|lane| [0, 1, 2, 3].map(|m| word(lane, m))).collect()
}

pub fn dealt(words: &[u32]) -> Vec<u32> {
    dealt_as(words, false)
}

pub fn dealt_transposed(words: &[u32]) -> Vec<u32> {
    dealt_as(words, true)
}

/// Three words a record, all from the record from behind.
pub fn turned(words: &[u32]) -> Vec<u32> {
    moved(words, 3, 256, |i| 255 - i)
}

/// sums + a b of one warp, in f64, the numbers passed through a function first; as lanes hold them.
/// Element (row, k) of a is with lane 4 (row % 8) + k % 8 / 2, in word row / 8 + 2 (k / 8), the low
/// half where k is even; (k, column) of b with lane 4 column + k % 8 / 2, in word 4 + k / 8; (row,
/// column) of the sums with lane 4 (row % 8) + column / 2, in word 6 + 2 (row / 8) + column % 2.
pub fn matrices(warp: &[u32], number: fn(f32) -> f32) -> Vec<f64> {
    let wide = |x: f32| f64::from(number(x));
    let half = |word: u32, k: usize| wide(bf16::from_bits((word >> (k % 2 * 16)) as u16).to_f32());
    let word = |lane: usize, word: usize| warp[10 * lane + word];
    let a = |row: usize, k: usize| half(word(row % 8 * 4 + k % 8 / 2, row / 8 + k / 8 * 2), k);
    let b = |k: usize, column: usize| half(word(4 * column + k % 8 / 2, 4 + k / 8), k);
    let mut out = vec![0.0; 128];
    for row in 0..16 {
        for column in 0..8 {
            let (lane, at) = (row % 8 * 4 + column / 2, row / 8 * 2 + column % 2);
            let sum = wide(f32::from_bits(word(lane, 6 + at)));
            out[4 * lane + at] = (0..16).map(|k| a(row, k) * b(k, column)).sum::<f64>() + sum;
        }
    }
    out
}

pub fn multiplied(words: &[u32]) -> Vec<u32> {
    let warps = words.chunks(320).flat_map(|warp| matrices(warp, |x| x));
    warps.map(|sum| (sum as f32).to_bits()).collect()
}
