// Planted bugs of a product on sm_90a, made as `gemm_hopper.cu` is. Each kernel should give the
// first 64 rows of x x^T for x (256, n) bf16 in a tensor map with boxes of (256, 64), swizzled by
// 128 bytes; out (64, 256) f32. `planted_hopper` does. One block: a warpgroup multiplies, the warp
// behind it copies, through two stages.
#include "../common.cuh"
#include "../hopper.cuh"

namespace hopper_bugs {

enum Bug {
  NONE,
  MISSING_PRODUCT_WAIT,  // writes sums while products have them
  WEAK_PRODUCT_WAIT,     // gives a stage back while the latest products read it
  MISSING_BARRIER_WAIT,  // multiplies what may not have arrived
  LATE_BARRIER_WAIT,     // waits for a step's copies after its products have begun
  MORE_BYTES,            // awaits more than is copied
  FEWER_BYTES,           // awaits less
  MISSING_FENCE,         // of the products
  UNPUBLISHED_BARRIER,   // that the copies' proxy does not know of
  UNSET_BARRIER,         // that nobody initialised
  OTHER_PARITY,          // waits for the phase before
  WRONG_SWIZZLE,         // reads rows as if they were of 64 bytes
  LOST_WARP,             // one warp of four leaves a product out
  HALF_WARP,             // half of a warp does
  MISSING_ARRIVAL,       // a warp does not give its stages back
  TOUCHED_SUMS,          // changes sums between two products
  MISALIGNED_TILE,       // a tile begins in the middle of the swizzle's pattern
};

struct Shared {
  Bf16 tiles[2][256][64];
  Barrier full[2], empty[2];
};

template <Bug BUG>
DEVICE void product(const TensorMap& x, float* out, int n) {
  DYNAMIC_SHARED(unsigned char, bytes);
  const int shift = BUG == MISALIGNED_TILE ? 128 : 0;
  Shared& shared = *reinterpret_cast<Shared*>(aligned_1024(bytes) + shift);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_steps = n_tiles_of(n, 64);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < 2; ++stage) {
      if (BUG != UNSET_BARRIER) init_barrier(&shared.full[stage], 1);
      init_barrier(&shared.empty[stage], 4);
    }
    if (BUG != UNPUBLISHED_BARRIER) publish_barriers();
  }
  sync_block();

  if (warp == 4) {
    for (int step = 0; step < n_steps && lane == 0; ++step) {
      Barrier* const full = &shared.full[step % 2];
      wait_barrier(&shared.empty[step % 2], step / 2 % 2 ^ 1);
      const int off = BUG == MORE_BYTES ? 2 : BUG == FEWER_BYTES ? -2 : 0;
      arrive_expecting(full, 256 * 64 * 2 + off);
      copy_tile(shared.tiles[step % 2], x, step * 64, 0, full);
    }
    return;
  }

  float sums[128] = {};
  for (int step = 0; step < n_steps; ++step) {
    const Bf16(&tile)[256][64] = shared.tiles[step % 2];
    Barrier* const full = &shared.full[step % 2];
    const unsigned parity = step / 2 % 2 ^ (BUG == OTHER_PARITY);
    if (BUG != MISSING_BARRIER_WAIT && BUG != LATE_BARRIER_WAIT) wait_barrier(full, parity);
    if (BUG != MISSING_FENCE) fence_products(sums);
    for (int k = 0; k < 64; k += 16) {
      if (BUG == LOST_WARP && warp == 2 && k == 16) continue;
      if (BUG == HALF_WARP && lane >= 16 && k == 16) continue;
      multiply_add_tiles(sums, &tile[0][k], &tile[0][k],
                         BUG == WRONG_SWIZZLE ? SWIZZLE_64 : SWIZZLE_128);
      if (BUG == TOUCHED_SUMS && k == 16) sums[0] = 0.0f;
    }
    commit_products();
    if (BUG == LATE_BARRIER_WAIT) wait_barrier(full, parity);
    if (BUG == WEAK_PRODUCT_WAIT) {
      wait_products<1>(sums);
    } else if (BUG != MISSING_PRODUCT_WAIT) {
      wait_products<0>(sums);
    }
    if (lane == 0 && !(BUG == MISSING_ARRIVAL && warp == 3)) arrive(&shared.empty[step % 2]);
  }
  if (BUG != MISSING_PRODUCT_WAIT) wait_products<0>(sums);
  for (int i = 0; i < 128; ++i) {
    const int row = warp * 16 + i % 4 / 2 * 8 + lane / 4, col = i / 4 * 8 + lane % 4 * 2 + i % 2;
    out[row * 256 + col] = sums[i];
  }
}

}  // namespace hopper_bugs

#define PLANTED_HOPPER(name, BUG)                                       \
  KERNEL(160) name(GRID_CONSTANT TensorMap x, float* out, int n) {      \
    hopper_bugs::product<hopper_bugs::BUG>(x, out, n);            \
  }                                                                     \
  SM_90A_EXPORT(name)

PLANTED_HOPPER(planted_hopper, NONE);
PLANTED_HOPPER(planted_hopper_missing_product_wait, MISSING_PRODUCT_WAIT);
PLANTED_HOPPER(planted_hopper_weak_product_wait, WEAK_PRODUCT_WAIT);
PLANTED_HOPPER(planted_hopper_missing_barrier_wait, MISSING_BARRIER_WAIT);
PLANTED_HOPPER(planted_hopper_late_barrier_wait, LATE_BARRIER_WAIT);
PLANTED_HOPPER(planted_hopper_more_bytes, MORE_BYTES);
PLANTED_HOPPER(planted_hopper_fewer_bytes, FEWER_BYTES);
PLANTED_HOPPER(planted_hopper_missing_fence, MISSING_FENCE);
PLANTED_HOPPER(planted_hopper_unpublished_barrier, UNPUBLISHED_BARRIER);
PLANTED_HOPPER(planted_hopper_unset_barrier, UNSET_BARRIER);
PLANTED_HOPPER(planted_hopper_other_parity, OTHER_PARITY);
PLANTED_HOPPER(planted_hopper_wrong_swizzle, WRONG_SWIZZLE);
PLANTED_HOPPER(planted_hopper_lost_warp, LOST_WARP);
PLANTED_HOPPER(planted_hopper_half_warp, HALF_WARP);
PLANTED_HOPPER(planted_hopper_missing_arrival, MISSING_ARRIVAL);
PLANTED_HOPPER(planted_hopper_touched_sums, TOUCHED_SUMS);
PLANTED_HOPPER(planted_hopper_misaligned_tile, MISALIGNED_TILE);
