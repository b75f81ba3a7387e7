// Planted bugs of a product on tensor cores that is fed by asynchronous copies in three stages, as
// `gemm_fast.cu` is. Each kernel should give out = x x^T for x (16, n) bf16, n a multiple of 16,
// out (16, 16) f32; `planted_product` does. One block of two warps, each with 8 columns of out.
#include "../common.cuh"

namespace planted {

enum Bug {
  NONE,
  WEAK_WAIT,        // waits for all copies but those that it reads next
  MISSING_BARRIER,  // waits for its own copies, not for those of others
  EARLY_COPY,       // copies into a stage that others may still read
  MISALIGNED_ROW,   // a row of a matrix begins at no multiple of 16 bytes
  BANK_CONFLICT,    // rows lie so that shared memory gives them one after another
  DIVERGENT,        // half of a warp reads matrices
  LOST_HALF,        // takes a matrix's second half for its first
};

template <Bug BUG>
DEVICE void product(const Bf16* x, float* out, int n) {
  constexpr int STRIDE = BUG == BANK_CONFLICT ? 16 : 24;
  SHARED(Bf16, tiles, [3][16][STRIDE]);
  const int t = threadIdx.x, lane = t % 32, warp = t / 32;
  const auto load = [&](int step) {
    const int row = t / 2, col = t % 2 * 8;
    if (t < 32 && step * 16 < n) {
      copy_async(&tiles[step % 3][row][col], row_of(x, row, n) + step * 16 + col, 16);
    }
    commit_copies();
  };
  load(0);
  load(1);
  float sums[4] = {};
  for (int step = 0; step * 16 < n; ++step) {
    if (BUG == EARLY_COPY) load(step + 2);
    wait_copies<BUG == WEAK_WAIT || BUG == EARLY_COPY ? 2 : 1>();
    if (BUG != MISSING_BARRIER) sync_block();
    if (BUG != EARLY_COPY) load(step + 2);
    const auto& tile = tiles[step % 3];
    unsigned a[4], b[4] = {};
    load_matrices(a, &tile[lane % 16][lane / 16 * 8] + (BUG == MISALIGNED_ROW));
    if (BUG != DIVERGENT || lane < 16) {
      load_matrices(b, &tile[warp * 8 + lane % 8][lane / 8 % 2 * 8]);
    }
    multiply_add(sums, a, b[0], b[BUG == LOST_HALF ? 0 : 1]);
  }
  wait_copies<0>();
  for (int i = 0; i < 4; ++i) {
    out[(lane / 4 + i / 2 * 8) * 16 + warp * 8 + lane % 4 * 2 + i % 2] = sums[i];
  }
}

}  // namespace planted

#define PLANTED_PRODUCT(name, BUG)                    \
  KERNEL(64) name(const Bf16* x, float* out, int n) { \
    planted::product<planted::BUG>(x, out, n);        \
  }                                                   \
  EXPORT(name)

PLANTED_PRODUCT(planted_product, NONE);
PLANTED_PRODUCT(planted_product_weak_wait, WEAK_WAIT);
PLANTED_PRODUCT(planted_product_missing_barrier, MISSING_BARRIER);
PLANTED_PRODUCT(planted_product_early_copy, EARLY_COPY);
PLANTED_PRODUCT(planted_product_misaligned_row, MISALIGNED_ROW);
PLANTED_PRODUCT(planted_product_bank_conflict, BANK_CONFLICT);
PLANTED_PRODUCT(planted_product_divergent, DIVERGENT);
PLANTED_PRODUCT(planted_product_lost_half, LOST_HALF);
