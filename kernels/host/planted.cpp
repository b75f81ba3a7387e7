// The planted bugs, as the host compiler sees them.
#include "../planted/hopper.cu"
#include "../planted/matrix.cu"
#include "../planted/memory.cu"
#include "../planted/numbers.cu"
#include "../planted/turned.cu"
#include "../planted/update.cu"
#include "../planted/waiting.cu"

// Named by the harness, so that the linker keeps this file.
extern "C" {
extern const int kernels_planted;
const int kernels_planted = 1;
}
