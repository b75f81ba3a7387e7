// A CUDA block on the CPU: what `ptx.cuh` and the kernels see of it.
//
// Every CUDA thread is a fiber; blocks run one after another, in an order and with switches drawn
// from a seed. Shared memory is filled with NaN for every block, asynchronous copies leave NaN
// until they are waited for. Misuse of the machine ends the launch with the name of the check that
// found it, and the line:
//
//   divergent-barrier    threads of a block wait at different barriers, or one has left
//   divergent-warp       the same within a warp, at a shuffle or another warp-wide operation
//   partial-warp         a warp-wide operation in a warp of fewer than 32 threads
//   shared-overrun       a write just outside of a shared array
//   shared-memory-limit  more shared memory than the chip has
//   misaligned           a vector access that a GPU would refuse
//   bank-conflict        rows of one matrix that shared memory gives one after another
//   unwaited-copy        a thread leaves before its asynchronous copies have arrived
//   launch               an unknown kernel, arguments of other number or size, an impossible grid
// `hopper.h` has those of sm_90a.
//
// State is kept per thread of the operating system, so tests may launch in parallel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace host {

struct Place {
  const char* file;
  int line;
};

struct Dim3 {
  unsigned x, y, z;
};

// What a CUDA thread knows of itself.
struct Lane {
  Dim3 thread_idx, block_idx, block_dim, grid_dim;
  unsigned idx;  // in its block
};

// The thread that runs now. Read anew after every switch: each fiber sees its own.
extern __thread Lane* lane;

// __syncthreads.
void sync_threads(Place place);

// A warp-wide operation: every lane deposits its arguments, the last to arrive executes for all.
void warp_operation(const char* name, Place place, void* args, void (*execute)(void* const* lanes));

// Memory is ordered between the lanes of a warp, which shuffles do not do.
void sync_warp(Place place);

// A shared array of the running block: the same for all threads that come by this place.
void* shared(const char* name, std::size_t bytes, Place place);
// The shared memory whose size the launch chooses.
void* dynamic_shared(Place place);

// cp.async: the first `wanted` of `bytes` are copied, zeros follow.
void copy_async(void* to, const void* from, std::size_t bytes, std::size_t wanted, Place place);
void commit_copies();
// Waits until at most `n_groups` of the latest groups of copies are under way.
void wait_copies(int n_groups);

// Ends the launch.
[[noreturn]] void fail(const char* check, Place place, const char* format, ...)
    __attribute__((format(printf, 3, 4)));

template <class To, class From>
inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// What the lane `source` passes.
template <class T>
inline T shuffle(T value, int source, Place place) {
  struct Passed {
    T value;
    int source;
  };
  Passed passed{value, source};
  const auto exchange = [](void* const* lanes) __attribute__((no_sanitize("thread"))) {
    T values[32];
    for (int i = 0; i < 32; ++i) values[i] = static_cast<Passed*>(lanes[i])->value;
    for (int i = 0; i < 32; ++i) {
      Passed& lane = *static_cast<Passed*>(lanes[i]);
      if (lane.source >= 0 && lane.source < 32) {
        lane.value = values[lane.source];
      } else {
        std::memset(&lane.value, 0xff, sizeof(T));  // undefined on a GPU
      }
    }
  };
  warp_operation("shuffle", place, &passed, exchange);
  return passed.value;
}

inline void check_aligned(const void* pointer, std::size_t bytes, Place place) {
  if (reinterpret_cast<std::uintptr_t>(pointer) % bytes != 0) {
    fail("misaligned", place, "%p is not a multiple of %zu", pointer, bytes);
  }
}

// A kernel that can be launched by name. The arguments are pointers to values, as cuLaunchKernel
// has them.
struct Kernel {
  const char* name;
  void (*kernel)();
  void (*call)(void (*kernel)(), void* const* args);
  const std::size_t* arg_bytes;
  std::size_t n_args;
  std::size_t max_shared;  // bytes that a block of it may have
  const Kernel* next;
};

void add_kernel(Kernel* kernel);

// What one block may have on sm_80.
constexpr std::size_t SM_80_SHARED = 163 << 10;

template <class... Args>
struct Caller {
  static constexpr std::size_t bytes[sizeof...(Args) + 1] = {sizeof(Args)..., 0};

  template <std::size_t... idx>
  static void apply(void (*kernel)(Args...), void* const* args, std::index_sequence<idx...>) {
    kernel(*static_cast<std::remove_const_t<Args>*>(args[idx])...);
  }

  static void call(void (*kernel)(), void* const* args) {
    apply(reinterpret_cast<void (*)(Args...)>(kernel), args, std::index_sequence_for<Args...>());
  }
};

struct Export {
  Kernel kernel;

  template <class... Args>
  Export(const char* name, void (*function)(Args...), std::size_t max_shared = SM_80_SHARED)
      : kernel{name, reinterpret_cast<void (*)()>(function), &Caller<Args...>::call,
               Caller<Args...>::bytes, sizeof...(Args), max_shared, nullptr} {
    add_kernel(&kernel);
  }
};

}  // namespace host
