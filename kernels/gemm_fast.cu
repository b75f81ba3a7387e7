// The product of precision `fast`: C = A W^T, or C += A W^T, bf16 on tensor cores, sums in f32; and
// what LoRA adds to it, where rows have adapters (gemm_fast.cuh).
//
//   c[i][j] = (c[i][j] +) sum over k of a[i][k] * w[j][k] (+ the update)
//
// a (n_rows, lda) bf16, w (n_out, ldw) bf16, c (n_rows, ldc) f32 or bf16. What c held is added
// once, after the sum; bf16 is rounded once, at the end. The tile and the order of k are the same
// for any number of rows, so a row has the same bits in any batch. They are not the CPU's bits: how
// a tensor core rounds within its sixteen additions is not specified.
//
// Floor: 2 n_rows n_out n_in operations on tensor cores, 989 TFLOP/s on an H200, 312 on an A100.
// Gemma-7B's gate and up, 8192 rows: 8192 * 3072 * 49152 * 2 = 2.5 TFLOP, 2.5 ms a layer on an
// H200; A, W and a C of bf16 are 1.2 GB, 0.24 ms: bound by arithmetic tenfold.
// v1  a thread per output, in f32: two loads for each multiply-add, predicted 0.3 % of the peak.
// v2  a tile of 128 x 128 outputs in four warps of 64 x 64, so two blocks share a multiprocessor
//     and one multiplies while the other writes. Cycles of sm_80 for 16 k of a tile: 256 for the
//     products, 1024 multiply-adds each; 128 for the 16 KiB that the warps read from shared memory
//     and 64 for the 8 KiB that arrive there, three quarters of its bandwidth. Warps of 64 x 32
//     would need 192 + 64, all of it.
//     Steps of 32 k arrive by asynchronous copies in three stages: a copy has nearly two steps to
//     arrive in, 1000 cycles or more. A row of 64 bytes is four chunks of 16; chunk c of row r lies
//     at c ^ (r / 2 % 4), so that the eight rows of a matrix, and the eight chunks that
//     neighbouring threads copy, lie in different banks. The fragments of the next 16 k are read
//     while this one's are multiplied. Blocks run through 16 row tiles for each column tile: what
//     264 of them read at a time is 33 tiles and not 265, and comes from L2.
//     Predicted 80 % of the peak on an A100, 55 % on an H200, whose peak mma.sync cannot reach.
//     The update's k go through the same stages, 32 for each slot and rank up to 32, so C is not
//     touched for it. With a slot in each row tile that is 528 steps beside 67 584 of a row tile of
//     all linears of a layer of Gemma-7B, 0.8 %. Not run on hardware.
#include "gemm_fast.cuh"

namespace gemm_fast {

constexpr int TILE = 128;    // rows and columns of C
static_assert(TILE == TILE_ROWS, "slots are those of row tiles");
constexpr int STEP = 32;     // k at a time
constexpr int STAGES = 3;    // steps in shared memory
constexpr int CHUNK = 8;     // numbers in 16 bytes
constexpr int WARP_TILE = 64;
constexpr int ROWS = WARP_TILE / 16, COLS = WARP_TILE / 8;  // products of 16 x 8 in a warp's tile

using Operand = Bf16[TILE][STEP];

// What a warp multiplies at a time: 16 k of its rows of A and of W.
struct Fragments {
  unsigned a[ROWS][4], w[COLS / 2][4];
};

// Where a chunk of a row lies.
DEVICE int place_of(int row, int chunk) { return (chunk ^ (row / 2 % 4)) * CHUNK; }

// Copies rows first.. and columns k.. of a matrix to a tile; zeros stand for what lies outside.
DEVICE void load(Operand& tile, const Bf16* matrix, int ld, int first, int n_rows, int k,
                 int n_in) {
  const int chunk = threadIdx.x % 4, col = k + chunk * CHUNK;
  const int n_bytes = least(greatest(n_in - col, 0), CHUNK) * 2;
#pragma unroll
  for (int i = 0; i < TILE / 32; ++i) {
    const int row = threadIdx.x / 4 + 32 * i;
    const bool is_inside = first + row < n_rows && n_bytes > 0;
    const Bf16* from = is_inside ? row_of(matrix, first + row, ld) + col : matrix;
    copy_async(&tile[row][place_of(row, chunk)], from, is_inside ? n_bytes : 0);
  }
}

// Reads the fragments of 16 k, from the tile's `first_chunk` on.
DEVICE void read(Fragments& to, const Operand& a, const Operand& w, int warp_row, int warp_col,
                 int first_chunk) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {  // matrices: 8 rows, the next 8 rows; both 8 k on
    const int row = warp_row + 16 * i + lane % 16;
    load_matrices(to.a[i], &a[row][place_of(row, first_chunk + lane / 16)]);
  }
#pragma unroll
  for (int j = 0; j < COLS / 2; ++j) {  // matrices: 8 columns of C, the same 8 k on; the next 8
    const int row = warp_col + 16 * j + lane / 16 * 8 + lane % 8;
    load_matrices(to.w[j], &w[row][place_of(row, first_chunk + lane / 8 % 2)]);
  }
}

DEVICE void multiply(float (&sums)[ROWS][COLS][4], const Fragments& fragments) {
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
#pragma unroll
    for (int j = 0; j < COLS; ++j) {
      const unsigned(&w)[4] = fragments.w[j / 2];
      multiply_add(sums[i][j], fragments.a[i], w[j % 2 * 2], w[j % 2 * 2 + 1]);
    }
  }
}

template <class T>
DEVICE void product_v1(const Bf16* a, const Bf16* w, T* c, int n_rows, int n_out, int n_in, int lda,
                       int ldw, int ldc, int start, const Update& update) {
  const int col = blockIdx.x * 16 + threadIdx.x % 16, row = blockIdx.y * 16 + threadIdx.x / 16;
  if (row >= n_rows || col >= n_out) return;
  float sum = 0.0f;
  for (int k = 0; k < n_in; ++k) {
    sum = fma_rn(widen(row_of(a, row, lda)[k]), widen(row_of(w, col, ldw)[k]), sum);
  }
  const Added added = added_to({row, col}, update);
  for (int slot = added.first_slot; slot < added.first_slot + added.n_slots; ++slot) {
    const int shrunk_row = shrunk_row_of(added, update, slot) + row % TILE_ROWS;
    const Bf16* shrunk = row_of(update.shrunk, shrunk_row, update.depth);
    const Bf16* b = row_of(update.b, b_row_of(added, update, slot), update.depth);
    for (int r = 0; r < added.n_k; ++r) sum = fma_rn(widen(shrunk[r]), widen(b[r]), sum);
  }
  write2(row_of(c, row, ldc) + col, sum, 0.0f, 1, start);
}

template <class T>
DEVICE void product_v2(const Bf16* a, const Bf16* w, T* c, int n_rows, int n_out, int n_in, int lda,
                       int ldw, int ldc, int start, const Update& update) {
  SHARED(Bf16, a_tiles, [STAGES][TILE][STEP]);
  SHARED(Bf16, w_tiles, [STAGES][TILE][STEP]);

  const Tile tile =
      tile_of<TILE>(blockIdx.x, n_tiles_of(n_rows, TILE), n_tiles_of(n_out, TILE));
  const Added added = added_to(tile, update);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_row = warp / 2 * WARP_TILE, warp_col = warp % 2 * WARP_TILE;

  // A step of the base's k, or of a slot's. A group is committed for every step, were it empty, so
  // that the count of groups says which steps have arrived.
  const int n_base_steps = n_tiles_of(n_in, STEP), n_slot_steps = n_tiles_of(added.n_k, STEP);
  const int n_steps = n_base_steps + added.n_slots * n_slot_steps;
  const auto load_step = [&](int step, int stage) {
    if (step < n_base_steps) {
      load(a_tiles[stage], a, lda, tile.row, n_rows, step * STEP, n_in);
      load(w_tiles[stage], w, ldw, tile.col, n_out, step * STEP, n_in);
    } else if (step < n_steps) {
      const int slot = added.first_slot + (step - n_base_steps) / n_slot_steps;
      const int k = (step - n_base_steps) % n_slot_steps * STEP;
      const int row = shrunk_row_of(added, update, slot), b_row = b_row_of(added, update, slot);
      load(a_tiles[stage], update.shrunk, update.depth, row, row + TILE, k, added.n_k);
      load(w_tiles[stage], update.b, update.depth, b_row, b_row + added.n_cols, k, added.n_k);
    }
    commit_copies();
  };

  // Load all stages but one.
#pragma unroll
  for (int step = 0; step < STAGES - 1; ++step) load_step(step, step);
  wait_copies<STAGES - 2>();
  sync_block();

  float sums[ROWS][COLS][4] = {};
  Fragments fragments[2];
  read(fragments[0], a_tiles[0], w_tiles[0], warp_row, warp_col, 0);
  int stage = 0, next = 1 % STAGES, last = STAGES - 1;
  for (int step = 0; step < n_steps; ++step) {
    // Read the second half of this step; load the step for which the last barrier made room.
    read(fragments[1], a_tiles[stage], w_tiles[stage], warp_row, warp_col, 2);
    load_step(step + STAGES - 1, last);
    multiply(sums, fragments[0]);

    // The next step has arrived, and nobody reads this one any more. After the last step nobody
    // uses what is read here.
    wait_copies<STAGES - 2>();
    sync_block();
    read(fragments[0], a_tiles[next], w_tiles[next], warp_row, warp_col, 0);
    multiply(sums, fragments[1]);
    last = stage, stage = next, next = next + 1 == STAGES ? 0 : next + 1;
  }

  // Write.
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = tile.row + warp_row + 16 * i + 8 * half + lane / 4;
      if (row >= n_rows) continue;
#pragma unroll
      for (int j = 0; j < COLS; ++j) {
        const int col = tile.col + warp_col + 8 * j + lane % 4 * 2;
        write2(row_of(c, row, ldc) + col, sums[i][j][2 * half], sums[i][j][2 * half + 1],
               n_out - col, start);
      }
    }
  }
}

}  // namespace gemm_fast

// v1: grid (ceil(n_out / 16), ceil(n_rows / 16)), block 256.
// v2: grid (ceil(n_out / 128) * ceil(n_rows / 128)), block 128; a and w begin at multiples of 16
// bytes and their rows at multiples of 8 numbers, so do the update's; c begins at a multiple of two
// numbers, and so do its rows. The parts that have adapters begin at columns that are multiples of
// 128.
#define GEMM_FAST(name, T)                                                                       \
  KERNEL(256) gemm_fast_##name##_v1(const Bf16* a, const Bf16* w, T* c, int n_rows, int n_out,   \
                                    int n_in, int lda, int ldw, int ldc, int start,              \
                                    gemm_fast::Update update) {                                  \
    gemm_fast::product_v1(a, w, c, n_rows, n_out, n_in, lda, ldw, ldc, start, update);           \
  }                                                                                              \
  EXPORT(gemm_fast_##name##_v1);                                                                 \
  KERNEL(128) gemm_fast_##name##_v2(const Bf16* a, const Bf16* w, T* c, int n_rows, int n_out,   \
                                    int n_in, int lda, int ldw, int ldc, int start,              \
                                    gemm_fast::Update update) {                                  \
    gemm_fast::product_v2(a, w, c, n_rows, n_out, n_in, lda, ldw, ldc, start, update);           \
  }                                                                                              \
  EXPORT(gemm_fast_##name##_v2)

GEMM_FAST(f32, float);
GEMM_FAST(bf16, Bf16);
