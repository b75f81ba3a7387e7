// Planted bugs of addresses. The right answer is that of `waiting.cu`: blocks of 64 reversed.
#include "../common.cuh"

// The last thread writes behind the shared array.
KERNEL(64) planted_shared_overrun(const float* in, float* out, int) {
  SHARED(float, tile, [64]);
  const int t = threadIdx.x, at = blockIdx.x * 64 + t;
  tile[t + 1] = in[at];
  sync_block();
  out[at] = t == 63 ? in[blockIdx.x * 64] : tile[64 - t];
}
EXPORT(planted_shared_overrun);

// The first thread reads behind the shared array.
KERNEL(64) planted_shared_overread(const float* in, float* out, int) {
  SHARED(float, tile, [64]);
  const int t = threadIdx.x, at = blockIdx.x * 64 + t;
  tile[t] = in[at];
  sync_block();
  out[at] = tile[64 - t];
}
EXPORT(planted_shared_overread);

// The grid is rounded up to whole blocks; nobody asks whether `at` is still inside.
KERNEL(64) planted_missing_guard(const float* in, float* out, int) {
  SHARED(float, tile, [64]);
  const int t = threadIdx.x, at = blockIdx.x * 64 + t;
  tile[t] = in[at];
  sync_block();
  out[at] = tile[63 - t];
}
EXPORT(planted_missing_guard);

// Four values at an address that is no multiple of 16.
KERNEL(64) planted_misaligned(const float* in, float* out, int) {
  const int t = threadIdx.x, first = blockIdx.x * 64;
  if (t >= 15) return;
  const float4 values = load4(in + first + 1 + t * 4);
  out[first + 62 - t * 4] = values.x;
}
EXPORT(planted_misaligned);

// A shared array that was never filled.
KERNEL(64) planted_unset_shared(const float* in, float* out, int) {
  SHARED(float, tile, [65]);
  const int t = threadIdx.x, at = blockIdx.x * 64 + t;
  tile[t] = in[at];
  sync_block();
  out[at] = tile[63 - t] + 0.0f * tile[64];
}
EXPORT(planted_unset_shared);

// All blocks write to the same place, by threads of different numbers.
KERNEL(64) planted_racing_blocks(const float* in, float* out, int) {
  const int at = (threadIdx.x + blockIdx.x) % 64;
  out[at] = in[blockIdx.x * 64 + 63 - at];
}
EXPORT(planted_racing_blocks);
