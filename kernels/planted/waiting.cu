// Planted bugs of waiting: too little of it, or by some threads only. Each kernel should reverse
// blocks of 64 values, out[64 b + t] = in[64 b + 63 - t]; `planted_reverse` does.
#include "../common.cuh"

// Right: no check may find anything here.
KERNEL(64) planted_reverse(const float* in, float* out, int n) {
  SHARED(float, tile, [64]);
  const int t = threadIdx.x, at = blockIdx.x * 64 + t;
  if (at < n) tile[t] = in[at];
  sync_block();
  if (at < n) out[at] = tile[63 - t];
}
EXPORT(planted_reverse);

// Reads what another thread may not have written yet.
KERNEL(64) planted_missing_barrier(const float* in, float* out, int) {
  SHARED(float, tile, [64]);
  const int t = threadIdx.x, at = blockIdx.x * 64 + t;
  tile[t] = in[at];
  out[at] = tile[63 - t];
}
EXPORT(planted_missing_barrier);

// One block for all: the tile is written anew while others still read it.
KERNEL(64) planted_missing_second_barrier(const float* in, float* out, int n) {
  SHARED(float, tile, [64]);
  const int t = threadIdx.x;
  for (int first = 0; first < n; first += 64) {
    tile[t] = in[first + t];
    sync_block();
    out[first + t] = tile[63 - t];
  }
}
EXPORT(planted_missing_second_barrier);

// Lanes of a warp run at their own pace too.
KERNEL(64) planted_missing_lane_barrier(const float* in, float* out, int) {
  SHARED(float, tile, [64]);
  const int t = threadIdx.x, at = blockIdx.x * 64 + t;
  tile[t] = in[at];
  sync_block();
  const float other_warps = tile[t ^ 32];
  sync_block();
  tile[t] = other_warps;
  out[at] = tile[t ^ 31];
}
EXPORT(planted_missing_lane_barrier);

// Waits for all copies but the latest, which is the one that is used.
KERNEL(64) planted_weak_wait(const float* in, float* out, int) {
  SHARED(float, tile, [2][64]);
  const int t = threadIdx.x, first = blockIdx.x * 64;
  for (int stage = 0; stage < 2; ++stage) {
    if (t < 16) copy_async(&tile[stage][t * 4], in + first + t * 4, 16);
    commit_copies();
  }
  wait_copies<1>();
  sync_block();
  out[first + t] = tile[1][63 - t];
  wait_copies<0>();
}
EXPORT(planted_weak_wait);

// Waits for its own copies, not for those of others.
KERNEL(64) planted_wait_without_barrier(const float* in, float* out, int) {
  SHARED(float, tile, [64]);
  const int t = threadIdx.x, first = blockIdx.x * 64;
  if (t < 16) copy_async(&tile[t * 4], in + first + t * 4, 16);
  commit_copies();
  wait_copies<0>();
  out[first + t] = tile[63 - t];
}
EXPORT(planted_wait_without_barrier);

// Leaves while a copy into its shared memory is under way.
KERNEL(64) planted_unwaited_copy(const float* in, float* out, int) {
  SHARED(float, tile, [64]);
  const int t = threadIdx.x, first = blockIdx.x * 64;
  if (t < 16) copy_async(&tile[t * 4], in + first + t * 4, 16);
  commit_copies();
  out[first + t] = in[first + 63 - t];
}
EXPORT(planted_unwaited_copy);

// Half of a warp goes to the shuffle.
KERNEL(64) planted_divergent_shuffle(const float* in, float* out, int) {
  const int t = threadIdx.x, at = blockIdx.x * 64 + t;
  float value = in[blockIdx.x * 64 + (t + 32) % 64];
  if (t % 32 < 16) value = shuffle_xor(value, 31);
  sync_block();
  out[at] = value;
}
EXPORT(planted_divergent_shuffle);

// Lanes leave a loop of shuffles at different times.
KERNEL(64) planted_uneven_shuffles(const float* in, float* out, int) {
  const int t = threadIdx.x, at = blockIdx.x * 64 + t;
  float value = in[at];
  for (int i = 0; i < t % 3; ++i) value = shuffle_xor(value, 31);
  out[at] = value;
}
EXPORT(planted_uneven_shuffles);

// The two warps wait at different barriers.
KERNEL(64) planted_divergent_barrier(const float* in, float* out, int) {
  const int t = threadIdx.x, first = blockIdx.x * 64;
  if (t < 32) {
    sync_block();
  } else {
    sync_block();
  }
  out[first + t] = in[first + 63 - t];
}
EXPORT(planted_divergent_barrier);

// Threads past the end leave before the barrier.
KERNEL(64) planted_early_return(const float* in, float* out, int n) {
  SHARED(float, tile, [64]);
  const int t = threadIdx.x, at = blockIdx.x * 64 + t;
  if (at >= n) return;
  tile[t] = in[at];
  sync_block();
  out[at] = tile[63 - t];
}
EXPORT(planted_early_return);
