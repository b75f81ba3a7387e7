// Rotary embedding of queries and keys, and the keys' and values' place in the cache:
//
//   (a, b) -> (a cos - b sin, b cos + a sin)   for the halves a, b of each head
//
// q (n_rows, ld) in place, k, v (n_rows, ld), heads side by side; cos, sin (positions, head_dim /
// 2); slot_of, position_of (n_rows). Keys and values of each row go to its slot, at its position
// (`attention.cuh`). Order: fma(a, cos, -(b * sin)), fma(b, cos, a * sin).
//
// Floor: q read and written, k and v read, and written to the cache: 8 bytes per element. 8192 rows
// of Gemma-7B: 805 MB a layer, 0.17 ms, beside 45 ms of products.
// v1  a block per row. Keys of neighbouring positions are neighbours in the cache but are written
//     by different blocks, 32 bytes of traffic for 4: 1 GB more, 0.25 ms, half a percent of the
//     layer's products; a transposition through shared memory would win that. Not run on hardware.
#include "common.cuh"

#include "attention.cuh"

// grid (n_rows), block 128
KERNEL(128) rope_append_v1(float* q, const float* k, const float* v, const float* cos,
                           const float* sin, const int* slot_of, const int* position_of,
                           float* keys, float* values, Heads heads, int ld) {
  const int row = blockIdx.x, slot = slot_of[row], position = position_of[row];
  const int half = heads.head_dim / 2, head_dim = heads.head_dim;
  const float* cos_row = row_of(cos, position, half);
  const float* sin_row = row_of(sin, position, half);

  // Queries, in place.
  for (int at = threadIdx.x; at < heads.n_heads * half; at += 128) {
    const int i = at % half;
    float* head = row_of(q, row, ld) + at / half * head_dim;
    const float a = head[i], b = head[i + half];
    head[i] = fma_rn(a, cos_row[i], -mul_rn(b, sin_row[i]));
    head[i + half] = fma_rn(b, cos_row[i], mul_rn(a, sin_row[i]));
  }

  // Keys, into the cache.
  for (int at = threadIdx.x; at < heads.n_kv_heads * half; at += 128) {
    const int i = at % half, kv_head = at / half;
    const float* head = row_of(k, row, ld) + kv_head * head_dim;
    float* to = keys_of(keys, heads, slot, kv_head) + key_offset(heads, position);
    const float a = head[i], b = head[i + half];
    to[i * PANEL] = fma_rn(a, cos_row[i], -mul_rn(b, sin_row[i]));
    to[(i + half) * PANEL] = fma_rn(b, cos_row[i], mul_rn(a, sin_row[i]));
  }

  // Values, into the cache.
  for (int at = threadIdx.x; at < heads.n_kv_heads * head_dim; at += 128) {
    const int kv_head = at / head_dim;
    row_of(values_of(values, heads, slot, kv_head), position, head_dim)[at % head_dim] =
        row_of(v, row, ld)[at];
  }
}
EXPORT(rope_append_v1);
