// Materialise: the weighted sums of the experts, for all particles in one pass.
//
//   out[p][e] = sum over i of c[p][i] * expert[i][e]
//
// experts (n_experts) pointers to vectors of `len` elements as the files have them (f32, f16 or
// bf16: widening is exact), coefficients (n_particles, n_experts) f32, out (n_particles,
// out_stride). Order: experts in order, one fused multiply-add each.
//
// Floor: every expert read once and every result written once, n_experts + n_particles streams: ten
// experts in f32 and 20 particles of 200 M weights: 24 GB, 5 ms at 4.8 TB/s.
// v1  a thread per element and particle: every expert is read once per particle, 20 times.
// v2  a thread takes four neighbouring elements of every expert into shared memory, where an index
//     that is not known to the compiler may point, and sums all particles from there, four at a
//     time. A thread reads only what it wrote: no barrier. Predicted 90 % of copy bandwidth. Not
//     run on hardware.
#include "common.cuh"

namespace combine {

constexpr int THREADS = 128, WIDTH = 4, GROUP = 4;

template <class T>
DEVICE void sums_v1(const T* const* experts, const float* coefficients, float* out, int n_experts,
                    long long len, long long out_stride) {
  const long long e = blockIdx.x * 256ll + threadIdx.x;
  if (e >= len) return;
  const int particle = blockIdx.y;
  float sum = 0.0f;
  for (int i = 0; i < n_experts; ++i) {
    sum = fma_rn(coefficients[particle * n_experts + i], widen(experts[i][e]), sum);
  }
  out[particle * out_stride + e] = sum;
}

template <class T>
DEVICE void sums_v2(const T* const* experts, const float* coefficients, float* out, int n_experts,
                    int n_particles, long long len, long long out_stride) {
  DYNAMIC_SHARED(float, staged);  // (n_experts, THREADS, WIDTH)
  const long long first = (blockIdx.x * static_cast<long long>(THREADS) + threadIdx.x) * WIDTH;
  const int n_here = len - first < WIDTH ? static_cast<int>(len - first) : WIDTH;
  if (n_here <= 0) return;
  float* const own = staged + threadIdx.x * WIDTH;

  // Load.
  for (int i = 0; i < n_experts; ++i) {
    float4 values = {0.0f, 0.0f, 0.0f, 0.0f};
    const T* from = experts[i] + first;
    values.x = widen(from[0]);
    if (n_here > 1) values.y = widen(from[1]);
    if (n_here > 2) values.z = widen(from[2]);
    if (n_here > 3) values.w = widen(from[3]);
    store4(own + i * THREADS * WIDTH, values);
  }

  for (int first_p = 0; first_p < n_particles; first_p += GROUP) {
    // Sum.
    float sums[GROUP][WIDTH] = {};
    for (int i = 0; i < n_experts; ++i) {
      const float4 values = load4(own + i * THREADS * WIDTH);
#pragma unroll
      for (int p = 0; p < GROUP; ++p) {
        const int particle = least(first_p + p, n_particles - 1);
        const float c = coefficients[particle * n_experts + i];
        sums[p][0] = fma_rn(c, values.x, sums[p][0]);
        sums[p][1] = fma_rn(c, values.y, sums[p][1]);
        sums[p][2] = fma_rn(c, values.z, sums[p][2]);
        sums[p][3] = fma_rn(c, values.w, sums[p][3]);
      }
    }

    // Write.
#pragma unroll
    for (int p = 0; p < GROUP; ++p) {
      if (first_p + p >= n_particles) break;
      float* to = out + (first_p + p) * out_stride + first;
      if (n_here == WIDTH) {
        store4(to, {sums[p][0], sums[p][1], sums[p][2], sums[p][3]});
      } else {
#pragma unroll
        for (int e = 0; e < WIDTH - 1; ++e) {
          if (e < n_here) to[e] = sums[p][e];
        }
      }
    }
  }
}

}  // namespace combine

// v1: grid (ceil(len / 256), n_particles), block 256.
// v2: grid (ceil(len / 512)), block 128, dynamic shared memory: n_experts * 512 floats; out begins
// at a multiple of 16 bytes, and out_stride is a multiple of 4.
#define COMBINE(name, T)                                                                       \
  KERNEL(256) combine_##name##_v1(const T* const* experts, const float* coefficients,          \
                                  float* out, int n_experts, long long len,                    \
                                  long long out_stride) {                                      \
    combine::sums_v1(experts, coefficients, out, n_experts, len, out_stride);                  \
  }                                                                                            \
  EXPORT(combine_##name##_v1);                                                                 \
  KERNEL(128) combine_##name##_v2(const T* const* experts, const float* coefficients,          \
                                  float* out, int n_experts, int n_particles, long long len,   \
                                  long long out_stride) {                                      \
    combine::sums_v2(experts, coefficients, out, n_experts, n_particles, len, out_stride);     \
  }                                                                                            \
  EXPORT(combine_##name##_v2)

COMBINE(f32, float);
COMBINE(f16, F16);
COMBINE(bf16, Bf16);
