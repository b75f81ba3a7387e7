// Numbers for tensor cores: out[i] = x[i] rounded to bf16, to nearest, ties to even. Weights are
// narrowed once when they are loaded, activations where an exact op hands over to a fast one.
//
// x (n) f32, out (n) bf16.
//
// Floor: 6 bytes per element. Gemma-7B's 8.5 G weights: 51 GB, 11 ms, once.
// v1  a thread reads 32 bytes and writes 16. Predicted 85 % of copy bandwidth. Nothing is left to
//     win. Not run on hardware.
#include "common.cuh"

// grid (ceil(n / 2048)), block 256; x and out begin at multiples of 16 bytes.
KERNEL(256) narrow_v1(const float* x, Bf16* out, long long n) {
  const long long first = (static_cast<long long>(blockIdx.x) * 256 + threadIdx.x) * 8;
  if (first + 8 <= n) {
    const float4 low = load4(x + first), high = load4(x + first + 4);
    store8(out + first, {{narrow2(low.x, low.y), narrow2(low.z, low.w), narrow2(high.x, high.y),
                          narrow2(high.z, high.w)}});
  } else {
    for (long long i = first; i < n; ++i) store(out + i, x[i]);
  }
}
EXPORT(narrow_v1);
