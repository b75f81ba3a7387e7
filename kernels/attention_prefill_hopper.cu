// The attention of prompts of precision `fast` on sm_90a, the third version of
// attention_prefill_fast.cu's: the same arguments, the same meaning and the same reasons why a row
// has the same bits in any batch and however its prompt is cut (`attention_fast.cuh`). They are not
// v2's bits: one instruction adds other products in another order.
//
// All positions up to a tile's last hold finite numbers, as for v2: p = 0 times an infinity is no
// zero, so one in V would reach rows of its sequence that stand before it, up to 63 of them.
//
// Floor: as in attention_prefill_fast.cu, 4 head_dim operations for each row, head and position
// seen, at 989 TFLOP/s on an H200; q, out, K and V once.
// v1, v2  see attention_prefill_fast.cu; mma.sync cannot reach Hopper's peak, and each of its four
//     warps reads all of K and V from shared memory.
// v3  a warpgroup's 64 query rows against 64 positions at a time, by wgmma: it reads K and V once
//     for all four warps. Scores stay in registers, where their layout is that of a left side: p
//     never goes through shared memory. V is read as it lies in the cache, its k being its rows.
//     Softmax, masks and order are v2's, and so is what is copied when: V while scores are
//     computed, the next K while V is multiplied. Threads copy, and put the chunks where the
//     swizzle wants them: slots and heads are pointers here, and rows outside of what a tile sees
//     must be zeros. That is 400 of the 1070 instructions that a thread has for 64 positions, which
//     tensor maps would spare.
//     At 256 numbers a head a block has 97 KiB and 220 registers a thread: two of them share a
//     multiprocessor, so that one's softmax runs beside the other's products. Cycles of 64
//     positions: 1024 for the products, 2048 multiply-adds each; of shared memory's, at 128 bytes
//     each, 512 for Q and K, 256 for V and 512 for what arrives, where v2 has 3072.
//     What bounds it is L2: 64 query rows do 64 operations with each byte of K and V, 350 TFLOP/s
//     at the 5.5 TB/s that an H100's L2 is said to give. Prompts of 200 tokens of Gemma-7B, 8192
//     rows, ask 0.5 GB a layer of it, 0.09 ms, where memory's share is 0.06 ms.
//     Predicted 30 % of the peak for long prompts, where v2's shared memory leaves it 33 % at most
//     and some 20 % are expected; half of copy bandwidth for prompts of 200 tokens. Not run on
//     hardware.
//     To come: two warpgroups that share K and V, 128 query rows, would halve what L2 is asked
//     for; scores of the next tile beside this one's values would hide a lone block's softmax.
#include "common.cuh"
#include "hopper.cuh"

#include "attention_tile.cuh"

namespace prefill_hopper {

using namespace attention_fast;

constexpr int TILE = 64;        // query rows, and positions at a time
constexpr int PANEL_COLS = 64;  // numbers in rows of 128 bytes
constexpr int THREADS = 128;

// What is in shared memory, from a multiple of 1024 bytes on: (HEAD_DIM / 64, 64, 64) each.
template <int HEAD_DIM>
struct Shared {
  Bf16 queries[HEAD_DIM / PANEL_COLS][TILE][PANEL_COLS];
  Bf16 keys[HEAD_DIM / PANEL_COLS][TILE][PANEL_COLS];
  Bf16 values[HEAD_DIM / PANEL_COLS][TILE][PANEL_COLS];
};

// A warpgroup's sums one after another, as its products have them.
template <int N>
DEVICE float (&flat(float (&sums)[N][4]))[4 * N] {
  return reinterpret_cast<float(&)[4 * N]>(sums);
}

// Products of all queries with all keys.
template <int HEAD_DIM>
DEVICE void score(float (&scores)[TILE / 8][4], const Shared<HEAD_DIM>& shared) {
#pragma unroll
  for (int j = 0; j < TILE / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[j][i] = 0.0f;
  }
  fence_products(flat(scores));
#pragma unroll
  for (int col = 0; col < HEAD_DIM; col += 16) {
    const int panel = col / PANEL_COLS, in_panel = col % PANEL_COLS;
    multiply_add_tiles(flat(scores), &shared.queries[panel][0][in_panel],
                       &shared.keys[panel][0][in_panel], SWIZZLE_128);
  }
  commit_products();
  wait_products<0>(flat(scores));
}

// o += p V. What a lane holds of scores is what it must hold of a left side.
template <int HEAD_DIM>
DEVICE void add_values(Rows<HEAD_DIM>& rows, const float (&numerators)[TILE / 8][4],
                       const Shared<HEAD_DIM>& shared) {
  unsigned left[TILE / 16][4];
#pragma unroll
  for (int i = 0; i < TILE / 16; ++i) {
    const float(&p)[4] = numerators[2 * i], (&q)[4] = numerators[2 * i + 1];
    left[i][0] = narrow2(p[0], p[1]), left[i][1] = narrow2(p[2], p[3]);
    left[i][2] = narrow2(q[0], q[1]), left[i][3] = narrow2(q[2], q[3]);
  }
  fence_products(flat(rows.sums), left);
#pragma unroll
  for (int i = 0; i < TILE / 16; ++i) {
    multiply_add_turned(flat(rows.sums), left[i], shared.values[0][16 * i],
                        sizeof shared.values[0]);
  }
  commit_products();
  wait_products<0>(flat(rows.sums), left);
}

template <int HEAD_DIM>
DEVICE void attend(const Bf16* q, const Bf16* keys, const Bf16* values, const int* slot_of,
                   const int* position_of, const QueryTile* tiles, Bf16* out, Heads heads, int ldq,
                   int ldo) {
  DYNAMIC_SHARED(unsigned char, bytes);
  Shared<HEAD_DIM>& shared = *reinterpret_cast<Shared<HEAD_DIM>*>(aligned_1024(bytes));
  const Queries block = queries_of(tiles, position_of, heads);
  const int slot = slot_of[block.tile.first_row], head_dim = heads.head_dim;
  const Bf16* slot_keys = keys_of(keys, heads, slot, blockIdx.y);
  const Bf16* slot_values = values_of(values, heads, slot, blockIdx.y);
  const float factor = exponent_factor(heads);

  // Load the queries, and the first keys that the tile sees, panel by panel.
  const auto load_tile = [&](Bf16 (&to)[HEAD_DIM / PANEL_COLS][TILE][PANEL_COLS],
                             const Bf16* from, int first) {
#pragma unroll
    for (int i = 0; i < HEAD_DIM / PANEL_COLS; ++i) {
      load<PANEL_COLS, TILE, THREADS>(to[i][0], from, first, block.begin, block.end, head_dim,
                                      i * PANEL_COLS);
    }
  };
#pragma unroll
  for (int i = 0; i < HEAD_DIM / PANEL_COLS; ++i) {
    load_queries<PANEL_COLS, TILE, THREADS>(shared.queries[i][0], q, ldq, block, head_dim,
                                            i * PANEL_COLS);
  }
  int first = block.begin / TILE * TILE;
  load_tile(shared.keys, slot_keys, first);
  commit_copies();

  const int first_row = static_cast<int>(threadIdx.x) / 32 * WARP_ROWS;
  const Span span = span_of(block, first_row);
  Rows<HEAD_DIM> rows;
  begin(rows, block, heads, first_row);

  for (; first < block.end; first += TILE) {
    wait_copies<0>();
    fence_tiles();
    sync_block();  // K has arrived, and nobody reads V any more
    load_tile(shared.values, slot_values, first);
    commit_copies();
    float scores[TILE / 8][4];
    score(scores, shared);
    wait_copies<0>();
    fence_tiles();
    sync_block();  // V has arrived, and nobody reads K any more
    if (first + TILE < block.end) load_tile(shared.keys, slot_keys, first + TILE);
    commit_copies();
    // All warps multiply, also one whose rows see nothing of this tile: it adds zeros.
    if (!is_all_seen(span, heads, first, TILE)) mask<HEAD_DIM, TILE>(scores, rows, first);
    take_numerators<HEAD_DIM, TILE>(scores, rows, factor);
    add_values(rows, scores, shared);
  }
  write(out, ldo, rows, block, head_dim, first_row);
}

}  // namespace prefill_hopper

// grid (n_tiles, n_kv_heads), block 128, dynamic shared memory: 25600 bytes, 50176 or 99328. What
// is asked of arguments is what v2 asks. Chips other than sm_90a trap.
#define ATTENTION_PREFILL_HOPPER(max_head_dim)                                                    \
  KERNEL(128) attention_prefill_hopper_##max_head_dim##_v3(                                       \
      const Bf16* q, const Bf16* keys, const Bf16* values, const int* slot_of,                    \
      const int* position_of, const QueryTile* tiles, Bf16* out, Heads heads, int ldq, int ldo) { \
    if constexpr (HAS_HOPPER) {                                                                   \
      prefill_hopper::attend<max_head_dim>(q, keys, values, slot_of, position_of, tiles, out,     \
                                           heads, ldq, ldo);                                      \
    } else {                                                                                      \
      trap();                                                                                     \
    }                                                                                             \
  }                                                                                               \
  SM_90A_EXPORT(attention_prefill_hopper_##max_head_dim##_v3)

ATTENTION_PREFILL_HOPPER(64);
ATTENTION_PREFILL_HOPPER(128);
ATTENTION_PREFILL_HOPPER(256);
static_assert(sizeof(prefill_hopper::Shared<256>) + 1024 == 99328, "as said");
