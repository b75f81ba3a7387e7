//! Numbers for the example, from a seed and a name.
//!
//! Integer arithmetic and exact conversions only, so that every machine and any other language gets
//! the same bits. Not for searches: their draws live in `rng`.

/// Random numbers by address: FNV-1a of a name, walked by splitmix64.
pub struct Hash {
    state: u64,
}

impl Hash {
    /// The numbers of `name` under `seed`.
    pub fn new(seed: u64, name: &str) -> Self {
        let text = format!("{seed}/{name}");
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        Self { state: text.bytes().fold(0xCBF2_9CE4_8422_2325, fnv) }
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// The next number, uniform in [-1, 1), of 24 bits.
    fn next_unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// `n` numbers of mean 0 and standard deviation `std`.
    pub fn uniform(&mut self, n: usize, std: f32) -> Vec<f32> {
        let half_width = std * 3_f32.sqrt();
        (0..n).map(|_| self.next_unit() * half_width).collect()
    }

    /// The numbers 0 to n - 1 in random order (Fisher and Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            order.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
        order
    }
}
