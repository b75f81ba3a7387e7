//! The rows of a batch: prompts one below the other, or a step of decoding.

use model_swarms::backend::cuda::driver::Arg;

use super::case::Shapes;
use crate::gpu::array::Bytes;
use crate::gpu::machine::Machine;

/// Rows of a batch, each of a sequence, at a position and of an adapter.
pub struct Batch<'a, M: Machine> {
    /// How many rows.
    pub n_rows: usize,
    /// How many sequences.
    pub n_slots: usize,
    /// Positions that the cache has for each.
    pub capacity: usize,
    /// Rows of attention's tiles.
    pub n_tiles: usize,
    n_prompt: usize,
    steps: bool,
    n_adapters: usize,
    slots: Bytes<'a, M>,
    positions: Bytes<'a, M>,
    adapters: Bytes<'a, M>,
    tiles: Bytes<'a, M>,
}

impl<'a, M: Machine> Batch<'a, M> {
    /// Prompts, of which attention takes `tile_rows` rows together; the last is cut off.
    pub fn prompts(machine: &'a M, shapes: &Shapes, tile_rows: usize) -> Self {
        Self::new(machine, shapes, shapes.n_rows, false, tile_rows)
    }

    /// The next token after each prompt.
    pub fn steps(machine: &'a M, shapes: &Shapes) -> Self {
        Self::new(machine, shapes, shapes.n_steps, true, 1)
    }

    fn new(machine: &'a M, shapes: &Shapes, n_rows: usize, steps: bool, tile_rows: usize) -> Self {
        let n_prompt = shapes.n_prompt;
        let n_slots = if steps { n_rows } else { n_rows.div_ceil(n_prompt) };
        let (mut tiles, mut row) = (Vec::new(), 0);
        while row < n_rows && !steps {
            let n_left = (n_prompt - row % n_prompt).min(n_rows - row);
            tiles.extend([row, n_left.min(tile_rows), row]);
            row += n_left.min(tile_rows);
        }
        let n_adapters = shapes.n_adapters;
        let unset = Bytes::of_ints(machine, [0]);
        let mut batch = Self {
            n_rows,
            n_slots,
            capacity: (n_prompt + 1).next_multiple_of(32),
            n_tiles: tiles.len() / 3,
            n_prompt,
            steps,
            n_adapters,
            slots: unset,
            positions: Bytes::of_ints(machine, [0]),
            adapters: Bytes::of_ints(machine, [0]),
            tiles: Bytes::of_ints(machine, [0]),
        };
        let column = |of: &dyn Fn(usize) -> usize| Bytes::of_ints(machine, (0..n_rows).map(of));
        let slots = column(&|row| batch.slot(row));
        let positions = column(&|row| batch.position(row));
        let adapters = column(&|row| batch.adapter(row));
        (batch.slots, batch.positions, batch.adapters) = (slots, positions, adapters);
        batch.tiles = Bytes::of_ints(machine, tiles.into_iter().chain([0]));
        batch
    }

    /// The sequence of a row.
    pub fn slot(&self, row: usize) -> usize {
        if self.steps { row } else { row / self.n_prompt }
    }

    /// A row's position in its sequence.
    pub fn position(&self, row: usize) -> usize {
        if self.steps { self.n_prompt } else { row % self.n_prompt }
    }

    /// A row's adapter: one after the other over the sequences.
    pub fn adapter(&self, row: usize) -> usize {
        self.slot(row) * self.n_adapters / self.n_slots
    }

    /// Positions that all rows see together.
    pub fn n_seen(&self) -> usize {
        (0..self.n_rows).map(|row| self.position(row) + 1).sum()
    }

    /// Row tile and adapter of each slot: the adapters of 128 rows, as they come.
    pub fn update_slots(&self) -> Vec<[usize; 2]> {
        let mut slots: Vec<[usize; 2]> = Vec::new();
        for row in 0..self.n_rows {
            let slot = [row / 128, self.adapter(row)];
            if !slots.contains(&slot) {
                slots.push(slot);
            }
        }
        slots
    }

    /// Slots, positions, adapters and tiles, as kernels take them.
    pub fn args(&self) -> [Arg; 4] {
        [self.slots.arg(), self.positions.arg(), self.adapters.arg(), self.tiles.arg()]
    }
}
