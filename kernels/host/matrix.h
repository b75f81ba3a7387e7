// The tensor core on the CPU: operations of a whole warp on small matrices, whose elements lie in
// the lanes' registers as the PTX ISA lays them out (ldmatrix, mma.m16n8k16).
#pragma once

#include "emulator.h"

namespace host {

// What one lane brings to a multiplication.
struct MatrixParts {
  float* sums;
  unsigned a[4], b[2];
};

// The bf16 in the low or the high half of a register.
inline double half_of(unsigned two, int half) {
  return bits_as<float>(half == 0 ? two << 16 : two & 0xffff0000u);
}

// The lane reads the row whose address it passes; the rows are then dealt out. So a race is that of
// the lane that names the row. Eight rows that are read at once must lie in different banks: a
// conflict is slow, not wrong, but no layout needs to have one.
template <bool IS_TRANSPOSED>
inline void load_matrices_as(unsigned (&to)[4], const void* row, const char* name, Place place) {
  struct Rows {
    std::uintptr_t address;
    Place place;
    unsigned read[4], dealt[4];
  };
  check_aligned(row, 16, place);
  Rows rows{reinterpret_cast<std::uintptr_t>(row), place, {}, {}};
  for (int i = 0; i < 4; ++i) rows.read[i] = static_cast<const unsigned*>(row)[i];
  const auto deal = [](void* const* lanes) __attribute__((no_sanitize("thread"))) {
    for (int idx = 0; idx < 32; ++idx) {
      Rows& lane = *static_cast<Rows*>(lanes[idx]);
      for (int other = idx / 8 * 8; other < idx; ++other) {
        const std::uintptr_t address = static_cast<const Rows*>(lanes[other])->address;
        if (lane.address != address && lane.address / 16 % 8 == address / 16 % 8) {
          fail("bank-conflict", lane.place, "the rows of lanes %d and %d lie in the same banks",
               other, idx);
        }
      }
      const int g = idx / 4, t = idx % 4;
      for (int m = 0; m < 4; ++m) {
        const auto row_of_matrix = [&](int i) __attribute__((no_sanitize("thread"))) {
          return static_cast<const Rows*>(lanes[8 * m + i])->read;
        };
        if (IS_TRANSPOSED) {
          const unsigned low = row_of_matrix(2 * t)[g / 2] >> g % 2 * 16 & 0xffffu;
          const unsigned high = row_of_matrix(2 * t + 1)[g / 2] >> g % 2 * 16 & 0xffffu;
          lane.dealt[m] = low | high << 16;
        } else {
          lane.dealt[m] = row_of_matrix(g)[t];
        }
      }
    }
  };
  warp_operation(name, place, &rows, deal);
  for (int m = 0; m < 4; ++m) to[m] = rows.dealt[m];
}

inline void load_matrices(unsigned (&to)[4], const void* row, Place place) {
  load_matrices_as<false>(to, row, "ldmatrix", place);
}

inline void load_transposed(unsigned (&to)[4], const void* row, Place place) {
  load_matrices_as<true>(to, row, "ldmatrix.trans", place);
}

inline void multiply_add(float (&sums)[4], const unsigned (&a)[4], unsigned b_0, unsigned b_1,
                         Place place) {
  const auto execute = [](void* const* lanes) __attribute__((no_sanitize("thread"))) {
    double a_rows[16][16], b_columns[8][16];
    for (int idx = 0; idx < 32; ++idx) {
      const MatrixParts& parts = *static_cast<const MatrixParts*>(lanes[idx]);
      const int g = idx / 4, t = idx % 4;
      for (int half = 0; half < 2; ++half) {
        for (int i = 0; i < 4; ++i) {
          a_rows[g + i % 2 * 8][2 * t + half + i / 2 * 8] = half_of(parts.a[i], half);
        }
        for (int i = 0; i < 2; ++i) {
          b_columns[g][2 * t + half + i * 8] = half_of(parts.b[i], half);
        }
      }
    }
    for (int idx = 0; idx < 32; ++idx) {
      float* sums = static_cast<const MatrixParts*>(lanes[idx])->sums;
      for (int i = 0; i < 4; ++i) {
        const int row = idx / 4 + i / 2 * 8, column = idx % 4 * 2 + i % 2;
        double sum = 0.0;
        for (int k = 0; k < 16; ++k) sum += a_rows[row][k] * b_columns[column][k];
        sums[i] = static_cast<float>(sums[i] + sum);
      }
    }
  };
  MatrixParts parts{sums, {a[0], a[1], a[2], a[3]}, {b_0, b_1}};
  warp_operation("mma", place, &parts, execute);
}

}  // namespace host
