// The emulated multiprocessor: the state of the block that runs on this thread of the operating
// system. Seen by the harness alone.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "emulator.h"
#include "fiber.h"
#include "launch.h"
#include "proxy.h"

namespace host {

constexpr unsigned WARP = 32;
constexpr unsigned MAX_THREADS = 1024;
// What one block may have without asking for more.
constexpr std::size_t MAX_STATIC_SHARED = 48 << 10;

// An asynchronous copy that has not arrived.
struct Copy {
  void* to;
  const void* from;
  std::size_t bytes, wanted;
  int group;
  Place place;
};

// A thread of the block with what the harness knows of it.
struct Worker : Lane {
  Fiber fiber;
  std::vector<Copy> copies;
  int n_groups = 0;  // groups of copies that were committed
};

// Threads that wait together: a warp at an operation, a block at a barrier.
struct Gathering {
  unsigned n_arrived = 0, n_left = 0;
  Place place = {};  // where the first of them waits
  void* mark = nullptr;  // this gathering in ThreadSanitizer's eyes
};

struct Warp : Gathering {
  const char* name = nullptr;  // of the operation
  void* args[WARP] = {};
};

struct SharedArray {
  const char* name;
  Place place;
  std::size_t bytes;
  unsigned char* start;
  unsigned char* allocation;
  std::size_t allocated;
};

class Machine {
 public:
  // Runs every block of a launch; false where one failed.
  bool run(const Kernel& kernel, const KernelsLaunch& launch, KernelsFailure& failure);

  void wait_at_barrier(Place place);
  void operate(const char* name, Place place, void* args, void (*execute)(void* const*));
  void* shared_array(const char* name, std::size_t bytes, Place place, bool is_dynamic);
  std::size_t dynamic_bytes() const { return launch_->shared_bytes; }
  void add_copy(Copy copy);
  void finish_copies(int n_groups);
  // Gives others the turn, where the schedule is one that does.
  void may_switch();
  // Goes back to the scheduler.
  void pause();
  // Sleeps until another thread wakes this one; wakes `count` threads.
  void wait();
  void wake(unsigned first, unsigned count);
  // Records the launch's first failure.
  void fail_here(const char* check, Place place, const char* text);
  Worker* worker(unsigned idx) { return workers_[idx].get(); }
  Proxy& proxy() { return proxy_; }
  Worker& self() { return *static_cast<Worker*>(lane); }
  // The mark of the gathering that the running thread is about to join.
  void* warp_mark() { return mark_of(warps_[lane->idx / WARP]); }

 private:
  static void enter(void* worker);
  void* mark_of(Gathering& gathering);
  void run_block(Dim3 block_idx);
  void leave();
  unsigned next_runnable();
  std::uint64_t draw();
  void report_deadlock();
  void check_guards();
  void free_shared();

  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Warp> warps_;
  Gathering barrier_;
  Proxy proxy_;
  std::vector<SharedArray> shared_;
  std::vector<std::uint64_t> runnable_;  // a bit for each thread
  unsigned n_threads_ = 0, n_done_ = 0;
  std::size_t static_bytes_ = 0;
  std::uint64_t draws_ = 0, n_marks_ = 0;
  const Kernel* kernel_ = nullptr;
  const KernelsLaunch* launch_ = nullptr;
  KernelsFailure* failure_ = nullptr;
  bool has_failed_ = false;
  // These order a launch's threads behind what its caller did before, and before what it does next.
  // Blocks are not ordered by them: threads of other numbers in two blocks may race.
  char start_mark_ = 0, end_mark_ = 0;
};

// The machine of this thread of the operating system.
Machine& machine();

}  // namespace host
