// Products of a warpgroup, each warp its sixteen rows: begun now, computed when they are waited
// for, with the sums out of reach in between.

#include <algorithm>
#include <cstring>

#include "machine.h"
#include "marks.h"
#include "matrix.h"
#include "proxy.h"

namespace host {

namespace {

constexpr int WARP_ROWS = TILE_ROWS / 4;

// Sixteen k of rows of a tile, chunks of eight where the swizzle has put them: the address's bits
// from 4 on are xored with those from 7 on, three of them for rows of 128 bytes, two for 64.
void read_rows(std::uint16_t* to, const void* tile, int first, int n_rows, int row_bytes) {
  const std::uintptr_t mask = row_bytes == 128 ? 7 : 3;
  for (int i = 0; i < n_rows; ++i) {
    for (int chunk = 0; chunk < 2; ++chunk) {
      std::uintptr_t from = reinterpret_cast<std::uintptr_t>(tile);
      from += (first + i) * row_bytes + chunk * 16;
      from ^= (from >> 7 & mask) << 4;
      std::memcpy(to + i * TILE_K + chunk * 8, reinterpret_cast<const void*>(from), 16);
    }
  }
}

// This warp's rows of a, then all of b.
std::vector<std::uint16_t> read_operands(const Product& product, unsigned warp_idx) {
  const marks::Unseen unseen;
  std::vector<std::uint16_t> operands((WARP_ROWS + TILE_COLS) * TILE_K);
  const int first = warp_idx % 4 * WARP_ROWS, row_bytes = product.row_bytes;
  read_rows(operands.data(), product.a, first, WARP_ROWS, row_bytes);
  read_rows(operands.data() + WARP_ROWS * TILE_K, product.b, 0, TILE_COLS, row_bytes);
  return operands;
}

// As `multiply_add` on the host: products in f64, k in order, rounded once with what the sum holds.
void add_product(HeldSums& held, const std::vector<std::uint16_t>& operands) {
  double b[TILE_K][TILE_COLS];
  for (int col = 0; col < TILE_COLS; ++col) {
    for (int k = 0; k < TILE_K; ++k) {
      b[k][col] = half_of(operands[(WARP_ROWS + col) * TILE_K + k], 0);
    }
  }
  for (int row = 0; row < WARP_ROWS; ++row) {
    double sums[TILE_COLS] = {};
    for (int k = 0; k < TILE_K; ++k) {
      const double a = half_of(operands[row * TILE_K + k], 0);
      for (int col = 0; col < TILE_COLS; ++col) sums[col] += a * b[k][col];
    }
    for (int col = 0; col < TILE_COLS; ++col) {
      const int idx = row % 8 * 4 + col % 8 / 2;
      float& sum = held.values[idx][col / 8 * 4 + row / 8 * 2 + col % 2];
      sum = static_cast<float>(sum + sums[col]);
    }
  }
}

bool is_unset(const float* sums) {
  for (int i = 0; i < N_SUMS; ++i) {
    if (bits_as<unsigned>(sums[i]) != 0xffffffffu) return false;
  }
  return true;
}

}  // namespace

WarpProducts& Proxy::warp() { return warps_[lane->idx / WARP]; }

void Proxy::begin_product(float* const* sums, const Begun& begun, int row_bytes) {
  const unsigned warp_idx = lane->idx / WARP;
  const Place place = begun.place;
  if ((warp_idx / 4 + 1) * 4 * WARP > n_threads_) {
    fail("partial-warpgroup", place, "a product in a warpgroup of fewer than four warps");
  }
  WarpProducts& warp = this->warp();
  std::vector<Begun>& all = warpgroups_[warp_idx / 4];
  if (warp.n_begun == all.size()) all.push_back(begun);
  const Begun& same = all[warp.n_begun++];
  if (same.place.line != place.line || same.a != begun.a || same.b != begun.b) {
    fail("divergent-warpgroup", place, "another warp's product is that of line %d, or other tiles",
         same.place.line);
  }
  if (!warp.is_fenced) {
    fail("missing-fence", place, "a group of products does not begin with its fence");
  }
  check_aligned(begun.a, 16, place);
  check_aligned(begun.b, 16, place);

  // Put the sums out of reach.
  const auto is_same = [&](const HeldSums& held) { return held.lanes[0] == sums[0]; };
  const auto found = std::find_if(warp.held.begin(), warp.held.end(), is_same);
  for (unsigned i = 0; i < WARP; ++i) {
    if (found != warp.held.end() && !is_unset(sums[i])) {
      fail("touched-sums", place, "the sums of lane %u were written during a product", i);
    }
  }
  if (found == warp.held.end()) {
    HeldSums& held = warp.held.emplace_back();
    for (unsigned i = 0; i < WARP; ++i) {
      held.lanes[i] = sums[i];
      std::memcpy(held.values[i], sums[i], sizeof held.values[i]);
      std::memset(sums[i], 0xff, sizeof held.values[i]);
    }
  }

  Product product{sums[0], begun.a, begun.b, row_bytes, warp.n_groups, place, {}};
  product.operands = read_operands(product, warp_idx);
  warp.products.push_back(std::move(product));
}

void Proxy::commit() {
  ++warp().n_groups;
  warp().is_fenced = false;
}

void Proxy::finish(int n_groups) {
  WarpProducts& warp = this->warp();
  std::size_t n_done = 0;
  for (; n_done < warp.products.size(); ++n_done) {
    const Product& product = warp.products[n_done];
    if (product.group >= warp.n_groups - n_groups) break;
    if (read_operands(product, lane->idx / WARP) != product.operands) {
      fail("changed-operand", product.place, "a tile was written while this product read it");
    }
    for (HeldSums& held : warp.held) {
      if (held.lanes[0] == product.sums) add_product(held, product.operands);
    }
  }
  warp.products.erase(warp.products.begin(), warp.products.begin() + n_done);

  // Give back the sums that no product has any more.
  const auto is_free = [&](const HeldSums& held) {
    for (const Product& product : warp.products) {
      if (product.sums == held.lanes[0]) return false;
    }
    for (unsigned i = 0; i < WARP; ++i) {
      std::memcpy(held.lanes[i], held.values[i], sizeof held.values[i]);
    }
    return true;
  };
  warp.held.erase(std::remove_if(warp.held.begin(), warp.held.end(), is_free), warp.held.end());
}

void Proxy::leave() {
  for (const Product& product : warp().products) {
    fail("unwaited-product", product.place, "the thread leaves before this product was waited for");
  }
}

namespace {

struct Passed {
  float* sums;
  Begun begun;
  int value;  // bytes of a row, or groups that may be left
};

void begin(void* const* lanes) {
  const marks::Unseen unseen;
  float* sums[WARP];
  const Passed& first = *static_cast<const Passed*>(lanes[0]);
  for (unsigned i = 0; i < WARP; ++i) {
    const Passed& passed = *static_cast<const Passed*>(lanes[i]);
    sums[i] = passed.sums;
    if (passed.begun.a != first.begun.a || passed.begun.b != first.begun.b) {
      fail("divergent-warp", passed.begun.place, "lanes 0 and %u name different tiles", i);
    }
  }
  machine().proxy().begin_product(sums, first.begun, first.value);
}

void finish(void* const* lanes) {
  const marks::Unseen unseen;
  machine().proxy().finish(static_cast<const Passed*>(lanes[0])->value);
}

}  // namespace

void fence_products(Place place) {
  warp_operation("wgmma.fence", place, nullptr, [](void* const*) { machine().proxy().fence(); });
}

void multiply_add_tiles(float* sums, const void* a, const void* b, int row_bytes, Place place) {
  Passed passed{sums, {a, b, place}, row_bytes};
  warp_operation("wgmma", place, &passed, begin);
}

void commit_products(Place place) {
  warp_operation("wgmma.commit", place, nullptr, [](void* const*) { machine().proxy().commit(); });
}

void wait_products(int n_groups, Place place) {
  Passed passed{nullptr, {nullptr, nullptr, place}, n_groups};
  warp_operation("wgmma.wait", place, &passed, finish);
}

}  // namespace host
