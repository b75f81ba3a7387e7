//! Merging: one adapter from several, by a formula and without a utility.
//!
//! `linear`, `slerp`, `ties`, `dare` and `stock` hold the formulas, on plain tensors; `method`
//! names them and their parameters; `spaces` applies one to whole experts. What is merged is the
//! reader's choice of space: each factor A and B on its own, the updates scale * B A, or the base's
//! weights with the update added. The three give different models.
//!
//! Sums and norms run in f64 in the order of the elements, and each result is rounded to f32 once.

mod dare;
mod layers;
mod linear;
mod method;
mod slerp;
mod spaces;
mod stock;
mod ties;
mod updates;

pub use dare::{Rescale, dare_ties, drawn_mask};
pub use layers::{layer_of, merge_layers, n_layers};
pub use linear::{Divide, authors_linear, linear};
pub use method::{DareTies, Masks, Method, Ties};
pub use slerp::{cosine, slerp, slerp_shares};
pub use spaces::{BaseOf, Form, Merged, Space, full_rank, merge};
pub use stock::{Grain, model_stock, stock_share};
pub use ties::{Election, ties, trimmed};
pub use updates::{inner_product, update};

/// One tensor of every expert, and of the base that they are seen from.
#[derive(Clone, Copy, Debug)]
pub struct Tensors<'a> {
    /// One per expert, all of one length; row-major.
    pub experts: &'a [&'a [f32]],
    /// As long as each of them; zeros where absent.
    pub base: Option<&'a [f32]>,
}

impl<'a> Tensors<'a> {
    /// The experts' tensors, which must be one or more and of one length, with zeros as their base.
    pub fn new(experts: &'a [&'a [f32]]) -> Self {
        let Some(first) = experts.first() else { panic!("a merge wants at least one tensor") };
        let lens: Vec<usize> = experts.iter().map(|tensor| tensor.len()).collect();
        assert!(lens.iter().all(|&len| len == first.len()), "tensors of lengths {lens:?}");
        Self { experts, base: None }
    }

    /// The same tensors, seen from `base`.
    pub fn from_base(self, base: &'a [f32]) -> Self {
        assert_eq!(base.len(), self.len(), "the base's tensor must be as long as the experts'");
        Self { base: Some(base), ..self }
    }

    /// Elements of each tensor.
    fn len(&self) -> usize {
        self.experts[0].len()
    }

    /// The base's element `i`.
    fn base_at(&self, i: usize) -> f64 {
        self.base.map_or(0.0, |base| f64::from(base[i]))
    }

    /// How far an expert's element `i` is from the base's.
    fn offset(&self, expert_idx: usize, i: usize) -> f64 {
        f64::from(self.experts[expert_idx][i]) - self.base_at(i)
    }
}
