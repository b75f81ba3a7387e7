//! exp, ln, sine and cosine of our own, from additions, multiplications and fused multiply-adds.
//!
//! A C library's versions differ between machines; these do not. The f32 [`exp`] runs inside
//! vectorised loops; the f64 functions make tables and scores.

const LN_2_HI: f32 = 0.693_359_4; // 355/512, exact in 9 bits: k * LN_2_HI is exact
const LN_2_LO: f32 = -2.121_944_4e-4;
/// Adding and subtracting 1.5 * 2^23 rounds an f32 to the nearest integer, ties to even.
const ROUND: f32 = 12_582_912.0;

/// e^x, within 2 ulp; 0 below -87.3, and x is taken as 88.3 above it.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let clamped = if x > 88.3 { 88.3 } else { x };
    let clamped = if clamped < -87.3 { -87.3 } else { clamped };
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let k = shifted - ROUND;
    let r = k.mul_add(-LN_2_LO, k.mul_add(-LN_2_HI, clamped));
    // e^r on [-ln 2 / 2, ln 2 / 2]: the minimax polynomial of Cephes' expf.
    let p = 1.987_569_1e-4f32;
    let p = p.mul_add(r, 1.398_2e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_6e-1);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r * r, r) + 1.0;
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    if x < -87.3 { 0.0 } else { p * scale }
}

/// e^x in f64, within a few ulp; for finite x of magnitude up to 700.
pub fn exp_f64(x: f64) -> f64 {
    let x = x.clamp(-700.0, 700.0);
    let k = (x * std::f64::consts::LOG2_E).round_ties_even();
    let r = k.mul_add(-1.908_214_929_270_587_7e-10, k.mul_add(-6.931_471_803_691_238e-1, x));
    let mut p = 1.0;
    for n in (1..=14).rev() {
        p = (p * r / f64::from(n)) + 1.0;
    }
    p * f64::from_bits(((k as i64 + 1023) as u64) << 52)
}

/// ln x in f64 for normal x > 0, within a few ulp.
pub fn ln_f64(x: f64) -> f64 {
    assert!(x.is_normal() && x > 0.0, "ln of {x}");
    let mut exponent = ((x.to_bits() >> 52) as i64) - 1023;
    let mut mantissa = f64::from_bits((x.to_bits() & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    // ln m = 2 artanh(s) with s = (m - 1) / (m + 1), |s| <= 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut series = 0.0;
    for n in (0..12).rev() {
        series = series * square + 1.0 / f64::from(2 * n + 1);
    }
    let exponent = exponent as f64;
    exponent.mul_add(6.931_471_803_691_238e-1, 2.0 * s * series)
        + exponent * 1.908_214_929_270_587_7e-10
}

/// (sin x, cos x) in f64 for |x| up to 10^6, within 1e-15 absolute.
pub fn sin_cos_f64(x: f64) -> (f64, f64) {
    let quarter = (x * std::f64::consts::FRAC_2_PI).round_ties_even();
    // pi/2 in three parts, so that the remainder keeps its low digits.
    let r = quarter.mul_add(-std::f64::consts::FRAC_PI_2, x);
    let r = quarter.mul_add(-6.123_233_995_736_766e-17, r);
    let r = quarter.mul_add(1.497_384_904_859_17e-33, r);
    let square = r * r;
    let mut sine = 1.0;
    let mut cosine = 1.0;
    for n in (1..=9).rev() {
        let n = f64::from(n);
        sine = 1.0 - sine * square / ((2.0 * n) * (2.0 * n + 1.0));
        cosine = 1.0 - cosine * square / ((2.0 * n - 1.0) * (2.0 * n));
    }
    let sine = sine * r;
    match (quarter as i64).rem_euclid(4) {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this fails, activations and attention weights are wrong.
    #[test]
    fn exp_is_within_two_ulp() {
        let mut worst = 0.0f64;
        for i in -87_000..88_000 {
            let x = i as f32 * 1e-3 + 1.7e-5;
            let wanted = f64::from(x).exp();
            let ulp = f64::from(f32::EPSILON) * wanted;
            worst = worst.max((f64::from(exp(x)) - wanted).abs() / ulp);
        }
        assert!(worst < 2.0, "{worst} ulp");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-100.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(1000.0).is_finite());
    }

    /// If this fails, rotary embeddings or perplexities are wrong.
    #[test]
    fn f64_functions_agree_with_the_standard_library() {
        for i in 1..20_000 {
            let x = f64::from(i) * 0.731;
            let (sine, cosine) = sin_cos_f64(x);
            assert!((sine - x.sin()).abs() < 1e-14 && (cosine - x.cos()).abs() < 1e-14, "{x}");
            assert!((ln_f64(x) - x.ln()).abs() < 1e-14 * x.ln().abs().max(1.0), "{x}");
            let y = (x % 60.0) - 30.0;
            assert!((exp_f64(y) / y.exp() - 1.0).abs() < 1e-14, "{y}");
        }
    }
}
