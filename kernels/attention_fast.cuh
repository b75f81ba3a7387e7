// What a warp does in the attention of precision `fast`: 16 query rows against a tile of keys and
// values in shared memory, on tensor cores, with the softmax kept as it goes (FlashAttention-2).
//
//   M' = max(M, max of s);  p = 2^(s - M');  l' = 2^(M - M') l + sum p;  o' = 2^(M - M') o + p V
//
// with s = (q . k) score_factor log2 e, and o / l at the end. Scores, M, l and o are f32; p is
// rounded to bf16 for its product with V, and not for l.
//
// Which rows share a tile changes no bits of a row:
//   - key tiles begin at multiples of their size, of positions and not of rows; a row meets them in
//     order, and within one its scores, l and o are added in the order that positions have;
//   - a position that a row does not see has p = 0: it adds zeros to l and o, and is not in M. A
//     tile without any position that the row sees leaves M, so its factor is 2^0 = 1. Whether such
//     tiles are met at all, and what finite numbers V holds there, is therefore no matter;
//   - a row's place in the tile says which row of an mma it is, and those are computed alike
//     (`ptx.cuh`).
// So a prompt in one piece, in several, or beside others gives the same bits.
#pragma once

#include "attention.cuh"

namespace attention_fast {

constexpr int CHUNK = 8;  // numbers in 16 bytes
constexpr int WARP_ROWS = 16;

// A warp's query rows: lane 4 g + t holds what is said of rows g and g + 8.
template <int HEAD_DIM>
struct Rows {
  float sums[HEAD_DIM / 8][4];  // o, laid out as `multiply_add` has it
  float largest[2];             // M
  float partial[2];             // this lane's part of l: columns 2 t and 2 t + 1 of every eight
  int begins[2], ends[2];       // the positions that a row sees
};

template <int HEAD_DIM>
DEVICE void begin(Rows<HEAD_DIM>& rows) {
#pragma unroll
  for (int j = 0; j < HEAD_DIM / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) rows.sums[j][i] = 0.0f;
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    rows.largest[half] = minus_infinity();
    rows.partial[half] = 0.0f;
  }
}

// The factor that makes a score an exponent of two.
DEVICE float exponent_factor(Heads heads) { return mul_rn(heads.score_factor, 1.44269504f); }

// Where a chunk of a tile's row lies: eight neighbouring rows, and eight neighbouring chunks, lie
// in different banks.
template <int HEAD_DIM>
DEVICE int place_of(int row, int chunk) {
  return row * HEAD_DIM + (chunk ^ (row % 8)) * CHUNK;
}

// Copies positions first.. of a head of the cache, `COLS` numbers of each from `first_col` on, to a
// tile of `N_ROWS`, by `N_THREADS` threads; zeros stand for what lies outside of begin..end, and
// behind the head's last number.
template <int COLS, int N_ROWS, int N_THREADS>
DEVICE void load(Bf16* tile, const Bf16* head, int first, int begin, int end, int head_dim,
                 int first_col = 0) {
  constexpr int N_CHUNKS = COLS / CHUNK;
#pragma unroll 4
  for (int at = threadIdx.x % N_THREADS; at < N_ROWS * N_CHUNKS; at += N_THREADS) {
    const int row = at / N_CHUNKS, chunk = at % N_CHUNKS, position = first + row;
    const int col = first_col + chunk * CHUNK;
    const bool is_inside = position >= begin && position < end && col < head_dim;
    const Bf16* from = is_inside ? row_of(head, position, head_dim) + col : head;
    copy_async(tile + place_of<COLS>(row, chunk), from, is_inside ? 16 : 0);
  }
}

// Products of the queries, the 16 rows of their tile from `first_row` on, with a tile of keys.
template <int HEAD_DIM, int KEYS>
DEVICE void score(float (&scores)[KEYS / 8][4], const Bf16* queries, int first_row,
                  const Bf16* keys) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int j = 0; j < KEYS / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[j][i] = 0.0f;
  }
#pragma unroll 4
  for (int chunk = 0; chunk < HEAD_DIM / CHUNK; chunk += 2) {
    unsigned a[4];  // matrices: 8 rows, the next 8 rows; both 8 numbers on
    load_matrices(a, queries + place_of<HEAD_DIM>(first_row + lane % 16, chunk + lane / 16));
#pragma unroll
    for (int j = 0; j < KEYS / 8; j += 2) {
      unsigned b[4];  // matrices: 8 positions, the same 8 numbers on; the next 8 positions
      const int row = 8 * j + lane / 16 * 8 + lane % 8;
      load_matrices(b, keys + place_of<HEAD_DIM>(row, chunk + lane / 8 % 2));
      multiply_add(scores[j], a, b[0], b[1]);
      multiply_add(scores[j + 1], a, b[2], b[3]);
    }
  }
}

// Scores of positions that a row does not see become minus infinity.
template <int HEAD_DIM, int KEYS>
DEVICE void mask(float (&scores)[KEYS / 8][4], const Rows<HEAD_DIM>& rows, int first_position) {
  const int first = first_position + threadIdx.x % 4 * 2;
#pragma unroll
  for (int j = 0; j < KEYS / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int position = first + 8 * j + i % 2;
      const bool is_seen = position >= rows.begins[i / 2] && position < rows.ends[i / 2];
      scores[j][i] = is_seen ? scores[j][i] : minus_infinity();
    }
  }
}

// Scores become numerators; what was summed so far is brought to the same maximum.
template <int HEAD_DIM, int KEYS>
DEVICE void take_numerators(float (&scores)[KEYS / 8][4], Rows<HEAD_DIM>& rows, float factor) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = minus_infinity();
#pragma unroll
    for (int j = 0; j < KEYS / 8; ++j) {
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        largest = scores[j][i] > largest ? scores[j][i] : largest;
      }
    }
#pragma unroll
    for (int other = 1; other < 4; other *= 2) {
      const float theirs = shuffle_xor(largest, other);
      largest = theirs > largest ? theirs : largest;
    }
    largest = mul_rn(largest, factor);
    largest = largest > rows.largest[half] ? largest : rows.largest[half];
    // A row that has seen nothing has no maximum: any finite number gives it zeros.
    const float maximum = largest == minus_infinity() ? 0.0f : largest;
    const float earlier = exp2_near(sub_rn(rows.largest[half], maximum));
    rows.largest[half] = largest;

    float sum = mul_rn(rows.partial[half], earlier);
#pragma unroll
    for (int j = 0; j < KEYS / 8; ++j) {
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        scores[j][i] = exp2_near(fma_rn(scores[j][i], factor, -maximum));
        sum = add_rn(sum, scores[j][i]);
      }
    }
    rows.partial[half] = sum;
#pragma unroll
    for (int j = 0; j < HEAD_DIM / 8; ++j) {
      rows.sums[j][2 * half] = mul_rn(rows.sums[j][2 * half], earlier);
      rows.sums[j][2 * half + 1] = mul_rn(rows.sums[j][2 * half + 1], earlier);
    }
  }
}

// o += p V. What a lane holds of two products of scores is what it must hold of one left side.
template <int HEAD_DIM, int KEYS>
DEVICE void add_values(Rows<HEAD_DIM>& rows, const float (&numerators)[KEYS / 8][4],
                       const Bf16* values) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int j = 0; j < KEYS / 8; j += 2) {
    const float(&p)[4] = numerators[j], (&q)[4] = numerators[j + 1];
    const unsigned a[4] = {narrow2(p[0], p[1]), narrow2(p[2], p[3]), narrow2(q[0], q[1]),
                           narrow2(q[2], q[3])};
#pragma unroll
    for (int d = 0; d < HEAD_DIM / 8; d += 2) {
      unsigned b[4];  // matrices: 8 positions, the next 8; both 8 numbers on
      load_transposed(b, values + place_of<HEAD_DIM>(8 * j + lane % 16, d + lane / 16));
      multiply_add(rows.sums[d], a, b[0], b[1]);
      multiply_add(rows.sums[d + 1], a, b[2], b[3]);
    }
  }
}

// l, of all lanes that hold a part of it.
DEVICE float total(float partial AND_HERE) {
  partial = add_rn(partial, shuffle_xor(partial, 1 PASS_HERE));
  return add_rn(partial, shuffle_xor(partial, 2 PASS_HERE));
}

}  // namespace attention_fast
