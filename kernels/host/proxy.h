// What goes on in a block beside its threads: barriers, copies of tiles, products of warpgroups.
// Seen by the harness alone.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "hopper.h"

namespace host {

// A copy that was begun.
struct TileCopy {
  unsigned char* to;
  TensorMap map;
  int col, row;
  Place place;
};

struct BarrierState {
  int n_arrivals, n_pending;  // of each phase; still to come in this one
  long long n_bytes = 0;      // that this phase was told of
  unsigned parity = 0;        // of this phase
  unsigned owner;             // the thread that initialised it
  bool is_published = false;
  std::vector<TileCopy> copies = {};
  struct Sleeper {
    unsigned idx;
    Place place;
  };
  std::vector<Sleeper> sleepers = {};
};

constexpr int TILE_ROWS = 64, TILE_COLS = 256, TILE_K = 16;  // of a product
constexpr int N_SUMS = TILE_COLS / 2;                        // of a thread

// The sums that products in flight will change: where they lie, and what they are until then.
struct HeldSums {
  float* lanes[32];
  float values[32][N_SUMS];
};

// What one warp has to do of a product that was begun.
struct Product {
  float* sums;  // of lane 0
  const void *a, *b;
  int row_bytes, group;
  Place place;
  std::vector<std::uint16_t> operands;  // as they were when it began
};

struct WarpProducts {
  std::vector<Product> products;
  std::vector<HeldSums> held;
  int n_groups = 0;  // that were committed
  bool is_fenced = false;
  std::size_t n_begun = 0;
};

// A product as the four warps of a warpgroup must agree on it.
struct Begun {
  const void *a, *b;
  Place place;
};

class Proxy {
 public:
  void begin_block(unsigned n_threads);
  // The running thread has come to its kernel's end.
  void leave();
  // All have; false where something is still under way, which is then the launch's failure.
  void end_block();
  // Names the barrier for which threads wait in vain, where there is one.
  bool report_deadlock();

  void init(void* barrier, int n_arrivals, Place place);
  void publish();
  void arrive(void* barrier, int n_bytes, Place place);
  void wait(void* barrier, unsigned parity, Place place);
  void copy(const TileCopy& copy, void* barrier);
  // These run once for a warp, whose lanes passed the same.
  void fence() { warp().is_fenced = true; }
  void begin_product(float* const* sums, const Begun& begun, int row_bytes);
  void commit();
  void finish(int n_groups);

 private:
  BarrierState& find(void* barrier, Place place);
  bool deliver(BarrierState& barrier);
  void wake(BarrierState& barrier);
  WarpProducts& warp();

  unsigned n_threads_ = 0;
  std::map<void*, BarrierState> barriers_;
  std::vector<WarpProducts> warps_;
  std::vector<std::vector<Begun>> warpgroups_;
};

}  // namespace host
