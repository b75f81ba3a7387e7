//! Correctness levels, C-surge and C-emerge (section 5, Figure 2).
//!
//! A question has a level before and one after the search, by how many particles answer it rightly.
//! C-surge is the share of questions that rose; C-emerge the share of those that nobody could
//! answer and somebody now can.

/// How many of the particles answer a question rightly; in the order of Figure 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All of them.
    All,
    /// More than half.
    MoreThanHalf,
    /// Less than half.
    LessThanHalf,
    /// None.
    None,
}

/// What exactly half counts as; the paper does not say, and N = 20 is even.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Half {
    /// Not more than half: the paper's level 2, since its level 3 is "more than half correct".
    #[default]
    Down,
    /// The paper's level 3.
    Up,
}

/// The level of a question that `n_right` of `n` particles answer rightly.
///
/// # Panics
/// If there is no particle, or more are right than there are.
pub fn level(n_right: usize, n: usize, half: Half) -> Level {
    assert!(n > 0 && n_right <= n, "{n_right} right of {n}");
    let more_than_half = match half {
        Half::Down => n_right > n / 2,
        Half::Up => n_right >= n - n / 2,
    };
    match n_right {
        0 => Level::None,
        _ if n_right == n => Level::All,
        _ if more_than_half => Level::MoreThanHalf,
        _ => Level::LessThanHalf,
    }
}

/// How many questions went from which level (row) to which (column), both in the order of `Level`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transitions {
    /// `counts[pre][post]`.
    pub counts: [[u64; 4]; 4],
    /// Questions that exactly half answered, before or after: `Half` decides about them.
    pub n_half: u64,
}

impl Transitions {
    /// From the number of right answers to each question, of `n_pre` particles before and `n_post`
    /// after the search.
    ///
    /// # Panics
    /// If the lists differ in length, or a count is above the number of particles.
    pub fn of(pre: &[usize], n_pre: usize, post: &[usize], n_post: usize, half: Half) -> Self {
        assert_eq!(pre.len(), post.len(), "the same questions before and after");
        let mut transitions = Self { counts: [[0; 4]; 4], n_half: 0 };
        for (&before, &after) in pre.iter().zip(post) {
            let (from, to) = (level(before, n_pre, half), level(after, n_post, half));
            transitions.counts[from as usize][to as usize] += 1;
            let is_half = |n_right: usize, n: usize| n.is_multiple_of(2) && n_right == n / 2;
            transitions.n_half += u64::from(is_half(before, n_pre) || is_half(after, n_post));
        }
        transitions
    }

    /// The share of questions whose level rose; `None` without questions.
    pub fn surge(&self) -> Option<f64> {
        let rose = (0..4).flat_map(|pre| &self.counts[pre][..pre]).sum();
        share(rose, self.counts.iter().flatten().sum())
    }

    /// Of the questions that no particle answered before: the share that one did after. `None`
    /// where there is no such question.
    pub fn emerge(&self) -> Option<f64> {
        let of_none = &self.counts[Level::None as usize];
        share(of_none[..Level::None as usize].iter().sum(), of_none.iter().sum())
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
