// Probes of the warp's operations: shuffles, and those of tensor cores.
#include "probe.cuh"

using namespace probe;

// Word 0 of the lane that word 1 names.
PROBE(shuffle_f32, 2, 1,
      to[0] = bits_of(shuffle(f32(from[0]), static_cast<int>(from[1] % 32)));)
PROBE(shuffle_i32, 2, 1, to[0] = static_cast<unsigned>(
    shuffle(static_cast<int>(from[0]), static_cast<int>(from[1] % 32)));)
PROBE(shuffle_f64, 3, 2, write(to, shuffle(f64(from), static_cast<int>(from[2] % 32)));)

// Word 0 of the lane whose number differs by the bits of the block's first word 1.
PROBE(shuffle_xor_f32, 2, 1,
      to[0] = bits_of(shuffle_xor(f32(from[0]), static_cast<int>(block[1] % 32)));)
PROBE(shuffle_xor_i32, 2, 1, to[0] = static_cast<unsigned>(
    shuffle_xor(static_cast<int>(from[0]), static_cast<int>(block[1] % 32)));)
PROBE(shuffle_xor_f64, 3, 2,
      write(to, shuffle_xor(f64(from), static_cast<int>(block[2] % 32)));)

// A lane writes words 0 to 3 as a row of 16 bytes, and names the row whose number differs from its
// own by the bits of the block's first word 4.
#define PROBE_OF_ROWS(operation)                                           \
  PROBE(operation, 5, 4, {                                                 \
    SHARED(Words, rows, [256]);                                            \
    for (int i = 0; i < 4; ++i) rows[thread].words[i] = from[i];           \
    sync_block();                                                          \
    unsigned dealt[4];                                                     \
    operation(dealt, &rows[thread ^ static_cast<int>(block[4] % 32)]);     \
    for (int i = 0; i < 4; ++i) to[i] = dealt[i];                          \
  })
PROBE_OF_ROWS(load_matrices)
PROBE_OF_ROWS(load_transposed)

// Words: a lane's four of a, two of b, four of the sums.
PROBE(multiply_add, 10, 4, {
  const unsigned a[4] = {from[0], from[1], from[2], from[3]};
  float sums[4];
  for (int i = 0; i < 4; ++i) sums[i] = f32(from[6 + i]);
  multiply_add(sums, a, from[4], from[5]);
  for (int i = 0; i < 4; ++i) to[i] = bits_of(sums[i]);
})
