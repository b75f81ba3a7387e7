//! Does what is published agree with itself? The paper's sentences with its tables (`paper`), and
//! data files with themselves and each other (`data`). How a report is printed is not known here.

pub mod data;
mod findings;
pub mod paper;
