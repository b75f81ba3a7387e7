//! `model-swarms inspect BASE --device cuda`: how a base model would use a GPU's memory.

use std::path::Path;

use serde::Serialize;

use super::inspect::device_bytes;
use super::{Format, precision, print_as};
use crate::adapter::Pool;
use crate::backend::Precision;
use crate::cli::MemoryArgs;
use crate::error::Result;
use crate::model::Application;
use crate::model::config::Config;
use crate::model::experts::Seat;
use crate::model::lora::Places;
use crate::model::memory::{Held, Plan, readable};
use crate::model::weights::BaseFiles;

/// Prints the plan.
pub fn run(path: &Path, args: &MemoryArgs, format: Format) -> Result<()> {
    let config = Config::open(path)?;
    let files = BaseFiles::open(path)?;
    files.check(&config)?;
    let held = match &args.experts {
        None => Held::default(),
        Some(experts) => {
            let pool = Pool::open(experts)?;
            Places::find(pool.layout(), &config, experts)?;
            Held::made_of(&pool, args.particles)
        }
    };
    let how = (precision(args.precision), args.adapters.map(Application::from));
    let free_bytes = args.memory.map_or_else(device_bytes, Ok)?;
    let plan = Plan::of_base(&config, &files, how, held, args.tokens, free_bytes)?;
    print_as(format, &Report::new(&plan), text)
}

#[derive(Serialize)]
struct Report {
    precision: &'static str,
    adapters: &'static str, // how they are applied
    adapters_at_once: usize,
    parts: Vec<PartReport>,
    free_bytes: usize,
    tokens_of_a_sequence: usize,
    rows_at_once: usize,
    logit_rows: usize,
    sequences_of_a_batch: usize,
    row_bytes: usize,
    sequence_bytes: usize,
}

#[derive(Serialize)]
struct PartReport {
    part: String,
    bytes: usize,
}

impl Report {
    fn new(plan: &Plan) -> Self {
        let limits = &plan.limits;
        let experts = match (plan.held.n_experts, plan.seat()) {
            (0, _) => "no experts".to_owned(),
            (n, Seat::Device) => format!("{n} experts"),
            (n, Seat::Host) => format!("{n} experts, on the host"),
        };
        let adapters = match (plan.n_adapters, plan.held.n_adapters) {
            (0, _) => "no adapters".to_owned(),
            (1, 1) => "1 adapter".to_owned(),
            (n, all) if n == all => format!("{n} adapters"),
            (n, all) => format!("{n} of {all} adapters"),
        };
        let names = [
            "base".to_owned(),
            experts,
            adapters,
            "rotary tables".to_owned(),
            format!("workspace of {} rows", limits.prefill_rows),
            "key-value cache, at most".to_owned(),
        ];
        let unused = plan.free_bytes - plan.reserve_bytes - plan.total_bytes();
        let rest = [("left to the driver", plan.reserve_bytes), ("unused", unused)];
        let parts = names.into_iter().zip(plan.parts());
        let parts = parts.chain(rest.map(|(part, bytes)| (part.to_owned(), bytes)));
        Self {
            precision: match plan.precision {
                Precision::Exact => "exact",
                Precision::Fast => "fast",
            },
            adapters: match plan.application {
                Application::Merged => "merged",
                Application::Unmerged => "unmerged",
            },
            adapters_at_once: plan.n_adapters,
            parts: parts.map(|(part, bytes)| PartReport { part, bytes }).collect(),
            free_bytes: plan.free_bytes,
            tokens_of_a_sequence: plan.n_positions,
            rows_at_once: limits.prefill_rows,
            logit_rows: limits.logit_rows,
            sequences_of_a_batch: limits.batch,
            row_bytes: plan.row_bytes,
            sequence_bytes: plan.sequence_bytes,
        }
    }
}

fn text(report: &Report) -> String {
    let line = |name: &str, n_bytes: usize| {
        format!("  {name:<28} {n_bytes:>16}  {:>10}\n", readable(n_bytes))
    };
    let mut text = format!(
        "memory of a GPU, precision {}, adapters {}\n\n  {:<28} {:>16}\n",
        report.precision, report.adapters, "part", "bytes"
    );
    for PartReport { part, bytes } in &report.parts {
        text.push_str(&line(part, *bytes));
    }
    text.push_str(&line("free on the device", report.free_bytes));
    text.push_str(&format!(
        "\n  {} rows at once, {} each; logits of {} rows\n  batches of {} sequences of {} tokens, \
         {} each\n",
        report.rows_at_once,
        readable(report.row_bytes),
        report.logit_rows,
        report.sequences_of_a_batch,
        report.tokens_of_a_sequence,
        readable(report.sequence_bytes),
    ));
    text
}
