//! The paper's statistics: tests, correctness levels, entropies, and the authors' vote.
//!
//! Everything is a pure function of counts, scores and answers; where they come from is not known
//! here. No function of the C library is used, so a table of p-values has the same bits everywhere.

mod levels;
mod significance;
mod summary;
mod vote;

pub use levels::{Half, Level, Transitions, level};
pub use significance::{
    McNemar, SIGN_DRAWS, ZTest, mcnemar, normal_tail, one_tailed_z, paired, stars, wilson,
};
pub use summary::{Entropy, Summary, entropy, pearson, summarize};
pub use vote::authors_vote;
