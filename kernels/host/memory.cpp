// Shared memory and asynchronous copies: NaN wherever nothing has arrived yet.

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "machine.h"
#include "marks.h"

namespace host {

namespace {

// Every byte of a quiet NaN, of an index that is out of any range, and of the guards.
constexpr unsigned char UNSET = 0xff;

// Shared arrays begin on such a boundary; the same many bytes stand guard on either side. Under
// AddressSanitizer its own red zones do.
constexpr std::size_t ALIGNMENT = 128;
#ifdef KERNELS_ASAN
constexpr std::size_t GUARD = 0;
#else
constexpr std::size_t GUARD = 128;
#endif

void* allocate(std::size_t bytes) {
  void* start = nullptr;
#ifdef KERNELS_TSAN
  // Pages of its own: memory that was freed and given again would carry the races of two blocks.
  start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) start = nullptr;
#else
  if (posix_memalign(&start, ALIGNMENT, bytes) != 0) start = nullptr;
#endif
  if (!start) {
    std::perror("the emulator's shared memory");
    std::abort();
  }
  return start;
}

void give_back(void* start, [[maybe_unused]] std::size_t bytes) {
#ifdef KERNELS_TSAN
  munmap(start, bytes);
#else
  std::free(start);
#endif
}

}  // namespace

void* Machine::shared_array(const char* name, std::size_t bytes, Place place, bool is_dynamic) {
  for (const SharedArray& array : shared_) {
    if (array.place.line == place.line && array.place.file == place.file) return array.start;
  }
  if (!is_dynamic) static_bytes_ += bytes;
  const std::size_t total = static_bytes_ + launch_->shared_bytes;
  if (static_bytes_ > MAX_STATIC_SHARED || total > kernel_->max_shared) {
    fail("shared-memory-limit", place, "%zu bytes, of which %zu are static", total, static_bytes_);
  }
  const marks::Unseen unseen;
  const std::size_t allocated = bytes + 2 * GUARD;
  auto* allocation = static_cast<unsigned char*>(allocate(allocated ? allocated : 1));
  std::memset(allocation, UNSET, allocated);
  unsigned char* start = allocation + GUARD;
  shared_.push_back({name, place, bytes, start, allocation, allocated});
  return start;
}

void Machine::check_guards() {
  for (const SharedArray& array : shared_) {
    for (std::size_t i = 0; i < GUARD; ++i) {
      const bool before = array.allocation[i] != UNSET;
      if (!before && array.start[array.bytes + i] == UNSET) continue;
      char text[128];
      std::snprintf(text, sizeof text, "%s of %zu bytes was written %s", array.name, array.bytes,
                    before ? "in front of its start" : "behind its end");
      fail_here("shared-overrun", array.place, text);
      return;
    }
  }
}

void Machine::free_shared() {
  const marks::Unseen unseen;
  for (const SharedArray& array : shared_) give_back(array.allocation, array.allocated);
  shared_.clear();
}

void Machine::add_copy(Copy copy) {
  const marks::Unseen unseen;
  copy.group = self().n_groups;
  self().copies.push_back(copy);
}

void Machine::finish_copies(int n_groups) {
  auto& copies = self().copies;
  const int first_left = self().n_groups - n_groups;
  std::size_t n_done = 0;
  for (; n_done < copies.size() && copies[n_done].group < first_left; ++n_done) {
    const Copy& copy = copies[n_done];
    std::memset(copy.to, 0, copy.bytes);
    std::memcpy(copy.to, copy.from, copy.wanted);
    const marks::Unseen unseen;
    proxy_.add_written(copy.to);
  }
  const marks::Unseen unseen;
  copies.erase(copies.begin(), copies.begin() + n_done);
}

void* shared(const char* name, std::size_t bytes, Place place) {
  return machine().shared_array(name, bytes, place, false);
}

void* dynamic_shared(Place place) {
  const std::size_t bytes = machine().dynamic_bytes();
  return machine().shared_array("the dynamic shared memory", bytes, place, true);
}

void copy_async(void* to, const void* from, std::size_t bytes, std::size_t wanted, Place place) {
  const bool is_size = bytes == 4 || bytes == 8 || bytes == 16;
  if (!is_size || wanted > bytes) {
    fail("misaligned", place, "an asynchronous copy of %zu of %zu bytes", wanted, bytes);
  }
  check_aligned(to, bytes, place);
  check_aligned(from, bytes, place);
  std::memset(to, UNSET, bytes);
  machine().add_copy({to, from, bytes, wanted, 0, place});
  machine().may_switch();
}

void commit_copies() { ++machine().self().n_groups; }

void wait_copies(int n_groups) { machine().finish_copies(n_groups); }

}  // namespace host
