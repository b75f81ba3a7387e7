// Adapters' factors made ready for the products of precision `fast`, once for each set of them:
//
//   a'[adapter][part][r][k] = A[r][k],             zero for r from the rank on
//   b'[adapter][j][r]       = scale * B[j][r],     zero for r from the rank on
//
// both rounded to bf16, a' for all parts of a product, b' for one; r runs to `depth`, the parts'
// largest rank or the next multiple of 16. This is what PEFT computes with in bf16, but that scale
// is multiplied before the product and not after.
//
// A and B are f32, of all adapters: (n_adapters, adapter_stride), where a points at this part's A,
// (rank, n_in), in the first of them, and b at its B, (n_out, rank).
//
// Rows of a tile are multiplied with the b' of all adapters of the tile, where zeros stand for A x
// of the others: so b' may hold nothing that is not finite, or it would spoil the others' rows. A
// number of scale * B that is not finite becomes zero, and the first of the part's a' becomes NaN:
// then A x, which only the adapter's own rows have, is NaN, and so is all that its rows get from
// this part.
//
// Floor: 6 bytes per number. Twenty adapters of rank 16 on all linears of Gemma-7B: 1.0 G numbers,
// 6 GB, 1.3 ms at 4.8 TB/s; a validation of them takes seconds.
// v1  a warp narrows 256 times 8 numbers. Predicted 50 % of copy bandwidth: factors are read four
//     bytes at a time. Not run on hardware.
#include "common.cuh"

namespace lora_prepare_fast {

constexpr int CHUNK = 8;          // numbers in 16 bytes
constexpr int LANE_CHUNKS = 8;    // of a lane
constexpr int WARP_CHUNKS = 256;  // of a warp

// Eight numbers that `at` gives.
template <class At>
DEVICE Words narrowed(const At& at) {
  Words words;
#pragma unroll
  for (int i = 0; i < 4; ++i) words.words[i] = narrow2(at(2 * i), at(2 * i + 1));
  return words;
}

// The number in either half of a word, or 0 where it is infinite or NaN, which is then counted.
DEVICE unsigned finite_half(unsigned half, int& n_others) {
  if ((half & 0x7f80u) != 0x7f80u) return half;
  ++n_others;
  return 0;
}

}  // namespace lora_prepare_fast

// grid (ceil(depth * lda / 2048), n_adapters), block 32; lda is n_in or the next multiple of 8.
// `out` is the part's first row in the first adapter's a', at a multiple of 16 bytes, and
// out_stride numbers, a multiple of 8, lie between the adapters'.
KERNEL(32) lora_prepare_a_fast_v1(const float* a, Bf16* out, int n_in, int rank, int depth, int lda,
                                  long long adapter_stride, long long out_stride) {
  using namespace lora_prepare_fast;
  const float* from = a + blockIdx.y * adapter_stride;
  Bf16* to = out + blockIdx.y * out_stride;
#pragma unroll 1
  for (int i = 0; i < LANE_CHUNKS; ++i) {
    const int first = (blockIdx.x * WARP_CHUNKS + i * 32 + threadIdx.x) * CHUNK;
    if (first >= depth * lda) return;
    const int r = first / lda, k = first % lda;
    const auto at = [&](int n) {
      return r < rank && k + n < n_in ? row_of(from, r, n_in)[k + n] : 0.0f;
    };
    store8(to + first, narrowed(at));
  }
}
EXPORT(lora_prepare_a_fast_v1);

// grid (ceil(n_out * depth / 2048), n_adapters), block 32. `out` is the part's b', (n_adapters,
// n_out, depth), at a multiple of 16 bytes; `part_a` is its first number of a', which was written
// before. Each warp that finds what is not finite writes the same NaN.
KERNEL(32) lora_prepare_b_fast_v1(const float* b, Bf16* out, Bf16* part_a, float scale, int n_out,
                                  int rank, int depth, long long adapter_stride,
                                  long long a_stride) {
  using namespace lora_prepare_fast;
  const float* from = b + blockIdx.y * adapter_stride;
  Bf16* to = out + static_cast<long long>(blockIdx.y) * n_out * depth;
  int n_others = 0;
#pragma unroll 1
  for (int i = 0; i < LANE_CHUNKS; ++i) {
    const int first = (blockIdx.x * WARP_CHUNKS + i * 32 + threadIdx.x) * CHUNK;
    if (first >= n_out * depth) break;
    const float* row = row_of(from, first / depth, rank);
    const int r = first % depth;
    Words words =
        narrowed([&](int n) { return r + n < rank ? mul_rn(scale, row[r + n]) : 0.0f; });
#pragma unroll
    for (unsigned& word : words.words) {
      word = finite_half(word & 0xffffu, n_others) | finite_half(word >> 16, n_others) << 16;
    }
    store8(to + first, words);
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) n_others += shuffle_xor(n_others, mask);
  if (n_others > 0 && threadIdx.x == 0) {
    store(part_a + blockIdx.y * a_stride, float_of(0x7fc00000u));
  }
}
EXPORT(lora_prepare_b_fast_v1);
