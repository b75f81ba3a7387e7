//! One layer of precision `fast` on the emulated machine: its prompts, its cache, its attention by
//! each kernel, and the same on the CPU.

use std::ops::Range;

use half::bf16;
use model_swarms::backend::cpu::Isa;
use model_swarms::backend::cpu::attention::{Cache, Heads, Scratch, append, attend};
use model_swarms::backend::cpu::buffer::padded;
use model_swarms::backend::cpu::ops::rotate;
use model_swarms::backend::cuda::driver::Family;

use super::values::{rounded, to_bits, value, values};
use super::{Argument, Device, DeviceHeads, Launch, must_launch};

/// What prompts are made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Content {
    /// Any numbers.
    Any,
    /// Queries of zeros, so that every position seen weighs the same, and whole values.
    Even,
    /// Each query is the key of one position, and no other key comes near it.
    Chosen,
}

/// A row of a batch: a position of a prompt, and the slot that the prompt has in the cache.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub prompt: usize,
    pub slot: usize,
    pub position: usize,
}

/// Rows of a prompt in the slot of its number.
pub fn rows_of(prompt: usize, positions: Range<usize>) -> Vec<Row> {
    positions.map(|position| Row { prompt, slot: prompt, position }).collect()
}

/// All rows of prompts of these lengths.
pub fn prompts(lengths: &[usize]) -> Vec<Row> {
    lengths.iter().enumerate().flat_map(|(prompt, n)| rows_of(prompt, 0..*n)).collect()
}

/// bf16 that nobody has written: NaN.
pub fn unset(len: usize) -> Device<u16> {
    Device::new(&vec![u16::MAX; len])
}

/// One layer and its cache on the device.
pub struct Layer {
    pub heads: Heads,
    pub content: Content,
    pub capacity: usize,
    pub keys: Device<u16>, // (slot, kv_head, capacity, head_dim)
    pub values: Device<u16>,
}

/// A batch whose rows were appended: queries rotated.
pub struct Batch {
    pub rows: Vec<Row>,
    pub qkv: Device<u16>, // (n_rows, ld)
}

impl Layer {
    pub fn new(sizes: [usize; 3], window: Option<usize>, content: Content, n_slots: usize) -> Self {
        let [n_heads, n_kv_heads, head_dim] = sizes;
        let score_factor =
            if content == Content::Chosen { 1.0 } else { 1.0 / (head_dim as f32).sqrt() };
        let heads = Heads { n_heads, n_kv_heads, head_dim, window, score_factor };
        let capacity = 133; // of no tile
        let len = n_slots * n_kv_heads * capacity * head_dim;
        Self { heads, content, capacity, keys: unset(len), values: unset(len) }
    }

    pub fn k_col(&self) -> usize {
        self.heads.n_heads * self.heads.head_dim
    }

    pub fn v_col(&self) -> usize {
        self.k_col() + self.heads.n_kv_heads * self.heads.head_dim
    }

    /// From row to row of q | k | v.
    pub fn ld(&self) -> usize {
        self.v_col() + self.heads.n_kv_heads * self.heads.head_dim + 8
    }

    pub fn first_seen(&self, position: usize) -> usize {
        self.heads.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// The position that a head of `Content::Chosen` looks for.
    pub fn chosen(&self, position: usize, head: usize) -> usize {
        let first = self.first_seen(position);
        first + (position * 7 + head * 13) % (position + 1 - first)
    }

    /// The key of `Content::Chosen`: the position in binary, of 8 and -8, then signs by chance.
    fn code(&self, prompt: usize, position: usize, kv_head: usize) -> Vec<f32> {
        let stream = (prompt * 100_000 + position * 100 + kv_head) as u32;
        let is_set = |i| if i < 8 { position >> i & 1 == 1 } else { value(stream, i) > 0.0 };
        (0..self.heads.head_dim).map(|i| if is_set(i) { 8.0 } else { -8.0 }).collect()
    }

    /// Row (q | k | v) of a prompt, in numbers of bf16. Where it stands is not part of it.
    pub fn row(&self, Row { prompt, position, .. }: Row) -> Vec<f32> {
        let Heads { n_heads, n_kv_heads, .. } = self.heads;
        let mut row = values((prompt * 1000 + position) as u32, self.ld());
        if self.content == Content::Even {
            row[..self.k_col()].fill(0.0);
        }
        if self.content == Content::Chosen {
            let key = |head: usize, at| self.code(prompt, at, head * n_kv_heads / n_heads);
            let queries = (0..n_heads).flat_map(|head| key(head, self.chosen(position, head)));
            let keys = (0..n_kv_heads).flat_map(|head| self.code(prompt, position, head));
            row.splice(..self.v_col(), queries.chain(keys).collect::<Vec<_>>());
        }
        if self.content != Content::Any {
            row[self.v_col()..].iter_mut().for_each(|x| *x = (*x * 8.0).round() + 0.0);
        }
        rounded(&row)
    }

    /// (cos, sin) of a position, each (head_dim / 2): any numbers will do, or none to turn by.
    fn angles(&self, position: usize) -> (Vec<f32>, Vec<f32>) {
        let half = self.heads.head_dim / 2;
        match self.content {
            Content::Any => {
                let of = |stream| values(stream + position as u32, half);
                (of(50_000), of(60_000))
            }
            _ => (vec![1.0; half], vec![0.0; half]),
        }
    }

    /// A row as the CPU turns it, rounded to bf16 once.
    pub fn turned(&self, row: Row) -> Vec<f32> {
        let (cos, sin) = self.angles(row.position);
        let mut turned = self.row(row);
        for head in turned[..self.v_col()].chunks_mut(self.heads.head_dim) {
            rotate(Isa::detect(), head, &cos, &sin);
        }
        rounded(&turned)
    }

    fn device_heads(&self) -> DeviceHeads {
        let Heads { n_heads, n_kv_heads, head_dim, window, score_factor } = self.heads;
        let sizes = [n_heads, n_kv_heads, head_dim, self.capacity, window.unwrap_or(0)];
        DeviceHeads { sizes: sizes.map(|size| size as i32), score_factor }
    }

    /// Appends rows to the cache, in a batch of their own.
    pub fn append(&self, rows: Vec<Row>, seed: u64) -> Batch {
        let all: Vec<f32> = rows.iter().flat_map(|row| self.row(*row)).collect();
        let qkv = Device::new(&to_bits(&all));
        let (cos, sin): (Vec<_>, Vec<_>) = (0..self.capacity).map(|p| self.angles(p)).unzip();
        let (cos, sin) = (Device::new(&cos.concat()), Device::new(&sin.concat()));
        let (slots, positions) = places(&rows);
        let grid = [rows.len(), 1, 1];
        let what = Launch { name: "rope_append_fast_v1", grid, block: 128, shared_bytes: 0, seed };
        if !rows.is_empty() {
            let (q, k, v) = (qkv.at(0), qkv.at(self.k_col()), qkv.at(self.v_col()));
            let (heads, ld) = (self.device_heads(), self.ld() as i32);
            let args: [&dyn Argument; 11] =
                [&q, &k, &v, &cos, &sin, &slots, &positions, &self.keys, &self.values, &heads, &ld];
            must_launch(what, &args);
        }
        Batch { rows, qkv }
    }

    /// Attention of a batch by a kernel, given what stands between positions and out: (n_rows,
    /// n_heads * head_dim).
    fn attend(&self, batch: &Batch, what: Launch, tiles: Option<&Device<[i32; 3]>>) -> Vec<f32> {
        let (slots, positions) = places(&batch.rows);
        let (n_cols, ldo) = (self.k_col(), self.k_col() + 2);
        let out = unset(batch.rows.len() * ldo);
        let (heads, ld, ldo_) = (self.device_heads(), self.ld() as i32, ldo as i32);
        let mut args: Vec<&dyn Argument> =
            vec![&batch.qkv, &self.keys, &self.values, &slots, &positions];
        args.extend(tiles.map(|tiles| tiles as &dyn Argument));
        args.extend([&out as &dyn Argument, &heads, &ld, &ldo_]);
        must_launch(what, &args);
        let out = out.read();
        let gaps = out.chunks(ldo).flat_map(|row| &row[n_cols..]);
        assert!(gaps.into_iter().all(|x| *x == u16::MAX), "{what:?}: wrote between rows");
        let wide = |row: &[u16]| -> Vec<f32> {
            row[..n_cols].iter().map(|x| bf16::from_bits(*x).to_f32()).collect()
        };
        out.chunks(ldo).flat_map(wide).collect()
    }

    fn widest(&self) -> usize {
        [64, 128, 256].into_iter().find(|most| self.heads.head_dim <= *most).unwrap()
    }

    fn group(&self) -> usize {
        self.heads.n_heads / self.heads.n_kv_heads
    }

    pub fn plainly(&self, batch: &Batch, seed: u64) -> Vec<f32> {
        let grid = [self.heads.head_dim.div_ceil(32), self.heads.n_heads, batch.rows.len()];
        let what = Launch { name: "attention_fast_v1", grid, block: 32, shared_bytes: 0, seed };
        self.attend(batch, what, None)
    }

    pub fn prefill(&self, family: Family, batch: &Batch, seed: u64) -> Vec<f32> {
        // (first_row, n_rows, out_row) of rows that follow one another.
        let mut tiles: Vec<[i32; 3]> = Vec::new();
        for (i, row) in batch.rows.iter().enumerate() {
            let follows = |last: Row| last.slot == row.slot && last.position + 1 == row.position;
            match tiles.last_mut() {
                Some([_, n, _]) if *n < 64 / self.group() as i32 && follows(batch.rows[i - 1]) => {
                    *n += 1;
                }
                _ => tiles.push([i as i32, 1, i as i32]),
            }
        }
        let widest = self.widest();
        let (name, shared_bytes) = match family {
            Family::Ampere => {
                let shared_bytes = [24576, 49152, 65536][widest / 128];
                (format!("attention_prefill_fast_{widest}_v2"), shared_bytes)
            }
            Family::Hopper => {
                let shared_bytes = [25600, 50176, 99328][widest / 128];
                (format!("attention_prefill_hopper_{widest}_v3"), shared_bytes)
            }
        };
        let grid = [tiles.len(), self.heads.n_kv_heads, 1];
        let what = Launch { name: &name, grid, block: 128, shared_bytes, seed };
        self.attend(batch, what, Some(&Device::new(&tiles)))
    }

    pub fn decode(&self, batch: &Batch, seed: u64) -> Vec<f32> {
        let widest = self.widest();
        let what = Launch {
            name: &format!("attention_decode_fast_{widest}_v2"),
            grid: [self.heads.n_kv_heads, batch.rows.len(), self.group().div_ceil(16)],
            block: 128,
            shared_bytes: 65536 + 32 * widest,
            seed,
        };
        self.attend(batch, what, None)
    }

    /// The CPU's exact attention of whole prompts, on the same numbers of bf16; with the magnitudes
    /// of values in their place.
    pub fn on_cpu(&self, lengths: &[usize], of_value: fn(f32) -> f32) -> Vec<f32> {
        let (heads, ld, capacity) = (&self.heads, self.ld(), padded(self.capacity));
        let mut all = Vec::new();
        for (prompt, n_rows) in lengths.iter().enumerate().filter(|(_, n)| **n > 0) {
            let mut rows: Vec<f32> =
                rows_of(prompt, 0..*n_rows).iter().flat_map(|row| self.turned(*row)).collect();
            for row in rows.chunks_mut(ld) {
                row[self.v_col()..].iter_mut().for_each(|x| *x = of_value(*x));
            }
            let mut keys = vec![0.0; heads.n_kv_heads * heads.head_dim * capacity];
            let mut values = vec![0.0; heads.n_kv_heads * padded(heads.head_dim) * capacity];
            let mut cache = Cache { keys: &mut keys, values: &mut values, capacity };
            append(heads, &mut cache, 0, &rows[self.k_col()..], &rows[self.v_col()..], ld);
            let (stride, isa) = (self.k_col(), Isa::detect());
            let mut out = vec![0.0; n_rows * stride];
            let mut scratch = Scratch::default();
            attend(isa, heads, &cache, 0, *n_rows, &rows, ld, &mut out, stride, &mut scratch);
            all.extend(out);
        }
        all
    }

    /// The largest sum of magnitudes of a score's products.
    pub fn largest_score(&self, lengths: &[usize]) -> f32 {
        let Heads { n_heads, n_kv_heads, head_dim, .. } = self.heads;
        let mut largest = 0.0f32;
        for (prompt, n_rows) in lengths.iter().enumerate() {
            let rows: Vec<Vec<f32>> =
                rows_of(prompt, 0..*n_rows).iter().map(|row| self.turned(*row)).collect();
            for head in 0..n_heads {
                let k_col = self.k_col() + head * n_kv_heads / n_heads * head_dim;
                for (i, row) in rows.iter().enumerate() {
                    for key in &rows[self.first_seen(i)..=i] {
                        let pairs = row[head * head_dim..][..head_dim].iter().zip(&key[k_col..]);
                        largest = largest.max(pairs.map(|(q, k)| (q * k).abs()).sum());
                    }
                }
            }
        }
        largest
    }
}

/// Slots and positions of rows.
pub fn places(rows: &[Row]) -> (Device<i32>, Device<i32>) {
    let of = |column: fn(&Row) -> usize| -> Device<i32> {
        Device::new(&rows.iter().map(|row| column(row) as i32).collect::<Vec<_>>())
    };
    (of(|row| row.slot), of(|row| row.position))
}
