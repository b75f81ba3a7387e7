//! Every probe, on every kind of numbers that it is for.

use half::{bf16, f16};

use super::Drawn::{self, *};
use super::statements::{
    copied, dealt, dealt_transposed, moved, multiplied, narrow, narrow2, on_f32, on_f64, on_halves,
    on_words, powers, shuffled, turned,
};
use super::{Held, Probe};

/// A probe that wants no dynamic shared memory.
const fn probe(
    name: &'static str,
    proves: &'static [&'static str],
    inputs: &'static [Drawn],
    n_out: usize,
    held: Held,
    wanted: fn(&[u32]) -> Vec<u32>,
) -> Probe {
    Probe { name, proves, inputs, n_out, shared_bytes: 0, held, wanted }
}

/// A function of f32.
const fn on_float(
    name: &'static str,
    proves: &'static [&'static str],
    inputs: &'static [Drawn],
    wanted: fn(&[u32]) -> Vec<u32>,
) -> Probe {
    probe(name, proves, inputs, 1, Held::F32, wanted)
}

/// A function of f64.
const fn on_double(
    name: &'static str,
    proves: &'static [&'static str],
    inputs: &'static [Drawn],
    wanted: fn(&[u32]) -> Vec<u32>,
) -> Probe {
    probe(name, proves, inputs, 2, Held::F64, wanted)
}

/// Numbers that are moved as they are.
const fn on_bits(
    name: &'static str,
    proves: &'static [&'static str],
    inputs: &'static [Drawn],
    n_out: usize,
    wanted: fn(&[u32]) -> Vec<u32>,
) -> Probe {
    probe(name, proves, inputs, n_out, Held::Bits, wanted)
}

/// The tensor core on one kind of numbers: a, b, the sums.
const fn tensor_core(inputs: &'static [Drawn], held: Held) -> Probe {
    probe("multiply_add", &["multiply_add(float)"], inputs, 4, held, multiplied)
}

const ONE: &[Drawn] = &[F32; 1];
const TWO: &[Drawn] = &[F32; 2];
const FOUR: &[Drawn] = &[F32; 4];
const TWO_WIDE: &[Drawn] = &[F64; 2];

#[rustfmt::skip]
pub const PROBES: &[Probe] = &[
    on_float("fma_f32", &["fma_rn(float)"], &[F32; 3], |w| on_f32(w, |[a, b, c]| a.mul_add(b, c))),
    on_float("mul_f32", &["mul_rn(float)"], TWO, |w| on_f32(w, |[a, b]| a * b)),
    on_float("add_f32", &["add_rn(float)"], TWO, |w| on_f32(w, |[a, b]| a + b)),
    on_float("sub_f32", &["sub_rn(float)"], TWO, |w| on_f32(w, |[a, b]| a - b)),
    on_float("div_f32", &["div_rn(float)"], TWO, |w| on_f32(w, |[a, b]| a / b)),
    on_float("sqrt_f32", &["sqrt_rn(float)"], ONE, |w| on_f32(w, |[a]| a.sqrt())),
    probe("exp2_near", &["exp2_near(float)"], ONE, 1, Held::Power, powers),
    probe("exp2_near", &["exp2_near(float)"], &[Exponent], 1, Held::Power, powers),
    on_double("fma_f64", &["fma_rn(double)"], &[F64; 3],
        |w| on_f64(w, |[a, b, c]| a.mul_add(b, c))),
    on_double("mul_f64", &["mul_rn(double)"], TWO_WIDE, |w| on_f64(w, |[a, b]| a * b)),
    on_double("add_f64", &["add_rn(double)"], TWO_WIDE, |w| on_f64(w, |[a, b]| a + b)),
    on_double("sub_f64", &["sub_rn(double)"], TWO_WIDE, |w| on_f64(w, |[a, b]| a - b)),
    on_double("div_f64", &["div_rn(double)"], TWO_WIDE, |w| on_f64(w, |[a, b]| a / b)),

    on_bits("bits_f32", &["bits_of(float)", "float_of(unsigned)"], ONE, 1, <[u32]>::to_vec),
    on_bits("bits_f64", &["bits_of(double)", "double_of(unsigned long long)"], &[F64], 2,
        <[u32]>::to_vec),
    on_float("widen_f32", &["widen(float)"], ONE, <[u32]>::to_vec),
    on_float("widen_bf16", &["widen(Bf16)"], &[Bits],
        |w| on_words(w, |x| bf16::from_bits(x as u16).to_f32().to_bits())),
    on_float("widen_f16", &["widen(F16)"], &[Bits],
        |w| on_words(w, |x| f16::from_bits(x as u16).to_f32().to_bits())),
    probe("narrow", &["narrow(float)"], ONE, 1, Held::Bf16, |w| on_words(w, narrow)),
    probe("narrow2", &["narrow2(float)"], TWO, 1, Held::Bf16, narrow2),
    on_float("first_of", &["first_of(unsigned)"], &[Bits],
        |w| on_words(w, |x| bf16::from_bits(x as u16).to_f32().to_bits())),
    on_float("second_of", &["second_of(unsigned)"], &[Bits],
        |w| on_words(w, |x| bf16::from_bits((x >> 16) as u16).to_f32().to_bits())),

    on_bits("store_f32", &["store(float*)"], ONE, 1, <[u32]>::to_vec),
    probe("store_bf16", &["store(Bf16*)"], ONE, 1, Held::Bf16, |w| on_words(w, narrow)),
    on_bits("store2_f32", &["store2(float*)"], TWO, 2, <[u32]>::to_vec),
    probe("store2_bf16", &["store2(Bf16*)"], TWO, 1, Held::Bf16, narrow2),
    on_bits("load2_f32", &["load2(const T*)"], TWO, 2, <[u32]>::to_vec),
    on_bits("load2_bf16", &["load2(const T*)"], &[Bits], 2,
        |w| w.iter().flat_map(|both| [both & 0xffff, both >> 16]).collect()),
    on_bits("load4_f32", &["load4(const float*)", "store4(float*)"], FOUR, 4, <[u32]>::to_vec),
    probe("load4_bf16", &["load4(const T*)"], &[Bits; 2], 4, Held::F32,
        |w| on_halves(w, |x| bf16::from_bits(x).to_f32())),
    probe("load4_f16", &["load4(const T*)"], &[Bits; 2], 4, Held::F32,
        |w| on_halves(w, |x| f16::from_bits(x).to_f32())),
    probe("store4_bf16", &["store4(Bf16*)"], FOUR, 2, Held::Bf16, narrow2),
    on_bits("load8", &["load8(const Bf16*)", "store8(Bf16*)"], &[Bits; 4], 4, <[u32]>::to_vec),

    on_bits("sync_block", &["sync_block()"], &[Bits], 1, |w| moved(w, 1, 256, |i| 255 - i)),
    Probe { shared_bytes: 64 << 10, ..on_bits("dynamic_shared", &[], &[Bits], 1,
        |w| moved(w, 1, 256, |i| 255 - i)) },
    on_bits("sync_lanes", &["sync_lanes()"], &[Bits], 1, |w| moved(w, 1, 32, |i| 31 - i)),
    on_bits("copy_async", &["copy_async(void*)", "commit_copies()", "wait_copies()"],
        &[Bits, Bits, Bits, Bits, Bits, Bits, Bits, Bits, Below(17), Below(17), Bits, Bits], 8,
        copied),

    on_bits("shuffle_f32", &["shuffle(T)"], &[F32, Bits], 1, |w| shuffled(w, 1, false)),
    on_bits("shuffle_i32", &["shuffle(T)"], &[Bits, Bits], 1, |w| shuffled(w, 1, false)),
    on_bits("shuffle_f64", &["shuffle(T)"], &[F64, Bits], 2, |w| shuffled(w, 2, false)),
    on_bits("shuffle_xor_f32", &["shuffle_xor(T)"], &[F32, Bits], 1, |w| shuffled(w, 1, true)),
    on_bits("shuffle_xor_i32", &["shuffle_xor(T)"], &[Bits, Bits], 1, |w| shuffled(w, 1, true)),
    on_bits("shuffle_xor_f64", &["shuffle_xor(T)"], &[F64, Bits], 2, |w| shuffled(w, 2, true)),

    on_bits("load_matrices", &["load_matrices(unsigned)"], &[Bits; 5], 4, dealt),
    on_bits("load_transposed", &["load_transposed(unsigned)"], &[Bits; 5], 4, dealt_transposed),
    // Where every order of additions is exact: at size one, and where one side is denormal.
    tensor_core(&[Wholes, Wholes, Wholes, Wholes, Wholes, Wholes, WholeSum(1.0), WholeSum(1.0),
        WholeSum(1.0), WholeSum(1.0)], Held::F32),
    tensor_core(&[TinyWholes, TinyWholes, TinyWholes, TinyWholes, LargeWholes, LargeWholes,
        WholeSum(UNIT), WholeSum(UNIT), WholeSum(UNIT), WholeSum(UNIT)], Held::F32),
    // Where it is not; and where all sums are the same, which batch invariance rests on.
    tensor_core(&[Moderate, Moderate, Moderate, Moderate, Moderate, Moderate, F32Moderate,
        F32Moderate, F32Moderate, F32Moderate], Held::Sums),
    tensor_core(&[Alike(0), Alike(0), Alike(1), Alike(1), Alike(2), Alike(3), AlikeSum, AlikeSum,
        AlikeSum, AlikeSum], Held::SumsAlike),
];

/// Those of `hopper.cuh`, for sm_90a alone, that want no tensor map; `hopper` has the others.
#[rustfmt::skip]
pub const HOPPER_PROBES: &[Probe] = &[
    on_bits("barriers",
        &["init_barrier(Barrier*)", "arrive(Barrier*)", "wait_barrier(Barrier*)"], &[Bits; 3], 3,
        turned),
];

/// 2^-33: of a product of numbers that are multiples of 2^-133 and of 2^100.
pub const UNIT: f32 = 1.0 / (1u64 << 33) as f32;
