// The kernels, as the host compiler sees them.
#include "../all.cu"

// Named by the harness, so that the linker keeps this file.
extern "C" {
extern const int kernels_all;
const int kernels_all = 1;
}
