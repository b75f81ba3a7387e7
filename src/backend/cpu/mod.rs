//! The CPU backend: the same bits from AVX-512, AVX2 and scalar code.
