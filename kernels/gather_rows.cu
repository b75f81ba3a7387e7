// The rows that go on: out[i] = x[rows[i]]. Only the rows whose logits are wanted are multiplied
// with the output matrix, which is most of a small model's work.
//
// x (n_rows, ld), rows (n_wanted), out (n_wanted, ld): f32; bf16 where the name says `fast`, for
// what the last layer has still to add.
//
// Floor: 8 bytes per element, or 4; a few hundred rows: bound by the launch.
// v1  a block per row, neighbours read neighbours. Nothing is left to win. Not run on hardware.
#include "common.cuh"

// grid (n_wanted), block 256
KERNEL(256) gather_rows_v1(const float* x, const int* rows, float* out, int dim, int ld) {
  const float* from = row_of(x, rows[blockIdx.x], ld);
  float* to = row_of(out, blockIdx.x, ld);
  for (int i = threadIdx.x; i < dim; i += 256) to[i] = from[i];
}
EXPORT(gather_rows_v1);

// grid (n_wanted), block 256; x, out and their rows begin at multiples of 16 bytes.
KERNEL(256) gather_rows_fast_v1(const Bf16* x, const int* rows, Bf16* out, int dim, int ld) {
  const Bf16* from = row_of(x, rows[blockIdx.x], ld);
  Bf16* to = row_of(out, blockIdx.x, ld);
  for (int i = 8 * threadIdx.x; i < dim; i += 8 * 256) {
    if (i + 8 <= dim) {
      store8(to + i, load8(from + i));
    } else {
      for (int rest = i; rest < dim; ++rest) to[rest] = from[rest];
    }
  }
}
EXPORT(gather_rows_fast_v1);
