// The product of precision `fast` on sm_90a, the third version of gemm_fast.cu's: C = A W^T, or
// C += A W^T, bf16 on tensor cores, sums in f32; and what LoRA adds to it (gemm_fast.cuh).
//
//   c[i][j] = (c[i][j] +) sum over k of a[i][k] * w[j][k] (+ the update)
//
// a (n_rows, n_in) and w (n_out, n_in) bf16 stand in tensor maps, c (n_rows, ldc) is f32 or bf16.
// What c held is added once, after the sum; bf16 is rounded once, at the end. Tile and order of k
// are the same for any number of rows, and for any grid, so a row has the same bits in any batch.
// They are not v2's bits: one instruction adds other products in another order.
//
// Floor: as in gemm_fast.cu, 2 n_rows n_out n_in operations at 989 TFLOP/s on an H200.
// v1, v2  see gemm_fast.cu; mma.sync cannot reach Hopper's peak.
// v3  wgmma reads both operands from shared memory, where the tensor memory accelerator puts them:
//     no fragments pass through registers, and a thread begins a copy of a whole tile. A tile is
//     128 x 256 outputs; each of two warpgroups has 64 x 256 of them, 128 sums a thread. Cycles of
//     a multiprocessor for 16 k of it: 256 for the products, 2048 multiply-adds each; 160 for the
//     20 KiB that the warpgroups read from shared memory and 96 for the 12 KiB that arrive there,
//     just its bandwidth. 128 x 128 would need 96 + 64 for 128 cycles of products, 256 x 128 would
//     need 192 + 96 for 256.
//     Steps of 64 k, rows of 128 bytes, are 48 KiB: four stages are 192 KiB of 227, and a copy has
//     three steps to arrive in, 3000 cycles. A ninth warp begins the copies; 288 threads may have
//     224 registers each, so none need be moved from it to the others. A block takes tile after
//     tile, a grid's width apart: the next tile's steps arrive while this one's sums are written.
//     Tiles run through 16 row tiles for each column tile: what 132 blocks read at a time is
//     2048 rows of A and 2304 of W.
//     The update's k follow through the same stages, a step for each slot and rank up to 64, of
//     which as many products of 16 k are begun as there are. What its boxes have beyond the rank is
//     filled with zeros and read from nowhere. A slot of rank 16 costs 384 cycles, in which its
//     48 KiB arrive, of 48 * 1024 for Gemma-7B's gate and up; with a slot in each row tile all
//     linears take 0.6 % more. 128 rows of as many adapters as a batch has, 20, are 20 such steps.
//     To come: at the peak's pace 132 blocks ask 11 TB/s of L2, 48 KiB in 1024 cycles each; pairs
//     of blocks that share W's tile by multicast would ask 7. bf16 is written 16 bytes in a row.
//     Predicted 60 % of the peak. Not run on hardware.
#include "gemm_fast.cuh"
#include "hopper.cuh"

namespace gemm_hopper {

using namespace gemm_fast;

constexpr int ROWS = TILE_ROWS, COLS = 256;  // of C in a tile
constexpr int STEP = 64;      // k at a time: a row of 128 bytes
constexpr int STAGES = 4;     // steps in shared memory
constexpr int CONSUMERS = 8;  // warps that multiply; the next one copies
constexpr int THREADS = 32 * (CONSUMERS + 1);

// What is in shared memory, from a multiple of 1024 bytes on: so must tiles begin.
struct Shared {
  Bf16 a[STAGES][ROWS][STEP];
  Bf16 w[STAGES][COLS][STEP];
  Barrier full[STAGES];   // a step has arrived: one arrival, its bytes
  Barrier empty[STAGES];  // a step has been read: an arrival of each warp that multiplies
};
constexpr int STEP_BYTES = (ROWS + COLS) * STEP * 2;
static_assert(sizeof(Shared) + 1008 <= 227 * 1024, "what a block may have");

// A stage, and the parity of the phase that its barriers are in: it turns with every round.
struct Place {
  int stage = 0;
  unsigned parity = 0;
};

DEVICE void advance(Place& place) {
  if (++place.stage < STAGES) return;
  place.stage = 0;
  place.parity ^= 1;
}

// The matrices, as the tensor memory accelerator knows them.
struct Maps {
  const TensorMap &a, &w, &shrunk, &b;
};

// One thread: all steps of all tiles, each as soon as its stage has been read.
DEVICE void copy_all(Shared& shared, const Maps& maps, const Update& update, int n_row_tiles,
                     int n_col_tiles, int n_steps) {
  Place place;
  const auto copy = [&](const TensorMap& a, int a_row, const TensorMap& w, int w_row, int k) {
    wait_barrier(&shared.empty[place.stage], place.parity ^ 1);
    Barrier* const full = &shared.full[place.stage];
    arrive_expecting(full, STEP_BYTES);
    copy_tile(shared.a[place.stage], a, k, a_row, full);
    copy_tile(shared.w[place.stage], w, k, w_row, full);
    advance(place);
  };
  for (int idx = blockIdx.x; idx < n_row_tiles * n_col_tiles; idx += gridDim.x) {
    const Tile tile = tile_of<COLS>(idx, n_row_tiles, n_col_tiles);
    for (int step = 0; step < n_steps; ++step) {
      copy(maps.a, tile.row, maps.w, tile.col, step * STEP);
    }
    const Added added = added_to(tile, update);
    for (int slot = added.first_slot; slot < added.first_slot + added.n_slots; ++slot) {
      const int row = shrunk_row_of(added, update, slot), b_row = b_row_of(added, update, slot);
      for (int k = 0; k < added.n_k; k += STEP) copy(maps.shrunk, row, maps.b, b_row, k);
    }
  }
}

// A warpgroup: sums (64, 256) over all steps. A stage is given back after the next step's products
// have begun, so that there are always some under way.
DEVICE void multiply(float (&sums)[128], Shared& shared, Place& place, int first_row, int n_steps,
                     const Added& added) {
  const bool is_first_lane = threadIdx.x % 32 == 0;
  int last_stage = -1;
  const auto multiply_16 = [&](int k) {
    multiply_add_tiles(sums, &shared.a[place.stage][first_row][k], &shared.w[place.stage][0][k],
                       SWIZZLE_128);
  };
  const auto give_back_last = [&] {
    if (last_stage >= 0 && is_first_lane) arrive(&shared.empty[last_stage]);
    last_stage = place.stage;
    advance(place);
  };
  for (int step = 0; step < n_steps; ++step) {
    wait_barrier(&shared.full[place.stage], place.parity);
    fence_products(sums);
#pragma unroll
    for (int k = 0; k < STEP; k += 16) multiply_16(k);
    commit_products();
    wait_products<1>(sums);
    give_back_last();
  }
  // The slots. Each product is a group: of groups whose size it does not know ptxas would wait for
  // every product.
  for (int slot = 0; slot < added.n_slots; ++slot) {
    for (int first_k = 0; first_k < added.n_k; first_k += STEP) {
      wait_barrier(&shared.full[place.stage], place.parity);
#pragma unroll 1
      for (int k = 0; k < least(added.n_k - first_k, STEP); k += 16) {
        fence_products(sums);
        multiply_16(k);
        commit_products();
        wait_products<1>(sums);
      }
      give_back_last();
    }
  }
  wait_products<0>(sums);
  if (last_stage >= 0 && is_first_lane) arrive(&shared.empty[last_stage]);
}

// Writes what a thread has of a row of a tile. Where the whole tile lies in C, what C held is read
// eight pairs at a time: one after another they would take as long as the products.
template <class T>
DEVICE void write_row(T* out, const float (&sums)[128], int half, int n_left, int start) {
  constexpr int PAIRS = 8;
  const bool is_whole = n_left >= COLS - 6;
#pragma unroll
  for (int first = 0; first < COLS / 8; first += PAIRS) {
    if (is_whole && start == START_FROM_C) {
      Two<T> held[PAIRS];
#pragma unroll
      for (int i = 0; i < PAIRS; ++i) held[i] = load2(out + (first + i) * 8);
#pragma unroll
      for (int i = 0; i < PAIRS; ++i) {
        const float* const sum = &sums[4 * (first + i) + 2 * half];
        store2(out + (first + i) * 8, add_rn(widen(held[i].values[0]), settled(sum[0])),
               add_rn(widen(held[i].values[1]), settled(sum[1])));
      }
    } else {
#pragma unroll
      for (int i = first; i < first + PAIRS; ++i) {
        const float* const sum = &sums[4 * i + 2 * half];
        write2(out + i * 8, sum[0], sum[1], n_left - i * 8, start);
      }
    }
  }
}

template <class T>
DEVICE void product(const Maps& maps, T* c, int n_rows, int n_out, int n_in, int ldc, int start,
                    const Update& update) {
  DYNAMIC_SHARED(unsigned char, bytes);
  Shared& shared = *reinterpret_cast<Shared*>(aligned_1024(bytes));
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < STAGES; ++stage) {
      init_barrier(&shared.full[stage], 1);
      init_barrier(&shared.empty[stage], CONSUMERS);
    }
    publish_barriers();
  }
  sync_block();

  const int n_row_tiles = n_tiles_of(n_rows, ROWS), n_col_tiles = n_tiles_of(n_out, COLS);
  const int n_steps = n_tiles_of(n_in, STEP);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (warp == CONSUMERS) {
    if (lane == 0) copy_all(shared, maps, update, n_row_tiles, n_col_tiles, n_steps);
    return;
  }

  Place place;
  for (int idx = blockIdx.x; idx < n_row_tiles * n_col_tiles; idx += gridDim.x) {
    const Tile tile = tile_of<COLS>(idx, n_row_tiles, n_col_tiles);
    float sums[128] = {};
    multiply(sums, shared, place, warp / 4 * 64, n_steps, added_to(tile, update));

    // Write.
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = tile.row + warp * 16 + half * 8 + lane / 4;
      if (row >= n_rows) continue;
      const int col = tile.col + lane % 4 * 2;
      write_row(row_of(c, row, ldc) + col, sums, half, n_out - col, start);
    }
  }
}

}  // namespace gemm_hopper

// v3: any grid (n), 132 blocks on an H200 or as many as there are tiles of 128 x 256 if they are
// fewer; block 288; 197 696 bytes of dynamic shared memory. The maps have boxes of 64 columns, and
// of 128 rows for a and shrunk, (n_slots * n_parts * 128, depth), of 256 for w and b, (all rows of
// the parts, depth), swizzled by 128 bytes, zeros outside; so all begin at multiples of 16 bytes
// and their rows at multiples of 8 numbers. Without an update the last two are not looked at. c
// begins at a multiple of two numbers, and so do its rows. The parts that have adapters begin at
// columns that are multiples of 256. Chips other than sm_90a trap.
#define GEMM_HOPPER(name, T)                                                                    \
  KERNEL(288) gemm_hopper_##name##_v3(GRID_CONSTANT TensorMap a, GRID_CONSTANT TensorMap w,     \
                                      T* c, int n_rows, int n_out, int n_in, int ldc,           \
                                      int start, GRID_CONSTANT TensorMap shrunk,                \
                                      GRID_CONSTANT TensorMap b, gemm_fast::Update update) {    \
    if constexpr (HAS_HOPPER) {                                                                 \
      gemm_hopper::product({a, w, shrunk, b}, c, n_rows, n_out, n_in, ldc, start, update);      \
    } else {                                                                                    \
      trap();                                                                                   \
    }                                                                                           \
  }                                                                                             \
  SM_90A_EXPORT(gemm_hopper_##name##_v3)

GEMM_HOPPER(f32, float);
GEMM_HOPPER(bf16, Bf16);
static_assert(gemm_hopper::THREADS == 288 && sizeof(gemm_hopper::Shared) == 196672, "as said");
