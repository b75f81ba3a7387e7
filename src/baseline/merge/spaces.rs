//! A method applied to whole experts, in one of three spaces, and the adapter that comes of it.
//!
//! - `Factor`: to every A and B on its own. The sums of factors multiply, so that the update has
//!   terms B_i A_j between experts.
//! - `Delta`: to the updates dW = scale * B A. What comes out as a weighted sum of them is exact at
//!   the sum of the ranks: A' is all A's on top of each other, B' all w_i B_i side by side. Where
//!   it does not, dW' itself is the one factor and the identity the other.
//! - `Full`: to W0 + dW, W0 being the base's weights. What comes out, less W0, is an update again.
//!   For all methods but slerp this is `Delta` up to rounding.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::Tensors;
use super::linear::Divide;
use super::method::Method;
use super::slerp::{cosine, slerp_shares};
use super::stock::{Grain, stock_share};
use super::updates::{inner_product, update};
use crate::adapter::{Adapter, Config, Expert, Layout, Likeness, ModuleLayout, check_alike};
use crate::error::{Error, Result};
use crate::tensors::Dtype;

/// The base's weights of a module: (d_out, d_in), row-major, all finite.
pub type BaseOf<'a> = &'a (dyn Fn(&ModuleLayout) -> Result<Vec<f32>> + Sync);

/// What a method is applied to.
#[derive(Clone, Copy)]
pub enum Space<'a> {
    /// Every A and B on its own. The experts must share ranks and scales.
    Factor,
    /// The updates.
    Delta,
    /// The base's weights with the update added.
    Full(BaseOf<'a>),
}

/// How the merged update is written as an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A and B are merged factors, of the experts' ranks.
    Factors,
    /// The experts' factors beside each other: exactly the merged update.
    Concatenated,
    /// The merged update beside an identity: exactly the merged update, of full rank.
    Dense,
}

/// What a merge makes.
#[derive(Debug)]
pub struct Merged {
    /// The adapter.
    pub adapter: Adapter,
    /// Its configuration.
    pub config: Config,
    /// The type to save it in: that of the experts' factors, or F32 for an exact update.
    pub dtype: Dtype,
    /// How it is written.
    pub form: Form,
}

/// An update of full rank larger than this is refused, in bytes: its factors are made in memory.
const MAX_DENSE_BYTES: usize = 16 << 30;

/// Merges the experts, at least one, in their order.
///
/// # Errors
/// Parameters that the method cannot use; experts that cannot be merged in this space; a base
/// without the adapted weights; an update of full rank above 16 GiB.
pub fn merge(experts: &[Expert], method: &Method, space: Space) -> Result<Merged> {
    method.check(experts.len())?;
    match space {
        Space::Factor => {
            check_alike(experts, Likeness::Factors)?;
            merge_factors(experts, method)
        }
        Space::Delta => {
            check_alike(experts, Likeness::Updates)?;
            match Shares::of(method) {
                Some(shares) => concatenate(experts, &shares),
                None => merge_updates(experts, method, None),
            }
        }
        Space::Full(base) => {
            check_alike(experts, Likeness::Updates)?;
            merge_updates(experts, method, Some(base))
        }
    }
}

fn merge_factors(experts: &[Expert], method: &Method) -> Result<Merged> {
    let layout = experts[0].layout();
    let mut adapter = Adapter::zeros(layout.clone());
    let merge_half = |name: String, n_cols, tensors: Vec<Vec<f32>>, out: &mut [f32]| {
        let tensors: Vec<&[f32]> = tensors.iter().map(Vec::as_slice).collect();
        out.copy_from_slice(&method.merge(&name, n_cols, Tensors::new(&tensors)));
    };
    halves_mut(&mut adapter).into_par_iter().enumerate().for_each(|(module_idx, [a, b])| {
        let module = &layout.modules[module_idx];
        let of_all = |half: fn(&Expert, usize) -> Vec<f32>| {
            experts.iter().map(|expert| half(expert, module_idx)).collect()
        };
        let all_a = of_all(|expert, idx| expert.a(idx).to_f32());
        merge_half(module.a_name(), module.d_in, all_a, a);
        let all_b = of_all(|expert, idx| expert.b(idx).to_f32());
        merge_half(module.b_name(), module.rank, all_b, b);
    });
    let first = experts[0].dtype();
    let is_common = experts.iter().all(|expert| expert.dtype() == first);
    let dtype = if is_common { first } else { Dtype::F32 };
    Ok(Merged { adapter, config: config_of(experts).clone(), dtype, form: Form::Factors })
}

/// Methods whose result is a weighted sum of the updates.
enum Shares<'a> {
    Given(&'a [f64], Divide),
    Slerp(f64),
    Stock,
}

impl<'a> Shares<'a> {
    fn of(method: &'a Method) -> Option<Self> {
        match method {
            Method::Linear { weights, divide } => Some(Self::Given(weights, *divide)),
            Method::Slerp { t } => Some(Self::Slerp(*t)),
            Method::ModelStock { grain: Grain::Tensor } => Some(Self::Stock),
            Method::ModelStock { grain: Grain::Row } | Method::Ties(_) | Method::DareTies(_) => {
                None
            }
        }
    }

    /// What of each expert's update of a module makes the merged one.
    fn in_module(&self, experts: &[Expert], module_idx: usize) -> Vec<f64> {
        let product =
            |left: usize, right: usize| inner_product(&experts[left], &experts[right], module_idx);
        match self {
            Self::Given(weights, Divide::ByNothing) => weights.to_vec(),
            Self::Given(weights, Divide::ByWeights) => {
                let sum: f64 = weights.iter().sum();
                weights.iter().map(|weight| weight / sum).collect()
            }
            Self::Slerp(t) => {
                let cosine = cosine([product(0, 0), product(0, 1), product(1, 1)]);
                slerp_shares(cosine, *t).to_vec()
            }
            Self::Stock => {
                let n_experts = experts.len();
                vec![stock_share(n_experts, product) / n_experts as f64; n_experts]
            }
        }
    }
}

/// The weighted sum of the updates, at the sum of the ranks. The scale of each module is the first
/// expert's; where another's is different, its B takes the quotient in.
fn concatenate(experts: &[Expert], shares: &Shares) -> Result<Merged> {
    let modules = experts[0].layout().modules.iter().enumerate().map(|(module_idx, module)| {
        let rank = experts.iter().map(|expert| expert.layout().modules[module_idx].rank).sum();
        let scale = if module.scale == 0.0 { 1.0 } else { module.scale };
        ModuleLayout::new(&module.name, rank, module.d_in, module.d_out, scale)
    });
    let layout = Arc::new(Layout::new(modules.collect()));
    let mut adapter = Adapter::zeros(layout.clone());
    halves_mut(&mut adapter).into_par_iter().enumerate().for_each(|(module_idx, [a, b])| {
        let module = &layout.modules[module_idx];
        let shares = shares.in_module(experts, module_idx);
        let mut first_row = 0; // of A, and the first column of B
        for (expert, share) in experts.iter().zip(shares) {
            let theirs = &expert.layout().modules[module_idx];
            let factor = share * f64::from(theirs.scale) / f64::from(module.scale);
            expert.a(module_idx).read_f32(0, &mut a[first_row * module.d_in..][..theirs.a.len()]);
            let their_b = expert.b(module_idx).to_f32();
            let rows = b.chunks_exact_mut(module.rank).zip(their_b.chunks_exact(theirs.rank));
            for (row, their_row) in rows {
                let row = &mut row[first_row..][..theirs.rank];
                for (to, from) in row.iter_mut().zip(their_row) {
                    *to = (factor * f64::from(*from)) as f32;
                }
            }
            first_row += theirs.rank;
        }
    });
    let config = config_for(experts, &layout)?;
    Ok(Merged { adapter, config, dtype: Dtype::F32, form: Form::Concatenated })
}

/// The method applied to updates as they are, or added to the base.
fn merge_updates(experts: &[Expert], method: &Method, base: Option<BaseOf>) -> Result<Merged> {
    let Some(layout) = full_rank(experts[0].layout()) else {
        let most = MAX_DENSE_BYTES >> 30;
        let what = format!("the merged update is of full rank and larger than {most} GiB");
        return Err(Error::input(experts[0].dir(), what));
    };
    let layout = Arc::new(layout);
    let mut adapter = Adapter::zeros(layout.clone());
    // One module after another, since each takes all experts' updates at once.
    for (module_idx, [a, b]) in halves_mut(&mut adapter).into_iter().enumerate() {
        let module = &layout.modules[module_idx];
        let base = base.map(|base| base(module)).transpose()?;
        let base = base.as_deref();
        let updates: Vec<Vec<f32>> =
            experts.iter().map(|expert| update(expert, module_idx, base)).collect();
        let updates: Vec<&[f32]> = updates.iter().map(Vec::as_slice).collect();
        let tensors = match base {
            Some(base) => Tensors::new(&updates).from_base(base),
            None => Tensors::new(&updates),
        };
        let mut merged = method.merge(&format!("{}.weight", module.name), module.d_in, tensors);
        if let Some(base) = base {
            merged.iter_mut().zip(base).for_each(|(merged, base)| *merged -= base);
        }
        let (dense, identity) = if module.d_in <= module.d_out { (b, a) } else { (a, b) };
        dense.copy_from_slice(&merged);
        identity.iter_mut().step_by(module.rank + 1).for_each(|diagonal| *diagonal = 1.0);
    }
    let config = config_for(experts, &layout)?;
    Ok(Merged { adapter, config, dtype: Dtype::F32, form: Form::Dense })
}

/// The layout of updates of full rank; none where it would take more than 16 GiB.
pub fn full_rank(layout: &Layout) -> Option<Layout> {
    let modules = layout.modules.iter().map(|module| {
        let rank = module.d_in.min(module.d_out);
        ModuleLayout::new(&module.name, rank, module.d_in, module.d_out, 1.0)
    });
    let modules: Vec<ModuleLayout> = modules.collect();
    let n_bytes = modules.iter().try_fold(0usize, |sum, module| {
        let n_elements = module.d_in.checked_add(module.d_out)?.checked_mul(module.rank)?;
        sum.checked_add(n_elements.checked_mul(size_of::<f32>())?)
    })?;
    (n_bytes <= MAX_DENSE_BYTES).then(|| Layout::new(modules))
}

/// A and B of every module, in the order of the layout.
fn halves_mut(adapter: &mut Adapter) -> Vec<[&mut [f32]; 2]> {
    let layout = adapter.layout.clone();
    let mut rest: &mut [f32] = &mut adapter.data;
    let mut take = |range: &Range<usize>| {
        let (half, after) = std::mem::take(&mut rest).split_at_mut(range.len());
        rest = after;
        half
    };
    layout.modules.iter().map(|module| [take(&module.a), take(&module.b)]).collect()
}

/// The first configuration that names the base, or the first.
fn config_of(experts: &[Expert]) -> &Config {
    let named = experts.iter().find(|expert| expert.config().base.is_some());
    named.unwrap_or(&experts[0]).config()
}

fn config_for(experts: &[Expert], layout: &Layout) -> Result<Config> {
    let refuse = |what: String| Error::input(experts[0].dir(), what);
    config_of(experts).resized(layout).map_err(refuse)
}
