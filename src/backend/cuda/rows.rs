//! The rows of a batch as kernels take them: whose they are, and the tiles in which they are taken.

use super::driver::Driver;
use super::memory::Fixed;
use crate::backend::{Phase, Precision, Span};
use crate::error::Result;

/// Rows of a tile of the products of precision fast, which adapters share: `TILE_ROWS` of
/// gemm_fast.cuh.
pub const TILE_ROWS: usize = 128;

/// The adapter of a row that belongs to no span.
const NO_ADAPTER: i32 = -1;

/// The rows of a batch: for each its slot, position and adapter, then the tiles of attention, then
/// the slots that the adapters of each tile of a product have.
pub struct Rows<D: Driver> {
    pub(super) spans: Vec<Span>,
    pub(super) phase: Phase,
    pub(super) n_rows: usize, // up to the last span's end
    pub(super) n_tiles: usize,
    pub(super) n_slots: usize,
    // slots, positions, adapters, each (n_rows); tiles (n_tiles, 3); in precision fast the slots
    // (n_slots, 2), row tile and adapter, then for each row tile its first (n_row_tiles + 1)
    ints: Fixed<D>,
}

/// Where the parts of [`Rows`] begin, as kernels take it.
pub struct Addresses {
    pub slots: u64,
    pub positions: u64,
    pub adapters: u64,
    pub tiles: u64,
    pub update_slots: u64,
    pub first_update_slots: u64,
}

impl<D: Driver> Rows<D> {
    /// The rows of `spans`; attention takes at most `tile_rows` of them together.
    pub fn new(
        driver: &D,
        spans: Vec<Span>,
        phase: Phase,
        tile_rows: usize,
        precision: Precision,
    ) -> Result<Self> {
        let n_rows = spans.iter().map(|span| span.row + span.n_rows).max().unwrap_or(0);
        let mut ints = vec![0i32; 3 * n_rows];
        ints[2 * n_rows..].fill(NO_ADAPTER);
        let (mut tiles, mut out_row) = (Vec::new(), 0);
        for span in &spans {
            for i in 0..span.n_rows {
                let values = [span.slot, span.first + i, span.adapter_idx];
                for (column, value) in values.into_iter().enumerate() {
                    ints[column * n_rows + span.row + i] = value as i32;
                }
            }
            for first in (0..span.n_rows).step_by(tile_rows) {
                let n_here = tile_rows.min(span.n_rows - first);
                tiles.push([span.row + first, n_here, out_row + first].map(|n| n as i32));
            }
            out_row += span.n_rows;
        }
        let (slots, first_slots) = match precision {
            Precision::Exact => (Vec::new(), Vec::new()),
            Precision::Fast => update_slots(&ints[2 * n_rows..]),
        };
        ints.extend(tiles.as_flattened());
        ints.extend(slots.as_flattened());
        ints.extend(first_slots);
        let ints = Fixed::new(driver, bytemuck::cast_slice(&ints))?;
        Ok(Self { spans, phase, n_rows, n_tiles: tiles.len(), n_slots: slots.len(), ints })
    }

    /// Where all of it stands.
    pub fn addresses(&self, driver: &D) -> Addresses {
        let start = self.ints.address(driver);
        let at = |n_ints: usize| start + (n_ints * size_of::<i32>()) as u64;
        let (tiles, slots) = (3 * self.n_rows, 3 * (self.n_rows + self.n_tiles));
        Addresses {
            slots: at(0),
            positions: at(self.n_rows),
            adapters: at(2 * self.n_rows),
            tiles: at(tiles),
            update_slots: at(slots),
            first_update_slots: at(slots + 2 * self.n_slots),
        }
    }
}

/// Row tile and adapter of each slot: those of a tile in the order in which its rows have them.
/// Then where the slots of each tile begin, and where the last one's end.
fn update_slots(adapters: &[i32]) -> (Vec<[i32; 2]>, Vec<i32>) {
    let (mut slots, mut first_slots): (Vec<[i32; 2]>, _) = (Vec::new(), vec![0]);
    for (tile_idx, tile) in adapters.chunks(TILE_ROWS).enumerate() {
        let first = slots.len();
        for &adapter in tile {
            let is_new = slots[first..].iter().all(|slot| slot[1] != adapter);
            if adapter != NO_ADAPTER && is_new {
                slots.push([tile_idx as i32, adapter]);
            }
        }
        first_slots.push(slots.len() as i32);
    }
    (slots, first_slots)
}

#[cfg(test)]
mod tests {
    use super::{TILE_ROWS, update_slots};

    #[test]
    fn each_tile_has_a_slot_for_each_of_its_adapters() {
        // Broken: rows would get what another adapter adds, or nothing.
        assert_eq!(update_slots(&[]), (vec![], vec![0]));
        assert_eq!(update_slots(&[-1]), (vec![], vec![0, 0]));
        assert_eq!(update_slots(&[3]), (vec![[0, 3]], vec![0, 1]));
        let mut adapters = vec![-1; 2 * TILE_ROWS + 1];
        adapters[..4].copy_from_slice(&[2, 0, 2, -1]);
        (adapters[TILE_ROWS - 1], adapters[2 * TILE_ROWS]) = (1, 2);
        let (slots, first_slots) = update_slots(&adapters);
        assert_eq!(slots, [[0, 2], [0, 0], [0, 1], [2, 2]]);
        assert_eq!(first_slots, [0, 3, 3, 4]);
    }
}
