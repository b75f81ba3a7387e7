// Barriers in shared memory and the copies that they count: who waits, what arrives, and when.

#include "proxy.h"

#include <algorithm>
#include <cstring>

#include "machine.h"
#include "marks.h"

namespace host {

namespace {

constexpr unsigned char UNSET = 0xff;  // every byte of a NaN
constexpr std::uint64_t ELEMENT_BYTES = 2;

std::uint64_t box_row_bytes(const TensorMap& map) { return map.box_cols * ELEMENT_BYTES; }

std::uint64_t box_bytes(const TensorMap& map) { return box_row_bytes(map) * map.box_rows; }

// The xor of an address's bits from 4 on with those from 7 on: as many as the pattern has.
unsigned char* swizzled(unsigned char* address, unsigned swizzle) {
  const std::uintptr_t bits = reinterpret_cast<std::uintptr_t>(address);
  const std::uintptr_t mask = swizzle == 0 ? 0 : (1 << swizzle) - 1;
  return reinterpret_cast<unsigned char*>(bits ^ (bits >> 7 & mask) << 4);
}

// Why cuTensorMapEncodeTiled would refuse this map.
const char* refusal(const TensorMap& map) {
  if (reinterpret_cast<std::uintptr_t>(map.start) % 16 != 0) return "its start";
  if (map.row_bytes % 16 != 0 || map.row_bytes >= 1ull << 40) return "its rows' distance";
  if (map.n_cols == 0 || map.n_rows == 0) return "its size";
  if (map.n_cols > 1ull << 32 || map.n_rows > 1ull << 32) return "its size";
  if (map.box_cols == 0 || map.box_rows == 0) return "its box";
  if (map.box_cols > 256 || map.box_rows > 256 || box_row_bytes(map) % 16 != 0) return "its box";
  if (map.swizzle > 3) return "its swizzle";
  if (map.swizzle != 0 && box_row_bytes(map) > 16u << map.swizzle) return "its box's rows";
  return nullptr;
}

// What the accelerator does at last. A value of the matrix is found by its row and column, zeros
// stand for all others; its place in the tile is that of an unswizzled one, swizzled.
void arrive_in_shared(const TileCopy& copy) {
  const marks::Unseen unseen;
  const TensorMap& map = copy.map;
  for (std::uint32_t i = 0; i < map.box_rows; ++i) {
    for (std::uint32_t j = 0; j < map.box_cols; ++j) {
      const long long row = static_cast<long long>(copy.row) + i;
      const long long col = static_cast<long long>(copy.col) + j;
      unsigned char* to = copy.to + i * box_row_bytes(map) + j * ELEMENT_BYTES;
      to = swizzled(to, map.swizzle);
      const bool is_inside = row >= 0 && col >= 0 && row < static_cast<long long>(map.n_rows) &&
                             col < static_cast<long long>(map.n_cols);
      if (is_inside) {
        std::memcpy(to, map.start + row * map.row_bytes + col * ELEMENT_BYTES, ELEMENT_BYTES);
      } else {
        std::memset(to, 0, ELEMENT_BYTES);
      }
    }
  }
}

}  // namespace

// Lists grow and shrink where no thread of the block is seen to do it (`Unseen`): memory that one
// thread allocates for them is given back by another.
void Proxy::begin_block(unsigned n_threads) {
  const marks::Unseen unseen;
  n_threads_ = n_threads;
  barriers_.clear();
  warps_.assign((n_threads + WARP - 1) / WARP, {});
  warpgroups_.assign((n_threads + 4 * WARP - 1) / (4 * WARP), {});
}

void Proxy::init(void* barrier, int n_arrivals, Place place) {
  check_aligned(barrier, 8, place);
  if (n_arrivals < 1) fail("barrier", place, "a barrier of %d arrivals", n_arrivals);
  if (barriers_.count(barrier) > 0) fail("barrier", place, "this barrier was initialised before");
  BarrierState state{};
  state.n_arrivals = state.n_pending = n_arrivals;
  state.owner = lane->idx;
  const marks::Unseen unseen;
  barriers_.emplace(barrier, state);
}

void Proxy::publish() {
  for (auto& [at, barrier] : barriers_) barrier.is_published |= barrier.owner == lane->idx;
}

BarrierState& Proxy::find(void* barrier, Place place) {
  const auto found = barriers_.find(barrier);
  if (found == barriers_.end()) fail("barrier", place, "nobody has initialised this barrier");
  return found->second;
}

void Proxy::wake(BarrierState& barrier) {
  const marks::Unseen unseen;
  for (const auto& sleeper : barrier.sleepers) machine().wake(sleeper.idx, 1);
  barrier.sleepers.clear();
}

// Ends the phase, where all have arrived and its copies bring the bytes that it was told of.
bool Proxy::deliver(BarrierState& barrier) {
  if (barrier.n_pending > 0) return false;
  long long n_coming = 0;
  for (const TileCopy& copy : barrier.copies) n_coming += box_bytes(copy.map);
  if (n_coming > barrier.n_bytes) {
    fail("wrong-bytes", barrier.copies.back().place, "%lld bytes come, the phase knows of %lld",
         n_coming, barrier.n_bytes);
  }
  if (n_coming < barrier.n_bytes) return false;
  for (const TileCopy& copy : barrier.copies) arrive_in_shared(copy);
  barrier.copies.clear();
  barrier.n_bytes = 0;
  barrier.n_pending = barrier.n_arrivals;
  barrier.parity ^= 1;
  wake(barrier);
  return true;
}

void Proxy::arrive(void* at, int n_bytes, Place place) {
  BarrierState& barrier = find(at, place);
  // Nobody has waited for the last phase, but it must be over.
  if (barrier.n_pending == 0 && !deliver(barrier)) {
    fail("barrier", place, "more arrivals than the %d of a phase", barrier.n_arrivals);
  }
  marks::release(at);
  barrier.n_bytes += n_bytes;
  if (--barrier.n_pending == 0) {
    if (barrier.n_bytes == 0 && barrier.copies.empty()) deliver(barrier);
    wake(barrier);
  }
  machine().may_switch();
}

void Proxy::wait(void* at, unsigned parity, Place place) {
  BarrierState& barrier = find(at, place);
  while (barrier.parity == parity % 2 && !deliver(barrier)) {
    {
      const marks::Unseen unseen;
      barrier.sleepers.push_back({lane->idx, place});
    }
    machine().wait();
  }
  marks::acquire(at);
  machine().may_switch();
}

void Proxy::copy(const TileCopy& copy, void* at) {
  BarrierState& barrier = find(at, copy.place);
  if (!barrier.is_published) {
    fail("missing-fence", copy.place, "the copies do not know of this barrier yet");
  }
  if (const char* refusal = host::refusal(copy.map)) {
    fail("tensor-map", copy.place, "%s would be refused", refusal);
  }
  check_aligned(copy.to, copy.map.swizzle == 0 ? 128 : 128u << copy.map.swizzle, copy.place);
  {
    const marks::Unseen unseen;
    std::memset(copy.to, UNSET, box_bytes(copy.map));
    barrier.copies.push_back(copy);
  }
  if (barrier.n_pending == 0) wake(barrier);
  machine().may_switch();
}

void Proxy::end_block() {
  for (const auto& [at, barrier] : barriers_) {
    if (barrier.copies.empty()) continue;
    const char* text = "the block ends before this copy was waited for";
    return machine().fail_here("unwaited-copy", barrier.copies.front().place, text);
  }
  for (unsigned idx = 0; idx < warps_.size(); ++idx) {
    const std::vector<Begun>& all = warpgroups_[idx / 4];
    if (warps_[idx].n_begun == all.size()) continue;
    const char* text = "a warp of the warpgroup never came to this product";
    return machine().fail_here("divergent-warpgroup", all[warps_[idx].n_begun].place, text);
  }
}

bool Proxy::report_deadlock() {
  for (const auto& [at, barrier] : barriers_) {
    if (barrier.sleepers.empty()) continue;
    const auto [idx, place] = barrier.sleepers.front();
    lane = machine().worker(idx);
    if (barrier.n_pending == 0) {
      machine().fail_here("wrong-bytes", place, "the copies bring less than the phase awaits");
    } else {
      machine().fail_here("stuck-barrier", place, "arrivals are missing that nobody will make");
    }
    return true;
  }
  return false;
}

void init_barrier(void* barrier, int n_arrivals, Place place) {
  machine().proxy().init(barrier, n_arrivals, place);
}

void publish_barriers() { machine().proxy().publish(); }

void arrive(void* barrier, int n_bytes, Place place) {
  machine().proxy().arrive(barrier, n_bytes, place);
}

void wait_barrier(void* barrier, unsigned parity, Place place) {
  machine().proxy().wait(barrier, parity, place);
}

void copy_tile(void* to, const TensorMap& map, int col, int row, void* barrier, Place place) {
  machine().proxy().copy({static_cast<unsigned char*>(to), map, col, row, place}, barrier);
}

}  // namespace host
