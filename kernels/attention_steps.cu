// Causal attention in its three steps, one kernel each: scores, softmax, weighted sum. The obvious
// version of both prefill and decode, over any rows of any sequences. Order: `attention.cuh`.
//
// q, out (n_rows, ld), heads side by side; slot_of, position_of (n_rows); scores (n_rows, n_heads,
// capacity) is working memory.
//
// Floor: 4 head_dim operations for each row, head and position seen; K and V once per sequence.
// v1  scores and numerators rest in global memory, and K and V are read anew by every row: for 200
//     tokens of Gemma-7B about 100 times the bytes. Predicted 2 % of what `attention_prefill`
//     reaches. Not run on hardware.
#include "common.cuh"

#include "attention.cuh"

// grid (ceil(capacity / 32), n_heads, n_rows), block 32: a thread per position
KERNEL(32) attention_scores_v1(const float* q, const float* keys, const int* slot_of,
                               const int* position_of, float* scores, Heads heads, int ldq) {
  const int row = blockIdx.z, head = blockIdx.y, j = blockIdx.x * 32 + threadIdx.x;
  const int position = position_of[row], kv_head = head / (heads.n_heads / heads.n_kv_heads);
  if (j < first_seen(heads, position) || j > position) return;
  const float* query = row_of(q, row, ldq) + head * heads.head_dim;
  const float* key = keys_of(keys, heads, slot_of[row], kv_head) + key_offset(heads, j);
  float sum = 0.0f;
  for (int d = 0; d < heads.head_dim; ++d) sum = fma_rn(query[d], key[d * PANEL], sum);
  row_of(scores, row * heads.n_heads + head, heads.capacity)[j] = sum;
}
EXPORT(attention_scores_v1);

// grid (ceil(n_rows * n_heads / 32)), block 32: a thread per row and head. `sums` (n_rows, n_heads)
KERNEL(32) attention_softmax_v1(float* scores, float* sums, const int* position_of, Heads heads,
                                int n_rows) {
  const int at = blockIdx.x * 32 + threadIdx.x;
  if (at >= n_rows * heads.n_heads) return;
  const int position = position_of[at / heads.n_heads], first = first_seen(heads, position);
  float* row = row_of(scores, at, heads.capacity);
  float largest = minus_infinity();
  for (int j = first; j <= position; ++j) largest = row[j] > largest ? row[j] : largest;
  const float max = mul_rn(largest, heads.score_factor);
  Lanes16 lanes = {};
  for (int j = first; j <= position; j += 16) {
#pragma unroll
    for (int l = 0; l < 16; ++l) {
      if (j + l > position) break;
      row[j + l] = exp_of(fma_rn(row[j + l], heads.score_factor, -max));
      lanes.sums[l] = add_rn(lanes.sums[l], row[j + l]);
    }
  }
  sums[at] = fold(lanes);
}
EXPORT(attention_softmax_v1);

// grid (ceil(head_dim / 32), n_heads, n_rows), block 32: a thread per element of a head
KERNEL(32) attention_values_v1(const float* scores, const float* sums, const float* values,
                               const int* slot_of, const int* position_of, float* out, Heads heads,
                               int ldo) {
  const int row = blockIdx.z, head = blockIdx.y, d = blockIdx.x * 32 + threadIdx.x;
  if (d >= heads.head_dim) return;
  const int position = position_of[row], kv_head = head / (heads.n_heads / heads.n_kv_heads);
  const float* numerators = row_of(scores, row * heads.n_heads + head, heads.capacity);
  const float* column = values_of(values, heads, slot_of[row], kv_head) + d;
  float sum = 0.0f;
  for (int j = first_seen(heads, position); j <= position; ++j) {
    sum = fma_rn(numerators[j], row_of(column, j, heads.head_dim)[0], sum);
  }
  const float inverse = div_rn(1.0f, sums[row * heads.n_heads + head]);
  row_of(out, row, ldo)[head * heads.head_dim + d] = mul_rn(sum, inverse);
}
EXPORT(attention_values_v1);
