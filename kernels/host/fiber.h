// Fibers: stacks of their own within one thread of the operating system, switched by hand. Each
// CUDA thread of an emulated block is one. Knows nothing of CUDA.
//
// AddressSanitizer and ThreadSanitizer are told of every switch. To ThreadSanitizer a fiber is a
// thread that no switch orders: only what the emulator marks as a synchronisation does.
#pragma once

#include <cstddef>

namespace host {

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Makes the next `resume` call `body(argument)`. What the fiber was doing before is forgotten:
  // its frames hold nothing that wants to be destroyed.
  void start(void (*body)(void*), void* argument);

  // Runs the fiber from the thread's own stack until it pauses or its body returns.
  void resume();

  // Goes back to whoever resumed this fiber, from within it.
  void pause();

 private:
  static void enter();
  void leave();

  char* stack_;
  void* stack_pointer_ = nullptr;
  void* home_pointer_ = nullptr;
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  // For the sanitizers.
  void* fake_stack_ = nullptr;
  void* home_fake_stack_ = nullptr;
  const void* home_bottom_ = nullptr;
  std::size_t home_bytes_ = 0;
  void* tsan_fiber_ = nullptr;
  void* home_tsan_fiber_ = nullptr;
  bool has_ended_ = false;
};

}  // namespace host
