// What goes on in a block beside its threads: barriers, copies of tiles, products of warpgroups.
// Seen by the harness alone.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_set>
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

constexpr int TILE_ROWS = 64, TILE_K = 16;  // of a product

// What a product is of, as the four warps of a warpgroup must agree on it.
struct Begun {
  const void *a, *b;  // tiles; a is null where it is in registers
  int n_cols;
  int row_bytes;    // of tiles whose k run along rows
  int panel_bytes;  // of b where its k are its rows, else 0
  Place place;
};

// Registers of a warp that products in flight have: where they lie, and what they hold until then.
struct HeldRegisters {
  unsigned* lanes[32];
  int n;                         // of each lane
  std::vector<unsigned> values;  // (32, n)
};

// What one warp has to do of a product that was begun.
struct Product : Begun {
  unsigned *sums, *registers;  // of lane 0: of the sums, and of a where it is in registers
  int group;
  std::vector<std::uint16_t> operands;  // as they were when it began
};

struct WarpProducts {
  std::vector<Product> products;
  std::vector<HeldRegisters> sums, left_sides;
  int n_groups = 0;  // that were committed
  bool is_fenced = false;
  std::size_t n_begun = 0;
};

class Proxy {
 public:
  void begin_block(unsigned n_threads, bool is_hopper);
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
  // The running thread's copy has arrived; all that have are fenced.
  void add_written(const void* chunk);
  void fence_written();
  // These run once for a warp, whose lanes passed the same.
  void fence() { warp().is_fenced = true; }
  void begin_product(unsigned* const* sums, unsigned* const* registers, const Begun& begun);
  void commit();
  void finish(int n_groups, Place place);

 private:
  BarrierState& find(void* barrier, Place place);
  bool deliver(BarrierState& barrier);
  void wake(BarrierState& barrier);
  WarpProducts& warp();

  unsigned n_threads_ = 0;
  bool is_hopper_ = false;
  std::vector<std::vector<std::uintptr_t>> written_;  // by each thread, since its last fence
  std::unordered_set<std::uintptr_t> unfenced_;       // all of these
  std::map<void*, BarrierState> barriers_;
  std::vector<WarpProducts> warps_;
  std::vector<std::vector<Begun>> warpgroups_;
};

}  // namespace host
