// Rotary embedding and the cache of precision `fast`:
//
//   (a, b) -> (a cos - b sin, b cos + a sin)   for the halves a, b of each head
//
// q (n_rows, ld) bf16 in place, k, v (n_rows, ld) bf16, heads side by side; cos, sin (positions,
// head_dim / 2) f32; slot_of, position_of (n_rows). Keys and values of each row go to its slot, at
// its position: (slot, kv_head, capacity, head_dim) bf16 (`attention.cuh`). Order: that of
// `rope_append.cu`, in f32, rounded to bf16 once; so a row has the same bits in any batch.
//
// Floor: q read and written, k and v read, and written to the cache: 4 bytes per element. 8192 rows
// of Gemma-7B, 12288 elements each: 403 MB a layer, 0.09 ms at 4.3 TB/s.
// v1  a block per row; a thread takes four numbers of either half, 8 bytes each, so a warp reads
//     and writes whole lines; keys stand in rows, and nothing is to be transposed. Predicted 80 %
//     of copy bandwidth. Not run on hardware.
#include "common.cuh"

#include "attention.cuh"

namespace rope_fast {

// Four pairs of a head, from element i on.
DEVICE void rotate4(Bf16* to, const Bf16* from, int i, int half, const float* cos,
                    const float* sin) {
  const float4 a = load4(from + i), b = load4(from + i + half);
  const float4 c = load4(cos + i), s = load4(sin + i);
  store4(to + i, {fma_rn(a.x, c.x, -mul_rn(b.x, s.x)), fma_rn(a.y, c.y, -mul_rn(b.y, s.y)),
                  fma_rn(a.z, c.z, -mul_rn(b.z, s.z)), fma_rn(a.w, c.w, -mul_rn(b.w, s.w))});
  store4(to + i + half, {fma_rn(b.x, c.x, mul_rn(a.x, s.x)), fma_rn(b.y, c.y, mul_rn(a.y, s.y)),
                         fma_rn(b.z, c.z, mul_rn(a.z, s.z)), fma_rn(b.w, c.w, mul_rn(a.w, s.w))});
}

}  // namespace rope_fast

// grid (n_rows), block 128. head_dim is a multiple of 8; q, k and v begin at multiples of 8 bytes,
// their rows at multiples of 4 numbers; cos, sin and the caches at multiples of 16 bytes.
KERNEL(128) rope_append_fast_v1(Bf16* q, const Bf16* k, const Bf16* v, const float* cos,
                                const float* sin, const int* slot_of, const int* position_of,
                                Bf16* keys, Bf16* values, Heads heads, int ld) {
  const int row = blockIdx.x, slot = slot_of[row], position = position_of[row];
  const int head_dim = heads.head_dim, half = head_dim / 2, n_fours = half / 4;
  const float* cos_row = row_of(cos, position, half);
  const float* sin_row = row_of(sin, position, half);

  // Queries, in place.
  for (int at = threadIdx.x; at < heads.n_heads * n_fours; at += 128) {
    Bf16* head = row_of(q, row, ld) + at / n_fours * head_dim;
    rope_fast::rotate4(head, head, at % n_fours * 4, half, cos_row, sin_row);
  }

  // Keys, into the cache.
  for (int at = threadIdx.x; at < heads.n_kv_heads * n_fours; at += 128) {
    const int kv_head = at / n_fours;
    const Bf16* head = row_of(k, row, ld) + kv_head * head_dim;
    Bf16* to = row_of(keys_of(keys, heads, slot, kv_head), position, head_dim);
    rope_fast::rotate4(to, head, at % n_fours * 4, half, cos_row, sin_row);
  }

  // Values, into the cache.
  for (int at = threadIdx.x * 4; at < heads.n_kv_heads * head_dim; at += 128 * 4) {
    const int kv_head = at / head_dim;
    store4(row_of(values_of(values, heads, slot, kv_head), position, head_dim) + at % head_dim,
           load4(row_of(v, row, ld) + at));
  }
}
EXPORT(rope_append_fast_v1);
