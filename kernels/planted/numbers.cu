// Planted bugs of arithmetic: sums whose order is not the CPU's, or depends on the batch. Each
// kernel should give out[i] = the sum of x[i][k] * x[i][k] over k in order, fused, from zero;
// `planted_square` does. x (n_rows, n), one block of 32 threads for each row.
#include "../common.cuh"

// Right.
KERNEL(32) planted_square(const float* x, float* out, int n) {
  if (threadIdx.x > 0) return;
  float sum = 0.0f;
  const float* row = row_of(x, blockIdx.x, n);
  for (int k = 0; k < n; ++k) sum = fma_rn(row[k], row[k], sum);
  out[blockIdx.x] = sum;
}
EXPORT(planted_square);

// Two roundings where the CPU has one.
KERNEL(32) planted_unfused(const float* x, float* out, int n) {
  if (threadIdx.x > 0) return;
  float sum = 0.0f;
  for (int k = 0; k < n; ++k) {
    const float value = row_of(x, blockIdx.x, n)[k];
    sum = add_rn(sum, mul_rn(value, value));
  }
  out[blockIdx.x] = sum;
}
EXPORT(planted_unfused);

// A sum per lane, then a tree.
KERNEL(32) planted_other_order(const float* x, float* out, int n) {
  float sum = 0.0f;
  for (int k = threadIdx.x; k < n; k += 32) {
    sum = fma_rn(row_of(x, blockIdx.x, n)[k], row_of(x, blockIdx.x, n)[k], sum);
  }
  for (int half = 16; half > 0; half /= 2) sum = add_rn(sum, shuffle_xor(sum, half));
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}
EXPORT(planted_other_order);

// Splits the sum where the batch is small, to keep the machine busy.
KERNEL(32) planted_batch_variance(const float* x, float* out, int n) {
  if (threadIdx.x > 0) return;
  const int middle = gridDim.x < 4 ? n / 2 : n;
  float sum = 0.0f, rest = 0.0f;
  for (int k = 0; k < n; ++k) {
    const float value = row_of(x, blockIdx.x, n)[k];
    if (k < middle) {
      sum = fma_rn(value, value, sum);
    } else {
      rest = fma_rn(value, value, rest);
    }
  }
  out[blockIdx.x] = add_rn(sum, rest);
}
EXPORT(planted_batch_variance);
