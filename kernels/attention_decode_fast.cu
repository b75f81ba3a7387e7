// Causal attention of single rows over the cache in precision `fast`: one row per sequence, as
// decoding has it. The arithmetic: `attention_fast.cuh`; the obvious version: `attention_fast_v1`
// of `attention_prefill_fast.cu`.
//
// q, out (n_rows, ld) bf16, heads side by side; the cache bf16, (slot, kv_head, capacity, head_dim)
// both; slot_of, position_of (n_rows). Positions past a row's own may hold anything.
//
// Which warp takes a tile of positions follows from the tile's number alone, and the warps' sums
// are added in the warps' order: a row's bits depend on its own position and on no other row. They
// are not those of prefill, which adds tile by tile.
//
// Floor: K and V once, 4 head_dim bytes for each row, key head and position: 256 rows of Gemma-7B
// at 200 tokens 0.84 GB a layer, 0.2 ms at 4.3 TB/s.
// v2  a block per row and key head: 256 rows of 16 heads are 4096 blocks, so positions need no
//     split across blocks. The query heads of a key head are the 16 rows of an mma, so K and V are
//     read once for all of them; a head alone leaves 15 rows empty, which costs nothing that is
//     scarce: at 256 numbers a position is 8 cycles of mma on sm_80, and 100 cycles of memory.
//     Warp w takes the tiles t with t % 4 = w, of 8 KiB each for K and V, in buffers of its own: no
//     barrier of the block, and 64 KiB or more of two blocks are under way on a multiprocessor,
//     where 30 hide the latency. Predicted 80 % of copy bandwidth. Not run on hardware.
#include "common.cuh"

#include "attention_fast.cuh"

namespace decode_fast {

using namespace attention_fast;

constexpr int N_WARPS = 4;

template <int HEAD_DIM>
DEVICE void attend(const Bf16* q, const Bf16* keys, const Bf16* values, const int* slot_of,
                   const int* position_of, Bf16* out, Heads heads, int ldq, int ldo) {
  constexpr int KEYS = 4096 / HEAD_DIM;
  // queries (16, HEAD_DIM), then keys and values (KEYS, HEAD_DIM) of every warp
  DYNAMIC_SHARED(Bf16, queries);
  SHARED(float, maxima, [N_WARPS][WARP_ROWS]);
  SHARED(float, totals, [N_WARPS][WARP_ROWS]);
  Bf16* const tiles = queries + WARP_ROWS * HEAD_DIM;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, head_dim = heads.head_dim;
  Bf16* const key_tile = tiles + warp * 2 * KEYS * HEAD_DIM;
  Bf16* const value_tile = key_tile + KEYS * HEAD_DIM;
  const int row = blockIdx.y, kv_head = blockIdx.x, group = heads.n_heads / heads.n_kv_heads;
  const int slot = slot_of[row], position = position_of[row];
  const int begin_of_row = first_seen(heads, position), end_of_row = position + 1;
  const Bf16* slot_keys = keys_of(keys, heads, slot, kv_head);
  const Bf16* slot_values = values_of(values, heads, slot, kv_head);
  const float factor = exponent_factor(heads);

  // Load the queries, and the warp's first keys and values. Tile rows past the last head are zeros.
  const int first_head = kv_head * group + static_cast<int>(blockIdx.z) * WARP_ROWS;
  const int n_here = least((kv_head + 1) * group - first_head, WARP_ROWS);
  load<HEAD_DIM, WARP_ROWS, 32 * N_WARPS>(queries, row_of(q, row, ldq) + first_head * head_dim, 0,
                                          0, n_here, head_dim);
  commit_copies();
  const auto load_tile = [&](Bf16* to, const Bf16* from, int first) {
    load<HEAD_DIM, KEYS, 32>(to, from, first, begin_of_row, end_of_row, head_dim);
    commit_copies();
  };
  const int first_tile = begin_of_row / KEYS;
  int first = (first_tile + (warp + N_WARPS - first_tile % N_WARPS) % N_WARPS) * KEYS;
  load_tile(key_tile, slot_keys, first);
  load_tile(value_tile, slot_values, first);
  wait_copies<2>();
  sync_block();

  Rows<HEAD_DIM> rows;
  begin(rows);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    rows.begins[half] = begin_of_row;
    rows.ends[half] = end_of_row;
  }
  for (; first < end_of_row; first += N_WARPS * KEYS) {
    wait_copies<1>();
    sync_lanes();  // K has arrived
    float scores[KEYS / 8][4];
    score<HEAD_DIM, KEYS>(scores, queries, 0, key_tile);
    sync_lanes();  // nobody reads K any more
    load_tile(key_tile, slot_keys, first + N_WARPS * KEYS);
    if (first < begin_of_row || first + KEYS > end_of_row) {
      mask<HEAD_DIM, KEYS>(scores, rows, first);
    }
    take_numerators<HEAD_DIM, KEYS>(scores, rows, factor);
    wait_copies<1>();
    sync_lanes();  // V has arrived
    add_values<HEAD_DIM, KEYS>(rows, scores, value_tile);
    sync_lanes();  // nobody reads V any more
    load_tile(value_tile, slot_values, first + N_WARPS * KEYS);
  }

  // What the warps have goes where their keys and values were, 16 KiB of each.
  wait_copies<0>();
  sync_lanes();
  float* const sums = reinterpret_cast<float*>(tiles);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = lane / 4 + 8 * half;
    const float sum = total(rows.partial[half]);
    if (lane % 4 == 0) {
      maxima[warp][r] = rows.largest[half];
      totals[warp][r] = sum;
    }
    if (r >= n_here) continue;
    float* to = sums + warp * KEYS * HEAD_DIM + r * HEAD_DIM + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < HEAD_DIM / 8; ++j) {
      store2(to + 8 * j, rows.sums[j][2 * half], rows.sums[j][2 * half + 1]);
    }
  }
  sync_block();

  // Write, warp after warp brought to the largest maximum.
  for (int at = threadIdx.x * 2; at < n_here * head_dim; at += 32 * N_WARPS * 2) {
    const int r = at / head_dim, d = at % head_dim;
    float largest = maxima[0][r], sum = 0.0f, weighted[2] = {};
#pragma unroll
    for (int w = 1; w < N_WARPS; ++w) largest = maxima[w][r] > largest ? maxima[w][r] : largest;
#pragma unroll
    for (int w = 0; w < N_WARPS; ++w) {
      const float scale = exp2_near(sub_rn(maxima[w][r], largest));
      const float* from = sums + w * KEYS * HEAD_DIM + r * HEAD_DIM + d;
      sum = fma_rn(totals[w][r], scale, sum);
      weighted[0] = fma_rn(from[0], scale, weighted[0]);
      weighted[1] = fma_rn(from[1], scale, weighted[1]);
    }
    const float inverse = div_rn(1.0f, sum);
    store2(row_of(out, row, ldo) + first_head * head_dim + at, mul_rn(weighted[0], inverse),
           mul_rn(weighted[1], inverse));
  }
}

}  // namespace decode_fast

// grid (n_kv_heads, n_rows, ceil(n_heads / n_kv_heads / 16)), block 128, dynamic shared memory:
// 65536 + 32 * (64, 128 or 256) bytes. head_dim is a multiple of 8, at most 64, 128 or 256. q and
// the caches begin at multiples of 16 bytes, and rows of q at multiples of 8 numbers; out and its
// rows begin at multiples of two numbers.
#define ATTENTION_DECODE_FAST(max_head_dim)                                                   \
  KERNEL(128) attention_decode_fast_##max_head_dim##_v2(                                      \
      const Bf16* q, const Bf16* keys, const Bf16* values, const int* slot_of,                \
      const int* position_of, Bf16* out, Heads heads, int ldq, int ldo) {                     \
    decode_fast::attend<max_head_dim>(q, keys, values, slot_of, position_of, out, heads, ldq, \
                                      ldo);                                                   \
  }                                                                                           \
  EXPORT(attention_decode_fast_##max_head_dim##_v2)

ATTENTION_DECODE_FAST(64);
ATTENTION_DECODE_FAST(128);
ATTENTION_DECODE_FAST(256);
