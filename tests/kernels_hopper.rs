//! The product of precision `fast` for sm_90a, held to what the others are (kernels_fast.rs); and a
//! row's bits on any number of blocks.
#![cfg(feature = "kernel-tests")]

mod kernels_common;

use kernels_common::products::{Kept, Kernel, Product, check_batches, check_rounding, check_whole};
use kernels_common::values::{assert_bits, rounded, values};
use kernels_common::{SEEDS, has_hopper};
use model_swarms::backend::cpu::gemm::Start;

/// Rows, outputs and inputs around the tile of 128 x 256, steps of 64 in four stages, and chunks of
/// 8; then more rows than follow one another before the next column begins.
const SIZES: [[usize; 3]; 14] = [
    [0, 3, 5],
    [1, 0, 4],
    [1, 1, 0],
    [1, 1, 1],
    [3, 5, 15],
    [65, 63, 31],
    [127, 1, 64],
    [1, 255, 65],
    [128, 257, 63],
    [129, 256, 128],
    [7, 66, 257],
    [64, 250, 256],
    [130, 513, 330],
    [2177, 257, 8],
];

/// Whether this machine has no such kernels.
fn is_skipped() -> bool {
    if !has_hopper() {
        println!("skipped: the GPU is not of sm_90a");
    }
    !has_hopper()
}

#[test]
fn products_of_whole_numbers_are_exact() {
    // Broken: an element of A, W or C is lost, read twice or put in another's place.
    if is_skipped() {
        return;
    }
    // Every schedule where copies, stages and barriers are, one for many blocks.
    let seeds_of = |[n_rows, ..]: [usize; 3]| if n_rows > 1000 { &SEEDS[4..] } else { &SEEDS };
    let forms = [
        (Start::Zero, Kept::F32),
        (Start::FromC, Kept::F32),
        (Start::Zero, Kept::Bf16),
        (Start::FromC, Kept::Bf16),
    ];
    // Blocks that take several tiles, where there are several.
    check_whole(Kernel::Hopper(3), &SIZES, &forms, seeds_of);
}

#[test]
fn products_lie_within_what_rounding_may_do() {
    // Broken: sums are kept in less than f32, or rounded more than once on their way to C.
    if !is_skipped() {
        check_rounding(Kernel::Hopper(132));
    }
}

#[test]
fn a_row_alone_is_the_row_in_any_batch() {
    // Broken: an answer depends on which prompts share its batch.
    if !is_skipped() {
        check_batches(Kernel::Hopper(132));
    }
}

#[test]
fn any_number_of_blocks_gives_the_same_bits() {
    // Broken: an answer depends on how many multiprocessors a chip has.
    if is_skipped() {
        return;
    }
    let [n_rows, n_out, n_in] = [260, 520, 140];
    let (a, w) = (rounded(&values(1, n_rows * n_in)), rounded(&values(2, n_out * n_in)));
    let c = rounded(&values(3, n_rows * n_out));
    let (sizes, kept, start) = ([n_rows, n_out, n_in], Kept::F32, Start::FromC);
    let run = Product { sizes, kept, start, a: &a, w: &w, c: &c, update: None };
    let alone = run.run(Kernel::Hopper(9), 0);
    for (n_blocks, seed) in [(1, 1), (2, 2), (4, 3), (8, 4)] {
        let ours = run.run(Kernel::Hopper(n_blocks), seed);
        assert_bits(&ours, &alone, &format!("{n_blocks} blocks"));
    }
}
