// The feed-forward network's gate of precision `fast`: GeGLU and SwiGLU.
//
//   gate = gelu_tanh(gate) * up,   gate = silu(gate) * up
//
// gate, up (n_rows, ld) bf16. Both are widened, the formula is that of gated.cu in f32, rounding by
// rounding, and the result is rounded to bf16 once: so the bits are those of the CPU's result,
// narrowed.
//
// Floor: 6 bytes per element, and some 55 instructions of sm_90a, half of them the exponential and
// the division. 8192 rows of Gemma-7B: 1.2 GB a layer, 0.25 ms at 4.8 TB/s; 201 M elements at 33 T
// instructions/s, 0.34 ms: bound by instructions, 4 % of the layer's products at 55 % of the peak.
// In the product's epilogue the bytes would vanish and the instructions stay; hardware's
// exponential and reciprocal would halve those, for other bits than the CPU's.
// v1  a thread has 8 elements, 16 bytes of each matrix. Predicted 0.42 ms. Not run on hardware.
#include "common.cuh"

#include "gated.cuh"

namespace gated {

// Elements `first`.. of a row, 8 of them for each thread.
template <float (*formula)(float)>
DEVICE void times_fast(Bf16* gate, const Bf16* up, int dim, int ld) {
  const int row = blockIdx.y, first = (blockIdx.x * 256 + threadIdx.x) * 8;
  Bf16* to = row_of(gate, row, ld) + first;
  const Bf16* by = row_of(up, row, ld) + first;
  const unsigned long long addresses = reinterpret_cast<unsigned long long>(to) |
                                       reinterpret_cast<unsigned long long>(by);
  if (first + 8 <= dim && addresses % 16 == 0) {
    Words values = load8(to);
    const Words factors = load8(by);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const unsigned two = values.words[i], by_two = factors.words[i];
      values.words[i] = narrow2(mul_rn(formula(first_of(two)), first_of(by_two)),
                                mul_rn(formula(second_of(two)), second_of(by_two)));
    }
    store8(to, values);
  } else {
    for (int i = 0; i < least(dim - first, 8); ++i) {
      store(to + i, mul_rn(formula(widen(to[i])), widen(by[i])));
    }
  }
}

}  // namespace gated

// grid (ceil(dim / 2048), n_rows), block 256; fast where gate, up and their rows begin at multiples
// of 16 bytes, right elsewhere.
KERNEL(256) gelu_tanh_times_fast_v1(Bf16* gate, const Bf16* up, int dim, int ld) {
  gated::times_fast<gated::gelu_tanh>(gate, up, dim, ld);
}
EXPORT(gelu_tanh_times_fast_v1);

KERNEL(256) silu_times_fast_v1(Bf16* gate, const Bf16* up, int dim, int ld) {
  gated::times_fast<gated::silu>(gate, up, dim, ld);
}
EXPORT(silu_times_fast_v1);
