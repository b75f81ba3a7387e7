// exp, ln, and the sums along a row, with the roundings of `src/backend/cpu/math.rs` and `ops.rs`:
// the same operations in the same order, so the same bits.
#pragma once

// e^x, within 2 ulp; 0 below -87.3, and x is taken as 88.3 above it. Cephes' polynomial on
// [-ln 2 / 2, ln 2 / 2], scaled by a power of two.
DEVICE float exp_of(float x) {
  const float LOG2_E = 1.44269504088896340736f;
  const float LN_2_HI = 0.6933594f;  // 355/512: k * LN_2_HI is exact
  const float LN_2_LO = -2.1219444e-4f;
  const float ROUND = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  float clamped = x > 88.3f ? 88.3f : x;
  clamped = clamped < -87.3f ? -87.3f : clamped;
  const float shifted = fma_rn(clamped, LOG2_E, ROUND);
  const float k = sub_rn(shifted, ROUND);
  const float r = fma_rn(k, -LN_2_LO, fma_rn(k, -LN_2_HI, clamped));
  float p = 1.9875691e-4f;
  p = fma_rn(p, r, 1.3982e-3f);
  p = fma_rn(p, r, 8.333452e-3f);
  p = fma_rn(p, r, 4.1665796e-2f);
  p = fma_rn(p, r, 1.6666666e-1f);
  p = fma_rn(p, r, 0.5f);
  p = add_rn(fma_rn(p, mul_rn(r, r), r), 1.0f);
  const float scale = float_of((bits_of(shifted) << 23) + bits_of(1.0f));
  return x < -87.3f ? 0.0f : mul_rn(p, scale);
}

// ln x for normal x > 0, within a few ulp: with x = m 2^e, ln m = 2 artanh((m - 1) / (m + 1)).
DEVICE double ln_of(double x) {
  const unsigned long long FRACTION = (1ull << 52) - 1;
  int exponent = static_cast<int>(bits_of(x) >> 52) - 1023;
  double mantissa = double_of((bits_of(x) & FRACTION) | (1023ull << 52));
  if (mantissa > 1.41421356237309504880) {
    mantissa = mul_rn(mantissa, 0.5);
    exponent += 1;
  }
  const double s = div_rn(sub_rn(mantissa, 1.0), add_rn(mantissa, 1.0));
  const double square = mul_rn(s, s);
  double series = 0.0;
  for (int n = 11; n >= 0; --n) {
    series = add_rn(mul_rn(series, square), div_rn(1.0, static_cast<double>(2 * n + 1)));
  }
  const double e = static_cast<double>(exponent);
  const double high = fma_rn(e, 6.931471803691238e-1, mul_rn(mul_rn(2.0, s), series));
  return add_rn(high, mul_rn(e, 1.9082149292705877e-10));
}

// A sum along a row keeps sixteen partial sums, element i going to sum i % 16, and folds them
// 16 -> 8 -> 4 -> 2 -> 1. Here they are one thread's.
struct Lanes16 {
  float sums[16];
};

DEVICE float fold(Lanes16& lanes) {
#pragma unroll
  for (int half = 8; half > 0; half /= 2) {
#pragma unroll
    for (int i = 0; i < half; ++i) lanes.sums[i] = add_rn(lanes.sums[i], lanes.sums[i + half]);
  }
  return lanes.sums[0];
}

// The same fold over 16 threads that lie together and hold a sum each; all of them get the result.
// Which thread holds which sum may be turned by any number of places: the pairs stay pairs.
DEVICE float fold16(float sum AND_HERE) {
#pragma unroll
  for (int half = 8; half > 0; half /= 2) {
    sum = add_rn(sum, shuffle_xor(sum, half PASS_HERE));
  }
  return sum;
}

// The largest of a warp's values.
DEVICE float warp_max(float value AND_HERE) {
#pragma unroll
  for (int half = 16; half > 0; half /= 2) {
    const float other = shuffle_xor(value, half PASS_HERE);
    value = other > value ? other : value;
  }
  return value;
}

DEVICE float minus_infinity() { return float_of(0xff800000u); }
