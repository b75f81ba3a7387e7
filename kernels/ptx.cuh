// The machine's own operations, each with a device half and a host half. PTX and intrinsics stand
// here and nowhere else: what is held equal to the CPU in the tests is the host half of this file
// with all of the other files, so the device halves are all that hardware has left to prove.
//
// Arithmetic is named by its rounding. The compiler may fuse a bare `a * b + c`; it never touches
// these, so the order of roundings in a kernel is the one that is written.
#pragma once

#ifdef __CUDACC__
#define HALVES(device, host) device
#define HERE
#define AND_HERE
#define PASS_HERE
#else
#define HALVES(device, host) host
// Where an operation stands, for the harness's messages: default arguments that the caller fills.
#define HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define AND_HERE , HERE
#define PASS_HERE , file, line
#endif

// ---- arithmetic: one rounding each, to nearest, ties to even ----

DEVICE float fma_rn(float a, float b, float c) {
  return HALVES(__fmaf_rn, __builtin_fmaf)(a, b, c);
}
DEVICE float mul_rn(float a, float b) { return HALVES(__fmul_rn(a, b), a* b); }
DEVICE float add_rn(float a, float b) { return HALVES(__fadd_rn(a, b), a + b); }
DEVICE float sub_rn(float a, float b) { return HALVES(__fsub_rn(a, b), a - b); }
DEVICE float div_rn(float a, float b) { return HALVES(__fdiv_rn(a, b), a / b); }
DEVICE float sqrt_rn(float a) { return HALVES(__fsqrt_rn, __builtin_sqrtf)(a); }

DEVICE double fma_rn(double a, double b, double c) {
  return HALVES(__fma_rn, __builtin_fma)(a, b, c);
}
DEVICE double mul_rn(double a, double b) { return HALVES(__dmul_rn(a, b), a* b); }
DEVICE double add_rn(double a, double b) { return HALVES(__dadd_rn(a, b), a + b); }
DEVICE double sub_rn(double a, double b) { return HALVES(__dsub_rn(a, b), a - b); }
DEVICE double div_rn(double a, double b) { return HALVES(__ddiv_rn(a, b), a / b); }

// ---- bits ----

DEVICE unsigned bits_of(float x) {
  return HALVES(__float_as_uint(x), host::bits_as<unsigned>(x));
}
DEVICE float float_of(unsigned bits) {
  return HALVES(__uint_as_float(bits), host::bits_as<float>(bits));
}
DEVICE unsigned long long bits_of(double x) {
  return HALVES(__double_as_longlong(x), host::bits_as<unsigned long long>(x));
}
DEVICE double double_of(unsigned long long bits) {
  return HALVES(__longlong_as_double(bits), host::bits_as<double>(bits));
}

// ---- 16-bit storage: widening is exact ----

struct F16 {
  unsigned short bits;
};
struct Bf16 {
  unsigned short bits;
};

DEVICE float widen(float x) { return x; }
DEVICE float widen(Bf16 x) { return float_of(static_cast<unsigned>(x.bits) << 16); }
DEVICE float widen(F16 x) {
#ifdef __CUDACC__
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
  return wide;
#else
  const unsigned sign = (x.bits & 0x8000u) << 16, exponent = x.bits >> 10 & 0x1f;
  const unsigned fraction = x.bits & 0x3ff;
  if (exponent == 0) {  // zero and what lies below the smallest normal: multiples of 2^-24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return float_of(sign | bits_of(magnitude));
  }
  const unsigned wide = exponent == 31 ? 0xff : exponent + 127 - 15;
  return float_of(sign | wide << 23 | fraction << 13);
#endif
}

// A float rounded to bf16, to nearest, ties to even.
DEVICE Bf16 narrow(float x) {
#ifdef __CUDACC__
  Bf16 narrowed;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(narrowed.bits) : "f"(x));
  return narrowed;
#else
  const unsigned bits = bits_of(x);
  if (x != x) return {0x7fff};
  return {static_cast<unsigned short>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
#endif
}

// Two floats rounded to bf16, the first in the low half.
DEVICE unsigned narrow2(float first, float second) {
#ifdef __CUDACC__
  unsigned both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
#else
  return narrow(first).bits | static_cast<unsigned>(narrow(second).bits) << 16;
#endif
}

// The numbers of such a word.
DEVICE float first_of(unsigned two) { return float_of(two << 16); }
DEVICE float second_of(unsigned two) { return float_of(two & 0xffff0000u); }

// 2^x within 2 ulp, for precision `fast` alone: the host half has other last bits. On both, 2^0 is
// 1 and 2^-infinity is 0; a result below the smallest normal may be 0.
DEVICE float exp2_near(float x) {
#ifdef __CUDACC__
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
#else
  return __builtin_exp2f(x);
#endif
}

// ---- neighbours at once: the address is a multiple of the size of both ----

DEVICE void store(float* to, float value) { *to = value; }
DEVICE void store(Bf16* to, float value) { *to = narrow(value); }

template <class T>
struct alignas(2 * sizeof(T)) Two {
  T values[2];
};

DEVICE void store2(float* to, float first, float second AND_HERE) {
#ifndef __CUDACC__
  host::check_aligned(to, 8, {file, line});
#endif
  *reinterpret_cast<Two<float>*>(to) = {first, second};
}

DEVICE void store2(Bf16* to, float first, float second AND_HERE) {
#ifndef __CUDACC__
  host::check_aligned(to, 4, {file, line});
#endif
  *reinterpret_cast<Two<Bf16>*>(to) = {narrow(first), narrow(second)};
}

template <class T>
DEVICE Two<T> load2(const T* from AND_HERE) {
#ifndef __CUDACC__
  host::check_aligned(from, 2 * sizeof(T), {file, line});
#endif
  return *reinterpret_cast<const Two<T>*>(from);
}

// ---- four values at once: the address is a multiple of 16 ----

DEVICE float4 load4(const float* from AND_HERE) {
#ifndef __CUDACC__
  host::check_aligned(from, 16, {file, line});
#endif
  return *reinterpret_cast<const float4*>(from);
}

// Four numbers of 16 bits, widened: the address is a multiple of 8.
template <class T>
struct alignas(8) Four {
  T values[4];
};

template <class T>
DEVICE float4 load4(const T* from AND_HERE) {
#ifndef __CUDACC__
  host::check_aligned(from, 8, {file, line});
#endif
  const Four<T> four = *reinterpret_cast<const Four<T>*>(from);
  return {widen(four.values[0]), widen(four.values[1]), widen(four.values[2]),
          widen(four.values[3])};
}

DEVICE void store4(float* to, float4 values AND_HERE) {
#ifndef __CUDACC__
  host::check_aligned(to, 16, {file, line});
#endif
  *reinterpret_cast<float4*>(to) = values;
}

// Each rounded to bf16: the address is a multiple of 8.
DEVICE void store4(Bf16* to, float4 values AND_HERE) {
#ifndef __CUDACC__
  host::check_aligned(to, 8, {file, line});
#endif
  *reinterpret_cast<Four<Bf16>*>(to) = {
      {narrow(values.x), narrow(values.y), narrow(values.z), narrow(values.w)}};
}

// Eight numbers of 16 bits, two in a word: the address is a multiple of 16.
struct alignas(16) Words {
  unsigned words[4];
};

DEVICE Words load8(const Bf16* from AND_HERE) {
#ifndef __CUDACC__
  host::check_aligned(from, 16, {file, line});
#endif
  return *reinterpret_cast<const Words*>(from);
}

DEVICE void store8(Bf16* to, Words values AND_HERE) {
#ifndef __CUDACC__
  host::check_aligned(to, 16, {file, line});
#endif
  *reinterpret_cast<Words*>(to) = values;
}

// ---- the block and the warp; all threads of either take part ----

// Every thread of the block waits for all others; memory is ordered between them.
DEVICE void sync_block(HERE) {
#ifdef __CUDACC__
  __syncthreads();
#else
  host::sync_threads({file, line});
#endif
}

// The same among the 32 lanes of a warp.
DEVICE void sync_lanes(HERE) {
#ifdef __CUDACC__
  __syncwarp();
#else
  host::sync_warp({file, line});
#endif
}

// What lane `source` passes.
template <class T>
DEVICE T shuffle(T value, int source AND_HERE) {
#ifdef __CUDACC__
  return __shfl_sync(0xffffffffu, value, source);
#else
  return host::shuffle(value, source, {file, line});
#endif
}

// What the lane passes whose number differs by the bits of `mask`.
template <class T>
DEVICE T shuffle_xor(T value, int mask AND_HERE) {
#ifdef __CUDACC__
  return __shfl_xor_sync(0xffffffffu, value, mask);
#else
  return host::shuffle(value, static_cast<int>(host::lane->idx % 32) ^ mask, {file, line});
#endif
}

// ---- asynchronous copies from global to shared memory, 16 bytes each ----

// Copies the first `n_bytes`, and zeros in place of the rest; with 0 the source is not read.
DEVICE void copy_async(void* to, const void* from, int n_bytes AND_HERE) {
#ifdef __CUDACC__
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
               "r"(n_bytes)
               : "memory");
#else
  host::copy_async(to, from, 16, n_bytes, {file, line});
#endif
}

// Ends a group of copies.
DEVICE void commit_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  host::commit_copies();
#endif
}

// Waits for this thread's copies, all but the latest `N_GROUPS` groups. Other threads see them
// after the next `sync_block`.
template <int N_GROUPS>
DEVICE void wait_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;" ::"n"(N_GROUPS) : "memory");
#else
  host::wait_copies(N_GROUPS);
#endif
}

// ---- tensor cores: operations of a warp, lane 4 g + t holding what is said of g and t ----

// Reads four matrices of 8 x 8 numbers of 16 bits from shared memory. Lane 8 m + i passes where row
// i of matrix m begins, a multiple of 16. `to[m]` becomes row g, columns 2 t and 2 t + 1, of
// matrix m, the first in the low half.
DEVICE void load_matrices(unsigned (&to)[4], const void* row AND_HERE) {
#ifdef __CUDACC__
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
#else
  host::load_matrices(to, row, {file, line});
#endif
}

// The same, each matrix transposed: `to[m]` becomes rows 2 t and 2 t + 1, column g, of matrix m.
DEVICE void load_transposed(unsigned (&to)[4], const void* row AND_HERE) {
#ifdef __CUDACC__
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
#else
  host::load_transposed(to, row, {file, line});
#endif
}

// sums (16, 8) f32 += a (16, 16) bf16 times b (16, 8) bf16. Products are exact and sums f32, but
// how hardware orders and rounds the sixteen additions is not specified. That it does the same for
// every row, column and call is what batch invariance rests on, and for hardware to show. The host
// half adds the products in f64, k in order, and rounds once with what `sums` holds.
//   a[0], a[1]  rows g and g + 8, columns 2 t and 2 t + 1; a[2], a[3] the same, 8 columns on
//   b_0, b_1    rows 2 t and 2 t + 1, column g; the same, 8 rows on
//   sums        row g, columns 2 t and 2 t + 1; the same of row g + 8
DEVICE void multiply_add(float (&sums)[4], const unsigned (&a)[4], unsigned b_0,
                         unsigned b_1 AND_HERE) {
#ifdef __CUDACC__
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_0), "r"(b_1));
#else
  host::multiply_add(sums, a, b_0, b_1, {file, line});
#endif
}
