// The feed-forward network's gate: GeGLU and SwiGLU.
//
//   gate = gelu_tanh(gate) * up,   gelu_tanh(x) = x / (1 + e^(-2 u)),
//                                  u = sqrt(2 / pi) (x + 0.044715 x^3)
//   gate = silu(gate) * up,        silu(x) = x / (1 + e^-x)
//
// gate, up (n_rows, ld). Order: as written below, which is the CPU's.
//
// Floor: 12 bytes per element. 8192 rows of Gemma-7B: 2.4 GB a layer, 0.5 ms, 1 % of the layer's
// products; in precision `fast` it goes into the product's epilogue.
// v1  a thread per element, neighbours read neighbours. Predicted 85 % of copy bandwidth: four
//     elements a thread would win a thousandth of the layer. Not run on hardware.
#include "common.cuh"

#include "gated.cuh"

// grid (ceil(dim / 256), n_rows), block 256
KERNEL(256) gelu_tanh_times_v1(float* gate, const float* up, int dim, int ld) {
  const int row = blockIdx.y, i = blockIdx.x * 256 + threadIdx.x;
  if (i >= dim) return;
  float* at = row_of(gate, row, ld) + i;
  *at = mul_rn(gated::gelu_tanh(*at), row_of(up, row, ld)[i]);
}
EXPORT(gelu_tanh_times_v1);

KERNEL(256) silu_times_v1(float* gate, const float* up, int dim, int ld) {
  const int row = blockIdx.y, i = blockIdx.x * 256 + threadIdx.x;
  if (i >= dim) return;
  float* at = row_of(gate, row, ld) + i;
  *at = mul_rn(gated::silu(*at), row_of(up, row, ld)[i]);
}
EXPORT(silu_times_v1);
