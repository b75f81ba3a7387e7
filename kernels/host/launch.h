// The harness as a caller in another language sees it.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct KernelsLaunch {
  const char* name;
  unsigned grid[3];
  unsigned block[3];
  std::size_t shared_bytes;  // whose size the launch chooses
  void* const* args;         // pointers to values
  const std::size_t* arg_bytes;
  std::size_t n_args;
  // 0: the lowest thread first, blocks in order. Then, by turns: threads drawn whenever one must
  // wait; threads drawn wherever they can be told apart. Blocks in a drawn order.
  std::uint64_t seed;
};

struct KernelsFailure {
  char check[32];     // the name of the check
  char message[512];  // file:line, kernel, block, thread, what was found
};

// Runs a kernel to its end; 0, or 1 and a failure. Never ends the process.
int kernels_launch(const KernelsLaunch* launch, KernelsFailure* failure);
}
