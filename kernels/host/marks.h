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
#ifdef KERNELS_TSAN
  static inline thread_local int n_open = 0;

  Unseen() {
    ++n_open;
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unseen() { end(); }

  static void end() {
    --n_open;
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  Unseen() {}
  ~Unseen() {}
#endif
};

// Ends all that the running fiber has begun: one that fails never comes to their ends, and
// ThreadSanitizer lets no fiber go before.
inline void end_unseen() {
#ifdef KERNELS_TSAN
  while (Unseen::n_open > 0) Unseen::end();
#endif
}

}  // namespace host::marks
