// Probes of arithmetic, of bits and of 16-bit storage: a thread each.
#include "probe.cuh"

using namespace probe;

PROBE(fma_f32, 3, 1, to[0] = bits_of(fma_rn(f32(from[0]), f32(from[1]), f32(from[2])));)
PROBE(mul_f32, 2, 1, to[0] = bits_of(mul_rn(f32(from[0]), f32(from[1])));)
PROBE(add_f32, 2, 1, to[0] = bits_of(add_rn(f32(from[0]), f32(from[1])));)
PROBE(sub_f32, 2, 1, to[0] = bits_of(sub_rn(f32(from[0]), f32(from[1])));)
PROBE(div_f32, 2, 1, to[0] = bits_of(div_rn(f32(from[0]), f32(from[1])));)
PROBE(sqrt_f32, 1, 1, to[0] = bits_of(sqrt_rn(f32(from[0])));)
PROBE(exp2_near, 1, 1, to[0] = bits_of(exp2_near(f32(from[0])));)

PROBE(fma_f64, 6, 2, write(to, fma_rn(f64(from), f64(from + 2), f64(from + 4)));)
PROBE(mul_f64, 4, 2, write(to, mul_rn(f64(from), f64(from + 2)));)
PROBE(add_f64, 4, 2, write(to, add_rn(f64(from), f64(from + 2)));)
PROBE(sub_f64, 4, 2, write(to, sub_rn(f64(from), f64(from + 2)));)
PROBE(div_f64, 4, 2, write(to, div_rn(f64(from), f64(from + 2)));)

// There and back. The number passes a register as what it is.
PROBE(bits_f32, 1, 1, to[0] = bits_of(float_of(from[0]));)
PROBE(bits_f64, 2, 2, write(to, f64(from));)

PROBE(widen_f32, 1, 1, to[0] = bits_of(widen(f32(from[0])));)
PROBE(widen_bf16, 1, 1, to[0] = bits_of(widen(bf16(from[0])));)
PROBE(widen_f16, 1, 1, to[0] = bits_of(widen(F16{static_cast<unsigned short>(from[0])}));)
PROBE(narrow, 1, 1, to[0] = narrow(f32(from[0])).bits;)
PROBE(narrow2, 2, 1, to[0] = narrow2(f32(from[0]), f32(from[1]));)
PROBE(first_of, 1, 1, to[0] = bits_of(first_of(from[0]));)
PROBE(second_of, 1, 1, to[0] = bits_of(second_of(from[0]));)
