//! Model Swarms: adapts language-model experts by swarm search.
//!
//! Rooms, lowest first; a room imports only from rooms above it in this list:
//! `error` | `files`, `mode`, `rng` | `suite`, `tensors` | `backend` | `adapter`, `mini`,
//! `stats` | `baseline`, `claims`, `example`, `model` | `task`, `swarm`, `train` | `audit`,
//! `build`, `cli`, `run`, `testbed` | `check`, `plan` | `reproduce` | `report` | `commands` | the
//! binary.

pub mod adapter;
pub mod audit;
pub mod backend;
pub mod baseline;
#[cfg(feature = "train")]
pub mod build;
pub mod check;
pub mod claims;
pub mod cli;
pub mod commands;
pub mod error;
pub mod example;
pub mod files;
pub mod mini;
pub mod mode;
pub mod model;
pub mod plan;
pub mod report;
pub mod reproduce;
pub mod rng;
pub mod run;
pub mod stats;
pub mod suite;
pub mod swarm;
pub mod task;
pub mod tensors;
pub mod testbed;
#[cfg(feature = "train")]
pub mod train;
