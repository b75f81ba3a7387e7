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

// ---- copies of threads, read by what is not a thread ----

// What this thread wrote to shared memory, its copies of `copy_async` that have arrived among it,
// becomes known to the asynchronous proxy, in which products read tiles; those of other threads may
// read it after the next `sync_block`. The other way needs no fence: a product that was waited for
// has read its tiles (PTX ISA, "Async proxy"; CUTLASS: fence_view_async_shared). The host half
// knows of copies alone.
DEVICE void fence_tiles() {
#ifdef __CUDACC__
#if HAS_HOPPER
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
#else
  host::fence_tiles();
#endif
}

// ---- products of a warpgroup: four warps, the first of them a multiple of four ----

// How a tile lies in shared memory: rows of so many bytes, one after another; of the 16-byte chunks
// of a row, the number is xored with the row's, modulo the chunks of a row and, for 64 bytes, by
// row / 2. The values are those of a descriptor's bits 62 and 63.
enum Layout { SWIZZLE_128 = 1, SWIZZLE_64 = 2 };

#ifdef __CUDACC__
// The matrix descriptor (PTX ISA, "Matrix descriptor format"; CUTLASS: GmmaDescriptor): bits 0-13
// the address / 16, 16-29 the leading offset, 32-45 the stride offset, both / 16; 49-51 the base
// offset, 0 where the pattern begins at a multiple of 1024. The xor is that of the address's own
// bits, so a tile's later k are reached by adding their bytes to the address (as CUTLASS and
// DeepGEMM do).
DEVICE unsigned long long matrix_at(const void* tile, int leading, int stride, Layout layout) {
  const unsigned long long address = (shared_address(tile) & 0x3ffff) >> 4;
  return address | static_cast<unsigned long long>(leading >> 4) << 16 |
         static_cast<unsigned long long>(stride >> 4) << 32 |
         static_cast<unsigned long long>(layout) << 62;
}

// A tile whose k run along its rows ("K-major"): the stride is from 8 rows to the next 8; layouts
// with a swizzle do not use the leading offset, which is 1 in CUTLASS.
DEVICE unsigned long long descriptor_of(const void* tile, Layout layout) {
  return matrix_at(tile, 16, layout == SWIZZLE_128 ? 1024 : 512, layout);
}

// One whose k are its rows ("MN-major"), swizzled by 128 bytes, so in panels of 64 columns: the
// leading offset is from a panel to the next, the stride from 8 k to the next 8 (PTX ISA,
// "Strides"; CUTLASS: make_gmma_desc<Major::MN>).
DEVICE unsigned long long turned_descriptor_of(const void* panels, int panel_bytes) {
  return matrix_at(panels, panel_bytes, 1024, SWIZZLE_128);
}

#define EIGHT(x, i)                                                                         \
  "+f"(x[i]), "+f"(x[i + 1]), "+f"(x[i + 2]), "+f"(x[i + 3]), "+f"(x[i + 4]), "+f"(x[i + 5]), \
      "+f"(x[i + 6]), "+f"(x[i + 7])
#define SUMS_32(x) EIGHT(x, 0), EIGHT(x, 8), EIGHT(x, 16), EIGHT(x, 24)
#define SUMS_64(x) SUMS_32(x), EIGHT(x, 32), EIGHT(x, 40), EIGHT(x, 48), EIGHT(x, 56)
#define SUMS_128(x)                                                                       \
  SUMS_64(x), EIGHT(x, 64), EIGHT(x, 72), EIGHT(x, 80), EIGHT(x, 88), EIGHT(x, 96),       \
      EIGHT(x, 104), EIGHT(x, 112), EIGHT(x, 120)
// The same in an instruction's text.
#define NAMES_32                                                                                  \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18"           \
  ", %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_64 NAMES_32                                                                         \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"              \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define NAMES_128 NAMES_64                                                                        \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"              \
  ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"              \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109"              \
  ", %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123"          \
  ", %124, %125, %126, %127"

// Registers are what they are here: the compiler moves nothing that it does to them across
// (CUTLASS: warpgroup_fence_operand).
template <int N>
DEVICE void pin(float (&sums)[N]) {
  static_assert(N == 32 || N == 64 || N == 128, "of products with 64, 128 or 256 columns");
  if constexpr (N == 32) asm volatile("" : SUMS_32(sums)::"memory");
  if constexpr (N == 64) asm volatile("" : SUMS_64(sums)::"memory");
  if constexpr (N == 128) asm volatile("" : SUMS_128(sums)::"memory");
}
#endif

// Left sides that are in registers.
template <int N>
DEVICE void pin(unsigned (&a)[N][4]) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
#ifdef __CUDACC__
    asm volatile("" : "+r"(a[i][0]), "+r"(a[i][1]), "+r"(a[i][2]), "+r"(a[i][3])::"memory");
#else
    static_cast<void>(a[i]);
#endif
  }
}

// Orders what was done to registers before the products that follow: every group begins with it.
// It is given the sums, and the left sides that are in registers.
template <int N_SUMS>
DEVICE void fence_products(float (&sums)[N_SUMS] AND_HERE) {
#ifdef __CUDACC__
#if HAS_HOPPER
  pin(sums);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
#else
  static_cast<void>(sums);
  host::fence_products({file, line});
#endif
}

template <int N_SUMS, int N_A>
DEVICE void fence_products(float (&sums)[N_SUMS], unsigned (&a)[N_A][4] AND_HERE) {
  pin(a);
  fence_products(sums PASS_HERE);
}

// Begins sums (64, n) f32 += a (64, 16) bf16 times the transpose of b (n, 16) bf16, n being 64 or
// 256; both are parts of tiles of this layout whose k run along rows. Nothing may touch the sums,
// or write the tiles, until the product was waited for. sums[4 j + i] of lane 4 g + t in warp w is
// row 16 w + g, 8 further for i >= 2, column 8 j + 2 t + i % 2. Within the sixteen additions order
// and rounding are not specified, as with `multiply_add`; the host half rounds once.
// The immediates: keep the sums (scale-d), negate and transpose nothing.
template <int N_SUMS>
DEVICE void multiply_add_tiles(float (&sums)[N_SUMS], const void* a, const void* b,
                               Layout layout AND_HERE) {
  static_assert(N_SUMS == 32 || N_SUMS == 128, "64 or 256 columns");
#ifdef __CUDACC__
#if HAS_HOPPER
  const unsigned long long left = descriptor_of(a, layout), right = descriptor_of(b, layout);
  if constexpr (N_SUMS == 32) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" NAMES_32
                 "}, %32, %33, 1, 1, 1, 0, 0;"
                 : SUMS_32(sums)
                 : "l"(left), "l"(right)
                 : "memory");
  } else {
    asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" NAMES_128
                 "}, %128, %129, 1, 1, 1, 0, 0;"
                 : SUMS_128(sums)
                 : "l"(left), "l"(right)
                 : "memory");
  }
#endif
#else
  const int row_bytes = layout == SWIZZLE_128 ? 128 : 64;
  host::multiply_add_tiles(sums, 2 * N_SUMS, a, b, row_bytes, {file, line});
#endif
}

// Begins sums (64, n) f32 += a (64, 16) bf16 times b (16, n) bf16, n being 64, 128 or 256. a is in
// registers: those of a lane are what `multiply_add` calls a, of its warp's sixteen rows. b is 16
// rows of a tile whose k are its rows: panels of 64 columns, `panel_bytes` apart, each of rows of
// 128 bytes swizzled as `SWIZZLE_128`; panels and b itself begin at multiples of 1024. Nothing may
// touch the sums or a, or write the tile, until the product was waited for (PTX ISA: it is
// undefined to access either). Sums lie as above; of the immediates, the last transposes b.
template <int N_SUMS>
DEVICE void multiply_add_turned(float (&sums)[N_SUMS], unsigned (&a)[4], const void* b,
                                int panel_bytes AND_HERE) {
  static_assert(N_SUMS == 32 || N_SUMS == 64 || N_SUMS == 128, "64, 128 or 256 columns");
#ifdef __CUDACC__
#if HAS_HOPPER
#define TURNED(n, names, a_names, b_name, operands)                                             \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" n "k16.f32.bf16.bf16 {" names "}, {" a_names \
               "}, " b_name ", 1, 1, 1, 1;"                                                     \
               : operands                                                                       \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(right)                         \
               : "memory")
  const unsigned long long right = turned_descriptor_of(b, panel_bytes);
  if constexpr (N_SUMS == 32) {
    TURNED("64", NAMES_32, "%32, %33, %34, %35", "%36", SUMS_32(sums));
  } else if constexpr (N_SUMS == 64) {
    TURNED("128", NAMES_64, "%64, %65, %66, %67", "%68", SUMS_64(sums));
  } else {
    TURNED("256", NAMES_128, "%128, %129, %130, %131", "%132", SUMS_128(sums));
  }
#undef TURNED
#endif
#else
  host::multiply_add_turned(sums, 2 * N_SUMS, a, b, panel_bytes, {file, line});
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

// Waits for this warp's products, all but the latest `N_GROUPS` groups. The registers may be
// touched after no group is left.
template <int N_GROUPS, int N_SUMS>
DEVICE void wait_products(float (&sums)[N_SUMS] AND_HERE) {
#ifdef __CUDACC__
#if HAS_HOPPER
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N_GROUPS) : "memory");
  pin(sums);
#endif
#else
  static_cast<void>(sums);
  host::wait_products(N_GROUPS, {file, line});
#endif
}

template <int N_GROUPS, int N_SUMS, int N_A>
DEVICE void wait_products(float (&sums)[N_SUMS], unsigned (&a)[N_A][4] AND_HERE) {
  wait_products<N_GROUPS>(sums PASS_HERE);
  pin(a);
}
