// What the attention kernels share: sizes, the cache's layout, and which positions a row sees.
//
//   out[i] = softmax(q[i] . K^T * score_factor) V   over the positions that row i may see
//
// Order, in all versions that are `exact`: a score runs over the head's dimension in order, one
// fused multiply-add each; the numerators are e^(fma(score, factor, -max * factor)); their sum
// keeps sixteen partial sums, the j-th position that is seen going to sum j % 16, and folds them;
// the weighted sum of values runs over positions in order, and is multiplied by 1 / sum at the end.
//
// The cache of one layer, for every slot (a sequence) and key head:
//   keys    (capacity / 32, head_dim, 32)   a product with 32 neighbouring positions reads rows
//   values  (capacity, head_dim)
// In precision `fast` both are (capacity, head_dim), in bf16, and capacity is any number.
#pragma once

struct Heads {
  int n_heads;     // query heads, a multiple of n_kv_heads
  int n_kv_heads;  // key and value heads
  int head_dim;
  int capacity;  // positions of a slot: a multiple of 32 where keys stand in panels
  int window;    // how many positions back a row sees, itself included; 0: all
  float score_factor;
};

// Consecutive rows of one sequence, which a block of prefill serves together.
struct QueryTile {
  int first_row;  // in q
  int n_rows;
  int out_row;  // of the first, in out
};

// Positions are kept in panels of so many.
constexpr int PANEL = 32;

// The keys of one slot and head.
template <class T>
DEVICE T* keys_of(T* keys, Heads heads, int slot, int kv_head) {
  const long long head = static_cast<long long>(slot) * heads.n_kv_heads + kv_head;
  return keys + head * heads.head_dim * heads.capacity;
}

// The values of one slot and head.
template <class T>
DEVICE T* values_of(T* values, Heads heads, int slot, int kv_head) {
  return keys_of(values, heads, slot, kv_head);
}

// Where a position's keys stand in `keys_of`: elements a panel apart.
DEVICE long long key_offset(Heads heads, int position) {
  return static_cast<long long>(position / PANEL) * heads.head_dim * PANEL + position % PANEL;
}

// The first position that a row at `position` sees.
DEVICE int first_seen(Heads heads, int position) {
  return heads.window > 0 ? greatest(position + 1 - heads.window, 0) : 0;
}
