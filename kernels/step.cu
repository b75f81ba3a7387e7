// The paper's arithmetic on the weights themselves: the step of every particle in one launch, and
// the two sums that begin a search.
//
//   v = a_v v + a_p (p - x) + a_g (g - x) + a_w (x - g_w);   x = x + step v
//
// x, v, p (n_particles, stride) f32, g, g_w (len) f32; weights (n_particles, 4) f64. Order: in f64,
// left to right as written, nothing fused; v and x are each rounded to f32 once, and x takes the v
// that was not yet rounded.
//
// Floor: five vectors read and two written, 28 bytes per weight, g and g_w from the second-level
// cache where particles run side by side: 20 per weight. 200 M weights x 20 particles: 80 GB,
// 17 ms. 15 operations in f64 per weight: 60 G, 2 ms on an H200; a chip with f64 at 1/64 of f32 is
// bound by them.
// v1  a thread per weight and particle. Predicted 80 % of copy bandwidth.
// v2  four weights a thread, loads and stores of 16 bytes. Predicted 90 %. Not run on hardware.
#include "common.cuh"

namespace step {

struct Moved {
  float v, x;
};

DEVICE Moved advanced(double x, double v, double p, double g, double g_w, const double* a,
                      double length) {
  double sum = mul_rn(a[0], v);
  sum = add_rn(sum, mul_rn(a[1], sub_rn(p, x)));
  sum = add_rn(sum, mul_rn(a[2], sub_rn(g, x)));
  sum = add_rn(sum, mul_rn(a[3], sub_rn(x, g_w)));
  return {static_cast<float>(sum), static_cast<float>(add_rn(x, mul_rn(length, sum)))};
}

}  // namespace step

// grid (ceil(len / 256), n_particles), block 256
KERNEL(256) step_v1(float* x, float* v, const float* p, const float* g, const float* g_w,
                    const double* weights, double length, long long len, long long stride) {
  const long long e = blockIdx.x * 256ll + threadIdx.x, at = blockIdx.y * stride + e;
  if (e >= len) return;
  const step::Moved moved =
      step::advanced(x[at], v[at], p[at], g[e], g_w[e], weights + blockIdx.y * 4, length);
  v[at] = moved.v;
  x[at] = moved.x;
}
EXPORT(step_v1);

// grid (ceil(len / 1024), n_particles), block 256; all vectors begin at multiples of 16 bytes
KERNEL(256) step_v2(float* x, float* v, const float* p, const float* g, const float* g_w,
                    const double* weights, double length, long long len, long long stride) {
  const long long e = (blockIdx.x * 256ll + threadIdx.x) * 4, at = blockIdx.y * stride + e;
  const double* a = weights + blockIdx.y * 4;
  if (e + 4 <= len) {
    const float4 x4 = load4(x + at), v4 = load4(v + at), p4 = load4(p + at);
    const float4 g4 = load4(g + e), w4 = load4(g_w + e);
    const step::Moved m0 = step::advanced(x4.x, v4.x, p4.x, g4.x, w4.x, a, length);
    const step::Moved m1 = step::advanced(x4.y, v4.y, p4.y, g4.y, w4.y, a, length);
    const step::Moved m2 = step::advanced(x4.z, v4.z, p4.z, g4.z, w4.z, a, length);
    const step::Moved m3 = step::advanced(x4.w, v4.w, p4.w, g4.w, w4.w, a, length);
    store4(v + at, {m0.v, m1.v, m2.v, m3.v});
    store4(x + at, {m0.x, m1.x, m2.x, m3.x});
    return;
  }
  for (int i = 0; e + i < len; ++i) {
    const step::Moved moved =
        step::advanced(x[at + i], v[at + i], p[at + i], g[e + i], g_w[e + i], a, length);
    v[at + i] = moved.v;
    x[at + i] = moved.x;
  }
}
EXPORT(step_v2);

// out = share_a a + share_b b, in f64, rounded once: crossover, a first velocity (1, -1), slerp.
// grid (ceil(len / 256)), block 256
KERNEL(256) mix_v1(const float* a, const float* b, double share_a, double share_b, float* out,
                   long long len) {
  const long long e = blockIdx.x * 256ll + threadIdx.x;
  if (e >= len) return;
  const double left = mul_rn(share_a, static_cast<double>(a[e]));
  out[e] = static_cast<float>(add_rn(left, mul_rn(share_b, static_cast<double>(b[e]))));
}
EXPORT(mix_v1);
