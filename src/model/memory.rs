//! What a decoder takes of a GPU's memory, planned before anything is allocated.
//!
//! `total = base + experts + adapters(at once) + rotary tables + workspace(rows) +
//! cache(sequences)`, each as [`Footprint`] counts it. Base, one adapter, the fewest rows and one
//! sequence must fit. What they leave is divided: a part to more adapters, a part to the experts of
//! which they are made, the rest to rows in flight and to sequences, which make it fast. Knows no
//! driver.

use super::config::Config;
use super::decoder::Application;
use super::experts::Seat;
use super::footprint::{Footprint, MOST_EXPERTS, product};
use super::weights::BaseFiles;
use crate::adapter::{Layout, Pool};
use crate::backend::{Limits, Precision};
use crate::error::{Error, Result};

/// Tokens of a sequence that memory is planned for where nobody says otherwise; longer ones come
/// in smaller batches.
const POSITIONS: usize = 1024;

/// One byte in so many is left to the driver: its own state, the kernels' code, and the ends of
/// allocations, which it rounds up.
const RESERVE: usize = 16;

/// Rows in flight come in steps of a product's tile, up to where more no longer fill a GPU better.
const ROWS_STEP: usize = 64;
const MOST_ROWS: usize = 8192;

/// Sequences of a batch, and rows of logits held together, at most: a row of them is a row of the
/// vocabulary.
const MOST_SEQUENCES: usize = 256;

/// Of what the smallest batch leaves, more adapters than must be get one part in so many, if they
/// need it. A few adapters with some hundred prompts each fill batches as well as many do, while
/// a step of decoding reads all weights for as many tokens as there are sequences.
const ADAPTERS_SHARE: usize = 4;

/// The experts are held if they take no more than one part in so many. Else adapters are made in
/// the host's memory, 20 of a 7B model in about a second (not run on hardware): little beside what
/// an iteration takes, and less than it would lose with batches that are much smaller.
const EXPERTS_SHARE: usize = 8;

/// Of what is then left, one part in so many goes to rows, the rest to sequences.
const ROWS_SHARE: usize = 4;

/// The adapters that a run needs, and the experts of which they are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Adapters that are there at once, if so many fit.
    pub n_adapters: usize,
    /// Of them, so many must fit.
    pub n_least: usize,
    /// Numbers in all factors of one.
    pub len: usize,
    /// Their largest rank.
    pub rank: usize,
    /// Numbers in all factors of the largest that is there alone.
    pub len_alone: usize,
    /// The largest rank of those that are there alone.
    pub rank_alone: usize,
    /// Adapters that answer a prompt together, each with a sequence of its own.
    pub n_mixed: usize,
    /// The pool's experts; none where no adapter is made of them.
    pub n_experts: usize,
    /// Bytes of one of them, as its file has it.
    pub expert_bytes: usize,
}

impl Held {
    /// `n_adapters` of this layout at once, or as many as fit.
    pub fn of(layout: &Layout, n_adapters: usize) -> Self {
        let rank = layout.modules.iter().map(|module| module.rank).max().unwrap_or(0);
        let n_least = n_adapters.min(1);
        Self { n_adapters, n_least, len: layout.len, rank, ..Self::default() }
    }

    /// An adapter of each of these layouts, all at once.
    pub fn all(layouts: &[&Layout]) -> Self {
        let largest = layouts.iter().map(|layout| Self::of(layout, 1));
        let largest = largest.reduce(|held, next| Self {
            len: held.len.max(next.len),
            rank: held.rank.max(next.rank),
            ..held
        });
        let n_adapters = layouts.len();
        Self { n_adapters, n_least: n_adapters, ..largest.unwrap_or_default() }
    }

    /// `n_adapters` that are made of a pool at once, or as many as fit.
    pub fn made_of(pool: &Pool, n_adapters: usize) -> Self {
        let expert_bytes = product(&[pool.layout().len, pool.dtype().n_bytes()]);
        let n_experts = pool.experts.len();
        Self { n_experts, expert_bytes, ..Self::of(pool.layout(), n_adapters) }
    }

    /// And at times one alone of `len` numbers, the largest rank being `rank`.
    pub fn and_alone(self, len: usize, rank: usize) -> Self {
        let (len, rank) = (self.len_alone.max(len), self.rank_alone.max(rank));
        Self { len_alone: len, rank_alone: rank, ..self }
    }

    /// Bytes of `n_adapters` at once, or of what else is there at other times.
    fn adapter_bytes(&self, footprint: &Footprint, n_adapters: usize) -> usize {
        let n_alone = self.len_alone.min(1);
        let alone = footprint.adapter_bytes(n_alone, self.len_alone, self.rank_alone);
        let mixed = footprint.beside_bytes(self.n_mixed, self.len, self.rank);
        footprint.adapter_bytes(n_adapters, self.len, self.rank).max(alone).max(mixed)
    }

    /// Activations of a row, whichever adapters are there.
    fn row_bytes(&self, footprint: &Footprint) -> usize {
        let at_once = footprint.row_bytes(self.rank, self.n_adapters.max(self.n_mixed));
        at_once.max(footprint.row_bytes(self.rank_alone, 1))
    }

    /// Bytes of all experts, of the table that names them and of coefficients.
    fn experts_bytes(&self, n_adapters: usize) -> usize {
        let row = product(&[n_adapters, size_of::<f32>()]);
        let each = self.expert_bytes.saturating_add(size_of::<u64>()).saturating_add(row);
        product(&[self.n_experts, each])
    }
}

/// What a device is to hold.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// The decoder.
    pub footprint: Footprint<'a>,
    /// Bytes of all its weights.
    pub base_bytes: usize,
    /// The adapters that it will need.
    pub held: Held,
    /// Tokens of a sequence, prompt and answer.
    pub n_positions: usize,
    /// The device's free memory.
    pub free_bytes: usize,
}

/// How a device's memory is used.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How exact results are.
    pub precision: Precision,
    /// How adapters are applied.
    pub application: Application,
    /// The adapters that were asked for.
    pub held: Held,
    /// Tokens of a sequence that it was made for.
    pub n_positions: usize,
    /// The device's free memory.
    pub free_bytes: usize,
    /// Of it, what is left to the driver.
    pub reserve_bytes: usize,
    /// All weights; a tied embedding is there once.
    pub base_bytes: usize,
    /// The experts; 0 where they stay in the host's memory.
    pub experts_bytes: usize,
    /// Merged copies of the linears, or factors, of all adapters that are there at once.
    pub adapter_bytes: usize,
    /// The rotary embedding's cosines and sines.
    pub rotary_bytes: usize,
    /// Activations of the rows in flight, and logits.
    pub workspace_bytes: usize,
    /// Of it, the activations of one row.
    pub row_bytes: usize,
    /// Of it, the logits of one row.
    pub logit_row_bytes: usize,
    /// Keys and values of one sequence.
    pub sequence_bytes: usize,
    /// What follows: adapters that are there at once.
    pub n_adapters: usize,
    /// And how much is done at once. `cache_bytes` are those of all sequences.
    pub limits: Limits,
}

impl Plan {
    /// How the base in `files` would use a device with so much free memory. Adapters are applied
    /// as `asked`, or as suits; sequences have `n_positions` tokens, or as many as are usual.
    pub fn of_base(
        config: &Config,
        files: &BaseFiles,
        (precision, asked): (Precision, Option<Application>),
        held: Held,
        n_positions: Option<usize>,
        free_bytes: usize,
    ) -> Result<Self> {
        let application = Application::choose(config, precision, asked)?;
        let footprint = Footprint { config, precision, application };
        Self::new(&Demand {
            footprint,
            base_bytes: footprint.base_bytes(|name, shape| files.dtype(name, shape))?,
            held,
            n_positions: n_positions.unwrap_or(config.max_positions.min(POSITIONS)),
            free_bytes,
        })
    }

    /// Divides a device's memory.
    ///
    /// # Errors
    /// The device cannot hold even one sequence, the fewest rows and the fewest adapters: every
    /// part with its size.
    pub fn new(demand: &Demand) -> Result<Self> {
        let Demand { footprint, held, n_positions, .. } = demand;
        let sequences = product(&[held.n_mixed.max(1), footprint.sequence_bytes(*n_positions)]);
        let smallest = Self::of(demand, 0, held.n_least, ROWS_STEP, sequences);
        let most = demand.free_bytes - smallest.reserve_bytes;
        let Some(left) = most.checked_sub(smallest.total_bytes()) else {
            return Err(smallest.refusal());
        };
        let each = footprint.adapter_bytes(1, held.len, held.rank).max(1);
        let for_adapters = smallest.adapter_bytes + left / ADAPTERS_SHARE;
        let n_adapters = (for_adapters / each).min(held.n_adapters).max(held.n_least);
        let more_bytes = held.adapter_bytes(footprint, n_adapters) - smallest.adapter_bytes;
        let experts_bytes = match held.experts_bytes(n_adapters) {
            n if n <= left / EXPERTS_SHARE && held.n_experts <= MOST_EXPERTS => n,
            _ => 0,
        };
        let left = left - more_bytes - experts_bytes;
        let for_rows = smallest.workspace_bytes + left / ROWS_SHARE;
        let n_steps = (1..=MOST_ROWS / ROWS_STEP)
            .rfind(|n_steps| smallest.workspace(n_steps * ROWS_STEP) <= for_rows);
        let n_rows = n_steps.unwrap_or(1) * ROWS_STEP;
        // With all rows that there may be, sequences get what is over.
        let for_rows = if n_rows == MOST_ROWS { smallest.workspace(n_rows) } else { for_rows };
        let cache_bytes = sequences + left + smallest.workspace_bytes - for_rows;
        Ok(Self::of(demand, experts_bytes, n_adapters, n_rows, cache_bytes))
    }

    /// Bytes of all parts but the reserve.
    pub fn total_bytes(&self) -> usize {
        self.parts().into_iter().fold(0, usize::saturating_add)
    }

    /// Base, experts, adapters, rotary tables, workspace, cache.
    pub fn parts(&self) -> [usize; 6] {
        [
            self.base_bytes,
            self.experts_bytes,
            self.adapter_bytes,
            self.rotary_bytes,
            self.workspace_bytes,
            self.limits.cache_bytes,
        ]
    }

    /// Where adapters are made of the experts.
    pub fn seat(&self) -> Seat {
        if self.experts_bytes > 0 { Seat::Device } else { Seat::Host }
    }

    /// Why adapters are made in the host's memory, where there are experts to make them of.
    pub fn concern(&self) -> Option<String> {
        let n = self.held.n_experts;
        let why = match readable(self.held.experts_bytes(self.n_adapters)) {
            _ if n == 0 || self.experts_bytes > 0 => return None,
            _ if n > MOST_EXPERTS => format!("a kernel makes them of {MOST_EXPERTS} at most"),
            bytes => format!("{bytes} would leave too little of the device's to batches"),
        };
        Some(format!("adapters are made of the {n} experts in the host's memory: {why}"))
    }

    fn of(
        demand: &Demand,
        experts_bytes: usize,
        n_adapters: usize,
        n_rows: usize,
        all_cache_bytes: usize,
    ) -> Self {
        let Demand { footprint, base_bytes, held, n_positions, free_bytes } = *demand;
        let sequence_bytes = footprint.sequence_bytes(n_positions);
        let fit = all_cache_bytes / sequence_bytes.max(1);
        let mut plan = Self {
            precision: footprint.precision,
            application: footprint.application,
            held,
            n_positions,
            free_bytes,
            reserve_bytes: free_bytes / RESERVE,
            base_bytes,
            experts_bytes,
            adapter_bytes: held.adapter_bytes(&footprint, n_adapters),
            rotary_bytes: footprint.rotary_bytes(n_positions),
            workspace_bytes: 0,
            row_bytes: held.row_bytes(&footprint),
            logit_row_bytes: footprint.logit_row_bytes(),
            sequence_bytes,
            n_adapters,
            limits: Limits {
                prefill_rows: n_rows,
                logit_rows: n_rows.min(MOST_SEQUENCES),
                cache_bytes: all_cache_bytes,
                batch: n_rows.min(MOST_SEQUENCES).min(fit).max(1),
                max_batch: n_rows.min(MOST_SEQUENCES),
                mixes_adapters: true,
            },
        };
        plan.workspace_bytes = plan.workspace(n_rows);
        plan
    }

    /// Bytes that go with `n_rows` in flight.
    fn workspace(&self, n_rows: usize) -> usize {
        let logits = product(&[n_rows.min(MOST_SEQUENCES), self.logit_row_bytes]);
        product(&[n_rows, self.row_bytes]).saturating_add(logits)
    }

    fn refusal(&self) -> Error {
        let [base, _, adapters, rotary, workspace, cache] = self.parts().map(readable);
        let needed = self.total_bytes().saturating_add(self.reserve_bytes);
        let Held { n_mixed, len, len_alone, .. } = self.held;
        let adapters = match self.n_adapters.max(n_mixed) {
            n if len_alone > product(&[n, len]) => format!("the largest adapter {adapters}, "),
            0 => String::new(),
            1 => format!("one adapter {adapters}, "),
            n => format!("{n} adapters {adapters}, "),
        };
        let sequences = match n_mixed {
            0 | 1 => "one sequence".to_owned(),
            n => format!("{n} sequences"),
        };
        Error::Usage(format!(
            "the device's memory is too small: the base takes {base}, {adapters}the rotary tables \
             {rotary}, the workspace of {} rows {workspace}, the key-value cache of {sequences} of \
             {} tokens {cache}, and {} stay free for the driver; the device has {} free, {} are \
             missing",
            self.limits.prefill_rows,
            self.n_positions,
            readable(self.reserve_bytes),
            readable(self.free_bytes),
            readable(needed - self.free_bytes),
        ))
    }
}

/// A number of bytes as a person says it: "17.4 GiB".
pub fn readable(n_bytes: usize) -> String {
    let (unit, name) = match n_bytes {
        0..0x400 => return format!("{n_bytes} B"),
        0x400..0x10_0000 => (0x400, "KiB"),
        0x10_0000..0x4000_0000 => (0x10_0000, "MiB"),
        _ => (0x4000_0000, "GiB"),
    };
    format!("{:.1} {name}", n_bytes as f64 / f64::from(unit))
}
