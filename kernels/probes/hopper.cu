// Probes of what sm_90a alone has: barriers, copies of tiles, products of a warpgroup. On other
// chips they trap.
#include "probe.cuh"

#include "../hopper.cuh"

using namespace probe;

namespace probe {

struct Turns {
  unsigned words[256];
  Barrier written, read;
};

}  // namespace probe

// The block's words from behind, three times through the same place: a barrier says that all have
// written it, another that all have read it.
PROBE(barriers, 3, 3, {
  if (!HAS_HOPPER) return trap();
  SHARED(Turns, shared, [1]);
  Turns& turns = shared[0];
  if (thread == 0) {
    init_barrier(&turns.written, 256);
    init_barrier(&turns.read, 256);
    publish_barriers();
  }
  sync_block();
  for (int phase = 0; phase < 3; ++phase) {
    wait_barrier(&turns.read, phase % 2 ^ 1);
    turns.words[thread] = from[phase];
    arrive(&turns.written);
    wait_barrier(&turns.written, phase % 2);
    to[phase] = turns.words[255 - thread];
    arrive(&turns.read);
  }
})

namespace probe {

constexpr int BOX_BYTES = 64 * 128;  // the most that `probe_tile` copies

struct Tile {
  unsigned words[BOX_BYTES / 4];
  Barrier full;
};

template <Layout LAYOUT>
struct Tiles {
  static constexpr int N_K = LAYOUT == SWIZZLE_128 ? 64 : 32;
  Bf16 a[64][N_K], b[256][N_K];
  Barrier full;
};

// sums (64, 256) += a b^T for a (64, N_K) and b (256, N_K), which are one box each. A group for
// each sixteen of k, the next begun where the last may be under way.
template <Layout LAYOUT>
DEVICE void multiply(const TensorMap& a, const TensorMap& b, float* out) {
  if (!HAS_HOPPER) return trap();
  constexpr int N_K = Tiles<LAYOUT>::N_K;
  DYNAMIC_SHARED(unsigned char, bytes);
  Tiles<LAYOUT>& tiles = *reinterpret_cast<Tiles<LAYOUT>*>(aligned_1024(bytes));
  if (threadIdx.x == 0) {
    init_barrier(&tiles.full, 1);
    publish_barriers();
    arrive_expecting(&tiles.full, sizeof tiles.a + sizeof tiles.b);
    copy_tile(tiles.a, a, 0, 0, &tiles.full);
    copy_tile(tiles.b, b, 0, 0, &tiles.full);
  }
  sync_block();

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float* const first = out + (warp * 16 + lane / 4) * 256 + lane % 4 * 2;
  float sums[128];
#pragma unroll
  for (int i = 0; i < 128; ++i) sums[i] = first[i % 4 / 2 * 8 * 256 + i / 4 * 8 + i % 2];
  wait_barrier(&tiles.full, 0);
#pragma unroll
  for (int k = 0; k < N_K; k += 16) {
    fence_products(sums);
    multiply_add_tiles(sums, &tiles.a[0][k], &tiles.b[0][k], LAYOUT);
    commit_products();
    wait_products<1>(sums);
  }
  wait_products<0>(sums);
#pragma unroll
  for (int i = 0; i < 128; ++i) first[i % 4 / 2 * 8 * 256 + i / 4 * 8 + i % 2] = sums[i];
}

}  // namespace probe

// A box of the matrix for each corner, of which `corners` has column and row: out (n_boxes,
// n_words) gets its tile as it lies in shared memory. n_words is that of the map's box.
// grid (n_boxes), block 256, sizeof(Tile) + 1024 bytes of dynamic shared memory.
KERNEL(256) probe_tile(GRID_CONSTANT TensorMap map, const int* corners, unsigned* out,
                       int n_words) {
  if (!HAS_HOPPER) return trap();
  DYNAMIC_SHARED(unsigned char, bytes);
  Tile& tile = *reinterpret_cast<Tile*>(aligned_1024(bytes));
  const int* const corner = corners + 2 * blockIdx.x;
  if (threadIdx.x == 0) {
    init_barrier(&tile.full, 1);
    publish_barriers();
    arrive_expecting(&tile.full, 4 * n_words);
    copy_tile(tile.words, map, corner[0], corner[1], &tile.full);
  }
  sync_block();
  wait_barrier(&tile.full, 0);
  for (int i = threadIdx.x; i < n_words; i += 256) out[blockIdx.x * n_words + i] = tile.words[i];
}
EXPORT(probe_tile);

// grid (1), block 128, sizeof(Tiles<LAYOUT>) + 1024 bytes of dynamic shared memory.
KERNEL(128) probe_product_128(GRID_CONSTANT TensorMap a, GRID_CONSTANT TensorMap b, float* out) {
  multiply<SWIZZLE_128>(a, b, out);
}
EXPORT(probe_product_128);

KERNEL(128) probe_product_64(GRID_CONSTANT TensorMap a, GRID_CONSTANT TensorMap b, float* out) {
  multiply<SWIZZLE_64>(a, b, out);
}
EXPORT(probe_product_64);
