// Probes of what sm_90a alone has: barriers, copies of tiles, products of a warpgroup. On other
// chips they trap.
#include "tiles.cuh"

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

template <Layout LAYOUT, int N>
struct Tiles {
  static constexpr int N_K = LAYOUT == SWIZZLE_128 ? 64 : 32;
  Bf16 a[64][N_K], b[N][N_K];
  Barrier full;
};

// Where sum i of a thread stands in (64, N), from the first of them on.
template <int N>
DEVICE int place_of_sum(int i) {
  return i % 4 / 2 * 8 * N + i / 4 * 8 + i % 2;
}

template <int N>
DEVICE float* first_sum(float* out) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  return out + (warp * 16 + lane / 4) * N + lane % 4 * 2;
}

// sums (64, N) += a b^T for a (64, N_K) and b (N, N_K), which are one box each. A group for each
// sixteen of k, the next begun where the last may be under way.
template <Layout LAYOUT, int N>
DEVICE void multiply(const TensorMap& a, const TensorMap& b, float* out) {
  if (!HAS_HOPPER) return trap();
  constexpr int N_K = Tiles<LAYOUT, N>::N_K;
  DYNAMIC_SHARED(unsigned char, bytes);
  Tiles<LAYOUT, N>& tiles = *reinterpret_cast<Tiles<LAYOUT, N>*>(aligned_1024(bytes));
  begin_copies(tiles, a, b);

  float* const first = first_sum<N>(out);
  float sums[N / 2];
#pragma unroll
  for (int i = 0; i < N / 2; ++i) sums[i] = first[place_of_sum<N>(i)];
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
  for (int i = 0; i < N / 2; ++i) first[place_of_sum<N>(i)] = sums[i];
}

// sums (64, N) += a b for a (64, 64), whose parts are in registers, and b (64, N), which all
// threads copy to panels of 64 columns. Groups as above.
template <int N>
DEVICE void multiply_turned(const Bf16* a, const Bf16* b, float* out) {
  if (!HAS_HOPPER) return trap();
  DYNAMIC_SHARED(unsigned char, bytes);
  Bf16(*panels)[64][64] = reinterpret_cast<Bf16(*)[64][64]>(aligned_1024(bytes));
  for (int at = threadIdx.x; at < 64 * N / 8; at += 128) {
    const int row = at / (N / 8), chunk = at % (N / 8), place = (chunk % 8 ^ row % 8) * 8;
    copy_async(&panels[chunk / 8][row][place], b + row * N + chunk * 8, 16);
  }
  commit_copies();
  wait_copies<0>();
  fence_tiles();
  sync_block();

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const Bf16* const first_a = a + (warp * 16 + lane / 4) * 64 + lane % 4 * 2;
  unsigned left[4][4];
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const Two<Bf16> two = load2(first_a + i % 2 * 8 * 64 + i / 2 * 8);
    left[i / 4][i % 4] = two.values[0].bits | static_cast<unsigned>(two.values[1].bits) << 16;
  }
  float* const first = first_sum<N>(out);
  float sums[N / 2];
#pragma unroll
  for (int i = 0; i < N / 2; ++i) sums[i] = first[place_of_sum<N>(i)];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    fence_products(sums, left);
    multiply_add_turned(sums, left[i], panels[0][16 * i], sizeof panels[0]);
    commit_products();
    wait_products<1>(sums, left);
  }
  wait_products<0>(sums, left);
#pragma unroll
  for (int i = 0; i < N / 2; ++i) first[place_of_sum<N>(i)] = sums[i];
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

// grid (1), block 128, sizeof(Tiles<LAYOUT, N>) + 1024 bytes of dynamic shared memory.
#define TILES_PROBE(name, LAYOUT, N)                                                          \
  KERNEL(128) probe_product_##name(GRID_CONSTANT TensorMap a, GRID_CONSTANT TensorMap b,        \
                                   float* out) {                                                \
    multiply<LAYOUT, N>(a, b, out);                                                             \
  }                                                                                             \
  EXPORT(probe_product_##name)

TILES_PROBE(128, SWIZZLE_128, 256);
TILES_PROBE(64, SWIZZLE_64, 256);
TILES_PROBE(narrow, SWIZZLE_128, 64);

// grid (1), block 128, 128 N + 1024 bytes of dynamic shared memory.
#define TURNED_PROBE(N)                                                            \
  KERNEL(128) probe_turned_##N(const Bf16* a, const Bf16* b, float* out) {         \
    multiply_turned<N>(a, b, out);                                                 \
  }                                                                                \
  SM_90A_EXPORT(probe_turned_##N)

TURNED_PROBE(64);
TURNED_PROBE(128);
TURNED_PROBE(256);
