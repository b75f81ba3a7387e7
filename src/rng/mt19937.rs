//! MT19937 as CPython's `random` module drives it, for replaying the authors' `random.seed(42)`.
//!
//! Matsumoto and Nishimura's generator of 1998, seeded by their `init_by_array`; `random()` takes
//! 53 bits from two words, and an integer below n is drawn by rejection from its bit length.

const N_WORDS: usize = 624;
const MIDDLE: usize = 397;

/// The generator behind Python's `random.Random(seed)`.
#[derive(Debug, Clone)]
pub struct Mt19937 {
    state: [u32; N_WORDS],
    next: usize,
}

impl Mt19937 {
    /// The generator after `random.seed(seed)`, for a seed of one word.
    pub fn new(seed: u32) -> Self {
        let mut state = [0; N_WORDS];
        state[0] = 19_650_218u32;
        for i in 1..N_WORDS {
            let previous = state[i - 1] ^ state[i - 1] >> 30;
            state[i] = previous.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        // init_by_array with the array [seed]: two walks around the ring, each starting at word 1.
        let mut i = 1;
        for _ in 0..N_WORDS {
            let previous = (state[i - 1] ^ state[i - 1] >> 30).wrapping_mul(1_664_525);
            state[i] = (state[i] ^ previous).wrapping_add(seed);
            i = step_around(&mut state, i);
        }
        for _ in 0..N_WORDS - 1 {
            let previous = (state[i - 1] ^ state[i - 1] >> 30).wrapping_mul(1_566_083_941);
            state[i] = (state[i] ^ previous).wrapping_sub(i as u32);
            i = step_around(&mut state, i);
        }
        state[0] = 0x8000_0000;
        Self { state, next: N_WORDS }
    }

    /// Python's `random.random()`: uniform in [0, 1) from 53 bits.
    pub fn random(&mut self) -> f64 {
        let high = f64::from(self.word() >> 5);
        let low = f64::from(self.word() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// Python's `_randbelow(n)`, which `choice` and `randint` use: as many bits as n has, drawn
    /// again while they are not below n.
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "there is no integer below 0");
        loop {
            let drawn = self.word() >> n.leading_zeros();
            if drawn < n {
                return drawn;
            }
        }
    }

    fn word(&mut self) -> u32 {
        if self.next == N_WORDS {
            self.turn();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }

    fn turn(&mut self) {
        for i in 0..N_WORDS {
            let joined = self.state[i] & 0x8000_0000 | self.state[(i + 1) % N_WORDS] & 0x7fff_ffff;
            let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + MIDDLE) % N_WORDS] ^ joined >> 1 ^ twist;
        }
        self.next = 0;
    }
}

/// The word after `i`; past the end the last word is copied to the front and word 1 is next.
fn step_around(state: &mut [u32; N_WORDS], i: usize) -> usize {
    if i + 1 < N_WORDS {
        return i + 1;
    }
    state[0] = state[N_WORDS - 1];
    1
}
