// What every version of the prompts' attention in precision `fast` does around its products: which
// query rows a tile has and what they see, how they are read, and where their results go.
#pragma once

#include "attention_fast.cuh"

namespace attention_fast {

// The query rows of a tile and a key head: row r is query head first_head + r % group at position
// first_position + r / group. Rows past the last are zeros, and nothing is written of them.
struct Queries {
  QueryTile tile;
  int first_head, group, n_rows;
  int first_position, begin, end;  // the tile's first, and those that the tile sees
};

DEVICE Queries queries_of(const QueryTile* tiles, const int* position_of, Heads heads) {
  const QueryTile tile = tiles[blockIdx.x];
  const int group = heads.n_heads / heads.n_kv_heads, first = position_of[tile.first_row];
  return {tile,  static_cast<int>(blockIdx.y) * group, group, tile.n_rows * group,
          first, first_seen(heads, first),             first + tile.n_rows};
}

// Copies `N_ROWS` query rows, `COLS` numbers of each from `first_col` on, by `N_THREADS` threads.
template <int COLS, int N_ROWS, int N_THREADS>
DEVICE void load_queries(Bf16* to, const Bf16* q, int ldq, const Queries& queries, int head_dim,
                         int first_col = 0) {
  constexpr int N_CHUNKS = COLS / CHUNK;
  for (int at = threadIdx.x; at < N_ROWS * N_CHUNKS; at += N_THREADS) {
    const int r = at / N_CHUNKS, chunk = at % N_CHUNKS, col = first_col + chunk * CHUNK;
    const bool is_inside = r < queries.n_rows && col < head_dim;
    const Bf16* row = row_of(q, queries.tile.first_row + r / queries.group, ldq);
    const Bf16* from = row + (queries.first_head + r % queries.group) * head_dim + col;
    copy_async(to + place_of<COLS>(r, chunk), is_inside ? from : q, is_inside ? 16 : 0);
  }
}

// Positions of the first and the last of a warp's query rows; `highest` is -1 where it has none.
struct Span {
  int lowest, highest;
};

DEVICE Span span_of(const Queries& queries, int first_row) {
  const int last_row = least(first_row + WARP_ROWS, queries.n_rows) - 1;
  return {queries.first_position + first_row / queries.group,
          last_row < first_row ? -1 : queries.first_position + last_row / queries.group};
}

// Whether all rows of a warp see all of `n_keys` positions from `first` on.
DEVICE bool is_all_seen(Span span, Heads heads, int first, int n_keys) {
  return first + n_keys <= span.lowest + 1 && first >= first_seen(heads, span.highest);
}

// The warp's rows, the 16 query rows from `first_row` on, before they have seen anything.
template <int HEAD_DIM>
DEVICE void begin(Rows<HEAD_DIM>& rows, const Queries& queries, Heads heads, int first_row) {
  begin(rows);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = first_row + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * half;
    const int position = queries.first_position + r / queries.group;
    rows.begins[half] = r < queries.n_rows ? first_seen(heads, position) : 0;
    rows.ends[half] = r < queries.n_rows ? position + 1 : 0;
  }
}

// out = o / l
template <int HEAD_DIM>
DEVICE void write(Bf16* out, int ldo, const Rows<HEAD_DIM>& rows, const Queries& queries,
                  int head_dim, int first_row) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float inverse = div_rn(1.0f, total(rows.partial[half]));
    const int r = first_row + lane / 4 + 8 * half;
    if (r >= queries.n_rows) continue;
    const int head = queries.first_head + r % queries.group;
    Bf16* to = row_of(out, queries.tile.out_row + r / queries.group, ldo) + head * head_dim;
#pragma unroll
    for (int j = 0; j < HEAD_DIM / 8; ++j) {
      if (8 * j >= head_dim) continue;
      store2(to + 8 * j + lane % 4 * 2, mul_rn(rows.sums[j][2 * half], inverse),
             mul_rn(rows.sums[j][2 * half + 1], inverse));
    }
  }
}

}  // namespace attention_fast
