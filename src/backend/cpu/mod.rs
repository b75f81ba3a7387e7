//! The CPU backend: the same bits from AVX-512, AVX2 and scalar code.
//!
//! Two rules make a result independent of the instruction set, of the batch and of the thread
//! count:
//! - a matrix product runs over its inner dimension in order, one fused multiply-add per step,
//!   and is vectorised across outputs (`gemm`, `attention`);
//! - a reduction along a row (sum of squares, softmax denominator) keeps sixteen partial sums,
//!   element `i` going to sum `i % 16`, and folds them 16 -> 8 -> 4 -> 2 -> 1 (`ops`).
//!
//! Elementwise functions are written once over plain arrays and compiled for each instruction set;
//! `f32::mul_add` rounds once everywhere, so the three compilations agree bit for bit.

pub mod attention;
pub mod buffer;
pub mod combine;
pub mod device;
pub mod gemm;
mod gemm_tiles;
pub mod low_rank;
pub mod math;
pub mod ops;
pub mod packed;

use crate::error::{Error, Result};

/// The environment variable that forces an instruction set: `avx512`, `avx2` or `scalar`.
pub const ISA_VARIABLE: &str = "MODEL_SWARMS_ISA";

/// An instruction set that the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// 512-bit vectors.
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// Portable code.
    Scalar,
}

impl Isa {
    /// The widest instruction set that this machine has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq");
            if avx2 && avx512 {
                return Self::Avx512;
            }
            if avx2 {
                return Self::Avx2;
            }
        }
        Self::Scalar
    }

    /// The instruction set named by `MODEL_SWARMS_ISA`, or else the widest one.
    ///
    /// # Errors
    /// The variable holds an unknown name, or one that this machine does not have.
    pub fn from_environment() -> Result<Self> {
        let Ok(wanted) = std::env::var(ISA_VARIABLE) else { return Ok(Self::detect()) };
        let widest = Self::detect();
        match (wanted.as_str(), widest) {
            ("avx512", Self::Avx512) => Ok(Self::Avx512),
            ("avx2", Self::Avx512 | Self::Avx2) => Ok(Self::Avx2),
            ("scalar", _) => Ok(Self::Scalar),
            ("avx512" | "avx2", _) => Err(Error::Usage(format!(
                "{ISA_VARIABLE}={wanted}: this machine has only {widest:?}"
            ))),
            _ => Err(Error::Usage(format!(
                "{ISA_VARIABLE}={wanted}: expected avx512, avx2 or scalar"
            ))),
        }
    }
}

/// Compiles the body of a function once for each instruction set and adds a function of the given
/// name that chooses between them by its first argument, an [`Isa`].
macro_rules! for_each_isa {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block
    ) => {
        $(#[$doc])*
        $vis fn $name(isa: $crate::backend::cpu::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }

            match isa {
                // SAFETY: an `Isa` other than `Scalar` exists only where the machine has it.
                #[cfg(target_arch = "x86_64")]
                $crate::backend::cpu::Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::backend::cpu::Isa::Avx2 => unsafe { avx2($($arg),*) },
                _ => body($($arg),*),
            }
        }
    };
}
pub(crate) use for_each_isa;
