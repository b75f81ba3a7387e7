// The scheduler: which fiber runs, who waits for whom, and what is wrong when nobody can go on.

#include "machine.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <numeric>

#include "marks.h"

namespace host {

__thread Lane* lane = nullptr;

Machine& machine() {
  thread_local Machine machine;
  return machine;
}

namespace {

enum class Schedule { LOWEST_FIRST, RANDOM_RUN, RANDOM_SWITCH };

Schedule schedule_of(std::uint64_t seed) {
  if (seed == 0) return Schedule::LOWEST_FIRST;
  return seed % 2 == 1 ? Schedule::RANDOM_RUN : Schedule::RANDOM_SWITCH;
}

bool same(Place left, Place right) {
  return left.line == right.line && std::strcmp(left.file, right.file) == 0;
}

}  // namespace

bool Machine::run(const Kernel& kernel, const KernelsLaunch& launch, KernelsFailure& failure) {
  kernel_ = &kernel;
  launch_ = &launch;
  failure_ = &failure;
  has_failed_ = false;
  draws_ = launch.seed * 0x9e3779b97f4a7c15;
  n_threads_ = launch.block[0] * launch.block[1] * launch.block[2];
  while (workers_.size() < n_threads_) workers_.push_back(std::make_unique<Worker>());
  for (unsigned idx = 0; idx < n_threads_; ++idx) {
    Worker& worker = *workers_[idx];
    worker.idx = idx;
    worker.block_dim = {launch.block[0], launch.block[1], launch.block[2]};
    worker.grid_dim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    worker.thread_idx = {idx % launch.block[0], idx / launch.block[0] % launch.block[1],
                         idx / (launch.block[0] * launch.block[1])};
  }

  marks::release(&start_mark_);

  std::vector<std::uint64_t> blocks(std::uint64_t(launch.grid[0]) * launch.grid[1] *
                                    launch.grid[2]);
  std::iota(blocks.begin(), blocks.end(), 0);
  if (launch.seed != 0) {
    for (std::size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[draw() % i]);
  }
  for (std::uint64_t block : blocks) {
    run_block({unsigned(block % launch.grid[0]), unsigned(block / launch.grid[0] % launch.grid[1]),
               unsigned(block / launch.grid[0] / launch.grid[1])});
    if (!has_failed_) proxy_.end_block();
    if (!has_failed_) check_guards();
    free_shared();
    if (has_failed_) break;
  }
  marks::acquire(&end_mark_);
  return !has_failed_;
}

void Machine::run_block(Dim3 block_idx) {
  barrier_ = {};
  proxy_.begin_block(n_threads_, kernel_->max_shared == SM_90A_SHARED);
  warps_.assign((n_threads_ + WARP - 1) / WARP, {});
  static_bytes_ = 0;
  n_done_ = 0;
  runnable_.assign((n_threads_ + 63) / 64, 0);
  wake(0, n_threads_);
  for (unsigned idx = 0; idx < n_threads_; ++idx) {
    Worker& worker = *workers_[idx];
    worker.block_idx = block_idx;
    worker.copies.clear();
    worker.n_groups = 0;
    worker.fiber.start(&Machine::enter, &worker);
  }
  while (n_done_ < n_threads_ && !has_failed_) {
    const unsigned idx = next_runnable();
    if (idx == n_threads_) return report_deadlock();
    lane = workers_[idx].get();
    workers_[idx]->fiber.resume();
  }
}

void Machine::enter(void*) {
  Machine& self = machine();
  marks::acquire(&self.start_mark_);
  self.kernel_->call(self.kernel_->kernel, self.launch_->args);
  self.leave();
}

// A thread has come to its kernel's end.
void Machine::leave() {
  Worker& worker = self();
  for (const Copy& copy : worker.copies) {
    fail("unwaited-copy", copy.place, "the thread leaves before this copy has arrived");
  }
  proxy_.leave();
  Warp& warp = warps_[worker.idx / WARP];
  if (warp.n_arrived > 0) {
    fail("divergent-warp", warp.place, "lanes wait at this %s for one that has left", warp.name);
  }
  if (barrier_.n_arrived > 0) {
    fail("divergent-barrier", barrier_.place, "threads wait at this barrier for one that has left");
  }
  ++warp.n_left;
  ++barrier_.n_left;
  ++n_done_;
  marks::release(&end_mark_);
  runnable_[worker.idx / 64] &= ~(std::uint64_t(1) << worker.idx % 64);
}

void Machine::wait() {
  const unsigned idx = lane->idx;
  runnable_[idx / 64] &= ~(std::uint64_t(1) << idx % 64);
  pause();
}

void Machine::pause() {
  marks::release(&end_mark_);  // a launch that fails never comes back here
  self().fiber.pause();
}

void Machine::wake(unsigned first, unsigned count) {
  for (unsigned idx = first; idx < first + count; ++idx) {
    runnable_[idx / 64] |= std::uint64_t(1) << idx % 64;
  }
}

void Machine::may_switch() {
  if (schedule_of(launch_->seed) == Schedule::RANDOM_SWITCH && draw() % 2 == 0) {
    pause();
  }
}

// The next thread to run; as many as there are threads where none can.
unsigned Machine::next_runnable() {
  const unsigned n_words = runnable_.size();
  const bool in_order = schedule_of(launch_->seed) == Schedule::LOWEST_FIRST;
  const unsigned from = in_order ? 0 : draw() % n_threads_;
  // The bits from `from` on, then those before it.
  for (unsigned i = 0; i <= n_words; ++i) {
    const unsigned word_idx = (from / 64 + i) % n_words;
    std::uint64_t word = runnable_[word_idx];
    if (i == 0) word &= ~std::uint64_t(0) << from % 64;
    if (word != 0) return word_idx * 64 + __builtin_ctzll(word);
  }
  return n_threads_;
}

// splitmix64
std::uint64_t Machine::draw() {
  std::uint64_t z = draws_ += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

void Machine::wait_at_barrier(Place place) {
  if (barrier_.n_left > 0) {
    fail("divergent-barrier", place, "a thread waits at this barrier, another has left");
  }
  if (barrier_.n_arrived == 0) {
    barrier_.place = place;
  } else if (!same(barrier_.place, place)) {
    fail("divergent-barrier", place, "a thread waits at this barrier, another at line %d",
         barrier_.place.line);
  }
  void* const mark = mark_of(barrier_);
  marks::release(mark);
  if (++barrier_.n_arrived < n_threads_) {
    wait();
  } else {
    barrier_.n_arrived = 0;
    wake(0, n_threads_);
    may_switch();
  }
  marks::acquire(mark);
}

void Machine::operate(const char* name, Place place, void* args, void (*execute)(void* const*)) {
  const unsigned idx = lane->idx, first = idx / WARP * WARP;
  Warp& warp = warps_[idx / WARP];
  if (first + WARP > n_threads_) {
    fail("partial-warp", place, "a %s in a warp of %u threads", name, n_threads_ - first);
  }
  if (warp.n_left > 0) {
    fail("divergent-warp", place, "a lane waits at this %s, another has left", name);
  }
  if (warp.n_arrived == 0) {
    warp.place = place;
    warp.name = name;
  } else if (!same(warp.place, place)) {
    fail("divergent-warp", place, "a lane waits at this %s, another at line %d", name,
         warp.place.line);
  }
  warp.args[idx % WARP] = args;
  if (++warp.n_arrived < WARP) return wait();
  if (execute) execute(warp.args);
  warp.n_arrived = 0;
  wake(first, WARP);
  may_switch();
}

// Nobody can go on: each waits for another.
void Machine::report_deadlock() {
  if (proxy_.report_deadlock()) return;
  for (unsigned warp_idx = 0; warp_idx < warps_.size(); ++warp_idx) {
    const Warp& warp = warps_[warp_idx];
    if (warp.n_arrived == 0) continue;
    lane = workers_[warp_idx * WARP].get();
    char text[128];
    std::snprintf(text, sizeof text, "%u lanes of warp %u wait at this %s, the others elsewhere",
                  warp.n_arrived, warp_idx, warp.name);
    fail_here("divergent-warp", warp.place, text);
    return;
  }
  fail_here("divergent-barrier", barrier_.place, "some threads wait at this barrier only");
}

void Machine::fail_here(const char* check, Place place, const char* text) {
  if (!has_failed_) {
    const marks::Unseen unseen;
    has_failed_ = true;
    const char* name = std::strrchr(place.file, '/');
    std::snprintf(failure_->check, sizeof failure_->check, "%s", check);
    std::snprintf(failure_->message, sizeof failure_->message,
                  "%s:%d: %s block (%u, %u, %u) thread %u: %s", name ? name + 1 : place.file,
                  place.line, kernel_->name, lane->block_idx.x, lane->block_idx.y,
                  lane->block_idx.z, lane->idx, text);
  }
}

void* Machine::mark_of(Gathering& gathering) {
  // Addresses that mean nothing but themselves. Each gathering has its own, or a thread that is
  // about to leave one would seem to know what others did before the next.
  static char places[1 << 20];
  if (gathering.n_arrived == 0) gathering.mark = &places[n_marks_++ * 8 % sizeof places];
  return gathering.mark;
}

}  // namespace host
