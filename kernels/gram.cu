// Inner products of every two of some vectors, in f64: norms and cosines for slerp and model stock.
//
//   out[i][j] = sum over e of (x_i[e] - b[e]) (x_j[e] - b[e]),   i <= j
//
// vectors (n_vectors) pointers to f32, base (len) or null for zeros; out (n_vectors, n_vectors)
// f64, of which the upper triangle with its diagonal is written. Differences, products and sums are
// each rounded; without a base a product is exact.
//
// Floor: every vector once: ten of 200 M weights, 8 GB, 1.7 ms.
// v1  a thread per pair, front to back: the CPU's bits. A chain of len additions: a tensor of 3072
//     x 16 takes 0.2 ms, and all tensors run side by side; one of 75 M takes 0.4 s.
// v2  pieces of 1024 elements, whatever the number of vectors: a block reads its piece of all
//     vectors once; a warp takes a pair, lane l the elements l, l + 32, ... in order, and folds its
//     lanes by halves 16 -> 8 -> 4 -> 2 -> 1. A second kernel adds the pieces in order. A fixed
//     order, but another one: it agrees with the CPU to len * 2^-53 of the sum of magnitudes.
//     Predicted 60 % of copy bandwidth. Not run on hardware.
#include "common.cuh"

namespace gram {

constexpr int PIECE = 1024;

DEVICE double offset(float x, float base) {
  return sub_rn(static_cast<double>(x), static_cast<double>(base));
}

// The `idx`-th of the pairs (0, 0), (0, 1), (1, 1), (0, 2), ...
struct Pair {
  int left, right;
};

DEVICE Pair pair_of(int idx) {
  int right = 0;
  while ((right + 1) * (right + 2) / 2 <= idx) ++right;
  return {idx - right * (right + 1) / 2, right};
}

}  // namespace gram

// grid (n_pairs), block 1
KERNEL(1) gram_v1(const float* const* vectors, const float* base, double* out, int n_vectors,
                  long long len) {
  const gram::Pair pair = gram::pair_of(blockIdx.x);
  const float* left = vectors[pair.left];
  const float* right = vectors[pair.right];
  double sum = -0.0;  // what the CPU's sums begin at: nothing is added to what is there
  for (long long e = 0; e < len; ++e) {
    const float b = base ? base[e] : 0.0f;
    sum = add_rn(sum, mul_rn(gram::offset(left[e], b), gram::offset(right[e], b)));
  }
  out[pair.left * n_vectors + pair.right] = sum;
}
EXPORT(gram_v1);

// grid (ceil(len / 1024)), block 256, dynamic shared memory: (n_vectors + 1) * 1024 floats; at most
// 39 vectors. pieces (n_pairs, n_pieces) f64
KERNEL(256) gram_pieces_v2(const float* const* vectors, const float* base, double* pieces,
                           int n_vectors, long long len) {
  using namespace gram;
  DYNAMIC_SHARED(float, staged);  // (n_vectors + 1, PIECE): the vectors, then the base
  const long long first = blockIdx.x * static_cast<long long>(PIECE);
  const int n_here = len - first < PIECE ? static_cast<int>(len - first) : PIECE;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  // Load.
  for (int i = 0; i <= n_vectors; ++i) {
    const float* from = i < n_vectors ? vectors[i] : base;
    for (int e = threadIdx.x; e < n_here; e += 256) {
      staged[i * PIECE + e] = from ? from[first + e] : 0.0f;
    }
  }
  sync_block();

  // Reduce.
  const float* bases = staged + n_vectors * PIECE;
  for (int idx = warp; idx < n_vectors * (n_vectors + 1) / 2; idx += 8) {
    const Pair pair = pair_of(idx);
    const float* left = staged + pair.left * PIECE;
    const float* right = staged + pair.right * PIECE;
    double sum = -0.0;
    for (int e = lane; e < n_here; e += 32) {
      sum = add_rn(sum, mul_rn(offset(left[e], bases[e]), offset(right[e], bases[e])));
    }
#pragma unroll
    for (int half = 16; half > 0; half /= 2) sum = add_rn(sum, shuffle_xor(sum, half));
    if (lane == 0) pieces[idx * static_cast<long long>(gridDim.x) + blockIdx.x] = sum;
  }
}
EXPORT(gram_pieces_v2);

// grid (n_pairs), block 1
KERNEL(1) gram_sum_v2(const double* pieces, double* out, int n_vectors, int n_pieces) {
  const gram::Pair pair = gram::pair_of(blockIdx.x);
  double sum = -0.0;
  for (int i = 0; i < n_pieces; ++i) {
    sum = add_rn(sum, pieces[blockIdx.x * static_cast<long long>(n_pieces) + i]);
  }
  out[pair.left * n_vectors + pair.right] = sum;
}
EXPORT(gram_sum_v2);
