// The formulas of the gates, for both precisions.
#pragma once

namespace gated {

DEVICE float gelu_tanh(float x) {
  const float MINUS_TWO_SQRT_2_OVER_PI = -1.5957692f;
  const float inner = fma_rn(mul_rn(x, x), mul_rn(0.044715f, x), x);
  return div_rn(x, add_rn(1.0f, exp_of(mul_rn(inner, MINUS_TWO_SQRT_2_OVER_PI))));
}

DEVICE float silu(float x) { return div_rn(x, add_rn(1.0f, exp_of(-x))); }

}  // namespace gated
