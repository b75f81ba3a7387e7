// Causal attention of prompts, in one kernel: 32 query rows at a time walk over the positions
// twice. Order: `attention.cuh`; the obvious version is `attention_steps.cu`.
//
// q (n_rows, ldq), out (n_out_rows, ldo), heads side by side. A tile is some consecutive rows of
// one sequence, at most 32 / (n_heads / n_kv_heads); query heads that share a key head are rows of
// one tile. slot_of, position_of (n_rows).
//
// Floor: 4 head_dim operations for each row, head and position seen; 6 here, since scores are
// computed twice: first for the maximum, then for the numerators, which may then be used as they
// come. So no row of scores has to be kept, whatever the length.
// v2  a panel of 32 positions in shared memory serves 32 query rows. A warp holds 8 query rows: for
//     scores a lane is a position, for the weighted sum an element of the head; what passes between
//     is the warp's own, so a warp barrier is enough. V arrives while scores are computed.
//     Shared memory bounds it: a score costs 2 loads for 8 multiply-adds. Predicted 35 % of the f32
//     peak. Not run on hardware.
#include "common.cuh"

#include "attention.cuh"

namespace prefill {

constexpr int WARP_ROWS = 8;
constexpr int N_WARPS = 4;
constexpr int QUERY_ROWS = WARP_ROWS * N_WARPS;

// One panel's worth of consecutive floats; both sides are whole panels.
DEVICE void load(float* to, const float* from, int n_floats) {
  for (int i = threadIdx.x * 4; i < n_floats; i += 32 * N_WARPS * 4) {
    copy_async(to + i, from + i, 16);
  }
}

// Scores of a warp's query rows with this lane's position.
DEVICE void score(const float* queries, const float* panel, int head_dim, int lane,
                  float (&scores)[WARP_ROWS]) {
#pragma unroll
  for (int i = 0; i < WARP_ROWS; ++i) scores[i] = 0.0f;
  for (int d = 0; d < head_dim; ++d) {
    const float key = panel[d * PANEL + lane];
#pragma unroll
    for (int i = 0; i < WARP_ROWS; ++i) {
      scores[i] = fma_rn(queries[i * head_dim + d], key, scores[i]);
    }
  }
}

// For heads of at most 32 * N_CHUNKS elements.
template <int N_CHUNKS>
DEVICE void attend(const float* q, const float* keys, const float* values, const int* slot_of,
                   const int* position_of, const QueryTile* tiles, float* out, Heads heads, int ldq,
                   int ldo) {
  // queries (32, head_dim), keys (head_dim, 32), values (32, head_dim), numerators (32, 32)
  DYNAMIC_SHARED(float, shared);
  const int head_dim = heads.head_dim, panel_size = PANEL * head_dim;
  float* const key_panel = shared + QUERY_ROWS * head_dim;
  float* const value_panel = key_panel + panel_size;
  const QueryTile tile = tiles[blockIdx.x];
  const int kv_head = blockIdx.y, group = heads.n_heads / heads.n_kv_heads;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int slot = slot_of[tile.first_row], first_position = position_of[tile.first_row];
  const float* slot_keys = keys_of(keys, heads, slot, kv_head);
  const float* slot_values = values_of(values, heads, slot, kv_head);

  // Query row r is head kv_head * group + r % group at position r / group. Rows past the tile's
  // last see nothing.
  const int n_query_rows = tile.n_rows * group, first_row = warp * WARP_ROWS;
  for (int at = threadIdx.x; at < n_query_rows * head_dim; at += 32 * N_WARPS) {
    const int r = at / head_dim, head = kv_head * group + r % group;
    shared[at] = row_of(q, tile.first_row + r / group, ldq)[head * head_dim + at % head_dim];
  }
  for (int at = n_query_rows * head_dim + threadIdx.x; at < QUERY_ROWS * head_dim;
       at += 32 * N_WARPS) {
    shared[at] = 0.0f;
  }
  const float* const queries = shared + first_row * head_dim;
  float* const numerators = value_panel + panel_size + first_row * PANEL;
  int begins[WARP_ROWS], ends[WARP_ROWS];
#pragma unroll
  for (int i = 0; i < WARP_ROWS; ++i) {
    const int position = first_position + (first_row + i) / group;
    const bool is_row = first_row + i < n_query_rows;
    begins[i] = is_row ? first_seen(heads, position) : 0;
    ends[i] = is_row ? position + 1 : 0;
  }
  const int first_panel = first_seen(heads, first_position) / PANEL;
  const int end_panel = n_tiles_of(first_position + tile.n_rows, PANEL);

  // First walk: the largest score of every row.
  float largest[WARP_ROWS];
#pragma unroll
  for (int i = 0; i < WARP_ROWS; ++i) largest[i] = minus_infinity();
  for (int panel = first_panel; panel < end_panel; ++panel) {
    load(key_panel, slot_keys + static_cast<long long>(panel) * panel_size, panel_size);
    commit_copies();
    wait_copies<0>();
    sync_block();
    float scores[WARP_ROWS];
    score(queries, key_panel, head_dim, lane, scores);
    const int j = panel * PANEL + lane;
#pragma unroll
    for (int i = 0; i < WARP_ROWS; ++i) {
      if (j >= begins[i] && j < ends[i] && scores[i] > largest[i]) largest[i] = scores[i];
    }
    sync_block();
  }
#pragma unroll
  for (int i = 0; i < WARP_ROWS; ++i) {
    largest[i] = mul_rn(warp_max(largest[i]), heads.score_factor);
  }

  // Second walk: numerators, their sums, and the weighted sum of the values.
  float partial[WARP_ROWS] = {};  // in the lanes 0..16: of every sixteenth position
  float sums[WARP_ROWS][N_CHUNKS] = {};
  for (int panel = first_panel; panel < end_panel; ++panel) {
    load(key_panel, slot_keys + static_cast<long long>(panel) * panel_size, panel_size);
    commit_copies();
    load(value_panel, slot_values + static_cast<long long>(panel) * panel_size, panel_size);
    commit_copies();
    wait_copies<1>();
    sync_block();
    float scores[WARP_ROWS];
    score(queries, key_panel, head_dim, lane, scores);
    const int j = panel * PANEL + lane;
#pragma unroll
    for (int i = 0; i < WARP_ROWS; ++i) {
      // A position that is not seen adds an exact zero to a sum that is not negative: nothing.
      const bool is_seen = j >= begins[i] && j < ends[i];
      const float numerator =
          is_seen ? exp_of(fma_rn(scores[i], heads.score_factor, -largest[i])) : 0.0f;
      numerators[i * PANEL + lane] = numerator;
      partial[i] = add_rn(add_rn(partial[i], numerator), shuffle_xor(numerator, 16));
    }
    wait_copies<0>();
    sync_block();  // V has arrived, and the warp's numerators are written
    const int first_j = panel * PANEL;
    for (int p = 0; p < PANEL; ++p) {
      float value[N_CHUNKS];
#pragma unroll
      for (int c = 0; c < N_CHUNKS; ++c) {
        const int d = c * 32 + lane;
        value[c] = d < head_dim ? value_panel[p * head_dim + d] : 0.0f;
      }
#pragma unroll
      for (int i = 0; i < WARP_ROWS; ++i) {
        // What the cache holds past a row's own position may be anything.
        if (first_j + p < begins[i] || first_j + p >= ends[i]) continue;
        const float numerator = numerators[i * PANEL + p];
#pragma unroll
        for (int c = 0; c < N_CHUNKS; ++c) sums[i][c] = fma_rn(numerator, value[c], sums[i][c]);
      }
    }
    sync_block();
  }

  // Write.
#pragma unroll
  for (int i = 0; i < WARP_ROWS; ++i) {
    const float inverse = div_rn(1.0f, shuffle(fold16(partial[i]), 0));
    if (first_row + i >= n_query_rows) continue;
    const int r = first_row + i, head = kv_head * group + r % group;
    float* to = row_of(out, tile.out_row + r / group, ldo) + head * head_dim;
#pragma unroll
    for (int c = 0; c < N_CHUNKS; ++c) {
      const int d = c * 32 + lane;
      if (d < head_dim) to[d] = mul_rn(sums[i][c], inverse);
    }
  }
}

}  // namespace prefill

// grid (n_tiles, n_kv_heads), block 128, dynamic shared memory: (96 head_dim + 1024) floats.
// head_dim is a multiple of 4, at most 64, 128 or 256; query heads per key head at most 32.
#define ATTENTION_PREFILL(max_head_dim)                                                         \
  KERNEL(128) attention_prefill_##max_head_dim##_v2(                                            \
      const float* q, const float* keys, const float* values, const int* slot_of,               \
      const int* position_of, const QueryTile* tiles, float* out, Heads heads, int ldq,     \
      int ldo) {                                                                                \
    prefill::attend<max_head_dim / 32>(q, keys, values, slot_of, position_of, tiles, out, heads, \
                                       ldq, ldo);                                               \
  }                                                                                             \
  EXPORT(attention_prefill_##max_head_dim##_v2)

ATTENTION_PREFILL(64);
ATTENTION_PREFILL(128);
ATTENTION_PREFILL(256);
