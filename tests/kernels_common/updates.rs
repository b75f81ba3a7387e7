//! What adapters add to a product of precision `fast`, laid out as the kernels take it, from the
//! numbers of each row and each adapter.

use model_swarms::backend::cuda::driver::{Arg, Tensor};

use super::values::to_bits;
use super::{Argument, Device, map_words};

/// A part of a product that has adapters.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub first_col: usize,
    pub n_out: usize,
    pub rank: usize,
}

impl Part {
    /// The rank, or the next multiple of 16.
    pub fn n_k(&self) -> usize {
        self.rank.next_multiple_of(16)
    }
}

/// The update of a product: `Update` of gemm_fast.cuh. By default there is none.
#[derive(Debug, Clone, Default)]
pub struct Update {
    pub parts: Vec<Part>,
    pub n_adapters: usize,
    pub adapter_of: Vec<i32>, // (n_rows), -1 for none
    pub shrunk: Vec<u16>,     // (n_slots, n_parts, 128, depth)
    pub b: Vec<u16>,          // the parts' one behind the other, each (n_adapters, n_out, depth)
}

/// Row tile and adapter of each slot, then the first slot of each row tile and where the last ends.
pub fn slots_of(adapter_of: &[i32]) -> (Vec<[i32; 2]>, Vec<i32>) {
    let (mut slots, mut first_slots) = (Vec::<[i32; 2]>::new(), vec![0]);
    for (tile, adapters) in adapter_of.chunks(128).enumerate() {
        for adapter in adapters.iter().filter(|adapter| **adapter >= 0) {
            let slot = [tile as i32, *adapter];
            if !slots.contains(&slot) {
                slots.push(slot);
            }
        }
        first_slots.push(slots.len() as i32);
    }
    (slots, first_slots)
}

/// The largest rank, or the next multiple of 16.
pub fn depth_of(parts: &[Part]) -> usize {
    parts.iter().map(Part::n_k).max().unwrap_or(0)
}

impl Update {
    /// From A x of each row, (n_rows, n_parts, most ranks), and scale * B of each adapter, the
    /// parts' one behind the other, each (n_adapters, n_out, rank). What no part may read is NaN.
    pub fn new(
        parts: &[Part],
        adapter_of: &[i32],
        shrunk: &[f32],
        n_adapters: usize,
        b: &[f32],
    ) -> Self {
        let (depth, (slots, _)) = (depth_of(parts), slots_of(adapter_of));
        let most = parts.iter().map(|part| part.rank).max().unwrap_or(0);
        let mut laid_shrunk = Vec::new();
        for [tile, adapter] in slots {
            for (idx, part) in parts.iter().enumerate() {
                for row in tile as usize * 128..(tile as usize + 1) * 128 {
                    let is_own = adapter_of.get(row) == Some(&adapter);
                    let own = |r: usize| shrunk[(row * parts.len() + idx) * most + r];
                    laid_shrunk.extend((0..depth).map(|r| match r {
                        _ if r >= part.n_k() => f32::NAN,
                        _ if is_own && r < part.rank => own(r),
                        _ => 0.0,
                    }));
                }
            }
        }
        let (mut laid_b, mut rest) = (Vec::new(), b);
        for part in parts {
            for row in rest[..n_adapters * part.n_out * part.rank].chunks(part.rank) {
                laid_b.extend_from_slice(row);
                laid_b.resize(laid_b.len() + part.n_k() - part.rank, 0.0);
                laid_b.resize(laid_b.len() + depth - part.n_k(), f32::NAN);
            }
            rest = &rest[n_adapters * part.n_out * part.rank..];
        }
        let (shrunk, b) = (to_bits(&laid_shrunk), to_bits(&laid_b));
        let (parts, adapter_of) = (parts.to_vec(), adapter_of.to_vec());
        Self { parts, n_adapters, adapter_of, shrunk, b }
    }

    /// The memory that a kernel is given.
    pub fn on_device(self) -> OnDevice {
        let (slots, first_slots) = slots_of(&self.adapter_of);
        OnDevice {
            shrunk: Device::new(&self.shrunk),
            b: Device::new(&self.b),
            first_slots: Device::new(&first_slots),
            slots: Device::new(slots.as_flattened()),
            update: self,
        }
    }
}

/// An update in a device's memory, as its products take it.
pub struct OnDevice {
    update: Update,
    shrunk: Device<u16>,
    b: Device<u16>,
    first_slots: Device<i32>,
    slots: Device<i32>,
}

impl OnDevice {
    /// The tensor maps of shrunk and b.
    pub fn maps(&self) -> [UpdateMap; 2] {
        let depth = depth_of(&self.update.parts);
        let map = |device: &Device<u16>, len: usize, box_rows| {
            let (start, n_rows) = (device.address(), len / depth.max(1));
            UpdateMap(Tensor { start, n_rows, n_cols: depth, ld: depth, box_rows, box_cols: 64 })
        };
        [map(&self.shrunk, self.update.shrunk.len(), 128), map(&self.b, self.update.b.len(), 256)]
    }
}

impl Argument for OnDevice {
    fn words(&self) -> ([u64; 16], usize) {
        let Update { parts, n_adapters, .. } = &self.update;
        let mut ints = [0; 14];
        (ints[0], ints[1]) = (parts.len(), depth_of(parts));
        let mut first_b_row = 0;
        for (idx, part) in parts.iter().enumerate() {
            let end_col = part.first_col + part.n_out;
            for (i, value) in [part.first_col, end_col, first_b_row, part.n_k()].iter().enumerate()
            {
                ints[2 + 3 * i + idx] = *value;
            }
            first_b_row += n_adapters * part.n_out;
        }
        let addresses = [self.shrunk.address(), self.b.address()];
        let slots = [self.first_slots.address(), self.slots.address()];
        let arg = Arg::structure(&[addresses, slots].concat(), &ints);
        (arg.words, arg.n_bytes)
    }

    fn overrun(&self) -> Option<String> {
        let memory = [self.shrunk.overrun(), self.b.overrun()];
        memory
            .into_iter()
            .chain([self.first_slots.overrun(), self.slots.overrun()])
            .flatten()
            .next()
    }
}

/// The tensor map of one of an update's matrices; nothing where it has no elements.
pub struct UpdateMap(Tensor);

impl Argument for UpdateMap {
    fn words(&self) -> ([u64; 16], usize) {
        (if self.0.n_rows * self.0.n_cols == 0 { [0; 16] } else { map_words(self.0) }, 128)
    }

    fn tensor(&self) -> Option<Tensor> {
        Some(self.0)
    }
}
