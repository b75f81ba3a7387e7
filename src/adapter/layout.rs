//! Where each A and B lies in an adapter's flat vector, and the reading of it from a file.
//!
//! Modules are sorted by name, with layer numbers taken as numbers; of each, A comes before B. The
//! file's tensors must be exactly those of the layout.

use std::collections::BTreeSet;
use std::ops::Range;

use super::config::Config;
use super::pool::Likeness;
use crate::error::{Error, Result};
use crate::tensors::{Slot, Tensors};

const PREFIX: &str = "base_model.model.";
const SUFFIX_A: &str = ".lora_A.weight";
const SUFFIX_B: &str = ".lora_B.weight";

/// One adapted linear layer.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleLayout {
    /// As the base model names it: `model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// r, the rank of this module's update.
    pub rank: usize,
    /// Inputs of the linear layer.
    pub d_in: usize,
    /// Outputs of the linear layer.
    pub d_out: usize,
    /// What B A x is multiplied by.
    pub scale: f32,
    /// A in the flat vector: (rank, d_in), row-major.
    pub a: Range<usize>,
    /// B in the flat vector: (d_out, rank), row-major.
    pub b: Range<usize>,
}

impl ModuleLayout {
    /// A module that has no place yet: [`Layout::new`] gives it one.
    pub fn new(
        name: impl Into<String>,
        rank: usize,
        d_in: usize,
        d_out: usize,
        scale: f32,
    ) -> Self {
        Self { name: name.into(), rank, d_in, d_out, scale, a: 0..0, b: 0..0 }
    }

    /// The name of A's tensor in a file.
    pub fn a_name(&self) -> String {
        a_name(&self.name)
    }

    /// The name of B's tensor in a file.
    pub fn b_name(&self) -> String {
        format!("{PREFIX}{}{SUFFIX_B}", self.name)
    }
}

/// All adapted layers of an adapter, and where their weights lie in its flat vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// Sorted by name, layer numbers numerically.
    pub modules: Vec<ModuleLayout>,
    /// The length of the flat vector, in elements.
    pub len: usize,
}

impl Layout {
    /// Sorts `modules` and gives each its place.
    pub fn new(mut modules: Vec<ModuleLayout>) -> Self {
        modules.sort_by(|left, right| sort_key(&left.name).cmp(&sort_key(&right.name)));
        let mut len = 0;
        let mut take = |n_elements: usize| {
            len += n_elements;
            len - n_elements..len
        };
        for module in &mut modules {
            module.a = take(module.rank * module.d_in);
            module.b = take(module.d_out * module.rank);
        }
        Self { modules, len }
    }

    /// The first difference from `other`, as "what is ours, what is theirs" of some module, in what
    /// must be alike.
    pub(super) fn first_difference(&self, other: &Self, likeness: Likeness) -> Option<Difference> {
        let names = |layout: &Self| -> BTreeSet<String> {
            layout.modules.iter().map(|module| module.name.clone()).collect()
        };
        let (our_names, their_names) = (names(self), names(other));
        if let Some(name) = our_names.symmetric_difference(&their_names).next() {
            let state = |adapted| if adapted { "adapted" } else { "not adapted" }.to_string();
            let (ours, theirs) = (our_names.contains(name), their_names.contains(name));
            return Some(Difference::new("targets", name, state(ours), state(theirs)));
        }
        self.modules.iter().zip(&other.modules).find_map(|(ours, theirs)| {
            let differ = |what, ours: String, theirs: String, name| {
                (ours != theirs).then(|| Difference::new(what, name, ours, theirs))
            };
            let shape = |module: &ModuleLayout| format!("({}, {})", module.d_out, module.d_in);
            let name = &ours.name;
            let of_shape = || differ("shape", shape(ours), shape(theirs), name);
            match likeness {
                Likeness::Updates => of_shape(),
                Likeness::Factors => {
                    let (our_scale, their_scale) = (ours.scale, theirs.scale);
                    differ("rank", ours.rank.to_string(), theirs.rank.to_string(), name)
                        .or_else(of_shape)
                        .or_else(|| {
                            differ("scale", our_scale.to_string(), their_scale.to_string(), name)
                        })
                }
            }
        })
    }

    /// The layout of a file, and where A and B of each module lie in it. Refused: a tensor that is
    /// not LoRA's A or B of a linear layer, an A without its B, a rank that is not the
    /// configuration's, a module that the configuration does not select.
    pub(super) fn read(tensors: &Tensors, config: &Config) -> Result<(Self, Vec<[Slot; 2]>)> {
        let refuse = |what: String| Error::input(tensors.path(), what);
        let mut names = BTreeSet::new();
        for tensor in tensors.names() {
            let module = module_of(tensor).ok_or_else(|| {
                refuse(format!(
                    "tensor {tensor:?} is not LoRA of a linear layer, wanted names of the form \
                     {PREFIX}MODULE{SUFFIX_A} and {SUFFIX_B}"
                ))
            })?;
            names.insert(module);
        }
        if names.is_empty() {
            return Err(refuse("no tensors, wanted LoRA weights".to_string()));
        }
        config.check_modules(&names.iter().copied().collect::<Vec<_>>()).map_err(refuse)?;

        let read_module = |name: &&str| {
            let (rank, scale) = config.rank_and_scale(name).map_err(refuse)?;
            let d_in = dim(tensors, &a_name(name), 1)?;
            let mut module = ModuleLayout::new(*name, rank, d_in, 0, scale);
            module.d_out = dim(tensors, &module.b_name(), 0)?;
            check_rank(tensors, &module)?;
            Ok(module)
        };
        let layout = Self::new(names.iter().map(read_module).collect::<Result<_>>()?);
        let find = |module: &ModuleLayout| {
            let a = tensors.find(&module.a_name(), &[module.rank, module.d_in])?;
            let b = tensors.find(&module.b_name(), &[module.d_out, module.rank])?;
            Ok([a, b])
        };
        let slots = layout.modules.iter().map(find).collect::<Result<_>>()?;
        Ok((layout, slots))
    }
}

/// What two layouts disagree about.
#[derive(Debug)]
pub(super) struct Difference {
    pub what: &'static str,
    pub module: String,
    pub ours: String,
    pub theirs: String,
}

impl Difference {
    fn new(what: &'static str, module: &str, ours: String, theirs: String) -> Self {
        Self { what, module: module.to_string(), ours, theirs }
    }
}

fn a_name(module: &str) -> String {
    format!("{PREFIX}{module}{SUFFIX_A}")
}

/// The module whose A or B a tensor is, by its name.
fn module_of(tensor: &str) -> Option<&str> {
    let name = tensor.strip_prefix(PREFIX)?;
    let module = name.strip_suffix(SUFFIX_A).or_else(|| name.strip_suffix(SUFFIX_B))?;
    (!module.is_empty()).then_some(module)
}

/// The size along `axis` of a tensor that must exist and have two dimensions, neither of them 0.
fn dim(tensors: &Tensors, name: &str, axis: usize) -> Result<usize> {
    let refuse = |what: String| Err(Error::input(tensors.path(), what));
    match tensors.shape(name) {
        None => refuse(format!("no tensor {name:?}, while its other half is there")),
        Some(shape) if shape.len() != 2 || shape.contains(&0) => {
            refuse(format!("tensor {name:?} has shape {shape:?}, wanted two dimensions"))
        }
        Some(shape) => Ok(shape[axis]),
    }
}

/// Both halves must have the configuration's rank; said in the words of the configuration.
fn check_rank(tensors: &Tensors, module: &ModuleLayout) -> Result<()> {
    for (name, axis) in [(module.a_name(), 0), (module.b_name(), 1)] {
        let found = dim(tensors, &name, axis)?;
        let wanted = module.rank;
        if found != wanted {
            let what = format!(
                "tensor {name:?} has rank {found}, wanted {wanted} by r and rank_pattern of the \
                 configuration"
            );
            return Err(Error::input(tensors.path(), what));
        }
    }
    Ok(())
}

/// Names in the order of their parts between dots, numbers by value and before words.
fn sort_key(name: &str) -> (Vec<Part<'_>>, &str) {
    let part = |text| match str::parse(text) {
        Ok(number) => Part::Number(number),
        Err(_) => Part::Word(text),
    };
    (name.split('.').map(part).collect(), name)
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Number(u64),
    Word(&'a str),
}
