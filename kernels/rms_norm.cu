// RMSNorm, with the residual that is added before it:
//
//   x += y;   out = x / sqrt(mean(x^2) + eps) * weight
//
// x, out (n_rows, ld), y (n_rows, ldy) or null where nothing is to be added, weight (dim), which
// already holds Gemma's added one. Order: sixteen partial sums of fused multiply-adds, element i
// going to sum i % 16, folded 16 -> 8 -> 4 -> 2 -> 1; then x * inverse * weight, left to right.
//
// Floor: reads x and y, writes x and out: 16 bytes per element. 8192 rows of Gemma-7B: 403 MB,
// 0.084 ms at 4.8 TB/s.
// v1  a thread per row, the CPU's loop. Neighbouring threads read addresses a row apart: predicted
//     a tenth of the bandwidth.
// v2  a block per row: the row is read once, coalesced, and rests in shared memory, where sixteen
//     lanes walk their chains of dim / 16 steps (192 for Gemma: about 1 us, hidden by the other
//     blocks of the multiprocessor). Predicted 80 % of copy bandwidth. Not run on hardware.
#include "common.cuh"

// grid ceil(n_rows / 128), block 128
KERNEL(128) rms_norm_v1(float* x, const float* y, const float* weight, float eps, float* out,
                        int n_rows, int dim, int ld, int ldy) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= n_rows) return;
  float* x_row = row_of(x, row, ld);
  float* out_row = row_of(out, row, ld);
  Lanes16 lanes = {};
  for (int first = 0; first < dim; first += 16) {
#pragma unroll
    for (int l = 0; l < 16; ++l) {
      const int i = first + l;
      if (i >= dim) break;
      if (y) x_row[i] = add_rn(x_row[i], row_of(y, row, ldy)[i]);
      lanes.sums[l] = fma_rn(x_row[i], x_row[i], lanes.sums[l]);
    }
  }
  const float mean = div_rn(fold(lanes), static_cast<float>(dim));
  const float inverse = div_rn(1.0f, sqrt_rn(add_rn(mean, eps)));
  for (int i = 0; i < dim; ++i) out_row[i] = mul_rn(mul_rn(x_row[i], inverse), weight[i]);
}
EXPORT(rms_norm_v1);

// grid (n_rows), block 256, dynamic shared memory: dim floats
KERNEL(256) rms_norm_v2(float* x, const float* y, const float* weight, float eps, float* out,
                        int dim, int ld, int ldy) {
  DYNAMIC_SHARED(float, staged);  // (dim)
  SHARED(float, inverse, [1]);
  const int row = blockIdx.x, thread = threadIdx.x;
  float* x_row = row_of(x, row, ld);

  // Load.
  for (int i = thread; i < dim; i += 256) {
    float value = x_row[i];
    if (y) x_row[i] = value = add_rn(value, row_of(y, row, ldy)[i]);
    staged[i] = value;
  }
  sync_block();

  // Reduce: the upper half of the warp repeats the lower, so that no lane goes another way.
  if (thread < 32) {
    float sum = 0.0f;
    for (int i = thread % 16; i < dim; i += 16) sum = fma_rn(staged[i], staged[i], sum);
    sum = fold16(sum);
    const float mean = div_rn(sum, static_cast<float>(dim));
    if (thread == 0) inverse[0] = div_rn(1.0f, sqrt_rn(add_rn(mean, eps)));
  }
  sync_block();

  // Write.
  for (int i = thread; i < dim; i += 256) {
    row_of(out, row, ld)[i] = mul_rn(mul_rn(staged[i], inverse[0]), weight[i]);
  }
}
EXPORT(rms_norm_v2);
