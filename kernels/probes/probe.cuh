// What every probe begins with. A probe applies one operation of `ptx.cuh` to bits and writes the
// bits that come out, so that hardware can be held to the host half on any numbers.
//
// `in` is records of N_IN words, `out` of N_OUT; both begin at multiples of 16 bytes. A thread has
// record blockIdx.x * 256 + threadIdx.x, so the records of a warp or a block follow one another.
// grid (n_records / 256), block 256: whole blocks only.
#pragma once

#include "../common.cuh"

#define PROBE(name, N_IN, N_OUT, ...)                                                             \
  KERNEL(256) probe_##name(const unsigned* in, unsigned* out) {                                   \
    const int thread = threadIdx.x, first = blockIdx.x * 256;                                     \
    const unsigned* const block = in + first * N_IN;                                              \
    const unsigned* const from = block + thread * N_IN;                                           \
    unsigned* const to = out + (first + thread) * N_OUT;                                          \
    probe::use(thread, block);                                                                    \
    __VA_ARGS__                                                                                   \
  }                                                                                               \
  EXPORT(probe_##name);

namespace probe {

// Some probes need neither.
DEVICE void use(int, const unsigned*) {}

DEVICE float f32(unsigned word) { return float_of(word); }

DEVICE double f64(const unsigned* words) {
  return double_of(words[0] | static_cast<unsigned long long>(words[1]) << 32);
}

DEVICE void write(unsigned* to, double value) {
  const unsigned long long bits = bits_of(value);
  to[0] = static_cast<unsigned>(bits), to[1] = static_cast<unsigned>(bits >> 32);
}

DEVICE Bf16 bf16(unsigned word) { return {static_cast<unsigned short>(word)}; }

}  // namespace probe
