// Causal attention of single rows over the cache: one row per sequence, as decoding has it. Order:
// `attention.cuh`; the obvious version is `attention_steps.cu`.
//
// q, out (n_rows, ld), heads side by side; slot_of, position_of (n_rows).
//
// Floor: K and V once, 8 head_dim bytes for each row, key head and position: 256 rows of Gemma-7B
// at 200 tokens 1.7 GB a layer in f32, 0.35 ms.
// v2  a block per row and head. Scores: a warp takes a panel of 32 positions, a lane a position, so
//     the keys of a panel are read in rows. They rest in shared memory. Weighted sum: a thread is
//     an element of the head and walks over the positions, its loads far ahead of the chain. Query
//     heads of one key head read the same K and V at about the same time, so from the second-level
//     cache. Predicted 60 % of copy bandwidth. Not run on hardware.
#include "common.cuh"

#include "attention.cuh"

// grid (n_heads, n_rows), block 128, dynamic shared memory: (head_dim + the longest row's
// positions) floats; head_dim at most 256
KERNEL(128) attention_decode_v2(const float* q, const float* keys, const float* values,
                                const int* slot_of, const int* position_of, float* out, Heads heads,
                                int ldq, int ldo) {
  DYNAMIC_SHARED(float, query);  // (head_dim), then the scores
  SHARED(float, found, [4]);     // the largest score of each warp, then in [0] the numerators' sum
  const int row = blockIdx.y, head = blockIdx.x, thread = threadIdx.x;
  const int warp = thread / 32, lane = thread % 32, head_dim = heads.head_dim;
  const int position = position_of[row], slot = slot_of[row];
  const int kv_head = head / (heads.n_heads / heads.n_kv_heads);
  const int first = first_seen(heads, position), n_seen = position + 1 - first;
  const float* slot_keys = keys_of(keys, heads, slot, kv_head);
  const float* slot_values = values_of(values, heads, slot, kv_head);
  float* const scores = query + head_dim;  // (n_seen)

  // Load.
  for (int d = thread; d < head_dim; d += 128) {
    query[d] = row_of(q, row, ldq)[head * head_dim + d];
  }
  sync_block();

  // Scores and the largest of them.
  float largest = minus_infinity();
  for (int panel = first / PANEL + warp; panel * PANEL <= position; panel += 4) {
    const int j = panel * PANEL + lane;
    if (j < first || j > position) continue;
    const float* key = slot_keys + key_offset(heads, j);
    float sum = 0.0f;
#pragma unroll 8
    for (int d = 0; d < head_dim; ++d) sum = fma_rn(query[d], key[d * PANEL], sum);
    scores[j - first] = sum;
    largest = sum > largest ? sum : largest;
  }
  largest = warp_max(largest);
  if (lane == 0) found[warp] = largest;
  sync_block();
#pragma unroll
  for (int other = 0; other < 4; ++other) {
    largest = found[other] > largest ? found[other] : largest;
  }
  const float max = mul_rn(largest, heads.score_factor);

  // Numerators.
  for (int i = thread; i < n_seen; i += 128) {
    scores[i] = exp_of(fma_rn(scores[i], heads.score_factor, -max));
  }
  sync_block();

  // Their sum: the first warp, its upper half repeating the lower.
  if (warp == 0) {
    float sum = 0.0f;
    for (int i = lane % 16; i < n_seen; i += 16) sum = add_rn(sum, scores[i]);
    sum = fold16(sum);
    if (lane == 0) found[0] = sum;
  }

  // Weighted sum of the values.
  float sums[2] = {};
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const int d = c * 128 + thread;
    if (d >= head_dim) continue;
    const float* column = row_of(slot_values, first, head_dim) + d;
#pragma unroll 8
    for (int i = 0; i < n_seen; ++i) {
      sums[c] = fma_rn(scores[i], row_of(column, i, head_dim)[0], sums[c]);
    }
  }
  sync_block();

  // Write.
  const float inverse = div_rn(1.0f, found[0]);
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const int d = c * 128 + thread;
    if (d < head_dim) row_of(out, row, ldo)[head * head_dim + d] = mul_rn(sums[c], inverse);
  }
}
EXPORT(attention_decode_v2);
