// Planted bugs of a product in which rows have adapters, made as `gemm_fast.cuh` says. Each kernel
// should give
//   out[i][j] = sum over k of x[i][k] * w[j][k] + sum over r of shrunk[i][r] * b[g][j][r]
// where g is row i's adapter: x and shrunk (n, 16) bf16, w (8, 16), b (n_adapters, 8, 16), out
// (n, 8) f32, n a multiple of 16. slots (row tile, adapter) and first_slots are those of tiles of
// 16 rows. `planted_update` does. A block of one warp has a tile.
#include "../common.cuh"

namespace planted_updates {

enum Bug {
  NONE,
  OTHER_TILE,   // takes the slots of the tile before
  LOST_SLOT,    // leaves out a tile's last slot
  OTHERS_ROWS,  // multiplies a slot's b with rows of other adapters
};

// What a lane has of 16 rows, of which it takes those that `is_own` says, or of 8 columns.
template <class IsOwn>
DEVICE void read(unsigned (&to)[4], const Bf16* rows, const IsOwn& is_own) {
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = g + i % 2 * 8, col = 2 * t + i / 2 * 8;
    const Two<Bf16> two = load2(row_of(rows, row, 16) + col);
    to[i] = is_own(row) ? narrow2(widen(two.values[0]), widen(two.values[1])) : 0;
  }
}

DEVICE void multiply(float (&sums)[4], const unsigned (&a)[4], const Bf16* columns) {
  const Bf16* column = row_of(columns, threadIdx.x / 4, 16) + threadIdx.x % 4 * 2;
  const Two<Bf16> low = load2(column), high = load2(column + 8);
  multiply_add(sums, a, narrow2(widen(low.values[0]), widen(low.values[1])),
               narrow2(widen(high.values[0]), widen(high.values[1])));
}

template <Bug BUG>
DEVICE void product(const Bf16* x, const Bf16* w, const Bf16* shrunk, const Bf16* b,
                    const int* adapter_of, const int* slots, const int* first_slots, float* out) {
  const int tile = blockIdx.x, first_row = tile * 16;
  const int slots_tile = BUG == OTHER_TILE ? greatest(tile - 1, 0) : tile;
  const int end = first_slots[slots_tile + 1] - (BUG == LOST_SLOT);
  float sums[4] = {};
  unsigned a[4];
  read(a, row_of(x, first_row, 16), [](int) { return true; });
  multiply(sums, a, w);
  for (int slot = first_slots[slots_tile]; slot < end; ++slot) {
    const int adapter = slots[2 * slot + 1];
    const auto is_own = [&](int row) {
      return BUG == OTHERS_ROWS || adapter_of[first_row + row] == adapter;
    };
    read(a, row_of(shrunk, first_row, 16), is_own);
    multiply(sums, a, b + adapter * 8 * 16);
  }
  for (int i = 0; i < 4; ++i) {
    const int row = first_row + threadIdx.x / 4 + i / 2 * 8;
    row_of(out, row, 8)[threadIdx.x % 4 * 2 + i % 2] = sums[i];
  }
}

}  // namespace planted_updates

#define PLANTED_UPDATE(name, BUG)                                                               \
  KERNEL(32) name(const Bf16* x, const Bf16* w, const Bf16* shrunk, const Bf16* b,              \
                  const int* adapter_of, const int* slots, const int* first_slots, float* out) { \
    planted_updates::product<planted_updates::BUG>(x, w, shrunk, b, adapter_of, slots,          \
                                                   first_slots, out);                           \
  }                                                                                             \
  EXPORT(name)

PLANTED_UPDATE(planted_update, NONE);
PLANTED_UPDATE(planted_update_other_tile, OTHER_TILE);
PLANTED_UPDATE(planted_update_lost_slot, LOST_SLOT);
PLANTED_UPDATE(planted_update_others_rows, OTHERS_ROWS);
