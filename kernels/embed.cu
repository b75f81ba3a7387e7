// Embedding: x[row] = scale * table[token of row], with Gemma's scale sqrt(dim), or 1.
//
// table  (vocab_size, ldt)  as the file has it, or as the output matrix that has the same rows:
//        f32, f16 or bf16
// tokens (n_rows)
// x      (n_rows, ldx)      f32
// grid (n_rows), block 256. Order: one multiplication; with scale 1 it changes nothing.
//
// Floor: dim * (bytes of an element + 4) per row. 8192 rows of Gemma-7B in bf16: 151 MB, 0.03 ms
// at 4.8 TB/s, of a forward pass of a second.
// v1  a block per row, neighbours read neighbours. Predicted 80 % of copy bandwidth; a better one
//     could gain 1e-5 of a forward pass. Not run on hardware.
#include "common.cuh"

namespace embed {

template <class T>
DEVICE void rows(const T* table, const int* tokens, float scale, float* x, int dim, int ldt,
                 int ldx) {
  const int row = blockIdx.x;
  const T* from = row_of(table, tokens[row], ldt);
  float* to = row_of(x, row, ldx);
  for (int i = threadIdx.x; i < dim; i += blockDim.x) to[i] = mul_rn(widen(from[i]), scale);
}

}  // namespace embed

KERNEL(256) embed_f32_v1(const float* table, const int* tokens, float scale, float* x, int dim,
                         int ldt, int ldx) {
  embed::rows(table, tokens, scale, x, dim, ldt, ldx);
}
EXPORT(embed_f32_v1);

KERNEL(256) embed_f16_v1(const F16* table, const int* tokens, float scale, float* x, int dim,
                         int ldt, int ldx) {
  embed::rows(table, tokens, scale, x, dim, ldt, ldx);
}
EXPORT(embed_f16_v1);

KERNEL(256) embed_bf16_v1(const Bf16* table, const int* tokens, float scale, float* x, int dim,
                          int ldt, int ldx) {
  embed::rows(table, tokens, scale, x, dim, ldt, ldx);
}
EXPORT(embed_bf16_v1);
