// Two tiles that probes multiply, brought to shared memory.
#pragma once

#include "probe.cuh"

#include "../hopper.cuh"

namespace probe {

// Brings the maps' first boxes to `tiles.a` and `tiles.b`, as large as they are: one thread begins,
// and the barrier `tiles.full`, which all threads then know of, tells when both are there.
template <class Tiles>
DEVICE void begin_copies(Tiles& tiles, const TensorMap& a, const TensorMap& b) {
  if (threadIdx.x == 0) {
    init_barrier(&tiles.full, 1);
    publish_barriers();
    arrive_expecting(&tiles.full, sizeof tiles.a + sizeof tiles.b);
    copy_tile(tiles.a, a, 0, 0, &tiles.full);
    copy_tile(tiles.b, b, 0, 0, &tiles.full);
  }
  sync_block();
}

}  // namespace probe
