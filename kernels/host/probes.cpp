// The probes, as the host compiler sees them.
#include "../probes/all.cu"

// Named by the harness, so that the linker keeps this file.
extern "C" {
extern const int kernels_probes;
const int kernels_probes = 1;
}
