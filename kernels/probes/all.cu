// Every probe, for a fatbin of its own, and for one translation unit on the host.
#include "hopper.cu"
#include "memory.cu"
#include "numbers.cu"
#include "peaks.cu"
#include "warps.cu"
