//! Causal attention of one sequence, and its gradient.
//!
//! `out[i] = sum_j shares[i, j] v[j]`, `shares[i] = softmax(q[i] . k[j] / sqrt(head_dim))` over
//! `j <= i`. Positions go in blocks of 32; a block's rows look no further than its end, and what
//! lies between a row's own position and that end is an exact zero.

use std::ops::Range;

use super::decoder::Sizes;
use super::ops::softmax_back;
use super::product::{Left, Order, PANEL, Panels, Start, product};
use crate::backend::cpu::Isa;
use crate::backend::cpu::ops::{scale, softmax_numerators};

/// Working memory, reused from call to call.
#[derive(Default)]
pub struct Scratch {
    keys: Panels,       // K^T forward, K backward
    values: Panels,     // V forward, V^T backward
    queries: Panels,    // Q of one head
    d_out: Panels,      // the result's gradient, one head
    d_scores: Vec<f32>, // (n_tokens, stride)
}

/// Queries, keys and values of one sequence, rotated: heads side by side in each row.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// (n_tokens, n_heads * head_dim)
    pub q: &'a [f32],
    /// (n_tokens, n_kv_heads * head_dim)
    pub k: &'a [f32],
    /// (n_tokens, n_kv_heads * head_dim)
    pub v: &'a [f32],
}

/// Gradients of [`Inputs`], shaped as they are.
pub struct Gradients<'a> {
    /// Of the queries.
    pub q: &'a mut [f32],
    /// Of the keys; zero before.
    pub k: &'a mut [f32],
    /// Of the values; zero before.
    pub v: &'a mut [f32],
}

/// From one row of a head's shares to the next.
pub fn stride(n_tokens: usize) -> usize {
    n_tokens.next_multiple_of(PANEL)
}

fn blocks(n_tokens: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n_tokens).step_by(PANEL).map(move |first| first..n_tokens.min(first + PANEL))
}

fn rows(data: &[f32], stride: usize, n_rows: usize) -> Left<'_> {
    Left { data, stride, order: Order::Rows, n_rows }
}

fn columns(data: &[f32], stride: usize, n_rows: usize) -> Left<'_> {
    Left { data, stride, order: Order::Columns, n_rows }
}

/// `shares` (n_heads, n_tokens, stride) and `out` (n_tokens, n_heads * head_dim).
pub fn attend(
    isa: Isa,
    sizes: &Sizes,
    inputs: Inputs,
    shares: &mut [f32],
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let Sizes { n_heads, n_kv_heads, head_dim, .. } = *sizes;
    let (q_dim, kv_dim) = (n_heads * head_dim, n_kv_heads * head_dim);
    let n_tokens = inputs.q.len() / q_dim;
    let stride = stride(n_tokens);
    let factor = factor(head_dim);
    for head in 0..n_heads {
        let (at, kv_at) = (head * head_dim, head / (n_heads / n_kv_heads) * head_dim);
        if head % (n_heads / n_kv_heads) == 0 {
            let shape = (head_dim, n_tokens);
            scratch.keys.pack_transposed(&inputs.k[kv_at..], kv_dim, shape);
            scratch.values.pack(&inputs.v[kv_at..], kv_dim, (n_tokens, head_dim));
        }
        let shares = &mut shares[head * n_tokens * stride..][..n_tokens * stride];
        for block in blocks(n_tokens) {
            let end = block.end;
            let q = rows(&inputs.q[block.start * q_dim + at..], q_dim, block.len());
            let scores = &mut shares[block.start * stride..end * stride];
            product(isa, q, &scratch.keys, 0..head_dim, end, scores, stride, Start::Zero);
            for (row, i) in scores.chunks_exact_mut(stride).zip(block.clone()) {
                let sum = softmax_numerators(isa, &mut row[..=i], factor);
                scale(isa, &mut row[..=i], 1.0 / sum);
                row[i + 1..end].fill(0.0);
            }
            let out = &mut out[block.start * q_dim + at..];
            let scores = rows(scores, stride, block.len());
            product(isa, scores, &scratch.values, 0..end, head_dim, out, q_dim, Start::Zero);
        }
    }
}

/// The gradients of the inputs from that of the result.
pub fn attend_back(
    isa: Isa,
    sizes: &Sizes,
    inputs: Inputs,
    shares: &[f32],
    d_out: &[f32],
    gradients: Gradients,
    scratch: &mut Scratch,
) {
    let Sizes { n_heads, n_kv_heads, head_dim, .. } = *sizes;
    let (q_dim, kv_dim) = (n_heads * head_dim, n_kv_heads * head_dim);
    let n_tokens = inputs.q.len() / q_dim;
    let stride = stride(n_tokens);
    let factor = factor(head_dim);
    scratch.d_scores.resize(n_tokens * stride, 0.0);
    for head in 0..n_heads {
        let (at, kv_at) = (head * head_dim, head / (n_heads / n_kv_heads) * head_dim);
        if head % (n_heads / n_kv_heads) == 0 {
            scratch.keys.pack(&inputs.k[kv_at..], kv_dim, (n_tokens, head_dim));
            scratch.values.pack_transposed(&inputs.v[kv_at..], kv_dim, (head_dim, n_tokens));
        }
        scratch.queries.pack(&inputs.q[at..], q_dim, (n_tokens, head_dim));
        scratch.d_out.pack(&d_out[at..], q_dim, (n_tokens, head_dim));
        let shares = &shares[head * n_tokens * stride..][..n_tokens * stride];

        // d_shares = d_out V^T, then d_scores, then d_q = d_scores K.
        for block in blocks(n_tokens) {
            let end = block.end;
            let d_out = rows(&d_out[block.start * q_dim + at..], q_dim, block.len());
            let d_scores = &mut scratch.d_scores[block.start * stride..end * stride];
            product(isa, d_out, &scratch.values, 0..head_dim, end, d_scores, stride, Start::Zero);
            for (d_row, i) in d_scores.chunks_exact_mut(stride).zip(block.clone()) {
                softmax_back(isa, &shares[i * stride..][..=i], factor, d_row);
                d_row[i + 1..end].fill(0.0);
            }
            let d_q = &mut gradients.q[block.start * q_dim + at..];
            let d_scores = rows(d_scores, stride, block.len());
            product(isa, d_scores, &scratch.keys, 0..end, head_dim, d_q, q_dim, Start::Zero);
        }

        // d_k += d_scores^T Q and d_v += shares^T d_out: only rows from a block on look at it.
        for block in blocks(n_tokens) {
            let (from, to) = (block.start * stride + block.start, block.start * kv_dim + kv_at);
            let seen_by = block.start..n_tokens;
            let d_scores = columns(&scratch.d_scores[from..], stride, block.len());
            let d_k = &mut gradients.k[to..];
            let (queries, steps) = (&scratch.queries, seen_by.clone());
            product(isa, d_scores, queries, steps, head_dim, d_k, kv_dim, Start::Add);
            let shares = columns(&shares[from..], stride, block.len());
            let d_v = &mut gradients.v[to..];
            product(isa, shares, &scratch.d_out, seen_by, head_dim, d_v, kv_dim, Start::Add);
        }
    }
}

fn factor(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}
