//! Whose description of the method is followed: every room that knows a difference asks this.

use serde::{Deserialize, Serialize};

/// Which of the two descriptions of the method is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The paper's text; where it is silent, what is sound.
    Paper,
    /// The authors' published program.
    Code,
}

impl Mode {
    /// Both modes.
    pub const ALL: [Self; 2] = [Self::Paper, Self::Code];

    /// The name on the command line: `paper` or `code`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Code => "code",
        }
    }
}
