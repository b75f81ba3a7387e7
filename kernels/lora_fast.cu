// LoRA of precision `fast` beside the base's products, `y += (scale B) (A x)`, where rows of one
// batch belong to different adapters:
//
//   shrunk[i][r] = sum over k of x[i][k] * A[r][k]
//   y[i][j]     += sum over r of shrunk[i][r] * (scale * B[j][r])
//
// x (n_rows, ldx) bf16, shrunk (n_rows, rank) f32, y (n_rows, ldy) bf16, to which the f32 sum is
// added once and rounded once. A and B are f32, all adapters one matrix (n_adapters,
// adapter_stride), as `combine` writes them: `a` points at this module's A, (rank, n_in), in the
// first of them, `b` at its B, (n_out, rank). adapter_of (n_rows) is the row's adapter; -1 is the
// base alone, whose rows are left as they are.
//
// Floor: x once, y twice. All linears of Gemma-7B, 8192 rows: 0.72 GB for shrink and 2.2 GB for
// expand, 0.61 ms a layer at 4.8 TB/s; its products are 4.5 TFLOP, 8.3 ms at 55 % of the peak.
// v1  a thread per output, in f32; x is read once for each r.
// v2  on tensor cores, which take no f32: an A is the sum of two bf16, its rounded value and what
//     that leaves, so two products are right to 2^-16; shrunk and scale * B likewise, without the
//     product of what both leave. Tiles of 64 rows; block z works for the z-th of the adapters
//     that its tile's rows have, computes all rows and keeps those of its own: a row goes one way,
//     whatever its neighbours are. A tile of one adapter has its work done by z = 0; the other
//     blocks look at 64 numbers and leave. 20 adapters in one tile are 20 blocks side by side.
//     shrink: steps of 32 k go to eight warps by turns, whose sums are added in order: the order
//     depends on n_in alone. Fragments come straight from memory, 16 bytes a lane: k is dealt to
//     the tensor core's places in the same other order on both sides. A is read from L2 once for
//     64 rows, half as many bytes as x. Predicted 75 % of copy bandwidth, 0.2 ms.
//     expand: a warp has 32 columns, dealt so that a lane writes eight neighbours at once.
//     Predicted 75 %, 0.6 ms: together 10 % of the products, over the 8 % that are aimed at.
// Next: expand in the product's epilogue, as 3 * 16 more k after the last of the base's (shrunk
// beside x, scale * B beside W, both in two parts): y's 2.2 GB go, 1 % of products comes: 3 % in
// all. In decoding, where 16 rows wait for an A of 1.5 MB in one block (15 us at 100 GB/s), k
// should be split over blocks, at places that depend on n_in. Not run on hardware.
#include "common.cuh"

namespace lora_fast {

constexpr int ROWS = 64, RANKS = 16, STEP = 32;
constexpr int WARPS = 8;       // of shrink, which share the k
constexpr int WARP_COLS = 32;  // of expand
constexpr int EXPAND_WARPS = 4;

using Sums = float[4];

// The n-th of the adapters of a tile's rows, in the order in which they come; -1 where there are
// fewer. `adapters` becomes what each row has. All threads take part, and agree.
DEVICE int nth_adapter(int (&adapters)[ROWS], const int* adapter_of, int first_row, int n_rows,
                       int n) {
  SHARED(int, is_first, [ROWS]);
  const int thread = threadIdx.x;
  if (thread < ROWS) {
    adapters[thread] = first_row + thread < n_rows ? adapter_of[first_row + thread] : -1;
  }
  sync_block();
  if (thread < ROWS) {
    bool is_new = adapters[thread] >= 0;
    for (int other = 0; other < thread; ++other) {
      is_new = is_new && adapters[other] != adapters[thread];
    }
    is_first[thread] = is_new;
  }
  sync_block();
  int found = -1, n_before = 0;
  for (int row = 0; row < ROWS; ++row) {
    if (is_first[row] && n_before++ == n) found = adapters[row];
  }
  return found;
}

// Which of the rows 8 i + `g` have this adapter: a bit each.
DEVICE unsigned rows_of(const int (&adapters)[ROWS], int adapter, int g) {
  unsigned rows = 0;
#pragma unroll
  for (int i = 0; i < ROWS / 8; ++i) {
    if (adapters[8 * i + g] == adapter) rows |= 1u << i;
  }
  return rows;
}

DEVICE bool is_aligned(const void* pointer) {
  return reinterpret_cast<unsigned long long>(pointer) % 16 == 0;
}

// Numbers i .. i + 3 of n; zeros stand for what lies behind.
DEVICE float4 load_some(const float* from, int i, int n, bool is_aligned) {
  if (is_aligned && i + 4 <= n) return load4(from + i);
  return {i < n ? from[i] : 0.0f, i + 1 < n ? from[i + 1] : 0.0f, i + 2 < n ? from[i + 2] : 0.0f,
          i + 3 < n ? from[i + 3] : 0.0f};
}

// Eight numbers of which `n` are there; zeros stand for the others.
DEVICE Words first_numbers(Words eight, int n) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    eight.words[i] &= n >= 2 * i + 2 ? 0xffffffffu : n == 2 * i + 1 ? 0xffffu : 0u;
  }
  return eight;
}

// Four floats as sums of two bf16.
struct Parts {
  unsigned high[2], low[2];
};

DEVICE Parts parts_of(float4 four) {
  const unsigned first = narrow2(four.x, four.y), second = narrow2(four.z, four.w);
  return {{first, second},
          {narrow2(sub_rn(four.x, first_of(first)), sub_rn(four.y, second_of(first))),
           narrow2(sub_rn(four.z, first_of(second)), sub_rn(four.w, second_of(second)))}};
}

// What a lane of shrink has of a step: k 8 t .. 8 t + 7 of rows 8 i + g of x, and of rows 8 j + g
// of A.
struct Step {
  Words x[ROWS / 8];
  float4 a[RANKS / 8][2];
};

}  // namespace lora_fast

// grid (ceil(rank / 32), n_rows), block 32
KERNEL(32) lora_shrink_fast_v1(const Bf16* x, const float* a, const int* adapter_of, float* shrunk,
                               int n_in, int rank, int ldx, long long adapter_stride) {
  const int row = blockIdx.y, r = blockIdx.x * 32 + threadIdx.x;
  if (r >= rank || adapter_of[row] < 0) return;
  const float* a_row = row_of(a + adapter_of[row] * adapter_stride, r, n_in);
  float sum = 0.0f;
  for (int k = 0; k < n_in; ++k) sum = fma_rn(widen(row_of(x, row, ldx)[k]), a_row[k], sum);
  row_of(shrunk, row, rank)[r] = sum;
}
EXPORT(lora_shrink_fast_v1);

// grid (ceil(n_rows / 64), ceil(rank / 16), at least as many as a tile has adapters: n_adapters or
// 64), block 256. x and its rows begin at multiples of 16 bytes, and the last row, too, is ldx
// long. Fast where that is so of A's rows, right elsewhere.
KERNEL(256) lora_shrink_fast_v2(const Bf16* x, const float* a, const int* adapter_of, float* shrunk,
                                int n_rows, int n_in, int rank, int ldx,
                                long long adapter_stride) {
  using namespace lora_fast;
  SHARED(int, adapters, [ROWS]);
  SHARED(float, warp_sums, [WARPS][ROWS][RANKS]);
  const int first_row = blockIdx.x * ROWS, first_r = blockIdx.y * RANKS;
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const int adapter = nth_adapter(adapters, adapter_of, first_row, n_rows, blockIdx.z);
  if (adapter < 0) return;
  const unsigned rows = rows_of(adapters, adapter, g);
  const float* own_a = a + adapter * adapter_stride;
  const bool a_is_aligned = is_aligned(own_a) && n_in % 4 == 0;

  const auto load = [&](Step& to, int step) {
    const int k = step * STEP + 8 * t;
#pragma unroll
    for (int i = 0; i < ROWS / 8; ++i) {
      to.x[i] = {};
      if (k >= n_in || (rows >> i & 1) == 0) continue;
      to.x[i] = first_numbers(load8(row_of(x, first_row + 8 * i + g, ldx) + k), n_in - k);
    }
#pragma unroll
    for (int j = 0; j < RANKS / 8; ++j) {
      const int r = first_r + 8 * j + g, n = r < rank ? n_in : 0;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        to.a[j][half] = load_some(row_of(own_a, r, n_in), k + 4 * half, n, a_is_aligned);
      }
    }
  };

  // Multiply: four of a lane's k at a time, while the next step is on its way.
  Sums sums[ROWS / 16][RANKS / 8] = {};
  const int n_steps = n_tiles_of(n_in, STEP);
  Step next;
  if (warp < n_steps) load(next, warp);
  for (int step = warp; step < n_steps; step += WARPS) {
    const Step now = next;
    if (step + WARPS < n_steps) load(next, step + WARPS);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int j = 0; j < RANKS / 8; ++j) {
        const Parts parts = parts_of(now.a[j][half]);
#pragma unroll
        for (int i = 0; i < ROWS / 16; ++i) {
          const unsigned(&upper)[4] = now.x[2 * i].words, (&lower)[4] = now.x[2 * i + 1].words;
          const unsigned fragment[4] = {upper[2 * half], lower[2 * half], upper[2 * half + 1],
                                        lower[2 * half + 1]};
          multiply_add(sums[i][j], fragment, parts.high[0], parts.high[1]);
          multiply_add(sums[i][j], fragment, parts.low[0], parts.low[1]);
        }
      }
    }
  }

  // Reduce.
#pragma unroll
  for (int i = 0; i < ROWS / 16; ++i) {
#pragma unroll
    for (int j = 0; j < RANKS / 8; ++j) {
      float* to = &warp_sums[warp][16 * i + g][8 * j + 2 * t];
      store2(to, sums[i][j][0], sums[i][j][1]);
      store2(to + 8 * RANKS, sums[i][j][2], sums[i][j][3]);
    }
  }
  sync_block();

  // Write.
  for (int at = threadIdx.x; at < ROWS * RANKS; at += 32 * WARPS) {
    const int row = at / RANKS, r = at % RANKS;
    if (adapters[row] != adapter || first_r + r >= rank) continue;
    float sum = warp_sums[0][row][r];
#pragma unroll
    for (int other = 1; other < WARPS; ++other) sum = add_rn(sum, warp_sums[other][row][r]);
    row_of(shrunk, first_row + row, rank)[first_r + r] = sum;
  }
}
EXPORT(lora_shrink_fast_v2);

// grid (ceil(n_out / 128), n_rows), block 128
KERNEL(128) lora_expand_fast_v1(const float* shrunk, const float* b, const int* adapter_of,
                                float scale, Bf16* y, int n_out, int rank, int ldy,
                                long long adapter_stride) {
  const int row = blockIdx.y, col = blockIdx.x * 128 + threadIdx.x;
  if (col >= n_out || adapter_of[row] < 0) return;
  const float* b_row = row_of(b + adapter_of[row] * adapter_stride, col, rank);
  float sum = 0.0f;
  for (int r = 0; r < rank; ++r) {
    sum = fma_rn(row_of(shrunk, row, rank)[r], mul_rn(scale, b_row[r]), sum);
  }
  Bf16* out = row_of(y, row, ldy) + col;
  store(out, add_rn(widen(*out), sum));
}
EXPORT(lora_expand_fast_v1);

// grid (ceil(n_rows / 64), ceil(n_out / 128), as of shrink), block 128. y and its rows begin at
// multiples of 16 bytes. Fast where that is so of the rows of shrunk and B, right elsewhere.
KERNEL(128) lora_expand_fast_v2(const float* shrunk, const float* b, const int* adapter_of,
                                float scale, Bf16* y, int n_rows, int n_out, int rank, int ldy,
                                long long adapter_stride) {
  using namespace lora_fast;
  SHARED(int, adapters, [ROWS]);
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const int first_row = blockIdx.x * ROWS;
  const int first_col = (blockIdx.y * EXPAND_WARPS + warp) * WARP_COLS;
  const int adapter = nth_adapter(adapters, adapter_of, first_row, n_rows, blockIdx.z);
  if (adapter < 0 || first_col >= n_out) return;
  const unsigned rows = rows_of(adapters, adapter, g);
  const float* own_b = b + adapter * adapter_stride;
  const bool b_is_aligned = is_aligned(own_b) && rank % 4 == 0;
  const bool shrunk_is_aligned = is_aligned(shrunk) && rank % 4 == 0;

  // Multiply: 16 r at a time, of which a lane has four. Column g of product j is column 2 j + g % 2
  // of the g / 2-th eight, so that a lane's sums are of eight neighbours.
  Sums sums[ROWS / 16][WARP_COLS / 8] = {};
  for (int first_r = 0; first_r < rank; first_r += 16) {
    const int r = first_r + 4 * t;
    Parts scaled[WARP_COLS / 8];
#pragma unroll
    for (int j = 0; j < WARP_COLS / 8; ++j) {
      const int col = first_col + g / 2 * 8 + 2 * j + g % 2, n = col < n_out ? rank : 0;
      const float4 four = load_some(row_of(own_b, col, rank), r, n, b_is_aligned);
      scaled[j] = parts_of({mul_rn(scale, four.x), mul_rn(scale, four.y), mul_rn(scale, four.z),
                            mul_rn(scale, four.w)});
    }
#pragma unroll
    for (int i = 0; i < ROWS / 16; ++i) {
      const auto of_row = [&](int eighth) {
        const float* row = row_of(shrunk, first_row + 8 * eighth + g, rank);
        return parts_of(load_some(row, r, rows >> eighth & 1 ? rank : 0, shrunk_is_aligned));
      };
      const Parts upper = of_row(2 * i), lower = of_row(2 * i + 1);
      const unsigned high[4] = {upper.high[0], lower.high[0], upper.high[1], lower.high[1]};
      const unsigned low[4] = {upper.low[0], lower.low[0], upper.low[1], lower.low[1]};
#pragma unroll
      for (int j = 0; j < WARP_COLS / 8; ++j) {
        multiply_add(sums[i][j], high, scaled[j].high[0], scaled[j].high[1]);
        multiply_add(sums[i][j], high, scaled[j].low[0], scaled[j].low[1]);
        multiply_add(sums[i][j], low, scaled[j].high[0], scaled[j].high[1]);
      }
    }
  }

  // Write.
  const int col = first_col + 8 * t;
#pragma unroll
  for (int i = 0; i < ROWS / 8; ++i) {
    if ((rows >> i & 1) == 0) continue;
    Bf16* out = row_of(y, first_row + 8 * i + g, ldy) + col;
    if (col + 8 <= n_out) {
      Words eight = load8(out);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float(&two)[4] = sums[i / 2][j];
        eight.words[j] = narrow2(add_rn(first_of(eight.words[j]), two[i % 2 * 2]),
                                 add_rn(second_of(eight.words[j]), two[i % 2 * 2 + 1]));
      }
      store8(out, eight);
    } else {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        if (col + j >= n_out) continue;
        store(out + j, add_rn(widen(out[j]), sums[i / 2][j / 2][i % 2 * 2 + j % 2]));
      }
    }
  }
}
EXPORT(lora_expand_fast_v2);
