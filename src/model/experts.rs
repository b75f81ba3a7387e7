//! From locations to adapters, where the model computes.
//!
//! A device with memory of its own holds the experts as their files have them, if they fit: so a
//! location goes there as a row of coefficients, and an iteration moves a few kilobytes. Elsewhere
//! adapters are made in the host's memory, of experts that stay mapped: by the CPU for itself, and
//! for a device whose memory others need more. The bits are the same.

use std::sync::Mutex;

use super::decoder::Decoder;
use super::lora::{Adapted, Places};
use crate::adapter::{Adapter, Pool, halves, materialise, materialise_into, rounded};
use crate::backend::Backend;
use crate::backend::cpu::Isa;
use crate::error::Result;

/// Where experts are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// In the host's memory.
    Host,
    /// In the device's, where it has its own.
    Device,
}

/// The experts of a pool, ready to become adapters.
pub struct Experts<B: Backend> {
    /// The experts as they are mapped.
    pub pool: Pool,
    /// Where their modules are in the decoder.
    pub places: Places,
    there: Option<B::Experts>,
    made: Mutex<Vec<Adapter>>, // the last that were made here: their memory serves the next
    isa: Isa,
}

impl<B: Backend> Experts<B> {
    /// The adapter at a location, in the host's memory.
    pub fn adapter(&self, location: &[f64]) -> Adapter {
        materialise(self.isa, &self.pool, &[location]).remove(0)
    }
}

impl<B: Backend> Decoder<B> {
    /// Makes the experts ready; `isa` is what the host computes with.
    pub fn experts(&self, pool: Pool, places: Places, seat: Seat, isa: Isa) -> Result<Experts<B>> {
        let there = match seat {
            Seat::Host => None,
            Seat::Device => self.backend.experts(&halves(&pool))?,
        };
        Ok(Experts { pool, places, there, made: Mutex::default(), isa })
    }

    /// The linears as the adapters at these locations make them, each a row of coefficients over
    /// the experts.
    pub fn adapt_at(&self, experts: &Experts<B>, locations: &[&[f64]]) -> Result<Adapted<B>> {
        let Experts { pool, places, there, made, isa } = experts;
        if let Some(there) = there {
            let adapters = self.backend.combine(there, &rounded(locations))?;
            let (layout, n_adapters) = (pool.layout(), locations.len());
            return self.apply(self.application, places, layout, &adapters, n_adapters);
        }
        let mut made = made.lock().unwrap_or_else(|held| held.into_inner());
        materialise_into(*isa, pool, locations, &mut made);
        self.adapt(places, &made[..locations.len()].iter().collect::<Vec<_>>())
    }
}
