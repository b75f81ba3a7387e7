// LoRA beside the base's products, `y += (scale B) (A x)`, where rows of one batch belong to
// different adapters:
//
//   shrunk[i][r] = sum over k of x[i][k] * A[r][k],                    k in order
//   y[i][j]     += sum over r of shrunk[i][r] * (scale * B[j][r]),     r in order, from y on
//
// one fused multiply-add each; scale * B is rounded by itself, as the CPU packs it.
//
// x (n_rows, ldx), shrunk (n_rows, rank), y (n_rows, ldy). All adapters are one matrix
// (n_adapters, adapter_stride), as `combine` writes them: `a` points at this module's A, (rank,
// n_in), in the first of them, `b` at its B, (n_out, rank). adapter_of (n_rows) is the row's
// adapter; -1 is the base alone, whose rows are left as they are.
//
// Floor: shrink 2 n_rows rank n_in operations and x once, expand 2 n_rows rank n_out and y twice:
// with rank 16 an eighth of an operation per byte of x and y, so both are bound by memory. All
// linears of Gemma-7B, 8192 rows: 4.6 GB a layer beside 45 ms of products, 2 %.
// v1  a thread per output; x is read once for each r.
// v2  shrink: 16 rows x 16 r, steps of 32 k through shared memory, A's only where the block's rows
//     have one adapter, which is known before the loop; otherwise each row reads its own.
//     expand: a thread holds 8 rows of one column and reads B once for neighbours that share an
//     adapter. Predicted 70 % of copy bandwidth for blocks of one adapter. Not run on hardware.
#include "common.cuh"

namespace lora {

constexpr int ROWS = 16, RANKS = 16, STEP = 32;
constexpr int EXPAND_ROWS = 8;

}  // namespace lora

// grid (ceil(rank / 32), n_rows), block 32
KERNEL(32) lora_shrink_v1(const float* x, const float* a, const int* adapter_of, float* shrunk,
                          int n_in, int rank, int ldx, long long adapter_stride) {
  const int row = blockIdx.y, r = blockIdx.x * 32 + threadIdx.x;
  if (r >= rank || adapter_of[row] < 0) return;
  const float* a_row = row_of(a + adapter_of[row] * adapter_stride, r, n_in);
  float sum = 0.0f;
  for (int k = 0; k < n_in; ++k) sum = fma_rn(row_of(x, row, ldx)[k], a_row[k], sum);
  row_of(shrunk, row, rank)[r] = sum;
}
EXPORT(lora_shrink_v1);

// grid (ceil(rank / 16), ceil(n_rows / 16)), block 256
KERNEL(256) lora_shrink_v2(const float* x, const float* a, const int* adapter_of, float* shrunk,
                           int n_rows, int n_in, int rank, int ldx, long long adapter_stride) {
  using namespace lora;
  SHARED(float, x_tile, [ROWS][STEP + 1]);
  SHARED(float, a_tile, [RANKS][STEP + 1]);
  const int first_row = blockIdx.y * ROWS, first_r = blockIdx.x * RANKS;
  const int n_here = least(n_rows - first_row, ROWS);
  const int i = threadIdx.x / RANKS, r = threadIdx.x % RANKS;
  const bool is_inside = i < n_here && first_r + r < rank;

  // One adapter, for all threads to agree on.
  const int shared_adapter = adapter_of[first_row];
  bool is_shared = shared_adapter >= 0;
  for (int other = 1; other < n_here; ++other) {
    is_shared = is_shared && adapter_of[first_row + other] == shared_adapter;
  }
  const int adapter = is_inside ? adapter_of[first_row + i] : -1;
  const float* own_row = row_of(a + greatest(adapter, 0) * adapter_stride, first_r + r, n_in);

  float sum = 0.0f;
  for (int first_k = 0; first_k < n_in; first_k += STEP) {
    const int n_steps = least(n_in - first_k, STEP);

    // Load.
    for (int at = threadIdx.x; at < ROWS * STEP; at += 256) {
      const int row = at / STEP, k = at % STEP;
      if (k >= n_steps) continue;
      if (row < n_here) x_tile[row][k] = row_of(x, first_row + row, ldx)[first_k + k];
      if (is_shared && first_r + row < rank) {
        const float* shared_a = a + shared_adapter * adapter_stride;
        a_tile[row][k] = row_of(shared_a, first_r + row, n_in)[first_k + k];
      }
    }
    sync_block();

    // Multiply.
    if (adapter >= 0) {
      for (int k = 0; k < n_steps; ++k) {
        sum = fma_rn(x_tile[i][k], is_shared ? a_tile[r][k] : own_row[first_k + k], sum);
      }
    }
    sync_block();
  }
  if (adapter >= 0) row_of(shrunk, first_row + i, rank)[first_r + r] = sum;
}
EXPORT(lora_shrink_v2);

// grid (ceil(n_out / 128), n_rows), block 128
KERNEL(128) lora_expand_v1(const float* shrunk, const float* b, const int* adapter_of, float scale,
                           float* y, int n_out, int rank, int ldy, long long adapter_stride) {
  const int row = blockIdx.y, col = blockIdx.x * 128 + threadIdx.x;
  if (col >= n_out || adapter_of[row] < 0) return;
  const float* b_row = row_of(b + adapter_of[row] * adapter_stride, col, rank);
  float* out = row_of(y, row, ldy) + col;
  float sum = *out;
  for (int r = 0; r < rank; ++r) {
    sum = fma_rn(row_of(shrunk, row, rank)[r], mul_rn(scale, b_row[r]), sum);
  }
  *out = sum;
}
EXPORT(lora_expand_v1);

// grid (ceil(n_out / 128), ceil(n_rows / 8)), block 128
KERNEL(128) lora_expand_v2(const float* shrunk, const float* b, const int* adapter_of, float scale,
                           float* y, int n_rows, int n_out, int rank, int ldy,
                           long long adapter_stride) {
  using namespace lora;
  const int first_row = blockIdx.y * EXPAND_ROWS, col = blockIdx.x * 128 + threadIdx.x;
  if (col >= n_out) return;

  // Load.
  int adapters[EXPAND_ROWS];
  float sums[EXPAND_ROWS];
#pragma unroll
  for (int i = 0; i < EXPAND_ROWS; ++i) {
    adapters[i] = first_row + i < n_rows ? adapter_of[first_row + i] : -1;
    sums[i] = adapters[i] >= 0 ? row_of(y, first_row + i, ldy)[col] : 0.0f;
  }

  // Multiply.
  for (int r = 0; r < rank; ++r) {
    int held = -1;  // whose B stands in `scaled`
    float scaled = 0.0f;
#pragma unroll
    for (int i = 0; i < EXPAND_ROWS; ++i) {
      if (adapters[i] < 0) continue;
      if (adapters[i] != held) {
        held = adapters[i];
        scaled = mul_rn(scale, row_of(b + held * adapter_stride, col, rank)[r]);
      }
      sums[i] = fma_rn(row_of(shrunk, first_row + i, rank)[r], scaled, sums[i]);
    }
  }

  // Write.
#pragma unroll
  for (int i = 0; i < EXPAND_ROWS; ++i) {
    if (adapters[i] >= 0) row_of(y, first_row + i, ldy)[col] = sums[i];
  }
}
EXPORT(lora_expand_v2);
