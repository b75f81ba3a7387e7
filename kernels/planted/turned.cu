// Planted bugs of a product on sm_90a whose left side is in registers and whose right side threads
// copy as it lies, made as attention's sum of values is. Each kernel should give out = x y for
// x (64, 16 n) and y (16 n, 128) bf16, n at most 4; out (64, 128) f32. `planted_turned` does. One
// warpgroup.
#include "../common.cuh"
#include "../hopper.cuh"

namespace turned_bugs {

enum Bug {
  NONE,
  MISSING_TILE_FENCE,  // between the copies and the product
  EARLY_TILE_FENCE,    // fences copies that have not arrived
  LONE_TILE_FENCE,     // one warp fences for all
  MISSING_BARRIER,     // between threads' copies and others' products
  MISSING_FENCE,       // of the products
  TOUCHED_OPERAND,     // writes the left side before its product was waited for
  REUSED_OPERAND,      // writes it between two products of it
  WRONG_PANEL,         // looks for the second panel in the first
  NO_SWIZZLE,          // copies chunks to where they stand in a row
  LATE_COPY,           // copies the next tile while the product reads this one
  MISALIGNED_TILE,     // a tile begins in the middle of the swizzle's pattern
};

template <Bug BUG>
DEVICE void product(const Bf16* x, const Bf16* y, float* out, int n) {
  DYNAMIC_SHARED(unsigned char, bytes);
  const int shift = BUG == MISALIGNED_TILE ? 128 : 0;
  Bf16(*panels)[64][64] = reinterpret_cast<Bf16(*)[64][64]>(aligned_1024(bytes) + shift);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const auto copy = [&] {
    for (int at = threadIdx.x; at < 16 * n * 16; at += 128) {
      const int row = at / 16, chunk = at % 16;
      const int place = BUG == NO_SWIZZLE ? chunk % 8 : chunk % 8 ^ row % 8;
      copy_async(&panels[chunk / 8][row][place * 8], y + row * 128 + chunk * 8, 16);
    }
    commit_copies();
  };
  copy();
  if (BUG == EARLY_TILE_FENCE) fence_tiles();
  wait_copies<0>();
  const bool is_fenced = BUG != MISSING_TILE_FENCE && BUG != EARLY_TILE_FENCE;
  if (is_fenced && (BUG != LONE_TILE_FENCE || warp == 0)) fence_tiles();
  if (BUG != MISSING_BARRIER) sync_block();

  float sums[64] = {};
  for (int i = 0; i < n; ++i) {
    unsigned left[1][4];
    for (int part = 0; part < 4; ++part) {
      const int row = warp * 16 + lane / 4 + part % 2 * 8;
      const int col = 16 * i + part / 2 * 8 + lane % 4 * 2;
      const Two<Bf16> two = load2(x + row * 16 * n + col);
      left[0][part] = two.values[0].bits | static_cast<unsigned>(two.values[1].bits) << 16;
    }
    if (BUG != MISSING_FENCE) fence_products(sums, left);
    const int panel_bytes = BUG == WRONG_PANEL ? 1024 : sizeof panels[0];
    multiply_add_turned(sums, left[0], panels[0][16 * i], panel_bytes);
    if (BUG == REUSED_OPERAND) {
      left[0][1] = 0;
      multiply_add_turned(sums, left[0], panels[0][16 * i], panel_bytes);
    }
    commit_products();
    if (BUG == TOUCHED_OPERAND) left[0][2] = 0;
    if (BUG == LATE_COPY && i + 1 == n) copy();
    wait_products<0>(sums, left);
  }
  if (BUG == LATE_COPY) wait_copies<0>();
  for (int i = 0; i < 64; ++i) {
    const int row = warp * 16 + i % 4 / 2 * 8 + lane / 4, col = i / 4 * 8 + lane % 4 * 2 + i % 2;
    out[row * 128 + col] = sums[i];
  }
}

}  // namespace turned_bugs

#define PLANTED_TURNED(name, BUG)                                       \
  KERNEL(128) name(const Bf16* x, const Bf16* y, float* out, int n) {   \
    turned_bugs::product<turned_bugs::BUG>(x, y, out, n);               \
  }                                                                     \
  SM_90A_EXPORT(name)

PLANTED_TURNED(planted_turned, NONE);
PLANTED_TURNED(planted_turned_missing_tile_fence, MISSING_TILE_FENCE);
PLANTED_TURNED(planted_turned_early_tile_fence, EARLY_TILE_FENCE);
PLANTED_TURNED(planted_turned_lone_tile_fence, LONE_TILE_FENCE);
PLANTED_TURNED(planted_turned_missing_barrier, MISSING_BARRIER);
PLANTED_TURNED(planted_turned_missing_fence, MISSING_FENCE);
PLANTED_TURNED(planted_turned_touched_operand, TOUCHED_OPERAND);
PLANTED_TURNED(planted_turned_reused_operand, REUSED_OPERAND);
PLANTED_TURNED(planted_turned_wrong_panel, WRONG_PANEL);
PLANTED_TURNED(planted_turned_no_swizzle, NO_SWIZZLE);
PLANTED_TURNED(planted_turned_late_copy, LATE_COPY);
PLANTED_TURNED(planted_turned_misaligned_tile, MISALIGNED_TILE);
