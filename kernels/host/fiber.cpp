// The register switch and the bookkeeping of the sanitizers. This file is compiled without their
// instrumentation, which would see one stack where there are many.

#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if !defined(__x86_64__)
#error "the kernels' host harness switches stacks on x86-64 only"
#endif

#ifdef KERNELS_ASAN
extern "C" void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t bytes);
extern "C" void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom,
                                                size_t* bytes);
extern "C" void __asan_unpoison_memory_region(const void* start, size_t bytes);
#endif
#ifdef KERNELS_TSAN
extern "C" void* __tsan_get_current_fiber();
extern "C" void* __tsan_create_fiber(unsigned flags);
extern "C" void __tsan_destroy_fiber(void* fiber);
extern "C" void __tsan_switch_to_fiber(void* fiber, unsigned flags);
static const unsigned NO_SYNC = 1;  // the switch itself orders nothing
#endif

// Saves what a function must preserve, stores the stack's pointer, and returns on the other stack.
extern "C" void kernels_switch_stacks(void** from, void* to);
asm(R"(
.text
.globl kernels_switch_stacks
.type kernels_switch_stacks, @function
kernels_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size kernels_switch_stacks, .-kernels_switch_stacks
)");

namespace host {

namespace {

// The sanitizers' frames are several times as large as plain ones.
constexpr std::size_t STACK_BYTES = 256 << 10;
constexpr std::size_t GUARD_BYTES = 4096;

// The fiber that is about to begin, for its first instructions.
thread_local Fiber* beginning = nullptr;

}  // namespace

Fiber::Fiber() {
  void* pages = mmap(nullptr, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) {
    std::perror("a fiber's stack");
    std::abort();
  }
  // Stacks grow downwards: one that is too long runs into this page instead of its neighbour.
  mprotect(pages, GUARD_BYTES, PROT_NONE);
  stack_ = static_cast<char*>(pages) + GUARD_BYTES;
}

Fiber::~Fiber() {
#ifdef KERNELS_TSAN
  if (tsan_fiber_) __tsan_destroy_fiber(tsan_fiber_);
#endif
  munmap(stack_ - GUARD_BYTES, STACK_BYTES + GUARD_BYTES);
}

void Fiber::start(void (*body)(void*), void* argument) {
  body_ = body;
  argument_ = argument;
#ifdef KERNELS_ASAN
  __asan_unpoison_memory_region(stack_, STACK_BYTES);
  fake_stack_ = nullptr;
#endif
#ifdef KERNELS_TSAN
  // One that was left in the middle keeps a call stack that nobody will return from.
  if (tsan_fiber_ && !has_ended_) {
    __tsan_destroy_fiber(tsan_fiber_);
    tsan_fiber_ = nullptr;
  }
  if (!tsan_fiber_) tsan_fiber_ = __tsan_create_fiber(0);
#endif
  has_ended_ = false;
  // As `kernels_switch_stacks` leaves it: six registers and where to return to. A function is
  // entered with its return address 8 below a multiple of 16.
  auto top = reinterpret_cast<std::uintptr_t*>(stack_ + STACK_BYTES);
  top[-1] = 0;
  top[-2] = reinterpret_cast<std::uintptr_t>(&Fiber::enter);
  for (int i = 3; i <= 8; ++i) top[-i] = 0;
  stack_pointer_ = top - 8;
}

void Fiber::resume() {
  beginning = this;
#ifdef KERNELS_ASAN
  __sanitizer_start_switch_fiber(&home_fake_stack_, stack_, STACK_BYTES);
#endif
#ifdef KERNELS_TSAN
  home_tsan_fiber_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(tsan_fiber_, NO_SYNC);
#endif
  kernels_switch_stacks(&home_pointer_, stack_pointer_);
#ifdef KERNELS_ASAN
  __sanitizer_finish_switch_fiber(home_fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::pause() {
  leave();
#ifdef KERNELS_ASAN
  __sanitizer_finish_switch_fiber(fake_stack_, &home_bottom_, &home_bytes_);
#endif
}

void Fiber::leave() {
#ifdef KERNELS_ASAN
  __sanitizer_start_switch_fiber(has_ended_ ? nullptr : &fake_stack_, home_bottom_, home_bytes_);
#endif
#ifdef KERNELS_TSAN
  __tsan_switch_to_fiber(home_tsan_fiber_, NO_SYNC);
#endif
  kernels_switch_stacks(&stack_pointer_, home_pointer_);
}

void Fiber::enter() {
  Fiber* self = beginning;
#ifdef KERNELS_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &self->home_bottom_, &self->home_bytes_);
#endif
  self->body_(self->argument_);
  self->has_ended_ = true;
  self->leave();
  std::abort();  // an ended fiber was resumed
}

}  // namespace host
