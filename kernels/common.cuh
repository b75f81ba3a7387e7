// What every kernel file begins with: how kernels and shared arrays are declared, so that nvcc and
// a host compiler (`host/`) both take them.
#pragma once

#ifdef __CUDACC__

#define DEVICE static __device__ __forceinline__
#define KERNEL(n_threads) extern "C" __global__ void __launch_bounds__(n_threads)
#define EXPORT(name)
#define SHARED(type, name, dims) __shared__ __align__(16) type name dims
#define DYNAMIC_SHARED(type, name)                                  \
  extern __shared__ __align__(16) unsigned char dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(dynamic_shared)

#else

#include "host/emulator.h"
#include "host/matrix.h"

#define DEVICE static inline
#define KERNEL(n_threads) extern "C" void
// Makes a kernel known by its name.
#define EXPORT(name) static host::Export export_##name{#name, &name}
// A shared array: `SHARED(float, tile, [32][33])`.
#define SHARED(type, name, dims)           \
  auto& name = *static_cast<type(*) dims>( \
      host::shared(#name, sizeof(type dims), {__builtin_FILE(), __builtin_LINE()}))
// The shared memory whose size the launch chooses, one array of it for the whole kernel.
#define DYNAMIC_SHARED(type, name)   \
  type* const name = static_cast<type*>( \
      host::dynamic_shared({__builtin_FILE(), __builtin_LINE()}))

#define threadIdx (host::lane->thread_idx)
#define blockIdx (host::lane->block_idx)
#define blockDim (host::lane->block_dim)
#define gridDim (host::lane->grid_dim)

struct alignas(16) float4 {
  float x, y, z, w;
};

#endif

#include "ptx.cuh"  // first: the others are made of it

#include "math.cuh"

// ceil(n / of)
DEVICE int n_tiles_of(int n, int of) { return (n + of - 1) / of; }

DEVICE int least(int a, int b) { return a < b ? a : b; }

DEVICE int greatest(int a, int b) { return a > b ? a : b; }

// Where row `row` of a matrix begins: products of two sizes pass 2^31.
template <class T>
DEVICE T* row_of(T* matrix, int row, int stride) {
  return matrix + static_cast<long long>(row) * stride;
}

// How a product begins: at zero, or at what the result holds.
enum Start { START_ZERO = 0, START_FROM_C = 1 };
