//! A model's weights as the products read them: packed into panels of 32 outputs.
//!
//! W stands in a file as (n_out, n_in). In a panel, (n_in, 32), the innermost loop of a product
//! reads it front to back. Matrices that share their input stand side by side.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use std::ops::Range;

use super::buffer::{Buffer, PANEL, padded};
use super::gemm_tiles::K_BLOCK;
pub use crate::backend::Part;
use crate::tensors::Dtype;

/// Matrices that share their input, packed side by side; each begins at a whole panel.
#[derive(Clone)]
pub struct Weights {
    n_in: usize,
    n_panels: usize,
    starts: Vec<usize>, // first column of each part, then the total: multiples of 32
    panels: Panels,     // (n_panels, n_in, 32), zero where a part's last panel is not full
}

/// Panels in memory: in f32, or as the file has them, to be widened block by block while they are
/// used. Widening is exact, so the product has the same bits.
#[derive(Clone)]
enum Panels {
    F32(Buffer),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

impl Weights {
    /// Packs the parts, each (n_out, n_in), as values of type `storage`, which must hold them
    /// exactly.
    pub fn pack(n_in: usize, parts: &[Part], storage: Dtype) -> Self {
        let mut starts = vec![0];
        for part in parts {
            starts.push(starts[starts.len() - 1] + padded(part.n_out));
        }
        let n_panels = starts[parts.len()] / PANEL;
        let n_values = n_panels * n_in * PANEL;
        let panels = match storage {
            Dtype::F32 => {
                let mut panels = Buffer::zeros(n_values);
                fill(&mut panels, n_in, parts, |value| value);
                Panels::F32(panels)
            }
            Dtype::F16 => {
                let mut panels = vec![f16::ZERO; n_values];
                fill(&mut panels, n_in, parts, f16::from_f32);
                Panels::F16(panels)
            }
            Dtype::BF16 => {
                let mut panels = vec![bf16::ZERO; n_values];
                fill(&mut panels, n_in, parts, bf16::from_f32);
                Panels::Bf16(panels)
            }
        };
        Self { n_in, n_panels, starts, panels }
    }

    /// Length of an input row.
    pub fn n_in(&self) -> usize {
        self.n_in
    }

    /// Panels of all parts.
    pub fn n_panels(&self) -> usize {
        self.n_panels
    }

    /// Length of an output row: all parts, each padded to whole panels.
    pub fn n_cols(&self) -> usize {
        self.n_panels * PANEL
    }

    /// The first column of part `part_idx` in an output row.
    pub fn start(&self, part_idx: usize) -> usize {
        self.starts[part_idx]
    }

    /// All columns of the parts `parts`, as a range of panels.
    pub fn panels_of(&self, parts: Range<usize>) -> Range<usize> {
        self.starts[parts.start] / PANEL..self.starts[parts.end] / PANEL
    }

    /// The packed values of one part: (panels of the part, n_in, 32). The weights must have been
    /// packed as f32.
    pub fn part_mut(&mut self, part_idx: usize) -> &mut [f32] {
        let range = self.starts[part_idx] * self.n_in..self.starts[part_idx + 1] * self.n_in;
        match &mut self.panels {
            Panels::F32(panels) => &mut panels[range],
            Panels::F16(_) | Panels::Bf16(_) => panic!("weights packed in 16 bits are read only"),
        }
    }

    /// The same as [`Weights::block`] as it lies in memory; nothing past the last panel.
    pub(super) fn stored(&self, panel: usize, first_k: usize, n_steps: usize) -> &[u8] {
        fn bytes<T>(values: &[T], start: usize, len: usize) -> &[u8] {
            let values = values.get(start..start + len).unwrap_or_default();
            // SAFETY: any initialised number is made of bytes.
            unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
        }
        let (start, len) = ((panel * self.n_in + first_k) * PANEL, n_steps * PANEL);
        match &self.panels {
            Panels::F32(panels) => bytes(panels, start, len),
            Panels::F16(panels) => bytes(panels, start, len),
            Panels::Bf16(panels) => bytes(panels, start, len),
        }
    }

    /// Steps `first_k..first_k + n_steps` of a panel; `widened` is where 16-bit values are widened.
    pub(super) fn block<'a>(
        &'a self,
        panel: usize,
        first_k: usize,
        n_steps: usize,
        widened: &'a mut Buffer,
    ) -> &'a [f32] {
        let range = (panel * self.n_in + first_k) * PANEL..;
        let range = range.start..range.start + n_steps * PANEL;
        match &self.panels {
            Panels::F32(panels) => &panels[range],
            Panels::F16(panels) => {
                widened.grow(K_BLOCK * PANEL);
                panels[range.clone()].convert_to_f32_slice(&mut widened[..range.len()]);
                &widened[..range.len()]
            }
            Panels::Bf16(panels) => {
                widened.grow(K_BLOCK * PANEL);
                for (wide, narrow) in widened.iter_mut().zip(&panels[range.clone()]) {
                    *wide = f32::from_bits(u32::from(narrow.to_bits()) << 16);
                }
                &widened[..range.len()]
            }
        }
    }
}

/// Transposes the parts into panels.
fn fill<T: Send>(panels: &mut [T], n_in: usize, parts: &[Part], from_f32: fn(f32) -> T) {
    let jobs: Vec<(&Part, usize)> = parts
        .iter()
        .flat_map(|part| (0..part.n_out).step_by(PANEL).map(move |first_out| (part, first_out)))
        .collect();
    panels.par_chunks_mut((n_in * PANEL).max(1)).zip(jobs).for_each(
        |(panel, (part, first_out))| {
            let mut row = vec![0.0; n_in];
            for j in 0..PANEL.min(part.n_out - first_out) {
                (part.read)(first_out + j, &mut row);
                for (k, value) in row.iter().enumerate() {
                    panel[k * PANEL + j] = from_f32(*value);
                }
            }
        },
    );
}
