// RMSNorm of precision `fast`, with the residual that is added before it:
//
//   x += y;   out = x / sqrt(mean(x^2) + eps) * weight
//
// x (n_rows, ld) f32, y (n_rows, ldy) bf16 or null where nothing is to be added, out (n_rows, ldo)
// bf16, rounded once; weight (dim) f32, which already holds Gemma's added one. Order: thread t adds
// the squares of elements 4 t .. 4 t + 3 and of those a multiple of 1024 on, one fused multiply-add
// each; the 32 sums of a warp fold 16 apart, 8, 4, 2, 1; the eight of the block are added in order.
// It depends on dim alone. Then x * inverse * weight, left to right.
//
// Floor: reads x and y, writes x and out: 12 bytes per element. 8192 rows of Gemma-7B: 302 MB,
// 0.063 ms at 4.8 TB/s; twice a layer, 1.5 % of the layer's products at 55 % of the peak.
// v1  a block per row, 16 bytes of x an access; the row rests in shared memory, where each thread
//     finds what it put there itself. Gemma's 3072 are three rounds of 256 threads, so a block has
//     36 KiB under way with its neighbours' on the multiprocessor. Predicted 80 % of copy
//     bandwidth: a v2 that holds the row in registers could win 0.2 % of a layer. Not run on
//     hardware.
#include "common.cuh"

namespace rms_norm_fast {

constexpr int THREADS = 256, WARPS = THREADS / 32;

DEVICE float4 add4(float4 a, float4 b) {
  return {add_rn(a.x, b.x), add_rn(a.y, b.y), add_rn(a.z, b.z), add_rn(a.w, b.w)};
}

// sum + the squares of four, in order
DEVICE float add_squares(float4 a, float sum) {
  return fma_rn(a.w, a.w, fma_rn(a.z, a.z, fma_rn(a.y, a.y, fma_rn(a.x, a.x, sum))));
}

DEVICE float scaled(float value, float inverse, float weight) {
  return mul_rn(mul_rn(value, inverse), weight);
}

}  // namespace rms_norm_fast

// grid (n_rows), block 256, dynamic shared memory: dim floats. x and weight begin at multiples of
// 16 bytes, y and out of 8, and all rows at multiples of 4 numbers.
KERNEL(256) rms_norm_fast_v1(float* x, const Bf16* y, const float* weight, float eps, Bf16* out,
                             int dim, int ld, int ldy, int ldo) {
  using namespace rms_norm_fast;
  DYNAMIC_SHARED(float, staged);  // (dim)
  SHARED(float, warp_sums, [WARPS]);
  const int row = blockIdx.x, thread = threadIdx.x;
  float* x_row = row_of(x, row, ld);
  const Bf16* y_row = row_of(y, row, ldy);
  Bf16* out_row = row_of(out, row, ldo);
  const int n_whole = dim / 4 * 4;  // what follows is one thread's, element by element
  const bool has_rest = dim > n_whole && thread == n_whole / 4 % THREADS;

  // Load.
  float sum = 0.0f;
  for (int i = 4 * thread; i < n_whole; i += 4 * THREADS) {
    float4 values = load4(x_row + i);
    if (y) store4(x_row + i, values = add4(values, load4(y_row + i)));
    store4(staged + i, values);
    sum = add_squares(values, sum);
  }
  if (has_rest) {
    for (int i = n_whole; i < dim; ++i) {
      float value = x_row[i];
      if (y) x_row[i] = value = add_rn(value, widen(y_row[i]));
      staged[i] = value;
      sum = fma_rn(value, value, sum);
    }
  }

  // Reduce.
#pragma unroll
  for (int half = 16; half > 0; half /= 2) sum = add_rn(sum, shuffle_xor(sum, half));
  if (thread % 32 == 0) warp_sums[thread / 32] = sum;
  sync_block();
  sum = warp_sums[0];
#pragma unroll
  for (int warp = 1; warp < WARPS; ++warp) sum = add_rn(sum, warp_sums[warp]);
  const float mean = div_rn(sum, static_cast<float>(dim));
  const float inverse = div_rn(1.0f, sqrt_rn(add_rn(mean, eps)));

  // Write.
  for (int i = 4 * thread; i < n_whole; i += 4 * THREADS) {
    const float4 values = load4(staged + i), weights = load4(weight + i);
    store4(out_row + i,
           {scaled(values.x, inverse, weights.x), scaled(values.y, inverse, weights.y),
            scaled(values.z, inverse, weights.z), scaled(values.w, inverse, weights.w)});
  }
  if (has_rest) {
    for (int i = n_whole; i < dim; ++i) store(out_row + i, scaled(staged[i], inverse, weight[i]));
  }
}
EXPORT(rms_norm_fast_v1);
