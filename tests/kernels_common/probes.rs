//! The probes of `kernels/probes`: what each is given, and what it must give by a statement that
//! shares nothing with the kernels. Knows nothing of where they run: the emulated machine's host
//! halves and hardware's device halves are held to the same table.
//!
//! A probe takes `in` and `out`, records of 32-bit words, in blocks of 256 threads, one a record.

use half::bf16;
use statements::{f32s, f64_of, is_power, matrices};

pub mod hopper;
mod statements;
pub mod table;

/// Threads of a block, and records that one block has.
pub const BLOCK: usize = 256;

/// How a word of a record is drawn; the words that need two say so.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Drawn {
    /// Any bits.
    Bits,
    /// A number below this.
    Below(u32),
    /// An f32 of any class: normal, of moderate size, denormal, zero, infinite, NaN, or between two
    /// neighbours in bf16.
    F32,
    /// Two words: an f64 of any class.
    F64,
    /// Two bf16, whole numbers up to 8 in size, a few of them infinite or NaN.
    Wholes,
    /// Two bf16 below the smallest normal: whole numbers up to 8, times 2^-133.
    TinyWholes,
    /// Two bf16, whole numbers up to 8, times 2^100.
    LargeWholes,
    /// An f32, a whole number up to 1000 in size, times this.
    WholeSum(f32),
    /// Two bf16 of moderate size.
    Moderate,
    /// The same, equal for all lanes that hold these k (this eighth) of a row or column.
    Alike(u32),
    /// An f32 between -160 and 160.
    Exponent,
    /// An f32 of moderate size.
    F32Moderate,
    /// The same, equal for the whole warp.
    AlikeSum,
}

/// How the words that come out are held to the wanted ones. Any NaN equals any other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Held {
    Bits,
    F32,
    F64,
    /// Two numbers a word.
    Bf16,
    /// Powers of two: within 2 ulp, and exactly where the operation says so.
    Power,
    /// f32 sums of a tensor core, within what its additions may round.
    Sums,
    /// The same, and all of a warp's equal to the bit: no row and no column is treated otherwise.
    SumsAlike,
}

/// One probe, on one kind of numbers.
pub struct Probe {
    /// The kernel is `probe_` and this.
    pub name: &'static str,
    /// The operations of `ptx.cuh` that it proves, each with the type of its first argument.
    pub proves: &'static [&'static str],
    pub inputs: &'static [Drawn],
    pub n_out: usize,
    /// Dynamic shared memory.
    pub shared_bytes: usize,
    pub held: Held,
    /// What a block's records must give.
    pub wanted: fn(&[u32]) -> Vec<u32>,
}

impl Probe {
    /// Words of a record.
    pub fn n_in(&self) -> usize {
        self.inputs.iter().map(|drawn| if *drawn == Drawn::F64 { 2 } else { 1 }).sum()
    }

    /// The records of some blocks.
    pub fn draw(&self, n_blocks: usize, seed: u32) -> Vec<u32> {
        let mut words = Vec::new();
        for record in 0..n_blocks * BLOCK {
            for (column, drawn) in self.inputs.iter().enumerate() {
                let own = |salt| hash([seed, record as u32, column as u32, salt]);
                let (warp, t) = ((record / 32) as u32, (record % 4) as u32);
                let word = match *drawn {
                    Drawn::Bits => own(0),
                    Drawn::Below(n) => own(0) % n,
                    Drawn::F32 => any_f32(own(0), own(1)),
                    Drawn::F64 => {
                        let bits = any_f64(own(0), u64::from(own(1)) << 32 | u64::from(own(2)));
                        words.push(bits as u32);
                        (bits >> 32) as u32
                    }
                    Drawn::Wholes => pair(own(0), own(1), |bits| match bits % 512 {
                        0 => f32::INFINITY,
                        1 => f32::NAN,
                        _ => whole(bits, 8),
                    }),
                    Drawn::TinyWholes => {
                        pair(own(0), own(1), |bits| whole(bits, 8) * f32::from_bits(1 << 16))
                    }
                    Drawn::LargeWholes => pair(own(0), own(1), |bits| {
                        whole(bits, 8) * f32::from_bits((127 + 100) << 23)
                    }),
                    Drawn::WholeSum(unit) => (whole(own(0), 1000) * unit).to_bits(),
                    Drawn::Exponent => exponent(own(0)).to_bits(),
                    Drawn::F32Moderate => moderate(own(0)).to_bits(),
                    Drawn::Moderate => pair(own(0), own(1), moderate),
                    Drawn::Alike(eighth) => {
                        let shared = |salt| hash([seed, warp, t, eighth << 1 | salt]);
                        pair(shared(0), shared(1), moderate)
                    }
                    Drawn::AlikeSum => moderate(hash([seed, warp, 99, 99])).to_bits(),
                };
                words.push(word);
            }
        }
        words
    }

    /// Whether a block's words are the wanted ones; else the first that is not.
    pub fn check(&self, given: &[u32], ours: &[u32]) -> Result<(), String> {
        let wanted = (self.wanted)(given);
        assert_eq!(wanted.len(), ours.len());
        if matches!(self.held, Held::Sums | Held::SumsAlike) {
            return self.check_sums(given, ours, &wanted);
        }
        let n = if self.held == Held::F64 { 2 } else { 1 };
        for (i, (a, b)) in ours.chunks(n).zip(wanted.chunks(n)).enumerate() {
            let is_same = match self.held {
                Held::Power => is_power(f32s(&given[i..=i])[0], f32s(a)[0], f32s(b)[0]),
                Held::F32 => f32s(a)[0].is_nan() && f32s(b)[0].is_nan(),
                Held::F64 => f64_of(a).is_nan() && f64_of(b).is_nan(),
                Held::Bf16 => [0, 16].iter().all(|shift| {
                    let half = |word: u32| bf16::from_bits((word >> shift) as u16);
                    let (a, b) = (half(a[0]), half(b[0]));
                    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
                }),
                _ => false,
            };
            if a != b && !is_same {
                let record = i * n / self.n_out;
                let from = &given[record * self.n_in()..][..self.n_in()];
                return Err(format!("record {record}, {from:x?}: {a:x?}, wanted {b:x?}"));
            }
        }
        Ok(())
    }

    fn check_sums(&self, given: &[u32], ours: &[u32], wanted: &[u32]) -> Result<(), String> {
        let ones = f32s(ours);
        for (i, (ours, wanted)) in ones.iter().zip(f32s(wanted)).enumerate() {
            // Seventeen numbers are added; each addition, in any order, errs by at most a unit of
            // the sum of their magnitudes where it truncates.
            let magnitudes = matrices(&given[i / 128 * 320..][..320], f32::abs)[i % 128];
            let error = (f64::from(*ours) - f64::from(wanted)).abs();
            if error > 17.5 * f64::from(f32::EPSILON) * magnitudes {
                return Err(format!("sum {i}: {ours:e}, wanted {wanted:e}"));
            }
            let first = ones[i / 128 * 128];
            if self.held == Held::SumsAlike && ours.to_bits() != first.to_bits() {
                return Err(format!("sum {i}: {ours:e}, where the warp's first is {first:e}"));
            }
        }
        Ok(())
    }
}

fn hash(words: [u32; 4]) -> u32 {
    words.iter().fold(0x9e37_79b9, |z, word| {
        let z = (z ^ word).wrapping_mul(0x21f0_aaad);
        let z = (z ^ z >> 15).wrapping_mul(0x735a_2d97);
        z ^ z >> 16
    })
}

fn any_f32(class: u32, bits: u32) -> u32 {
    let (sign, fraction) = (bits & 1 << 31, bits & 0x7f_ffff);
    match class % 16 {
        0 => sign,
        1 => sign | 0xff << 23,
        2 => sign | 0xff << 23 | fraction.max(1),
        3 | 4 => sign | fraction,
        5 | 6 => bits & 0xffff_0000 | [0x7fff, 0x8000, 0x8001, 0xffff][(bits % 4) as usize],
        7..12 => sign | (125 + class / 16 % 4) << 23 | fraction,
        _ => bits,
    }
}

fn any_f64(class: u32, bits: u64) -> u64 {
    let (sign, fraction) = (bits & 1 << 63, bits & ((1 << 52) - 1));
    match class % 16 {
        0 => sign,
        1 => sign | 0x7ff << 52,
        2 => sign | 0x7ff << 52 | fraction.max(1),
        3 | 4 => sign | fraction,
        5..12 => sign | u64::from(1021 + class / 16 % 4) << 52 | fraction,
        _ => bits,
    }
}

/// A whole number from -most to most.
fn whole(bits: u32, most: u32) -> f32 {
    (bits >> 9) as f32 % (2 * most + 1) as f32 - most as f32
}

/// A number whose size is between 1/4 and 4.
fn moderate(bits: u32) -> f32 {
    f32::from_bits(bits & 0x807f_ffff | (125 + (bits >> 23) % 4) << 23)
}

/// A number from -160 to 160.
fn exponent(bits: u32) -> f32 {
    ((bits >> 8) as f32 / (1 << 23) as f32 - 1.0) * 160.0
}

fn pair(first: u32, second: u32, number: impl Fn(u32) -> f32) -> u32 {
    let half = |bits| u32::from(bf16::from_f32(number(bits)).to_bits());
    half(first) | half(second) << 16
}
