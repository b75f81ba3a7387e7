// The token with the largest logit; the lowest index wins a tie. NaN is never the largest; a row of
// nothing but NaN gives 0.
//
// logits (n_rows, ld), tokens (n_rows). The order makes no difference to the result.
//
// Floor: the logits once. 256 rows of Gemma's 256000: 262 MB, 0.055 ms.
// v1  a thread per row, front to back. Predicted 1 % of copy bandwidth.
// v2  a block per row, each thread every 256th logit; then warps and the block fold pairs of value
//     and index. Predicted 70 % of copy bandwidth. Not run on hardware.
#include "common.cuh"

namespace argmax {

struct Best {
  float value;
  int idx;  // past the last where nothing was found
};

DEVICE Best better(Best left, Best right) {
  const bool is_right =
      right.value > left.value || (right.value == left.value && right.idx < left.idx);
  return is_right ? right : left;
}

}  // namespace argmax

// grid (ceil(n_rows / 32)), block 32
KERNEL(32) argmax_v1(const float* logits, int* tokens, int n_rows, int n_logits, int ld) {
  const int row = blockIdx.x * 32 + threadIdx.x;
  if (row >= n_rows) return;
  argmax::Best best = {minus_infinity(), n_logits};
  for (int i = 0; i < n_logits; ++i) best = argmax::better(best, {row_of(logits, row, ld)[i], i});
  tokens[row] = best.idx < n_logits ? best.idx : 0;
}
EXPORT(argmax_v1);

// grid (n_rows), block 256
KERNEL(256) argmax_v2(const float* logits, int* tokens, int n_logits, int ld) {
  SHARED(argmax::Best, warps, [8]);
  const int row = blockIdx.x, warp = threadIdx.x / 32;
  argmax::Best best = {minus_infinity(), n_logits};
  for (int i = threadIdx.x; i < n_logits; i += 256) {
    best = argmax::better(best, {row_of(logits, row, ld)[i], i});
  }
#pragma unroll
  for (int half = 16; half > 0; half /= 2) {
    const float value = shuffle_xor(best.value, half);
    best = argmax::better(best, {value, shuffle_xor(best.idx, half)});
  }
  if (threadIdx.x % 32 == 0) warps[warp] = best;
  sync_block();
  if (threadIdx.x > 0) return;
#pragma unroll
  for (int other = 1; other < 8; ++other) best = argmax::better(best, warps[other]);
  tokens[row] = best.idx < n_logits ? best.idx : 0;
}
EXPORT(argmax_v2);
