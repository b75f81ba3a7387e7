// What a chip can do at most, for the benches: multiply-adds on registers, and tiles that are
// multiplied over and over by tensor cores where they stand; and random numbers for the benches to
// work on, which are drawn where they are used.
#include "tiles.cuh"

namespace peaks {

// Number `i` of a stream, uniform in [-1, 1), times `spread`: 24 bits of a hash, so that only the
// last multiplication rounds.
DEVICE float noise(unsigned i, unsigned stream, float spread) {
  unsigned mixed = i * 0x9e3779b9u ^ stream * 0x85ebca6bu;
  mixed = (mixed ^ mixed >> 16) * 0x21f0aaadu;
  mixed = (mixed ^ mixed >> 15) * 0x735a2d97u;
  const unsigned drawn = (mixed ^ mixed >> 15) >> 8;
  const float unit = mul_rn(static_cast<float>(drawn), 1.1920929e-7f);  // 2^-23
  return mul_rn(sub_rn(unit, 1.0f), spread);
}

// Four neighbours a thread.
template <class T>
DEVICE void draw(T* out, long long n, int stream, float spread) {
  const long long first = (blockIdx.x * 256ll + threadIdx.x) * 4;
  for (int i = 0; i < 4; ++i) {
    const long long at = first + i;
    if (at < n) {
      store(out + at, noise(static_cast<unsigned>(at), static_cast<unsigned>(stream), spread));
    }
  }
}

DEVICE float sum_of(const float* values, int n) {
  float sum = values[0];
#pragma unroll
  for (int i = 1; i < n; ++i) sum = add_rn(sum, values[i]);
  return sum;
}

constexpr int CHAINS = 8;

// The two warpgroups' rows of A, and B: a box each.
struct Tiles {
  Bf16 a[128][64], b[256][64];
  Barrier full;
};

}  // namespace peaks

// grid (ceil(n / 1024)), block 256
KERNEL(256) noise_f32(float* out, long long n, int stream, float spread) {
  peaks::draw(out, n, stream, spread);
}
EXPORT(noise_f32);

KERNEL(256) noise_bf16(Bf16* out, long long n, int stream, float spread) {
  peaks::draw(out, n, stream, spread);
}
EXPORT(noise_bf16);

// Chain i of thread t begins at t + i, and becomes fma(chain, factor, offset) in each round; out
// (n_blocks, 256) gets the sum of a thread's chains. Eight chains for each of two warps a scheduler
// hide a latency of four cycles. grid (n_blocks), block 256
KERNEL(256) peak_fma(float* out, float factor, float offset, int n_rounds) {
  float chains[peaks::CHAINS];
#pragma unroll
  for (int i = 0; i < peaks::CHAINS; ++i) chains[i] = static_cast<float>(threadIdx.x + i);
#pragma unroll 16
  for (int round = 0; round < n_rounds; ++round) {
#pragma unroll
    for (int i = 0; i < peaks::CHAINS; ++i) chains[i] = fma_rn(chains[i], factor, offset);
  }
  out[blockIdx.x * 256 + threadIdx.x] = peaks::sum_of(chains, peaks::CHAINS);
}
EXPORT(peak_fma);

// Every warp multiplies rows 0 to 63 of the tile (128, 16) by its rows 64 to 127, from registers: a
// sum (64, 64) that grows by the same products in each round. out (n_blocks, 256) gets the sum of
// what a thread has of it. grid (n_blocks), block 256
KERNEL(256) peak_mma(const Bf16* tile, float* out, int n_rounds) {
  SHARED(Bf16, staged, [128][24]);  // rows of 48 bytes: eight of them lie in different banks
  const int thread = threadIdx.x, lane = thread % 32;
  store8(&staged[thread / 2][thread % 2 * 8], load8(tile + thread * 8));
  sync_block();
  unsigned a[4][4], b[4][4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    load_matrices(a[i], &staged[16 * i + lane % 16][lane / 16 * 8]);
    load_matrices(b[i], &staged[64 + 16 * i + lane / 16 * 8 + lane % 8][lane / 8 % 2 * 8]);
  }
  float sums[4][8][4] = {};
  for (int round = 0; round < n_rounds; ++round) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        multiply_add(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
    }
  }
  out[blockIdx.x * 256 + thread] = peaks::sum_of(&sums[0][0][0], 128);
}
EXPORT(peak_mma);

// The same by warpgroups: each of two multiplies its 64 rows of a (128, 64) by b (256, 64), from
// shared memory, 64 k in each round, the next round begun while one is under way. The maps have
// boxes of 64 columns and of 128 rows for a, 256 for b. Chips other than sm_90a trap.
// grid (n_blocks), block 256, 49160 + 1024 bytes of dynamic shared memory
KERNEL(256) peak_wgmma(GRID_CONSTANT TensorMap a, GRID_CONSTANT TensorMap b, float* out,
                       int n_rounds) {
  if (!HAS_HOPPER) return trap();
  DYNAMIC_SHARED(unsigned char, bytes);
  peaks::Tiles& tiles = *reinterpret_cast<peaks::Tiles*>(aligned_1024(bytes));
  probe::begin_copies(tiles, a, b);
  wait_barrier(&tiles.full, 0);
  const int first_row = threadIdx.x / 128 * 64;
  float sums[128] = {};
  for (int round = 0; round < n_rounds; ++round) {
    fence_products(sums);
#pragma unroll
    for (int k = 0; k < 64; k += 16) {
      multiply_add_tiles(sums, &tiles.a[first_row][k], &tiles.b[0][k], SWIZZLE_128);
    }
    commit_products();
    wait_products<1>(sums);
  }
  wait_products<0>(sums);
  out[blockIdx.x * 256 + threadIdx.x] = peaks::sum_of(sums, 128);
}
EXPORT(peak_wgmma);
static_assert(sizeof(peaks::Tiles) == 49160, "as the launch has it");
