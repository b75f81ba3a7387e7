//! How a search goes, on standard error: a live line on a terminal, plain lines elsewhere.
//!
//! The clock is read here and nowhere else; nothing of it enters a result.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::swarm::IterationRecord;

/// The progress of one search.
pub struct Progress {
    bar: Option<ProgressBar>,
    last_iteration: u32,
    started: Instant,
    n_measured: u32, // iterations that were evaluated here, not replayed
}

impl Progress {
    /// For a search that runs at most to iteration `last_iteration`.
    pub fn new(last_iteration: u32) -> Self {
        let style = ProgressStyle::with_template("{spinner} [{elapsed}] {bar:30} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(u64::from(last_iteration)).with_style(style);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar.set_message("evaluating the experts");
            bar
        });
        Self { bar, last_iteration, started: Instant::now(), n_measured: 0 }
    }

    /// An iteration is over. `replayed` iterations took no time worth counting.
    pub fn iteration(&mut self, record: &IterationRecord, source: Source) {
        if source == Source::Replayed {
            self.started = Instant::now();
            return;
        }
        self.n_measured += 1;
        let left = self.last_iteration - record.iteration;
        let per_iteration = self.started.elapsed().as_secs_f64() / f64::from(self.n_measured);
        let mean = record.f.iter().sum::<f64>() / record.f.len() as f64;
        let line = format!(
            "iteration {}/{}  best {:.4} (particle {}, iteration {})  mean of {} particles {:.4}  \
             at most {} left",
            record.iteration,
            self.last_iteration,
            record.f_g,
            record.g_source.particle,
            record.g_source.iteration,
            record.f.len(),
            mean,
            duration(per_iteration * f64::from(left)),
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(u64::from(record.iteration));
                bar.set_message(line);
            }
            None => eprintln!("{line}"),
        }
    }

    /// The search is over.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish();
        }
    }
}

/// Where an iteration's utilities came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Measured now.
    Measured,
    /// Read from the journal.
    Replayed,
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// The most memory that this process has held, as the kernel counts it; mapped files included.
pub fn peak_memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(format!("{:.0} MiB", kib / 1024.0))
}
