//! The mini testbed: a small world with all that the paper's experiments had, made from a seed.
//!
//! A language of invented words, people who know some of its areas, questions about them in the
//! form of the paper's tasks, and the text from which a base model and ten experts are trained. No
//! model is run here, and nothing here is chosen by what a search makes of it.

pub mod data;
pub mod documents;
mod draw;
pub mod experts;
pub mod items;
mod phrases;
pub mod shipped;
pub mod tokenizer;
pub mod vocabulary;
pub mod words;
pub mod world;
