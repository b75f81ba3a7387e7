// The rows that go on: out[i] = x[rows[i]]. Only the rows whose logits are wanted are multiplied
// with the output matrix, which is most of a small model's work.
//
// x (n_rows, ld), rows (n_wanted), out (n_wanted, ld).
//
// Floor: 8 bytes per element; a few hundred rows: bound by the launch.
// v1  a block per row, neighbours read neighbours. Nothing is left to win. Not run on hardware.
#include "common.cuh"

// grid (n_wanted), block 256
KERNEL(256) gather_rows_v1(const float* x, const int* rows, float* out, int dim, int ld) {
  const float* from = row_of(x, rows[blockIdx.x], ld);
  float* to = row_of(out, blockIdx.x, ld);
  for (int i = threadIdx.x; i < dim; i += 256) to[i] = from[i];
}
EXPORT(gather_rows_v1);
