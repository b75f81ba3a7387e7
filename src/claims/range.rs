//! A number that is known up to a range: a printed cell up to its rounding, a measured one up to
//! its sample. Arithmetic keeps all that could be true.

use serde::Serialize;

/// A number and the least and the largest that it could be; `low <= value <= high`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    /// The least it could be.
    pub low: f64,
    /// What is taken for it.
    pub value: f64,
    /// The largest it could be.
    pub high: f64,
}

/// Whether something is so of a range: of each number in it, of its value, of some number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    /// Of each.
    pub certain: bool,
    /// Of the value.
    pub taken: bool,
    /// Of some.
    pub possible: bool,
}

impl Range {
    /// A number without doubt, such as a count.
    pub fn exact(value: f64) -> Self {
        Self { low: value, value, high: value }
    }

    /// A number printed with so many digits after the point.
    pub fn printed(value: f64, digits: usize) -> Self {
        let reach = (0..digits).fold(0.5, |reach, _| reach / 10.0);
        Self { low: value - reach, value, high: value + reach }
    }

    /// What an increasing `f` makes of it.
    pub fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self { low: f(self.low), value: f(self.value), high: f(self.high) }
    }

    /// The larger of two.
    pub fn max(self, other: Self) -> Self {
        self.with(other, f64::max)
    }

    /// The smaller of two.
    pub fn min(self, other: Self) -> Self {
        self.with(other, f64::min)
    }

    /// The sum of two.
    pub fn plus(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }

    /// How many percent this lies above `base`; `None` if `base` could be 0 or less.
    pub fn gain_over(self, base: Self) -> Option<Self> {
        let gain = |a: f64, b: f64| 100.0 * (a / b - 1.0);
        let low = if self.low < 0.0 { base.low } else { base.high };
        let high = if self.high < 0.0 { base.high } else { base.low };
        (base.low > 0.0).then(|| Self {
            low: gain(self.low, low),
            value: gain(self.value, base.value),
            high: gain(self.high, high),
        })
    }

    /// The mean of some numbers that do not depend on each other; `None` of none.
    pub fn mean(of: &[Self]) -> Option<Self> {
        let n = of.len() as f64;
        let sum = of.iter().copied().reduce(Self::plus)?;
        Some(sum.map(|sum| sum / n))
    }

    /// Whether it is `other` or more.
    pub fn at_least(self, other: Self) -> Truth {
        Truth {
            certain: self.low >= other.high,
            taken: self.value >= other.value,
            possible: self.high >= other.low,
        }
    }

    /// How many of `truths` are so.
    pub fn count(truths: impl IntoIterator<Item = Truth>) -> Self {
        let none = Self::exact(0.0);
        truths.into_iter().fold(none, |count, truth| Self {
            low: count.low + f64::from(u8::from(truth.certain)),
            value: count.value + f64::from(u8::from(truth.taken)),
            high: count.high + f64::from(u8::from(truth.possible)),
        })
    }

    fn with(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            low: f(self.low, other.low),
            value: f(self.value, other.value),
            high: f(self.high, other.high),
        }
    }
}

impl Truth {
    /// Whether both are so; exact where the two do not depend on each other.
    pub fn and(self, other: Self) -> Self {
        Self {
            certain: self.certain && other.certain,
            taken: self.taken && other.taken,
            possible: self.possible && other.possible,
        }
    }
}
