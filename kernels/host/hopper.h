// sm_90a on the CPU, as `hopper.cuh` sees it: barriers with byte counts, copies of tiles, products
// of a warpgroup. Copies arrive, and products are computed, as late as they may: when somebody
// waits. Until then the tile, and the sums, hold NaN. Checks beside those of `emulator.h`:
//
//   barrier              one that nobody initialised, or more arrivals than it awaits
//   stuck-barrier        threads wait for arrivals that nobody is left to make
//   wrong-bytes          a phase is told of other bytes than its copies bring
//   tensor-map           a map that cuTensorMapEncodeTiled would refuse, or a box it cannot fill
//   missing-fence        a copy to a barrier that was not published, a product without its fence,
//                        or of what was copied by threads that have not fenced it since
//   unwaited-copy        a block ends before all of its copies were waited for
//   unwaited-product     a thread leaves before its products are done
//   changed-operand      a tile changes between a product's begin and its end
//   touched-sums         sums are written while a product has them
//   touched-operand      a left side in registers is written while a product reads it
//   partial-warpgroup    a product in a warpgroup of fewer than four warps
//   divergent-warpgroup  the warps of a warpgroup begin different products, or one fewer
#pragma once

#include "emulator.h"

namespace host {

// What one block may have on sm_90a.
constexpr std::size_t SM_90A_SHARED = 227 << 10;

// What the device takes as CUtensorMap: a matrix of 16-bit numbers, its rows contiguous, and the
// box that is copied at a time. `swizzle` as in CUtensorMapSwizzle: 0 none, 2 64 bytes, 3 128.
struct alignas(64) TensorMap {
  const unsigned char* start;
  std::uint64_t n_cols, n_rows, row_bytes;
  std::uint32_t box_cols, box_rows, swizzle;
  unsigned char unused[128 - 44];
};
static_assert(sizeof(TensorMap) == 128);

void init_barrier(void* barrier, int n_arrivals, Place place);
void publish_barriers();
void arrive(void* barrier, int n_bytes, Place place);
void wait_barrier(void* barrier, unsigned parity, Place place);
void copy_tile(void* to, const TensorMap& map, int col, int row, void* barrier, Place place);
void fence_tiles();
void fence_products(Place place);
void multiply_add_tiles(float* sums, int n_cols, const void* a, const void* b, int row_bytes,
                        Place place);
void multiply_add_turned(float* sums, int n_cols, unsigned* a, const void* b, int panel_bytes,
                         Place place);
void commit_products(Place place);
void wait_products(int n_groups, Place place);

}  // namespace host
