// What sm_90a alone has: barriers in shared memory, tiles copied by the tensor memory accelerator,
// and products of a warpgroup. As in `ptx.cuh`, each operation has a device half and a host half,
// and these instructions stand here and nowhere else. No device half was run on hardware; each says
// what its text rests on: the PTX ISA (8.0 and later), or CUTLASS 3's sm90 headers.
//
// Compiled for other chips the device halves are empty; a kernel made of them begins with
// `if (!HAS_HOPPER) return trap();`.
#pragma once

#ifdef __CUDACC__
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define HAS_HOPPER 1
#else
#define HAS_HOPPER 0
#endif
#define GRID_CONSTANT const __grid_constant__
#define SM_90A_EXPORT(name)
// What cuTensorMapEncodeTiled writes: a CUtensorMap, by its size and alignment.
struct alignas(64) TensorMap {
  unsigned char opaque[128];
};
#else
#include "host/hopper.h"
#define HAS_HOPPER 1
#define GRID_CONSTANT const
#define SM_90A_EXPORT(name) static host::Export export_##name{#name, &name, host::SM_90A_SHARED}
using host::TensorMap;
#endif

// The kernel was launched on a chip that it is not for.
DEVICE void trap() {
#ifdef __CUDACC__
  __trap();
#endif
}

#ifdef __CUDACC__
DEVICE unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}
#endif

// The first multiple of 1024 in shared memory from `start` on: where swizzled tiles may begin.
DEVICE unsigned char* aligned_1024(unsigned char* start) {
#ifdef __CUDACC__
  return start + (0u - shared_address(start)) % 1024;
#else
  return start + (std::uintptr_t(0) - reinterpret_cast<std::uintptr_t>(start)) % 1024;
#endif
}

// ---- barriers in shared memory: a phase ends with its last arrival and its last byte ----

struct alignas(8) Barrier {
  unsigned long long state;
};

// The phase that runs first has parity 0; each ends after `n_arrivals`. One thread does this.
DEVICE void init_barrier(Barrier* barrier, int n_arrivals AND_HERE) {
#ifdef __CUDACC__
#if HAS_HOPPER
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(n_arrivals)
               : "memory");
#endif
#else
  host::init_barrier(barrier, n_arrivals, {file, line});
#endif
}

// The barriers that this thread initialised become known to the copies' proxy; other threads learn
// of them at the next `sync_block`. CUTLASS has the first fence (fence_barrier_init), the CUDA
// programming guide the second; both cost nothing here.
DEVICE void publish_barriers() {
#ifdef __CUDACC__
#if HAS_HOPPER
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
#else
  host::publish_barriers();
#endif
}

// One arrival. What the thread did before is seen by those who wait for the phase: .release.cta is
// the default, as .acquire.cta is of the wait.
DEVICE void arrive(Barrier* barrier AND_HERE) {
#ifdef __CUDACC__
#if HAS_HOPPER
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
#endif
#else
  host::arrive(barrier, 0, {file, line});
#endif
}

// One arrival, and the phase ends only after so many bytes of copies.
DEVICE void arrive_expecting(Barrier* barrier, int n_bytes AND_HERE) {
#ifdef __CUDACC__
#if HAS_HOPPER
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                   shared_address(barrier)),
               "r"(n_bytes)
               : "memory");
#endif
#else
  host::arrive(barrier, n_bytes, {file, line});
#endif
}

// Waits until the phase of this parity has ended; of a fresh barrier the phase of parity 1 has.
// try_wait sleeps for a time that the system chooses and may return in vain, so it is asked again.
DEVICE void wait_barrier(Barrier* barrier, unsigned parity AND_HERE) {
#ifdef __CUDACC__
#if HAS_HOPPER
  unsigned has_ended;
  do {
    asm volatile(
        "{\n"
        ".reg .pred has_ended;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 has_ended, [%1], %2;\n"
        "selp.b32 %0, 1, 0, has_ended;\n"
        "}"
        : "=r"(has_ended)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
  } while (!has_ended);
#endif
#else
  host::wait_barrier(barrier, parity, {file, line});
#endif
}

// ---- copies of tiles ----

// Copies the map's box, whose first element stands in this column and row, to a tile, which begins
// at a multiple of 1024 where the map swizzles by 128 bytes. Zeros stand for what lies outside of
// the matrix, and count: the barrier always gets the bytes of the whole box. One thread does this;
// coordinates are elements, the contiguous one first (CUTLASS: SM90_TMA_LOAD_2D). An address of
// this block's shared memory is also one of its cluster's window, a cluster of one block.
DEVICE void copy_tile(void* to, const TensorMap& map, int col, int row, Barrier* barrier AND_HERE) {
#ifdef __CUDACC__
#if HAS_HOPPER
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4}], [%2];" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(barrier)), "r"(col), "r"(row)
      : "memory");
#endif
#else
  host::copy_tile(to, map, col, row, barrier, {file, line});
#endif
}

// ---- products of a warpgroup: four warps, the first of them a multiple of four ----

// How a tile lies in shared memory: rows of so many bytes, k running along them, one row after
// another; of the 16-byte chunks of a row, the number is xored with the row's, modulo the chunks of
// a row and, for 64 bytes, by row / 2. The values are those of a descriptor's bits 62 and 63.
enum Layout { SWIZZLE_128 = 1, SWIZZLE_64 = 2 };

#ifdef __CUDACC__
// The matrix descriptor (PTX ISA, "Matrix descriptor format"; CUTLASS: GmmaDescriptor): bits 0-13
// the address / 16, 16-29 the leading offset, which layouts with a swizzle along k do not use (1 in
// CUTLASS), 32-45 the bytes from 8 rows to the next 8, / 16; 49-51 the base offset, 0 where the
// pattern begins at a multiple of 1024. The xor is that of the address's own bits, so a tile's
// later k are reached by adding their bytes to the address (as CUTLASS and DeepGEMM do).
DEVICE unsigned long long descriptor_of(const void* tile, Layout layout) {
  const unsigned row_bytes = layout == SWIZZLE_128 ? 128 : 64;
  const unsigned long long address = (shared_address(tile) & 0x3ffff) >> 4;
  return address | 1ull << 16 | static_cast<unsigned long long>(8 * row_bytes >> 4) << 32 |
         static_cast<unsigned long long>(layout) << 62;
}

#define EIGHT(x, i)                                                                         \
  "+f"(x[i]), "+f"(x[i + 1]), "+f"(x[i + 2]), "+f"(x[i + 3]), "+f"(x[i + 4]), "+f"(x[i + 5]), \
      "+f"(x[i + 6]), "+f"(x[i + 7])
#define ALL_128(x)                                                                          \
  EIGHT(x, 0), EIGHT(x, 8), EIGHT(x, 16), EIGHT(x, 24), EIGHT(x, 32), EIGHT(x, 40),         \
      EIGHT(x, 48), EIGHT(x, 56), EIGHT(x, 64), EIGHT(x, 72), EIGHT(x, 80), EIGHT(x, 88),   \
      EIGHT(x, 96), EIGHT(x, 104), EIGHT(x, 112), EIGHT(x, 120)
#endif

// Orders what was done to the sums before the products that follow: every group begins with it.
// The sums are operands, or the compiler could move what it does to them past the fence (CUTLASS:
// warpgroup_fence_operand, warpgroup_arrive).
DEVICE void fence_products(float (&sums)[128] AND_HERE) {
#ifdef __CUDACC__
#if HAS_HOPPER
  asm volatile("wgmma.fence.sync.aligned;" : ALL_128(sums)::"memory");
#endif
#else
  static_cast<void>(sums);
  host::fence_products({file, line});
#endif
}

// Begins sums (64, 256) f32 += a (64, 16) bf16 times the transpose of b (256, 16) bf16; both are
// parts of tiles of this layout. Nothing may touch the sums, or write the tiles, until the product
// was waited for. sums[4 j + i] of lane 4 g + t in warp w is row 16 w + g, 8 further for i >= 2,
// column 8 j + 2 t + i % 2. Within the sixteen additions order and rounding are not specified, as
// with `multiply_add`; the host half rounds once.
// The immediates: keep the sums (scale-d), negate and transpose nothing.
DEVICE void multiply_add_tiles(float (&sums)[128], const void* a, const void* b,
                               Layout layout AND_HERE) {
#ifdef __CUDACC__
#if HAS_HOPPER
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, "
      "%111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, "
      "%125, %126, %127}, %128, %129, 1, 1, 1, 0, 0;"
      : ALL_128(sums)
      : "l"(descriptor_of(a, layout)), "l"(descriptor_of(b, layout))
      : "memory");
#endif
#else
  host::multiply_add_tiles(sums, a, b, layout == SWIZZLE_128 ? 128 : 64, {file, line});
#endif
}

// Ends a group of products.
DEVICE void commit_products(HERE) {
#ifdef __CUDACC__
#if HAS_HOPPER
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
#else
  host::commit_products({file, line});
#endif
}

// Waits for this warp's products, all but the latest `N_GROUPS` groups. The sums may be touched
// after no group is left; they are operands for the compiler's sake, as at the fence.
template <int N_GROUPS>
DEVICE void wait_products(float (&sums)[128] AND_HERE) {
#ifdef __CUDACC__
#if HAS_HOPPER
  asm volatile("wgmma.wait_group.sync.aligned %128;" : ALL_128(sums) : "n"(N_GROUPS) : "memory");
#endif
#else
  static_cast<void>(sums);
  host::wait_products(N_GROUPS, {file, line});
#endif
}
