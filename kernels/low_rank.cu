// Merging an adapter into a weight matrix: W += scale * B A, element by element
//
//   w[j][k] = fma(a[r][k], scale * b[j][r], w[j][k])   for r = 0, 1, ... in order
//
// w (n_out, ldw) f32, a (rank, n_in), b (n_out, rank).
//
// Floor: W read and written, 8 bytes per element and 2 rank operations: with rank 16, 4 operations
// a byte, so it is bound by memory. Gemma-7B's linears, 7.8 G elements: 62 GB, 13 ms.
// v1  a thread per element; A and B come from the caches, 2 rank loads per element.
// v2  a thread holds 8 rows of one column: A is read once for the 8, B is the same for a warp.
//     Predicted 75 % of copy bandwidth. Not run on hardware.
#include "common.cuh"

// grid (ceil(n_in / 128), n_out), block 128
KERNEL(128) low_rank_v1(float* w, const float* a, const float* b, float scale, int n_in, int rank,
                        int ldw) {
  const int k = blockIdx.x * 128 + threadIdx.x, j = blockIdx.y;
  if (k >= n_in) return;
  float sum = row_of(w, j, ldw)[k];
  for (int r = 0; r < rank; ++r) {
    sum = fma_rn(row_of(a, r, n_in)[k], mul_rn(scale, row_of(b, j, rank)[r]), sum);
  }
  row_of(w, j, ldw)[k] = sum;
}
EXPORT(low_rank_v1);

// grid (ceil(n_in / 128), ceil(n_out / 8)), block 128
KERNEL(128) low_rank_v2(float* w, const float* a, const float* b, float scale, int n_out, int n_in,
                        int rank, int ldw) {
  constexpr int ROWS = 8;
  const int k = blockIdx.x * 128 + threadIdx.x, first = blockIdx.y * ROWS;
  if (k >= n_in) return;
  const int n_here = least(n_out - first, ROWS);
  float sums[ROWS] = {};
#pragma unroll
  for (int j = 0; j < ROWS; ++j) {
    if (j < n_here) sums[j] = row_of(w, first + j, ldw)[k];
  }
  for (int r = 0; r < rank; ++r) {
    const float a_rk = row_of(a, r, n_in)[k];
#pragma unroll
    for (int j = 0; j < ROWS; ++j) {
      if (j < n_here) sums[j] = fma_rn(a_rk, mul_rn(scale, row_of(b, first + j, rank)[r]), sums[j]);
    }
  }
#pragma unroll
  for (int j = 0; j < ROWS; ++j) {
    if (j < n_here) row_of(w, first + j, ldw)[k] = sums[j];
  }
}
EXPORT(low_rank_v2);
