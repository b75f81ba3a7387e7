//! A product with what adapters add to it, in either precision.

use super::driver::Driver;
use super::memory::{Matrix, Update, Weights};
use super::ops::{Ops, is_fast};
use super::rows::Rows;
use crate::error::Result;
use crate::tensors::Dtype;

/// `out = x W^T`
pub struct Product<'a, D: Driver> {
    pub x: &'a Matrix<D>,
    pub weights: &'a Weights<D>,
    pub out: &'a Matrix<D>,
}

/// What is kept between two kernels of a product.
pub struct Between<D: Driver> {
    /// A x: in precision fast (n_slots * n_parts, 128 * depth), else (n_rows, rank).
    pub shrunk: Matrix<D>,
    /// Of several blocks that share a sum: (n_splits * n_slots * n_parts, 128 * depth).
    pub split_sums: Matrix<D>,
}

impl<D: Driver> Default for Between<D> {
    fn default() -> Self {
        Self { shrunk: Matrix::default(), split_sums: Matrix::default() }
    }
}

impl<D: Driver> Ops<'_, D> {
    /// `out = x W^T`, and what its adapter adds to each row.
    pub fn product(
        &self,
        product: Product<D>,
        update: Option<(&Update<D>, &Rows<D>)>,
        between: &mut Between<D>,
    ) -> Result<()> {
        let Product { x, weights, out } = product;
        match update {
            None if is_fast(x) => self.fast_product(product, None, between),
            None => self.exact_product(product),
            Some((Update::Fast(prepared), rows)) => {
                self.fast_product(product, Some((prepared, rows)), between)
            }
            Some((Update::Exact(factors), rows)) => {
                self.exact_product(product)?;
                let shrunk = &mut between.shrunk;
                for factor in factors {
                    shrunk.reshape(self.0, Dtype::F32, x.n_rows, factor.rank)?;
                    let start = weights.start(factor.part_idx);
                    self.add_update(x, factor, rows, shrunk, out, start)?;
                }
                Ok(())
            }
        }
    }
}
