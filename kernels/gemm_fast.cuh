// What the products of precision `fast` share (gemm_fast.cu, gemm_hopper.cu): which tile is whose,
// what LoRA adds to it, and how C is written.
//
// The update stands beside the base's product as more k, behind the base's. The rows of a row tile
// may belong to several adapters; each of them has a slot there, and the slots of all row tiles
// stand one behind the other:
//
//   c[i][j] += sum over the slots s of i's row tile, sum over r of
//              shrunk[s][part of j][i % 128][r] * b[adapter of s][j][r]
//
// `shrunk` is A x in the rows of the slot's adapter and zero in all others (lora_fast.cu), b is
// scale * B without anything that is not finite (lora_prepare_fast.cu). So the slots of others add
// zeros to a row: its bits depend on its own adapter alone. A part of W begins where a column tile
// does, so a tile is of one part.
#pragma once

#include "common.cuh"

namespace gemm_fast {

constexpr int TILE_ROWS = 128;  // of C in a tile, whatever the kernel
constexpr int GROUP = 16;       // row tiles that follow one another
constexpr int MOST_PARTS = 3;   // matrices that share a product

struct Tile {
  int row, col;  // of its first element
};

// `GROUP` row tiles, then the next column.
template <int COLS>
DEVICE Tile tile_of(int idx, int n_row_tiles, int n_col_tiles) {
  const int in_group = idx % (GROUP * n_col_tiles);
  const int first_of_group = idx / (GROUP * n_col_tiles) * GROUP;
  const int n_in_group = least(n_row_tiles - first_of_group, GROUP);
  return {(first_of_group + in_group % n_in_group) * TILE_ROWS, in_group / n_in_group * COLS};
}

// The adapters' factors as a product takes them.
struct Update {
  const Bf16* shrunk;      // (n_slots, n_parts, 128, depth)
  const Bf16* b;           // the parts' one behind the other, each (n_adapters, its n_out, depth)
  const int* first_slots;  // (n_row_tiles + 1): a row tile's slots end where the next one's begin
  const int* slots;        // (n_slots, 2): row tile, adapter
  int n_parts, depth;      // parts that have adapters, 0 of them: no update; a multiple of 16
  int first_cols[MOST_PARTS], end_cols[MOST_PARTS];  // of C, that are the part's
  int first_b_rows[MOST_PARTS];                      // where its b begins
  int n_ks[MOST_PARTS];                              // its rank, or the next multiple of 16
};

// What the slots of one tile add to it.
struct Added {
  int first_slot, n_slots;  // of the row tile; none where the columns' part has no adapter
  int part, n_k;            // k of each slot
  int first_b_row, n_out;   // of adapter 0: the row of b that is the tile's first column's; and how
                            // many there are from it to the next adapter's
  int n_cols;               // of the tile that are the part's, or more than a tile has
};

DEVICE Added added_to(const Tile& tile, const Update& update) {
  Added added = {};
#pragma unroll
  for (int part = 0; part < MOST_PARTS; ++part) {
    const int first_col = update.first_cols[part], end_col = update.end_cols[part];
    if (part >= update.n_parts || tile.col < first_col || tile.col >= end_col) continue;
    const int* first_slot = update.first_slots + tile.row / TILE_ROWS;
    added = {first_slot[0],
             first_slot[1] - first_slot[0],
             part,
             update.n_ks[part],
             update.first_b_rows[part] + tile.col - first_col,
             end_col - first_col,
             end_col - tile.col};
  }
  return added;
}

// The first of the 128 rows of `shrunk` that a slot multiplies.
DEVICE int shrunk_row_of(const Added& added, const Update& update, int slot) {
  return (slot * update.n_parts + added.part) * TILE_ROWS;
}

// And the first of the rows of b, one for each column of the tile.
DEVICE int b_row_of(const Added& added, const Update& update, int slot) {
  return added.first_b_row + update.slots[2 * slot + 1] * added.n_out;
}

// A sum as it is kept. One that underflowed from below is -0, which zeros of other slots turn into
// 0, as here: so it is 0 with and without them.
DEVICE float settled(float sum) { return add_rn(sum, 0.0f); }

// Writes two neighbours of a row, `n_left` of which are in C. What C held is added last.
template <class T>
DEVICE void write2(T* out, float first, float second, int n_left, int start) {
  if (n_left <= 0) return;
  first = settled(first), second = settled(second);
  if (start == START_FROM_C) {
    first = add_rn(widen(out[0]), first);
    if (n_left > 1) second = add_rn(widen(out[1]), second);
  }
  if (n_left > 1) {
    store2(out, first, second);
  } else {
    store(out, first);
  }
}

}  // namespace gemm_fast
