//! Algorithm 1 of the paper as arithmetic on locations. Knows no models, tasks or devices.
//!
//! Start with [`Search`]: the loop. Then [`Settings`] (every choice, with the defaults of both
//! modes), [`Space`] (what a location is), [`Journal`] (a run that can be killed and resumed) and
//! [`modular`] (experts that come and go).

mod chance;
mod journal;
pub mod modular;
mod record;
mod recording;
mod search;
pub mod settings;
mod space;
mod start;
mod walk;
mod weights;

pub use crate::mode::Mode;
pub use chance::{Chance, Recorded};
pub use journal::{Journal, Start};
pub use record::{FoundLocation, IterationRecord, Origin, Outcome, StopReason};
pub use recording::{Header, Recording};
pub use search::Search;
pub use settings::Settings;
pub use space::{Coefficients, Space};
pub use weights::Weights;
