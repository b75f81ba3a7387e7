//! PEFT LoRA adapters: an expert's folder, a pool of them, and a finished adapter on its way to
//! disk.
//!
//! A LoRA of rank r adds `scale * B A x` to what a linear layer makes of x, with A of shape
//! (r, d_in), B of shape (d_out, r) and scale = alpha / r, or alpha / sqrt(r) with rsLoRA. All A's
//! and B's in the order of the [`Layout`] make the flat vector on which the paper's Algorithm 1
//! does its arithmetic. Whatever PEFT can do beyond this is refused by name (`config`), so that an
//! adapter that opens here means the same here and there. This room knows no base model: whether
//! the modules exist in it is for the model to say.

mod config;
mod expert;
mod layout;
mod materialise;
mod norms;
mod patterns;
mod pool;
mod resize;
mod save;
mod targets;

pub use config::{Config, Scaling};
pub use expert::Expert;
pub use layout::{Layout, ModuleLayout};
pub use materialise::{halves, materialise, materialise_into, rounded};
pub use norms::adapter_norm;
pub use pool::{Likeness, Pool, check_alike, folders};
pub use save::{Adapter, check_place, save};
