// ln p(token) = logit[token] - max - ln(sum of e^(logit - max)), the sum in f64 from front to back.
//
// logits (n_rows, ld), tokens (n_rows), out (n_rows) f64; NaN where the sum is no normal number.
//
// Floor: the logits once; and a chain of n_logits additions in f64, about 8 cycles each: 1.1 ms for
// Gemma's 256000, whatever the number of rows. Rows run side by side, 64 of them at a time.
// v1  a thread per row: the chain also waits for every exponential.
// v2  a block per row: seven warps fill a tile with exponentials while one thread adds up the tile
//     before. Bound by the chain. Predicted 1.5 times the floor. Not run on hardware.
#include "common.cuh"

namespace log_probability {

constexpr int TILE = 896;  // four logits for each of seven warps' threads

DEVICE double result(const float* row, int token, float max, double sum) {
  // As the CPU has it: normal numbers only.
  const bool is_normal = sum >= 2.2250738585072014e-308 && sum <= 1.7976931348623157e308;
  if (!is_normal) return double_of(0x7ff8000000000000ull);
  const double logit = static_cast<double>(row[token]);
  return sub_rn(sub_rn(logit, static_cast<double>(max)), ln_of(sum));
}

DEVICE double exponential(float logit, float max) {
  return static_cast<double>(exp_of(sub_rn(logit, max)));
}

}  // namespace log_probability

// grid (ceil(n_rows / 32)), block 32
KERNEL(32) log_probability_v1(const float* logits, const int* tokens, double* out, int n_rows,
                              int n_logits, int ld) {
  const int row_idx = blockIdx.x * 32 + threadIdx.x;
  if (row_idx >= n_rows) return;
  const float* row = row_of(logits, row_idx, ld);
  float max = minus_infinity();
  for (int i = 0; i < n_logits; ++i) max = row[i] > max ? row[i] : max;
  double sum = 0.0;
  for (int i = 0; i < n_logits; ++i) sum = add_rn(sum, log_probability::exponential(row[i], max));
  out[row_idx] = log_probability::result(row, tokens[row_idx], max, sum);
}
EXPORT(log_probability_v1);

// grid (n_rows), block 256
KERNEL(256) log_probability_v2(const float* logits, const int* tokens, double* out, int n_logits,
                               int ld) {
  using namespace log_probability;
  SHARED(double, tiles, [2][TILE]);
  SHARED(float, largest, [8]);
  const float* row = row_of(logits, blockIdx.x, ld);
  const int thread = threadIdx.x;

  // The largest logit.
  float max = minus_infinity();
  for (int i = thread; i < n_logits; i += 256) max = row[i] > max ? row[i] : max;
  max = warp_max(max);
  if (thread % 32 == 0) largest[thread / 32] = max;
  sync_block();
#pragma unroll
  for (int warp = 0; warp < 8; ++warp) max = largest[warp] > max ? largest[warp] : max;

  // The sum, a tile behind the exponentials.
  double sum = 0.0;
  const int n_tiles = n_tiles_of(n_logits, TILE);
  for (int tile = 0; tile <= n_tiles; ++tile) {
    if (thread >= 32 && tile < n_tiles) {
      for (int i = thread - 32; i < least(n_logits - tile * TILE, TILE); i += 224) {
        tiles[tile % 2][i] = exponential(row[tile * TILE + i], max);
      }
    }
    if (thread == 0 && tile > 0) {
      const int n_here = least(n_logits - (tile - 1) * TILE, TILE);
#pragma unroll 8
      for (int i = 0; i < n_here; ++i) sum = add_rn(sum, tiles[(tile - 1) % 2][i]);
    }
    sync_block();
  }
  if (thread == 0) out[blockIdx.x] = result(row, tokens[blockIdx.x], max, sum);
}
EXPORT(log_probability_v2);
