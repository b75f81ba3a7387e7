// LoRA of precision `fast`, the first half of `y += (scale B) (A x)` where rows of one batch belong
// to different adapters; the second half is a part of the product (gemm_fast.cuh).
//
//   shrunk[s][p][i][r] = sum over k of x[i of the slot's row tile][k] * a[adapter of s][p][r][k]
//
// in rows that have the slot's adapter; zero in all others, and behind the batch's last row. Sums
// are f32 and rounded to bf16 once.
//
// x (n_rows, ldx) bf16; a (n_adapters, n_parts, depth, lda) bf16, where n_parts are the parts of
// the product that have adapters and depth is their largest rank or the next multiple of 16, as
// lora_prepare_fast.cu makes it; adapter_of (n_rows) is the row's adapter, -1 for none; slots
// (n_slots, 2) are row tile and adapter, one for each adapter of each 128 rows; shrunk (n_slots,
// n_parts, 128, depth) bf16.
//
// Floor: x once. All linears of Gemma-7B, 8192 rows: 0.57 GB a layer, 0.12 ms at 4.8 TB/s; its
// products are 4.5 TFLOP, 7.6 ms at 60 % of the peak.
// v1  a thread per number; x is read once for each r.
// v2  a launch for each part, A in f32 as the sum of two bf16, shrunk in f32, and a second kernel
//     that added to y: 0.72 GB, and 2.2 GB for y, which was read and written once more. Predicted
//     10 % of the products, over the 8 % that are aimed at; so it went.
// v3  one launch for all parts. A block has 64 rows, 48 columns of all parts' r and at most 4096
//     k; four warps of 16 rows each read both from shared memory, where steps of 64 k arrive by
//     asynchronous copies in four stages: 14 KiB a step, three on their way, 42 KiB in each of 128
//     blocks, where 4.8 TB/s for 0.8 us want 30. Rows of other adapters are not read. A block
//     without a row of its slot writes zeros and leaves.
//     k is split at multiples of 4096, so at places that depend on n_in alone; lora_sum_fast adds
//     what the splits have in order. Of Gemma-7B's linears that is the down projection: when 12
//     rows of each of 20 adapters decode, a block would read 1.4 MB of A and x by itself, 13 us at
//     110 GB/s beside a product of 31; six blocks take 2 us. The sums in between are 2 % of x.
//     Predicted 75 % of copy bandwidth, 0.16 ms a layer; with the product's own k 3 % of products.
//     Not run on hardware.
#include "gemm_fast.cuh"

namespace lora_fast {

constexpr int TILE_ROWS = gemm_fast::TILE_ROWS;
constexpr int ROWS = 64, COLS = 48;  // of a block; two blocks have a row tile
constexpr int STEP = 64;             // k at a time: a row of eight chunks
constexpr int STAGES = 4;            // steps in shared memory
constexpr int SPLIT = 4096;          // k of a block
constexpr int CHUNK = 8;             // numbers in 16 bytes
constexpr int CHUNKS = STEP / CHUNK;

struct Shared {
  Bf16 x[STAGES][ROWS][STEP];
  Bf16 a[STAGES][COLS][STEP];
};

// Where a chunk of a row lies: eight rows' in different banks.
DEVICE int place_of(int row, int chunk) { return (chunk ^ row % 8) * CHUNK; }

// Where number r of all parts' stands in row i of a slot's tile.
DEVICE long long place_in(int slot, int r, int i, int n_parts, int depth) {
  const int part = r / depth;
  return (static_cast<long long>(slot * n_parts + part) * TILE_ROWS + i) * depth + r % depth;
}

// The adapter of a row; none behind the last.
DEVICE int adapter_at(const int* adapter_of, int row, int n_rows) {
  return row < n_rows ? adapter_of[row] : -1;
}

// Copies a chunk of which `n` numbers are there, perhaps none.
DEVICE void copy(Bf16* to, const Bf16* from, int n) {
  copy_async(to, from, least(greatest(n, 0), CHUNK) * 2);
}

}  // namespace lora_fast

// grid (n_parts * depth, n_slots), block 128
KERNEL(128) lora_shrink_fast_v1(const Bf16* x, const Bf16* a, const int* adapter_of,
                                const int* slots, Bf16* shrunk, int n_rows, int n_in, int n_parts,
                                int depth, int ldx, int lda) {
  using namespace lora_fast;
  const int r = blockIdx.x, slot = blockIdx.y, i = threadIdx.x;
  const int row = slots[2 * slot] * TILE_ROWS + i, adapter = slots[2 * slot + 1];
  float sum = 0.0f;
  if (adapter_at(adapter_of, row, n_rows) == adapter) {
    const Bf16* a_row = row_of(a, adapter * n_parts * depth + r, lda);
    for (int k = 0; k < n_in; ++k) {
      sum = fma_rn(widen(row_of(x, row, ldx)[k]), widen(a_row[k]), sum);
    }
  }
  store(shrunk + place_in(slot, r, i, n_parts, depth), sum);
}
EXPORT(lora_shrink_fast_v1);

// grid (2 * n_slots, ceil(n_parts * depth / 48), ceil(n_in / 4096)), block 128; 57 344 bytes of
// dynamic shared memory. x and a and their rows begin at multiples of 16 bytes. One split writes
// shrunk; several write their sums, f32, to split_sums, (n_splits, n_slots, n_parts, 128, depth).
KERNEL(128) lora_shrink_fast_v3(const Bf16* x, const Bf16* a, const int* adapter_of,
                                const int* slots, Bf16* shrunk, float* split_sums, int n_rows,
                                int n_in, int n_parts, int depth, int ldx, int lda) {
  using namespace lora_fast;
  DYNAMIC_SHARED(Shared, shared);
  const int slot = blockIdx.x / 2, first_i = blockIdx.x % 2 * ROWS;
  const int first_row = slots[2 * slot] * TILE_ROWS + first_i, adapter = slots[2 * slot + 1];
  const int first_r = blockIdx.y * COLS, n_cols = n_parts * depth;
  const int first_k = blockIdx.z * SPLIT, end_k = least(first_k + SPLIT, n_in);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const bool is_split = gridDim.z > 1;
  const auto is_own = [&](int i) {
    return adapter_at(adapter_of, first_row + i, n_rows) == adapter;
  };

  // Whether any row of the block is the slot's, for all threads to agree on; and which of those
  // that this thread copies are.
  int n_own = is_own(lane) + is_own(lane + 32);
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) n_own += shuffle_xor(n_own, mask);
  const int n_steps = n_own > 0 ? n_tiles_of(end_k - first_k, STEP) : 0;
  const int chunk = threadIdx.x % CHUNKS, first_copied = threadIdx.x / CHUNKS;
  unsigned own_rows = 0;
#pragma unroll
  for (int i = 0; i < ROWS / 16; ++i) own_rows |= is_own(first_copied + 16 * i) << i;

  const auto load = [&](int step, int stage) {
    const int k = first_k + step * STEP + chunk * CHUNK;
#pragma unroll
    for (int i = 0; i < ROWS / 16 && step < n_steps; ++i) {
      const int row = first_copied + 16 * i, n = own_rows >> i & 1 ? end_k - k : 0;
      const Bf16* from = n > 0 ? row_of(x, first_row + row, ldx) + k : x;
      copy(&shared->x[stage][row][place_of(row, chunk)], from, n);
    }
#pragma unroll
    for (int i = 0; i < COLS / 16 && step < n_steps; ++i) {
      const int row = first_copied + 16 * i, n = first_r + row < n_cols ? end_k - k : 0;
      const Bf16* from = n > 0 ? row_of(a, adapter * n_cols + first_r + row, lda) + k : a;
      copy(&shared->a[stage][row][place_of(row, chunk)], from, n);
    }
    commit_copies();
  };

  // Multiply: 16 rows of a warp with all columns, 16 k at a time.
  float sums[COLS / 8][4] = {};
#pragma unroll
  for (int step = 0; step < STAGES - 1; ++step) load(step, step);
  for (int step = 0; step < n_steps; ++step) {
    // The step has arrived, and nobody reads the one before it any more.
    wait_copies<STAGES - 2>();
    sync_block();
    load(step + STAGES - 1, (step + STAGES - 1) % STAGES);
    const int stage = step % STAGES;
#pragma unroll
    for (int first = 0; first < CHUNKS; first += 2) {
      unsigned x_part[4];
      const int row = warp * 16 + lane % 16;
      load_matrices(x_part, &shared->x[stage][row][place_of(row, first + lane / 16)]);
#pragma unroll
      for (int j = 0; j < COLS / 16; ++j) {
        if (first_r + 16 * j >= n_cols) continue;
        unsigned a_part[4];
        const int col = 16 * j + lane / 16 * 8 + lane % 8;
        load_matrices(a_part, &shared->a[stage][col][place_of(col, first + lane / 8 % 2)]);
        multiply_add(sums[2 * j], x_part, a_part[0], a_part[1]);
        multiply_add(sums[2 * j + 1], x_part, a_part[2], a_part[3]);
      }
    }
  }

  // Write.
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = warp * 16 + half * 8 + lane / 4;
    const bool is_slots = is_own(i);
#pragma unroll
    for (int j = 0; j < COLS / 8; ++j) {
      const int r = first_r + 8 * j + lane % 4 * 2;
      if (r >= n_cols) continue;
      const long long at = place_in(slot, r, first_i + i, n_parts, depth);
      const float first = sums[j][2 * half], second = sums[j][2 * half + 1];
      if (!is_split) {
        store2(shrunk + at, is_slots ? first : 0.0f, is_slots ? second : 0.0f);
      } else if (is_slots) {
        const long long n_sums = static_cast<long long>(gridDim.x) * ROWS * n_cols;
        store2(split_sums + blockIdx.z * n_sums + at, first, second);
      }
    }
  }
}
EXPORT(lora_shrink_fast_v3);
static_assert(sizeof(lora_fast::Shared) == 57344, "as said");

// shrunk from the sums of several splits, which are added in order.
// grid (n_parts * depth / 2, n_slots), block 128: a thread has two numbers.
KERNEL(128) lora_sum_fast_v1(const float* split_sums, const int* adapter_of, const int* slots,
                             Bf16* shrunk, int n_rows, int n_splits, int n_parts, int depth) {
  using namespace lora_fast;
  const int slot = blockIdx.y, n_pairs = depth / 2;
  const int part = blockIdx.x / n_pairs, idx = blockIdx.x % n_pairs * 128 + threadIdx.x;
  const int i = idx / n_pairs, r = part * depth + idx % n_pairs * 2;
  const int row = slots[2 * slot] * TILE_ROWS + i, adapter = slots[2 * slot + 1];
  const long long at = place_in(slot, r, i, n_parts, depth);
  float first = 0.0f, second = 0.0f;
  if (adapter_at(adapter_of, row, n_rows) == adapter) {
    const long long n_sums = static_cast<long long>(gridDim.y) * TILE_ROWS * n_parts * depth;
    for (int split = 0; split < n_splits; ++split) {
      const Two<float> sums = load2(split_sums + split * n_sums + at);
      first = add_rn(first, sums.values[0]), second = add_rn(second, sums.values[1]);
    }
  }
  store2(shrunk + at, first, second);
}
EXPORT(lora_sum_fast_v1);
