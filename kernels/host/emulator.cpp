// What kernels and callers use of the machine: its operations by name, and the launch.

#include "emulator.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "machine.h"
#include "marks.h"

// The files that hold kernels: the linker takes from an archive only what is asked for by name.
extern "C" const int kernels_all, kernels_planted, kernels_probes;

namespace host {

namespace {

const Kernel*& kernels() {
  static const Kernel* first = nullptr;
  return first;
}

const Kernel* find(const char* name) {
  const bool are_linked = kernels_all + kernels_planted + kernels_probes == 3;
  const Kernel* kernel = are_linked ? kernels() : nullptr;
  while (kernel && std::strcmp(kernel->name, name) != 0) kernel = kernel->next;
  return kernel;
}

// Why this cannot be launched: the parts that the driver, or the GPU, would refuse.
const char* refusal(const Kernel* kernel, const KernelsLaunch& launch) {
  if (!kernel) return "no such kernel";
  if (launch.n_args != kernel->n_args) return "another number of arguments";
  for (std::size_t i = 0; i < launch.n_args; ++i) {
    if (launch.arg_bytes[i] != kernel->arg_bytes[i]) return "an argument of another size";
  }
  const auto [x, y, z] = launch.block;
  if (std::uint64_t(x) * y * z > MAX_THREADS || x * y * z == 0) return "an impossible block";
  if (launch.grid[0] == 0 || launch.grid[0] > 0x7fffffff) return "an impossible grid";
  for (unsigned n_blocks : {launch.grid[1], launch.grid[2]}) {
    if (n_blocks == 0 || n_blocks > 65535) return "an impossible grid";
  }
  return nullptr;
}

}  // namespace

void add_kernel(Kernel* kernel) {
  kernel->next = kernels();
  kernels() = kernel;
}

void sync_threads(Place place) { machine().wait_at_barrier(place); }

void warp_operation(const char* name, Place place, void* args, void (*execute)(void* const*)) {
  machine().operate(name, place, args, execute);
}

void sync_warp(Place place) {
  void* const mark = machine().warp_mark();
  marks::release(mark);
  machine().operate("warp barrier", place, nullptr, nullptr);
  marks::acquire(mark);
}

void fail(const char* check, Place place, const char* format, ...) {
  char text[256];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  machine().fail_here(check, place, text);
  marks::end_unseen();
  for (;;) machine().pause();  // nobody will resume it
}

}  // namespace host

int kernels_launch(const KernelsLaunch* launch, KernelsFailure* failure) {
  const host::Kernel* kernel = host::find(launch->name);
  if (const char* refusal = host::refusal(kernel, *launch)) {
    std::snprintf(failure->check, sizeof failure->check, "launch");
    std::snprintf(failure->message, sizeof failure->message, "%s: %s", launch->name, refusal);
    return 1;
  }
  return host::machine().run(*kernel, *launch, *failure) ? 0 : 1;
}
