// Probes of accesses wider than a number, of shared memory, barriers and asynchronous copies.
#include "probe.cuh"

using namespace probe;

PROBE(store_f32, 1, 1, store(reinterpret_cast<float*>(to), f32(from[0]));)
PROBE(store_bf16, 1, 1, {
  Bf16* half = reinterpret_cast<Bf16*>(to);
  store(half, f32(from[0]));
  half[1] = bf16(0);
})
PROBE(store2_f32, 2, 2, store2(reinterpret_cast<float*>(to), f32(from[0]), f32(from[1]));)
PROBE(store2_bf16, 2, 1, store2(reinterpret_cast<Bf16*>(to), f32(from[0]), f32(from[1]));)

// Two numbers, as they are.
PROBE(load2_f32, 2, 2, {
  const Two<float> two = load2(reinterpret_cast<const float*>(from));
  to[0] = bits_of(two.values[0]), to[1] = bits_of(two.values[1]);
})
PROBE(load2_bf16, 1, 2, {
  const Two<Bf16> two = load2(reinterpret_cast<const Bf16*>(from));
  to[0] = two.values[0].bits, to[1] = two.values[1].bits;
})

// Four numbers each way.
PROBE(load4_f32, 4, 4, store4(reinterpret_cast<float*>(to),
                              load4(reinterpret_cast<const float*>(from)));)
PROBE(load4_bf16, 2, 4, store4(reinterpret_cast<float*>(to),
                               load4(reinterpret_cast<const Bf16*>(from)));)
PROBE(load4_f16, 2, 4, store4(reinterpret_cast<float*>(to),
                              load4(reinterpret_cast<const F16*>(from)));)
PROBE(store4_bf16, 4, 2, store4(reinterpret_cast<Bf16*>(to),
                                load4(reinterpret_cast<const float*>(from)));)
PROBE(load8, 4, 4, store8(reinterpret_cast<Bf16*>(to),
                          load8(reinterpret_cast<const Bf16*>(from)));)

// The block's words from behind, through shared memory.
PROBE(sync_block, 1, 1, {
  SHARED(unsigned, words, [256]);
  words[thread] = from[0];
  sync_block();
  to[0] = words[255 - thread];
})

// The same through memory whose size the launch chooses, 64 words apart: 64 KiB.
PROBE(dynamic_shared, 1, 1, {
  DYNAMIC_SHARED(unsigned, words);
  words[64 * thread] = from[0];
  sync_block();
  to[0] = words[64 * (255 - thread)];
})

// A warp's words from behind.
PROBE(sync_lanes, 1, 1, {
  SHARED(unsigned, words, [256]);
  words[thread] = from[0];
  sync_lanes();
  to[0] = words[thread / 32 * 32 + 31 - thread % 32];
})

// Two groups of one copy each: words 0 and 4 on, of which words 8 and 9 say how many bytes; 10 and
// 11 are not read. The first group must be there while the second may be under way; then the
// second, of the thread from behind.
PROBE(copy_async, 12, 8, {
  SHARED(Words, copies, [2][256]);
  copy_async(&copies[0][thread], from, static_cast<int>(from[8]));
  commit_copies();
  copy_async(&copies[1][thread], from + 4, static_cast<int>(from[9]));
  commit_copies();
  wait_copies<1>();
  const Words first = copies[0][thread];
  wait_copies<0>();
  sync_block();
  const Words second = copies[1][255 - thread];
  for (int i = 0; i < 4; ++i) {
    to[i] = first.words[i];
    to[4 + i] = second.words[i];
  }
})
