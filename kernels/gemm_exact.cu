// The product of precision `exact`: C = A W^T, or C += A W^T, in f32, with the CPU's bits.
//
//   c[i][j] (+)= sum over k of a[i][k] * w[j][k],   k in order, one fused multiply-add each
//
// a (n_rows, lda) f32, w (n_out, ldw) as the file has it (f32, f16 or bf16: widening is exact),
// c (n_rows, ldc) f32. The order forbids splitting k, so the tile changes no bit; it is the same
// for any number of rows all the same.
//
// Floor: 2 n_rows n_out n_in operations on the f32 cores, 67 TFLOP/s on an H200. Gemma-7B's
// gate and up, 8192 rows: 8192 * 3072 * 49152 * 2 = 2.5 TFLOP, 37 ms a layer.
// v1  a thread per output: two loads for each multiply-add, predicted 5 % of the peak.
// v2  a tile of 64 x 64 outputs, 8 x 4 in each of 128 threads' registers. Steps of 16 k arrive in
//     shared memory by asynchronous copies, the next while one is used; threads read four k of a
//     row at once, so 12 loads of 16 bytes feed 128 multiply-adds: 16 wavefronts of shared memory
//     in the 32 cycles that a warp's multiply-adds take. Rows lie 16 + 16 bytes / element apart,
//     which spreads eight threads' loads over all banks. Predicted 60 % of the peak. Not run on
//     hardware.
#include "common.cuh"

namespace gemm_exact {

constexpr int TILE = 64;   // rows and columns of C
constexpr int STEP = 16;   // k at a time
constexpr int ROWS = 8;    // of C, per thread: thread_row + 8 i
constexpr int COLS = 4;    // of C, per thread: thread_col + 16 j
constexpr int STAGES = 2;  // steps in shared memory: one arrives while the other is used

// Elements of 16 bytes.
template <class T>
constexpr int CHUNK = 16 / static_cast<int>(sizeof(T));

// Copies rows first.. and columns k.. of a matrix to a tile; what lies outside is not read.
template <class T>
DEVICE void load(T (*tile)[STEP + CHUNK<T>], const T* matrix, int ld, int first, int n_rows, int k,
                 int n_in) {
  constexpr int N_CHUNKS = STEP / CHUNK<T>;
  for (int i = threadIdx.x; i < TILE * N_CHUNKS; i += 128) {
    const int row = i / N_CHUNKS, col = i % N_CHUNKS * CHUNK<T>;
    const int n_left = least(greatest(n_in - (k + col), 0), CHUNK<T>);
    const bool is_inside = first + row < n_rows && n_left > 0;
    const T* from = is_inside ? row_of(matrix, first + row, ld) + k + col : matrix;
    copy_async(&tile[row][col], from, is_inside ? n_left * static_cast<int>(sizeof(T)) : 0);
  }
}

// Four neighbours, widened.
template <class T>
DEVICE void read4(const T* from, float (&to)[4]) {
  const float4 values = load4(from);
  to[0] = values.x, to[1] = values.y, to[2] = values.z, to[3] = values.w;
}

template <class T>
DEVICE void product_v1(const float* a, const T* w, float* c, int n_rows, int n_out, int n_in,
                       int lda, int ldw, int ldc, int start) {
  const int col = blockIdx.x * 16 + threadIdx.x % 16, row = blockIdx.y * 16 + threadIdx.x / 16;
  if (row >= n_rows || col >= n_out) return;
  float* out = row_of(c, row, ldc) + col;
  float sum = start == START_FROM_C ? *out : 0.0f;
  for (int k = 0; k < n_in; ++k) {
    sum = fma_rn(row_of(a, row, lda)[k], widen(row_of(w, col, ldw)[k]), sum);
  }
  *out = sum;
}

template <class T>
DEVICE void product_v2(const float* a, const T* w, float* c, int n_rows, int n_out, int n_in,
                       int lda, int ldw, int ldc, int start) {
  SHARED(float, a_tile, [STAGES][TILE][STEP + CHUNK<float>]);
  SHARED(T, w_tile, [STAGES][TILE][STEP + CHUNK<T>]);
  const int first_row = blockIdx.y * TILE, first_col = blockIdx.x * TILE;
  const int thread_row = threadIdx.x / 16, thread_col = threadIdx.x % 16;

  float sums[ROWS][COLS] = {};
  if (start == START_FROM_C) {
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
#pragma unroll
      for (int j = 0; j < COLS; ++j) {
        const int row = first_row + thread_row + 8 * i, col = first_col + thread_col + 16 * j;
        if (row < n_rows && col < n_out) sums[i][j] = row_of(c, row, ldc)[col];
      }
    }
  }

  const int n_steps = n_tiles_of(n_in, STEP);
  if (n_steps > 0) {
    load<float>(a_tile[0], a, lda, first_row, n_rows, 0, n_in);
    load<T>(w_tile[0], w, ldw, first_col, n_out, 0, n_in);
  }
  commit_copies();
  for (int step = 0; step < n_steps; ++step) {
    const int stage = step % STAGES, next = (step + 1) % STAGES;

    // Load the next step while this one is used.
    if (step + 1 < n_steps) {
      load<float>(a_tile[next], a, lda, first_row, n_rows, (step + 1) * STEP, n_in);
      load<T>(w_tile[next], w, ldw, first_col, n_out, (step + 1) * STEP, n_in);
    }
    commit_copies();
    wait_copies<1>();
    sync_block();

    // Multiply. Past the last k nothing may be added: adding 0 * 0 would turn -0 into +0.
    const int n_here = least(n_in - step * STEP, STEP);
#pragma unroll
    for (int k = 0; k < STEP; k += 4) {
      float a_values[ROWS][4], w_values[COLS][4];
#pragma unroll
      for (int i = 0; i < ROWS; ++i) read4(&a_tile[stage][thread_row + 8 * i][k], a_values[i]);
#pragma unroll
      for (int j = 0; j < COLS; ++j) read4(&w_tile[stage][thread_col + 16 * j][k], w_values[j]);
#pragma unroll
      for (int s = 0; s < 4; ++s) {
        if (k + s >= n_here) break;
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
#pragma unroll
          for (int j = 0; j < COLS; ++j) {
            sums[i][j] = fma_rn(a_values[i][s], w_values[j][s], sums[i][j]);
          }
        }
      }
    }
    sync_block();
  }

  // Write.
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
#pragma unroll
    for (int j = 0; j < COLS; ++j) {
      const int row = first_row + thread_row + 8 * i, col = first_col + thread_col + 16 * j;
      if (row < n_rows && col < n_out) row_of(c, row, ldc)[col] = sums[i][j];
    }
  }
}

}  // namespace gemm_exact

// v1: grid (ceil(n_out / 16), ceil(n_rows / 16)), block 256.
// v2: grid (ceil(n_out / 64), ceil(n_rows / 64)), block 128; a and w begin at multiples of 16
// bytes, and so do their rows.
#define GEMM_EXACT(name, T)                                                                      \
  KERNEL(256) gemm_exact_##name##_v1(const float* a, const T* w, float* c, int n_rows,           \
                                     int n_out, int n_in, int lda, int ldw, int ldc, int start) { \
    gemm_exact::product_v1(a, w, c, n_rows, n_out, n_in, lda, ldw, ldc, start);                  \
  }                                                                                              \
  EXPORT(gemm_exact_##name##_v1);                                                                \
  KERNEL(128) gemm_exact_##name##_v2(const float* a, const T* w, float* c, int n_rows,           \
                                     int n_out, int n_in, int lda, int ldw, int ldc, int start) { \
    gemm_exact::product_v2(a, w, c, n_rows, n_out, n_in, lda, ldw, ldc, start);                  \
  }                                                                                              \
  EXPORT(gemm_exact_##name##_v2)

GEMM_EXACT(f32, float);
GEMM_EXACT(f16, F16);
GEMM_EXACT(bf16, Bf16);
