//! The forward pass, one list of steps for prefill and decode alike.
//!
//! A batch is a list of segments: some tokens of some sequence, from some position on. Rows of
//! different sequences stand one below the other without padding; only attention knows which rows
//! belong together. A row's result depends on its own sequence alone.
//!
//! In the last layer only rows whose result is wanted go on past the keys and values: for a prompt
//! that is its last token, which saves most of that layer.

use super::decoder::Decoder;
use super::lora::Adapted;
use super::weights::{Layer, Linears};
use crate::backend::cpu::math::{exp_f64, ln_f64};
use crate::backend::{Backend, Phase, Room, Span, Workers};
use crate::error::Result;

/// Tokens of one sequence, to be run from position `first` on.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// The sequence's slot in the cache.
    pub slot: usize,
    /// The adapter, by its index in the set that is applied.
    pub adapter_idx: usize,
    /// Position of the first token: so many stand in the cache already.
    pub first: usize,
    /// The tokens.
    pub tokens: &'a [u32],
    /// Which of its rows go on to the output.
    pub want: Want,
}

/// Which rows of a segment are wanted at the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// None: the segment is an earlier part of a prompt.
    Nothing,
    /// The last: the next token follows from it.
    Last,
    /// Every row: each token's probability is asked for.
    All,
}

/// Working memory of one worker's forward passes, with the key-value cache of its sequences.
pub struct State<B: Backend> {
    scratch: B::Scratch,
    cache: B::Cache,
    x: B::Matrix,                // (n_rows, dim): the residual stream
    normed: B::Matrix,           // (n_rows, dim)
    qkv: B::Matrix,              // (n_rows, q | k | v)
    attended: B::Matrix,         // (n_rows, n_heads * head_dim)
    out: B::Matrix,              // (n_rows, dim): what a block adds to the residual stream
    gate_up: B::Matrix,          // (n_rows, gate | up)
    logits: B::Matrix,           // (n_wanted, vocab_size)
    waiting_x: B::Matrix,        // (n_wanted, dim): rows that wait for `logits`
    waiting_attended: B::Matrix, // (n_wanted, n_heads * head_dim)
    waiting: Vec<Span>,          // whose rows they are
}

impl<B: Backend> Default for State<B> {
    fn default() -> Self {
        Self {
            scratch: B::Scratch::default(),
            cache: B::Cache::default(),
            x: B::Matrix::default(),
            normed: B::Matrix::default(),
            qkv: B::Matrix::default(),
            attended: B::Matrix::default(),
            out: B::Matrix::default(),
            gate_up: B::Matrix::default(),
            logits: B::Matrix::default(),
            waiting_x: B::Matrix::default(),
            waiting_attended: B::Matrix::default(),
            waiting: Vec::new(),
        }
    }
}

impl<B: Backend> State<B> {
    /// Makes room for `n_slots` sequences of at most `n_positions` tokens each.
    pub fn prepare(
        &mut self,
        decoder: &Decoder<B>,
        workers: Workers,
        n_slots: usize,
        n_positions: usize,
    ) {
        let config = &decoder.config;
        let room = Room { heads: config.heads(), n_layers: config.n_layers, n_slots, n_positions };
        let frequencies = rotary_frequencies(config.rope_theta, config.head_dim / 2);
        let (scratch, cache) = (&mut self.scratch, &mut self.cache);
        decoder.backend.prepare(scratch, cache, workers, room, &frequencies);
    }

    /// Runs the segments; [`State::logits`] then tells what may follow the wanted rows.
    ///
    /// The wanted rows wait behind the last layer's attention, so that what is left of that layer
    /// reads its weights once for the rows of several calls.
    pub fn forward(
        &mut self,
        decoder: &Decoder<B>,
        adapted: &Adapted<B>,
        segments: &[Segment],
        phase: Phase,
    ) {
        let (config, backend) = (&decoder.config, &decoder.backend);
        let tokens: Vec<u32> =
            segments.iter().flat_map(|segment| segment.tokens).copied().collect();
        let (spans, wanted) = spans(segments);
        let (scratch, table) = (&mut self.scratch, &decoder.weights.embedding);
        let rows = backend.rows(scratch, spans.clone(), phase);
        backend.embed(scratch, table, &tokens, config.embed_scale, &mut self.x);
        for layer_idx in 0..config.n_layers {
            let layer = AdaptedLayer::new(decoder, adapted, layer_idx, &spans);
            self.read(decoder, &layer, &rows);
            if layer_idx + 1 < config.n_layers {
                self.attend(decoder, layer_idx, &rows);
                self.feed_forward(decoder, &layer, &rows);
            } else {
                let rows = backend.rows(&mut self.scratch, wanted.clone(), phase);
                self.attend(decoder, layer_idx, &rows);
                let scratch = &mut self.scratch;
                backend.append(scratch, &mut self.waiting_x, &self.x, Some(&rows));
                backend.append(scratch, &mut self.waiting_attended, &self.attended, None);
            }
        }
        for span in wanted {
            let row = self.waiting.last().map_or(0, |last| last.row + last.n_rows);
            self.waiting.push(Span { row, ..span });
        }
    }

    /// Logits of all rows that were wanted since the last call, in the order of the segments:
    /// (n_wanted, vocab_size).
    pub fn logits(&mut self, decoder: &Decoder<B>, adapted: &Adapted<B>) -> Outcome<'_, B> {
        self.rest(decoder, adapted);
        let Self { scratch, normed, logits, .. } = self;
        decoder.backend.logits(scratch, normed, &decoder.weights.output, logits);
        Outcome { scratch, matrix: logits }
    }

    /// What [`State::logits`] is a product of: the last hidden states of the same rows, normed,
    /// (n_wanted, dim).
    pub fn hidden(&mut self, decoder: &Decoder<B>, adapted: &Adapted<B>) -> Outcome<'_, B> {
        self.rest(decoder, adapted);
        Outcome { scratch: &mut self.scratch, matrix: &self.normed }
    }

    /// What is left of the last layer for the rows that wait, and the last norm.
    fn rest(&mut self, decoder: &Decoder<B>, adapted: &Adapted<B>) {
        let backend = &decoder.backend;
        std::mem::swap(&mut self.x, &mut self.waiting_x);
        std::mem::swap(&mut self.attended, &mut self.waiting_attended);
        let waiting = std::mem::take(&mut self.waiting);
        let layer = AdaptedLayer::new(decoder, adapted, decoder.config.n_layers - 1, &waiting);
        let rows = backend.rows(&mut self.scratch, waiting, Phase::Prompt);
        self.feed_forward(decoder, &layer, &rows);
        let (norm, eps) = (&decoder.weights.norm, decoder.config.norm_eps);
        let (scratch, out) = (&mut self.scratch, Some(&self.out));
        backend.add_norm(scratch, &mut self.x, out, norm, eps, &mut self.normed);
        backend.clear(&mut self.waiting_x);
        backend.clear(&mut self.waiting_attended);
    }

    /// The block before is added to x; norm; queries, keys and values, which go to the cache.
    fn read(&mut self, decoder: &Decoder<B>, layer: &AdaptedLayer<B>, rows: &B::Rows) {
        let (backend, eps) = (&decoder.backend, decoder.config.norm_eps);
        let Self { scratch, x, out, normed, qkv, cache, .. } = self;
        let before = (layer.idx > 0).then_some(&*out);
        backend.add_norm(scratch, x, before, &layer.base.input_norm, eps, normed);
        let weights = &layer.linears.qkv;
        backend.product(scratch, normed, weights, layer.update(0, rows), qkv);
        backend.rotate_append(scratch, qkv, weights, rows, cache, layer.idx);
    }

    /// Attention of `rows`.
    fn attend(&mut self, decoder: &Decoder<B>, layer_idx: usize, rows: &B::Rows) {
        let Self { scratch, qkv, cache, attended, .. } = self;
        decoder.backend.attend(scratch, qkv, rows, cache, layer_idx, attended);
    }

    /// What follows attention: its output matrix, added to x; then norm and the gated feed-forward
    /// network, whose result waits in `out` to be added.
    fn feed_forward(&mut self, decoder: &Decoder<B>, layer: &AdaptedLayer<B>, rows: &B::Rows) {
        let (config, backend, linears) = (&decoder.config, &decoder.backend, layer.linears);
        let Self { scratch, x, out, normed, attended, gate_up, .. } = self;
        backend.product(scratch, attended, &linears.o, layer.update(1, rows), out);
        backend.add_norm(scratch, x, Some(out), &layer.base.post_norm, config.norm_eps, normed);
        backend.product(scratch, normed, &linears.gate_up, layer.update(2, rows), gate_up);
        let (activation, ffn_dim) = (config.activation, config.ffn_dim);
        backend.activate(scratch, activation, gate_up, &linears.gate_up, ffn_dim);
        backend.product(scratch, gate_up, &linears.down, layer.update(3, rows), out);
    }
}

/// The rows that were wanted, at the output.
pub struct Outcome<'a, B: Backend> {
    scratch: &'a mut B::Scratch,
    matrix: &'a B::Matrix,
}

impl<B: Backend> Outcome<'_, B> {
    /// The token with the largest logit of each row.
    pub fn largest(self, decoder: &Decoder<B>) -> Result<Vec<u32>> {
        decoder.backend.largest(self.scratch, self.matrix, decoder.config.vocab_size)
    }

    /// `ln softmax(row)[token]` for each (row, token).
    pub fn log_probabilities(
        self,
        decoder: &Decoder<B>,
        wanted: &[(usize, u32)],
    ) -> Result<Vec<f64>> {
        let vocab_size = decoder.config.vocab_size;
        decoder.backend.log_probabilities(self.scratch, self.matrix, vocab_size, wanted)
    }

    /// Shows `visit` each row in turn, with its index.
    pub fn each_row(
        &mut self,
        decoder: &Decoder<B>,
        n_cols: usize,
        visit: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        decoder.backend.each_row(self.scratch, self.matrix, n_cols, visit)
    }
}

/// The rows of a batch, and those of them that go on past the last layer's keys and values.
fn spans(segments: &[Segment]) -> (Vec<Span>, Vec<Span>) {
    let mut spans: Vec<Span> = Vec::with_capacity(segments.len());
    let mut wanted = Vec::new();
    for &Segment { slot, adapter_idx, first, tokens, want } in segments {
        let row = spans.last().map_or(0, |last| last.row + last.n_rows);
        let span = Span { row, n_rows: tokens.len(), slot, first, adapter_idx };
        spans.push(span);
        let skipped = match want {
            Want::Nothing => continue,
            Want::Last => tokens.len() - 1,
            Want::All => 0,
        };
        let (row, first) = (row + skipped, first + skipped);
        wanted.push(Span { row, first, n_rows: tokens.len() - skipped, ..span });
    }
    (spans, wanted)
}

/// A layer as the adapters of a batch make it.
struct AdaptedLayer<'a, B: Backend> {
    idx: usize,
    base: &'a Layer<B>,
    linears: &'a Linears<B>,
    updates: Option<&'a [Option<B::Update>; 4]>,
}

impl<'a, B: Backend> AdaptedLayer<'a, B> {
    /// # Panics
    /// If rows of several adapters are to run through merged weights.
    fn new(decoder: &'a Decoder<B>, adapted: &'a Adapted<B>, idx: usize, spans: &[Span]) -> Self {
        let base = &decoder.weights.layers[idx];
        let (linears, updates) = match adapted {
            Adapted::Base => (&base.linears, None),
            Adapted::Merged(adapters) => {
                let adapter_idx = spans.first().map_or(0, |span| span.adapter_idx);
                let is_one = spans.iter().all(|span| span.adapter_idx == adapter_idx);
                assert!(is_one, "merged weights are of one adapter");
                (&adapters[adapter_idx][idx], None)
            }
            Adapted::Unmerged { layers, .. } => (&base.linears, Some(&layers[idx])),
        };
        Self { idx, base, linears, updates }
    }

    /// The update beside one of the four products.
    fn update<'b>(&self, product: usize, rows: &'b B::Rows) -> Option<(&'b B::Update, &'b B::Rows)>
    where
        'a: 'b,
    {
        self.updates.and_then(|updates| updates[product].as_ref()).map(|update| (update, rows))
    }
}

/// `1 / theta^(i / half)` for i below half. Exponent, power and inverse are each rounded to f32, as
/// transformers has it: at position 3000 an angle would otherwise be off by 2e-4.
fn rotary_frequencies(theta: f64, half: usize) -> Vec<f32> {
    let ln_theta = ln_f64(theta);
    let frequency = |i: usize| {
        let exponent = i as f32 / half as f32;
        1.0 / (exp_f64(ln_theta * f64::from(exponent)) as f32)
    };
    (0..half).map(frequency).collect()
}

#[cfg(test)]
mod tests {
    use super::rotary_frequencies;

    #[test]
    #[rustfmt::skip]
    fn frequencies_are_those_of_transformers() {
        // If this fails, long prompts are read with other angles than the reference's.
        let llama = [
            1.0, 0.33503163, 0.11224619, 0.03760603, 0.012599208, 0.004221135, 0.0014142134,
            0.0004738064, 0.00015874006, 5.3182957e-05, 1.781798e-05, 5.9695835e-06,
        ];
        assert_eq!(rotary_frequencies(5e5, 12), llama);
        let gemma = [
            1.0, 0.6309573, 0.39810717, 0.25118864, 0.15848932, 0.1, 0.063095726, 0.03981072,
            0.025118863, 0.015848935, 0.01, 0.006309573, 0.0039810706, 0.0025118869,
            0.0015848933, 0.001, 0.0006309573, 0.00039810708, 0.0002511887, 0.00015848933,
        ];
        assert_eq!(rotary_frequencies(1e4, 20), gemma);
    }
}
