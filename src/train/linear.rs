//! A linear layer under training: its weight packed for both directions, merged with an adapter.

use super::optimizer::Flat;
use super::product::{Left, Order, Panels, Start, product};
use crate::backend::cpu::Isa;
use crate::backend::cpu::ops::scale;

/// An adapter beside fixed weights. It stands for `W + scale B A` in each linear layer.
#[derive(Clone, Copy)]
pub struct Lora<'a> {
    /// `model.layers.0.mlp.up_proj` -> A (rank, n_in).
    pub a: &'a Flat,
    /// The same -> B (n_out, rank).
    pub b: &'a Flat,
    /// Rows of A.
    pub rank: usize,
    /// alpha / rank, or what stands in for it at this step.
    pub scale: f32,
}

/// `y = x W^T`
pub(super) struct Linear {
    pub name: String, // of what learns: the weight, or the layer whose B does
    pub n_out: usize,
    pub n_in: usize,
    pub forward: Panels,   // W^T
    pub backward: Panels,  // W
    pub a: Option<Panels>, // A^T, where an adapter learns
}

impl Linear {
    pub fn new(name: String, weight: &[f32], (n_out, n_in): (usize, usize)) -> Self {
        let (mut forward, mut backward) = (Panels::default(), Panels::default());
        forward.pack_transposed(weight, n_in, (n_in, n_out));
        backward.pack(weight, n_in, (n_out, n_in));
        Self { name, n_out, n_in, forward, backward, a: None }
    }

    /// `weight + scale B A`
    pub fn adapted(
        isa: Isa,
        name: String,
        weight: &[f32],
        shape: (usize, usize),
        lora: Lora,
    ) -> Self {
        let ((n_out, n_in), rank) = (shape, lora.rank);
        let mut a = Panels::default();
        a.pack(&lora.a[&name], n_in, (rank, n_in));
        let mut b = lora.b[&name].clone();
        scale(isa, &mut b, lora.scale);
        let mut weight = weight.to_vec();
        let b = Left { data: &b, stride: rank, order: Order::Rows, n_rows: n_out };
        product(isa, b, &a, 0..rank, n_in, &mut weight, n_in, Start::Add);
        a.pack_transposed(&lora.a[&name], n_in, (n_in, rank));
        Self { a: Some(a), ..Self::new(name, &weight, shape) }
    }

    /// `y (+)= x W^T` for the rows of x (n_rows, n_in).
    pub fn apply(&self, isa: Isa, x: &[f32], y: &mut [f32], start: Start) {
        let Self { n_out, n_in, .. } = *self;
        let n_rows = x.len() / n_in;
        let x = Left { data: x, stride: n_in, order: Order::Rows, n_rows };
        product(isa, x, &self.forward, 0..n_in, n_out, y, n_out, start);
    }
}
