//! Spherical interpolation between two tensors, as mergekit has it.
//!
//! ```text
//! theta = the angle between v0 and v1
//! out = sin((1-t) theta) / sin(theta) v0 + sin(t theta) / sin(theta) v1
//! ```
//!
//! Tensors that are nearly parallel, or nearly opposite, are interpolated in a straight line. One
//! that is zero stands at a right angle to all others: at t = 1/2 the other is shortened to
//! sqrt(1/2).

use crate::backend::cpu::math::sin_cos_f64;

/// From this cosine on, of either sign, the line is straight.
const PARALLEL: f64 = 0.9995;
/// A tensor of this norm or less has no direction.
const NO_DIRECTION: f64 = 1e-8;

/// The point at `t` of the way from `v0` to `v1`, which are of one length.
pub fn slerp(v0: &[f32], v1: &[f32], t: f64) -> Vec<f32> {
    assert_eq!(v0.len(), v1.len(), "slerp of tensors of different lengths");
    let [s0, s1] = slerp_shares(cosine([dot(v0, v0), dot(v0, v1), dot(v1, v1)]), t);
    let point = |(x0, x1): (&f32, &f32)| (s0 * f64::from(*x0) + s1 * f64::from(*x1)) as f32;
    v0.iter().zip(v1).map(point).collect()
}

/// The cosine between two tensors, given the inner products `[v0 v0, v0 v1, v1 v1]`.
pub fn cosine([square0, product, square1]: [f64; 3]) -> f64 {
    let length = |square: f64| match square.sqrt() {
        norm if norm > NO_DIRECTION => norm,
        _ => 1.0,
    };
    product / (length(square0) * length(square1))
}

/// What of `v0` and what of `v1` makes the point at `t`, given the cosine between them.
pub fn slerp_shares(cosine: f64, t: f64) -> [f64; 2] {
    if cosine.abs() > PARALLEL {
        return [1.0 - t, t];
    }
    let theta = angle(cosine);
    let sine = |x: f64| sin_cos_f64(x).0;
    [sine((1.0 - t) * theta) / sine(theta), sine(t * theta) / sine(theta)]
}

pub(super) fn dot(left: &[f32], right: &[f32]) -> f64 {
    left.iter().zip(right).map(|(l, r)| f64::from(*l) * f64::from(*r)).sum()
}

/// The angle in (0, pi) that has this cosine, which is strictly between -1 and 1: twice the angle
/// whose tangent is sqrt((1 - c) / (1 + c)).
fn angle(cosine: f64) -> f64 {
    let tangent = ((1.0 - cosine) / (1.0 + cosine)).sqrt();
    if tangent > 1.0 {
        std::f64::consts::PI - 2.0 * arctangent(1.0 / tangent)
    } else {
        2.0 * arctangent(tangent)
    }
}

/// arctan x for x in [0, 1]: the angle is halved three times, and the series taken at tan <= 0.099.
fn arctangent(x: f64) -> f64 {
    let halved = |x: f64| x / (1.0 + (1.0 + x * x).sqrt());
    let x = halved(halved(halved(x)));
    let mut series = 0.0;
    for n in (0..11).rev() {
        series = 1.0 / f64::from(2 * n + 1) - x * x * series;
    }
    8.0 * x * series
}

#[cfg(test)]
mod tests {
    use super::angle;

    #[test]
    fn angles_are_those_of_their_cosines() {
        // Broken: slerp would leave the arc between its two ends.
        for i in -9995..=9995 {
            let cosine = f64::from(i) / 1e4;
            let (ours, wanted) = (angle(cosine), cosine.acos());
            assert!((ours - wanted).abs() < 1e-14, "{cosine}: {ours} is not {wanted}");
        }
    }
}
