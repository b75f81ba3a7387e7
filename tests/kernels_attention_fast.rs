//! Rotary embedding, the cache and attention of precision `fast`: exactly where any rounding is
//! exact, else within what bf16 may differ by from the CPU's; and a row's bits against the same
//! row's in other batches and of prompts in pieces.
#![cfg(feature = "kernel-tests")]

mod kernels_common;

use half::bf16;
use kernels_common::attention_fast::{Batch, Content, Layer, Row, prompts, rows_of};
use kernels_common::values::{assert_bits, rounded};
use kernels_common::{SEEDS, has_hopper};
use model_swarms::backend::cuda::driver::Family;

/// (n_heads, n_kv_heads, head_dim), the window and lengths of prompts: around tiles of 64, 32 and
/// 16 positions, 64 query rows and 16 of a warp, and heads of 64, 128 and 256 numbers.
type Case = ([usize; 3], Option<usize>, &'static [usize]);
const CASES: [Case; 12] = [
    ([1, 1, 8], None, &[]),
    ([1, 1, 8], None, &[0, 1]),
    ([2, 2, 8], None, &[63, 0, 64, 65]),
    ([4, 1, 24], None, &[9, 15, 16, 17, 129]),
    ([6, 2, 40], Some(10), &[40, 71]),
    ([2, 1, 64], Some(33), &[101, 1]),
    ([20, 1, 16], None, &[33, 4]),
    ([1, 1, 72], None, &[31, 2, 66]),
    ([2, 2, 128], Some(70), &[97]),
    ([1, 1, 136], Some(1), &[3, 42]),
    ([8, 1, 256], None, &[33]),
    ([1, 1, 144], None, &[63, 64, 130]),
];

/// Every kernel of tensor cores that this machine runs over a batch, by name.
fn by_tensor_cores(layer: &Layer, batch: &Batch, seed: u64) -> Vec<(&'static str, Vec<f32>)> {
    let mut all = vec![
        ("prefill", layer.prefill(Family::Ampere, batch, seed)),
        ("decode", layer.decode(batch, seed)),
    ];
    if has_hopper() {
        all.push(("prefill for Hopper", layer.prefill(Family::Hopper, batch, seed)));
    }
    all
}

/// The obvious kernel too, on one order of threads.
fn by_all_kernels(layer: &Layer, batch: &Batch, seed: u64) -> Vec<(&'static str, Vec<f32>)> {
    let mut all = by_tensor_cores(layer, batch, seed);
    if seed == 1 {
        all.push(("v1", layer.plainly(batch, seed)));
    }
    all
}

#[test]
fn queries_keys_and_values_are_turned_and_kept_as_on_the_cpu() {
    // Broken: words stand at other places in precision `fast`, or are rounded twice.
    for (sizes, window, lengths) in CASES {
        let layer = Layer::new(sizes, window, Content::Any, lengths.len());
        let batch = layer.append(prompts(lengths), 2);
        let wide =
            |x: Vec<u16>| -> Vec<f32> { x.iter().map(|x| bf16::from_bits(*x).to_f32()).collect() };
        let (qkv, keys) = (wide(batch.qkv.read()), wide(layer.keys.read()));
        let (values, head_dim) = (wide(layer.values.read()), sizes[2]);
        for (i, row) in batch.rows.iter().enumerate() {
            let wanted = layer.turned(*row);
            let k_col = layer.k_col();
            assert_bits(&qkv[i * layer.ld()..][..k_col], &wanted[..k_col], "queries");
            for kv_head in 0..sizes[1] {
                let head = (row.slot * sizes[1] + kv_head) * layer.capacity + row.position;
                let of = |from: &[f32], col: usize| from[col..][..head_dim].to_vec();
                let (at, col) = (head * head_dim, kv_head * head_dim);
                assert_bits(&of(&keys, at), &of(&wanted, k_col + col), "keys");
                assert_bits(&of(&values, at), &of(&wanted, layer.v_col() + col), "values");
            }
        }
    }
}

#[test]
fn every_position_that_is_seen_and_no_other_is_weighed() {
    // Broken: a position or an element of a head is lost, seen twice or put in another's place.
    for content in [Content::Even, Content::Chosen] {
        for (sizes, window, lengths) in CASES {
            let layer = Layer::new(sizes, window, content, lengths.len());
            let batch = layer.append(prompts(lengths), 0);
            let head_dim = sizes[2];
            let value_of = |row: &Row, position, head: usize| {
                let col = layer.v_col() + head * sizes[1] / sizes[0] * head_dim;
                layer.row(Row { position, ..*row })[col..][..head_dim].to_vec()
            };
            let mut wanted = Vec::new();
            for row in &batch.rows {
                let first = layer.first_seen(row.position);
                for head in 0..sizes[0] {
                    if content == Content::Chosen {
                        let position = layer.chosen(row.position, head);
                        wanted.extend(value_of(row, position, head));
                        continue;
                    }
                    // Whole numbers: sums are exact, in any order.
                    let seen = first..=row.position;
                    let inverse = 1.0 / seen.clone().count() as f32;
                    let mut sums = vec![0.0; head_dim];
                    for position in seen {
                        let value = value_of(row, position, head);
                        sums.iter_mut().zip(&value).for_each(|(sum, value)| *sum += value);
                    }
                    wanted.extend(rounded(&sums.iter().map(|s| s * inverse).collect::<Vec<_>>()));
                }
            }
            for seed in SEEDS {
                for (kernel, ours) in by_all_kernels(&layer, &batch, seed) {
                    let case = format!("{kernel} {content:?} {sizes:?} {window:?} seed {seed}");
                    assert_bits(&ours, &wanted, &case);
                }
            }
        }
    }
}

#[test]
fn attention_lies_within_what_bf16_may_do() {
    // Broken: prompts are read otherwise in precision `fast`, or rounded more often than is said.
    const U: f32 = 1.0 / 256.0; // of bf16, to nearest
    for (sizes, window, lengths) in CASES {
        let layer = Layer::new(sizes, window, Content::Any, lengths.len());
        let batch = layer.append(prompts(lengths), 0);
        let wanted = layer.on_cpu(lengths, |x| x);
        let magnitudes = layer.on_cpu(lengths, f32::abs); // the weighted mean of |v|
        let longest = lengths.iter().max().map_or(0.0, |n| *n as f32);
        // Products of bf16 are exact in f32; each addition errs by at most 2^-23 of the sum of
        // magnitudes where it truncates, as tensor cores may, the CPU's by half of it.
        let addition = 1.5 * f32::EPSILON;
        let additions = (sizes[2] + 1) as f32 * addition;
        let of_score = additions * layer.largest_score(lengths) * layer.heads.score_factor;
        // A numerator errs by its score's error, and by some 2^-20 for its exponent and power;
        // twice, since the sum of numerators does too. Sums over positions then add theirs, and
        // once more where warps or tiles are brought to one maximum.
        let of_weights = 2.0 * (of_score + 1e-6) + 3.0 * (longest + 1.0) * addition;
        for seed in SEEDS {
            for (kernel, ours) in by_all_kernels(&layer, &batch, seed) {
                // Numerators are rounded to bf16 for tensor cores; the result is, for all.
                let of_numerators = if kernel == "v1" { 0.0 } else { U };
                assert_eq!(ours.len(), wanted.len());
                for (i, (ours, wanted)) in ours.iter().zip(&wanted).enumerate() {
                    let most = 1.01 * (of_numerators + of_weights) * magnitudes[i];
                    let most = most + U * (wanted.abs() + most);
                    let error = (ours - wanted).abs();
                    let case = format!("{kernel} {sizes:?} {window:?} seed {seed} element {i}");
                    assert!(error <= most, "{case}: {ours}, wanted {wanted}, {most:e}");
                }
            }
        }
    }
}

/// What a batch gives for one row of it.
fn of_row<'a>(layer: &Layer, batch: &Batch, out: &'a [f32], row: Row) -> &'a [f32] {
    let is_it = |other: &Row| (other.prompt, other.position) == (row.prompt, row.position);
    let at = batch.rows.iter().position(is_it).unwrap();
    &out[at * layer.k_col()..][..layer.k_col()]
}

#[test]
fn a_row_alone_is_the_row_in_any_batch_and_of_any_piece() {
    // Broken: an answer depends on which prompts share its batch, or on how a prompt is cut.
    for (sizes, window) in
        [([4, 2, 24], None), ([3, 1, 64], Some(20)), ([2, 2, 72], None), ([2, 1, 136], Some(40))]
    {
        let new = || Layer::new(sizes, window, Content::Any, 4);
        let layer = new();
        let batch = layer.append(prompts(&[101, 1, 66]), 0);
        let whole = by_tensor_cores(&layer, &batch, 0);
        // Each row of a part of the prompts against the same row of all of them.
        let check = |of: &Layer, part: Batch, seed| {
            let ours = by_tensor_cores(of, &part, seed);
            for ((kernel, ours), (_, whole)) in ours.iter().zip(&whole) {
                for row in &part.rows {
                    let wanted = of_row(&layer, &batch, whole, *row);
                    let case = format!("{kernel} {sizes:?} {row:?} seed {seed}");
                    assert_bits(of_row(of, &part, ours, *row), wanted, &case);
                }
            }
        };
        // The same prompts in other slots of a cache that holds nothing else, piece by piece, and
        // pieces of two prompts side by side: of the first in its place, behind rows of the other.
        let pieces = [(0..31, 0..1), (31..32, 1..50), (32..96, 50..65), (96..101, 65..66)];
        for seed in [0, 3, 4] {
            let other = new();
            for (of_first, of_last) in pieces.clone() {
                let mut rows = rows_of(2, of_last);
                rows.extend(rows_of(0, of_first));
                rows.iter_mut().for_each(|row| row.slot = 3 - row.slot);
                check(&other, other.append(rows, seed), seed);
            }
        }
        // Row by row.
        let alone = new();
        for row in rows_of(0, 0..101) {
            check(&alone, alone.append(vec![row], 1), 1);
        }
    }
}
