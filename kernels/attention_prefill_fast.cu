// Causal attention of prompts in precision `fast`: 64 query rows at a time walk over the positions
// once, on tensor cores. The arithmetic, and why a row has the same bits in any batch and however
// its prompt is cut: `attention_fast.cuh`.
//
// q (n_rows, ldq), out (n_out_rows, ldo) bf16, heads side by side; the cache bf16, (slot, kv_head,
// capacity, head_dim) both. A tile is some consecutive rows of one sequence, at most 64 / (n_heads
// / n_kv_heads); query heads that share a key head are rows of one tile. slot_of, position_of
// (n_rows). All positions up to a tile's last hold finite numbers; later ones may hold anything.
//
// Floor: 4 head_dim operations for each row, head and position seen, on tensor cores. 8192 rows of
// Gemma-7B in prompts of 200 tokens: 8192 * 16 * 100 * 1024 = 13 GFLOP, 0.02 ms a layer on an H200,
// 0.5 % of its products; q, out, K and V once are 4 * 67 MB, 0.06 ms: bound by memory.
// v1  a thread per output, in f32: every element of a head computes all scores anew, head_dim times
//     too often. Predicted 0.1 % of v2.
// v2  four warps of 16 query rows share tiles of 64 positions, of 32 where a head has more than 128
//     numbers, so that two blocks share a multiprocessor. V arrives while scores are computed, the
//     next K while V is multiplied. A warp passes over tiles that none of its rows sees. An mma
//     takes two cycles of sm_80 and 256 bytes from shared memory, as many as it gives in that time,
//     so shared memory bounds it: predicted 40 % of the peak for long prompts, and for prompts of
//     200 tokens 60 % of copy bandwidth. 32 rows a warp would read half as much, in more registers
//     than there are at 256 numbers. Not run on hardware.
// v3  for sm_90a: attention_prefill_hopper.cu.
#include "common.cuh"

#include "attention_tile.cuh"

namespace prefill_fast {

using namespace attention_fast;

constexpr int N_WARPS = 4;
constexpr int QUERY_ROWS = WARP_ROWS * N_WARPS;

template <int HEAD_DIM>
DEVICE void attend(const Bf16* q, const Bf16* keys, const Bf16* values, const int* slot_of,
                   const int* position_of, const QueryTile* tiles, Bf16* out, Heads heads, int ldq,
                   int ldo) {
  constexpr int KEYS = HEAD_DIM > 128 ? 32 : 64;
  // queries (64, HEAD_DIM), keys and values (KEYS, HEAD_DIM)
  DYNAMIC_SHARED(Bf16, queries);
  Bf16* const key_tile = queries + QUERY_ROWS * HEAD_DIM;
  Bf16* const value_tile = key_tile + KEYS * HEAD_DIM;
  const Queries block = queries_of(tiles, position_of, heads);
  const int slot = slot_of[block.tile.first_row], head_dim = heads.head_dim;
  const Bf16* slot_keys = keys_of(keys, heads, slot, blockIdx.y);
  const Bf16* slot_values = values_of(values, heads, slot, blockIdx.y);
  const float factor = exponent_factor(heads);

  // Load the queries, and the first keys that the tile sees.
  const auto load_tile = [&](Bf16* to, const Bf16* from, int first) {
    load<HEAD_DIM, KEYS, 32 * N_WARPS>(to, from, first, block.begin, block.end, head_dim);
  };
  load_queries<HEAD_DIM, QUERY_ROWS, 32 * N_WARPS>(queries, q, ldq, block, head_dim);
  int first = block.begin / KEYS * KEYS;
  load_tile(key_tile, slot_keys, first);
  commit_copies();

  const int first_row = static_cast<int>(threadIdx.x) / 32 * WARP_ROWS;
  const Span span = span_of(block, first_row);
  Rows<HEAD_DIM> rows;
  begin(rows, block, heads, first_row);

  for (; first < block.end; first += KEYS) {
    wait_copies<0>();
    sync_block();  // K has arrived, and nobody reads V any more
    load_tile(value_tile, slot_values, first);
    commit_copies();
    const bool is_seen = first <= span.highest && first + KEYS > first_seen(heads, span.lowest);
    float scores[KEYS / 8][4];
    if (is_seen) score<HEAD_DIM, KEYS>(scores, queries, first_row, key_tile);
    wait_copies<0>();
    sync_block();  // V has arrived, and nobody reads K any more
    if (first + KEYS < block.end) load_tile(key_tile, slot_keys, first + KEYS);
    commit_copies();
    if (!is_seen) continue;
    if (!is_all_seen(span, heads, first, KEYS)) mask<HEAD_DIM, KEYS>(scores, rows, first);
    take_numerators<HEAD_DIM, KEYS>(scores, rows, factor);
    add_values<HEAD_DIM, KEYS>(rows, scores, value_tile);
  }
  write(out, ldo, rows, block, head_dim, first_row);
}

}  // namespace prefill_fast

// grid (ceil(head_dim / 32), n_heads, n_rows), block 32: a thread per element of a head. Serves any
// rows of any sequences, prompts and decoding alike; q and out (n_rows, ld).
KERNEL(32) attention_fast_v1(const Bf16* q, const Bf16* keys, const Bf16* values,
                             const int* slot_of, const int* position_of, Bf16* out, Heads heads,
                             int ldq, int ldo) {
  const int row = blockIdx.z, head = blockIdx.y, d = blockIdx.x * 32 + threadIdx.x;
  const int kv_head = head / (heads.n_heads / heads.n_kv_heads), head_dim = heads.head_dim;
  if (d >= head_dim) return;
  const Bf16* query = row_of(q, row, ldq) + head * head_dim;
  const Bf16* slot_keys = keys_of(keys, heads, slot_of[row], kv_head);
  const Bf16* slot_values = values_of(values, heads, slot_of[row], kv_head);
  float largest = minus_infinity(), sum = 0.0f, weighted = 0.0f;
  for (int j = first_seen(heads, position_of[row]); j <= position_of[row]; ++j) {
    const Bf16* key = row_of(slot_keys, j, head_dim);
    float product = 0.0f;
    for (int i = 0; i < head_dim; ++i) {
      product = fma_rn(widen(query[i]), widen(key[i]), product);
    }
    const float score = mul_rn(product, heads.score_factor);
    const float now = score > largest ? score : largest;
    const float earlier = exp_of(sub_rn(largest, now)), numerator = exp_of(sub_rn(score, now));
    sum = fma_rn(sum, earlier, numerator);
    weighted = fma_rn(numerator, widen(row_of(slot_values, j, head_dim)[d]),
                      mul_rn(weighted, earlier));
    largest = now;
  }
  const float inverse = div_rn(1.0f, sum);
  store(row_of(out, row, ldo) + head * head_dim + d, mul_rn(weighted, inverse));
}
EXPORT(attention_fast_v1);

// grid (n_tiles, n_kv_heads), block 128, dynamic shared memory: 24576 bytes, 49152 or 65536.
// head_dim is a multiple of 8, at most 64, 128 or 256; query heads per key head at most 64. q and
// the caches begin at multiples of 16 bytes, and rows of q at multiples of 8 numbers; out and its
// rows begin at multiples of two numbers.
#define ATTENTION_PREFILL_FAST(max_head_dim)                                                     \
  KERNEL(128) attention_prefill_fast_##max_head_dim##_v2(                                        \
      const Bf16* q, const Bf16* keys, const Bf16* values, const int* slot_of,                   \
      const int* position_of, const QueryTile* tiles, Bf16* out, Heads heads, int ldq, int ldo) { \
    prefill_fast::attend<max_head_dim>(q, keys, values, slot_of, position_of, tiles, out, heads, \
                                       ldq, ldo);                                                \
  }                                                                                              \
  EXPORT(attention_prefill_fast_##max_head_dim##_v2)

ATTENTION_PREFILL_FAST(64);
ATTENTION_PREFILL_FAST(128);
ATTENTION_PREFILL_FAST(256);
