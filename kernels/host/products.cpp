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
constexpr unsigned char UNSET = 0xff;  // every byte of a NaN

// Where the chunks of tiles lie: `read` gets the address of eight numbers, where the first of them
// goes, and how far apart they go.
template <class Read>
struct Chunks {
  Read read;

  // Sixteen k of rows of a tile, chunks of eight where the swizzle has put them: the address's bits
  // from 4 on are xored with those from 7 on, three of them for rows of 128 bytes, two for 64.
  void of_rows(std::uint16_t* to, const void* tile, int first, int n_rows, int row_bytes) {
    for (int i = 0; i < n_rows; ++i) {
      for (int chunk = 0; chunk < 2; ++chunk) {
        const std::uintptr_t from = start(tile) + (first + i) * row_bytes + chunk * 16;
        read(swizzled(from, row_bytes == 128 ? 7 : 3), to + i * TILE_K + chunk * 8, 1);
      }
    }
  }

  // Columns of a tile whose k are its rows, of 128 bytes each, in panels of eight chunks.
  void of_panels(std::uint16_t* to, const void* tile, int n_cols, int panel_bytes) {
    for (int k = 0; k < TILE_K; ++k) {
      for (int chunk = 0; chunk < n_cols / 8; ++chunk) {
        const std::uintptr_t from = start(tile) + chunk / 8 * panel_bytes + k * 128;
        read(swizzled(from + chunk % 8 * 16, 7), to + chunk * 8 * TILE_K + k, TILE_K);
      }
    }
  }

  static std::uintptr_t start(const void* tile) { return reinterpret_cast<std::uintptr_t>(tile); }

  static std::uintptr_t swizzled(std::uintptr_t address, std::uintptr_t mask) {
    return address ^ (address >> 7 & mask) << 4;
  }
};

// This warp's rows of a, where it is a tile, then the columns of b: sixteen k each.
template <class Read>
void read_tiles(const Begun& begun, unsigned warp_idx, std::vector<std::uint16_t>& operands,
                Read read) {
  const marks::Unseen unseen;
  Chunks<Read> chunks{read};
  std::uint16_t *const a = operands.data(), *const b = a + WARP_ROWS * TILE_K;
  if (begun.a) chunks.of_rows(a, begun.a, warp_idx % 4 * WARP_ROWS, WARP_ROWS, begun.row_bytes);
  if (begun.panel_bytes > 0) {
    chunks.of_panels(b, begun.b, begun.n_cols, begun.panel_bytes);
  } else {
    chunks.of_rows(b, begun.b, 0, begun.n_cols, begun.row_bytes);
  }
}

void read_chunk(std::uintptr_t from, std::uint16_t* to, int step) {
  std::uint16_t numbers[8];
  std::memcpy(numbers, reinterpret_cast<const void*>(from), 16);
  for (int i = 0; i < 8; ++i) to[i * step] = numbers[i];
}

// A warp's left side, of the registers that its lanes have.
void deal(std::vector<std::uint16_t>& operands, const HeldRegisters& held) {
  for (unsigned idx = 0; idx < WARP; ++idx) {
    const unsigned g = idx / 4, t = idx % 4;
    for (unsigned i = 0; i < 4; ++i) {
      std::uint16_t* const to = &operands[(g + i % 2 * 8) * TILE_K + i / 2 * 8 + 2 * t];
      const unsigned two = held.values[idx * 4 + i];
      to[0] = static_cast<std::uint16_t>(two), to[1] = static_cast<std::uint16_t>(two >> 16);
    }
  }
}

// As `multiply_add` on the host: products in f64, k in order, rounded once with what the sum holds.
void add_product(HeldRegisters& held, const Product& product) {
  double b[TILE_K][256];
  const std::uint16_t* const columns = &product.operands[WARP_ROWS * TILE_K];
  for (int col = 0; col < product.n_cols; ++col) {
    for (int k = 0; k < TILE_K; ++k) b[k][col] = half_of(columns[col * TILE_K + k], 0);
  }
  for (int row = 0; row < WARP_ROWS; ++row) {
    double sums[256] = {};
    for (int k = 0; k < TILE_K; ++k) {
      const double a = half_of(product.operands[row * TILE_K + k], 0);
      for (int col = 0; col < product.n_cols; ++col) sums[col] += a * b[k][col];
    }
    for (int col = 0; col < product.n_cols; ++col) {
      const int idx = row % 8 * 4 + col % 8 / 2;
      unsigned& sum = held.values[idx * held.n + col / 8 * 4 + row / 8 * 2 + col % 2];
      sum = bits_as<unsigned>(static_cast<float>(bits_as<float>(sum) + sums[col]));
    }
  }
}

bool are_unset(const unsigned* registers, int n) {
  return std::all_of(registers, registers + n, [](unsigned bits) { return bits == 0xffffffffu; });
}

// Puts a warp's registers out of reach, where no product in flight has done so before; those that
// one has must be as it left them.
HeldRegisters& hold(std::vector<HeldRegisters>& all, unsigned* const* lanes, int n,
                    const char* check, Place place) {
  for (HeldRegisters& held : all) {
    if (held.lanes[0] != lanes[0]) continue;
    for (unsigned i = 0; i < WARP; ++i) {
      if (!are_unset(lanes[i], n)) {
        fail(check, place, "registers of lane %u were written during a product", i);
      }
    }
    return held;
  }
  HeldRegisters& held = all.emplace_back();
  held.n = n;
  for (unsigned i = 0; i < WARP; ++i) {
    held.lanes[i] = lanes[i];
    held.values.insert(held.values.end(), lanes[i], lanes[i] + n);
    std::memset(lanes[i], UNSET, n * sizeof(unsigned));
  }
  return held;
}

// Gives back the registers that no product has any more: nobody may have written them.
template <class IsHeld>
void give_back(std::vector<HeldRegisters>& all, const char* check, Place place, IsHeld is_held) {
  const auto is_free = [&](const HeldRegisters& held) {
    if (is_held(held.lanes[0])) return false;
    for (unsigned i = 0; i < WARP; ++i) {
      if (!are_unset(held.lanes[i], held.n)) {
        fail(check, place, "registers of lane %u were written before this wait", i);
      }
      std::memcpy(held.lanes[i], &held.values[i * held.n], held.n * sizeof(unsigned));
    }
    return true;
  };
  all.erase(std::remove_if(all.begin(), all.end(), is_free), all.end());
}

}  // namespace

WarpProducts& Proxy::warp() { return warps_[lane->idx / WARP]; }

void Proxy::begin_product(unsigned* const* sums, unsigned* const* registers, const Begun& begun) {
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
  if (begun.panel_bytes > 0) {
    check_aligned(begun.b, 1024, place);
    if (begun.panel_bytes % 1024 != 0) {
      fail("misaligned", place, "panels are %d bytes apart", begun.panel_bytes);
    }
  } else {
    check_aligned(begun.a, 16, place);
    check_aligned(begun.b, 16, place);
  }

  Product product;
  static_cast<Begun&>(product) = begun;
  product.sums = sums[0];
  product.registers = registers ? registers[0] : nullptr;
  product.group = warp.n_groups;
  product.operands.resize((WARP_ROWS + begun.n_cols) * TILE_K);
  hold(warp.sums, sums, begun.n_cols / 2, "touched-sums", place);
  if (registers) {
    deal(product.operands, hold(warp.left_sides, registers, 4, "touched-operand", place));
  }
  read_tiles(begun, warp_idx, product.operands,
             [&](std::uintptr_t from, std::uint16_t* to, int step) {
               if (unfenced_.count(from / 16) > 0) {
                 fail("missing-fence", place, "a thread has not fenced what it copied to a tile");
               }
               read_chunk(from, to, step);
             });
  warp.products.push_back(std::move(product));
}

void Proxy::commit() {
  ++warp().n_groups;
  warp().is_fenced = false;
}

void Proxy::finish(int n_groups, Place place) {
  WarpProducts& warp = this->warp();
  std::size_t n_done = 0;
  for (; n_done < warp.products.size(); ++n_done) {
    const Product& product = warp.products[n_done];
    if (product.group >= warp.n_groups - n_groups) break;
    std::vector<std::uint16_t> operands = product.operands;
    read_tiles(product, lane->idx / WARP, operands, read_chunk);
    if (operands != product.operands) {
      fail("changed-operand", product.place, "a tile was written while this product read it");
    }
    for (HeldRegisters& held : warp.sums) {
      if (held.lanes[0] == product.sums) add_product(held, product);
    }
  }
  warp.products.erase(warp.products.begin(), warp.products.begin() + n_done);

  const auto any = [&](unsigned* Product::*registers) {
    return [&warp, registers](const unsigned* of_lane_0) {
      return std::any_of(warp.products.begin(), warp.products.end(),
                         [&](const Product& product) { return product.*registers == of_lane_0; });
    };
  };
  give_back(warp.sums, "touched-sums", place, any(&Product::sums));
  give_back(warp.left_sides, "touched-operand", place, any(&Product::registers));
}

void Proxy::leave() {
  for (const Product& product : warp().products) {
    fail("unwaited-product", product.place, "the thread leaves before this product was waited for");
  }
}

namespace {

struct Passed {
  float* sums;
  unsigned* registers;  // of a, or null
  Begun begun;
};

void begin(void* const* lanes) {
  const marks::Unseen unseen;
  unsigned *sums[WARP], *registers[WARP];
  const Passed& first = *static_cast<const Passed*>(lanes[0]);
  for (unsigned i = 0; i < WARP; ++i) {
    const Passed& passed = *static_cast<const Passed*>(lanes[i]);
    sums[i] = reinterpret_cast<unsigned*>(passed.sums);
    registers[i] = passed.registers;
    if (passed.begun.a != first.begun.a || passed.begun.b != first.begun.b) {
      fail("divergent-warp", passed.begun.place, "lanes 0 and %u name different tiles", i);
    }
  }
  machine().proxy().begin_product(sums, first.registers ? registers : nullptr, first.begun);
}

struct Waited {
  int n_groups;
  Place place;
};

void finish(void* const* lanes) {
  const marks::Unseen unseen;
  const Waited& waited = *static_cast<const Waited*>(lanes[0]);
  machine().proxy().finish(waited.n_groups, waited.place);
}

}  // namespace

void fence_products(Place place) {
  warp_operation("wgmma.fence", place, nullptr, [](void* const*) { machine().proxy().fence(); });
}

void multiply_add_tiles(float* sums, int n_cols, const void* a, const void* b, int row_bytes,
                        Place place) {
  Passed passed{sums, nullptr, {a, b, n_cols, row_bytes, 0, place}};
  warp_operation("wgmma", place, &passed, begin);
}

void multiply_add_turned(float* sums, int n_cols, unsigned* a, const void* b, int panel_bytes,
                         Place place) {
  Passed passed{sums, a, {nullptr, b, n_cols, 0, panel_bytes, place}};
  warp_operation("wgmma", place, &passed, begin);
}

void commit_products(Place place) {
  warp_operation("wgmma.commit", place, nullptr, [](void* const*) { machine().proxy().commit(); });
}

void wait_products(int n_groups, Place place) {
  Waited waited{n_groups, place};
  warp_operation("wgmma.wait", place, &waited, finish);
}

}  // namespace host
