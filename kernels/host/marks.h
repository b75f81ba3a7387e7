// What ThreadSanitizer is told: which threads of a block wait for which. Nothing in other builds.
#pragma once

#ifdef KERNELS_TSAN
extern "C" void __tsan_acquire(void* mark);
extern "C" void __tsan_release(void* mark);
extern "C" void AnnotateIgnoreReadsBegin(const char* file, int line);
extern "C" void AnnotateIgnoreReadsEnd(const char* file, int line);
extern "C" void AnnotateIgnoreWritesBegin(const char* file, int line);
extern "C" void AnnotateIgnoreWritesEnd(const char* file, int line);
#endif

namespace host::marks {

// What was done before a release is ordered before what follows an acquire of the same mark.
inline void release([[maybe_unused]] void* mark) {
#ifdef KERNELS_TSAN
  __tsan_release(mark);
#endif
}

inline void acquire([[maybe_unused]] void* mark) {
#ifdef KERNELS_TSAN
  __tsan_acquire(mark);
#endif
}

// The harness's own accesses to the block's memory, which are no thread's.
struct Unseen {
  Unseen() {
#ifdef KERNELS_TSAN
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
  }
  ~Unseen() {
#ifdef KERNELS_TSAN
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
  }
};

}  // namespace host::marks
