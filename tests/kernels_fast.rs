//! The product of precision `fast`, against the CPU's: exactly where any order of additions is
//! exact, else within what f32 sums of bf16 products may differ by; and a row's bits against the
//! same row's in other batches.
#![cfg(feature = "kernel-tests")]

mod kernels_common;

use kernels_common::SEEDS;
use kernels_common::products::{Kept, Kernel, check_batches, check_rounding, check_whole};
use model_swarms::backend::cpu::gemm::Start;

const KERNELS: [Kernel; 2] = [Kernel::V1, Kernel::V2];

/// Rows, outputs and inputs around the tile of 128 x 128, steps of 32 in three stages, and chunks
/// of 8; then more rows than follow one another before the next column begins.
const SIZES: [[usize; 3]; 14] = [
    [0, 3, 5],
    [1, 0, 4],
    [1, 1, 0],
    [1, 1, 1],
    [3, 5, 15],
    [15, 9, 16],
    [65, 63, 31],
    [127, 1, 32],
    [1, 127, 33],
    [128, 129, 65],
    [129, 128, 96],
    [7, 66, 97],
    [130, 257, 167],
    [2177, 129, 8],
];

#[test]
fn products_of_whole_numbers_are_exact() {
    // Broken: an element of A, W or C is lost, read twice or put in another's place.
    for kernel in KERNELS {
        // Every schedule where copies, stages and barriers are, one for many blocks.
        let seeds_of = |[n_rows, ..]: [usize; 3]| if n_rows > 64 { &SEEDS[4..] } else { &SEEDS };
        let forms = [(Start::Zero, Kept::F32), (Start::FromC, Kept::Bf16)];
        check_whole(kernel, &SIZES, &forms, seeds_of);
    }
}

#[test]
fn products_lie_within_what_rounding_may_do() {
    // Broken: sums are kept in less than f32, or rounded more than once on their way to C.
    KERNELS.into_iter().for_each(check_rounding);
}

#[test]
fn a_row_alone_is_the_row_in_any_batch() {
    // Broken: an answer depends on which prompts share its batch.
    KERNELS.into_iter().for_each(check_batches);
}
