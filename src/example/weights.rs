//! The example's weights: a small Gemma that answers in letters, and ten experts that disagree.
//!
//! Nothing is trained: weights are drawn from `hash`, with spreads at which a random Gemma's logits
//! are neither flat nor saturated. Two channels of the hidden state are wired by hand. Channel 0 is
//! the same in every token and favours the four answers; channel 1 is set by an answer just given
//! and favours `<eos>`. So a prompt is answered by one letter, and which letter depends on all of
//! it.

use super::hash::Hash;
use super::vocabulary::{ANSWERS, VOCAB_SIZE, content_pieces, pieces};

/// Length of a hidden state.
pub const DIM: usize = 128;
/// Length of the feed-forward network's inner state.
pub const FFN_DIM: usize = 256;
/// Decoder layers.
pub const N_LAYERS: usize = 2;
/// Heads of queries.
pub const N_HEADS: usize = 4;
/// Heads of keys and values.
pub const N_KV_HEADS: usize = 2;
/// Length of one head.
pub const HEAD_DIM: usize = 32;
/// Rank of the adapters.
pub const RANK: usize = 8;
/// The adapters' `lora_alpha`: their product is scaled by `ALPHA / RANK`.
pub const ALPHA: usize = 16;
/// The experts, in the order of their folders' names.
pub const EXPERTS: [&str; 10] =
    ["aster", "birch", "cedar", "daisy", "elder", "fern", "gorse", "hazel", "iris", "juniper"];

const EOS: usize = 1;
/// The channel that is the same in every token, and the one that an answer sets.
const CONSTANT: usize = 0;
const ANSWERED: usize = 1;
const N_WIRED: usize = 2;

/// A tensor: its name, its shape, and its values in row-major order.
pub type NamedTensor = (String, Vec<usize>, Vec<f32>);

/// A linear layer: its name within the decoder layer, its rows (outputs) and columns (inputs).
type Linear = (&'static str, usize, usize);

const LINEARS: [Linear; 7] = [
    ("mlp.down_proj", DIM, FFN_DIM),
    ("mlp.gate_proj", FFN_DIM, DIM),
    ("mlp.up_proj", FFN_DIM, DIM),
    ("self_attn.k_proj", N_KV_HEADS * HEAD_DIM, DIM),
    ("self_attn.o_proj", DIM, N_HEADS * HEAD_DIM),
    ("self_attn.q_proj", N_HEADS * HEAD_DIM, DIM),
    ("self_attn.v_proj", N_KV_HEADS * HEAD_DIM, DIM),
];

/// The tensors of the base model.
pub fn base_tensors(seed: u64) -> Vec<NamedTensor> {
    let mut tensors = vec![embedding(seed), final_norm(seed)];
    for layer_idx in 0..N_LAYERS {
        let prefix = format!("model.layers.{layer_idx}");
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            let name = format!("{prefix}.{norm}.weight");
            let values = Hash::new(seed, &name).uniform(DIM, 0.12);
            tensors.push((name, vec![DIM], values));
        }
        for (linear, n_rows, n_columns) in LINEARS {
            let name = format!("{prefix}.{linear}.weight");
            let mut values = Hash::new(seed, &name).uniform(n_rows * n_columns, gain(linear));
            let fan_in = (n_columns as f32).sqrt();
            values.iter_mut().for_each(|value| *value /= fan_in);
            if writes_to_the_residual(linear) {
                values[..N_WIRED * n_columns].fill(0.0);
            } else {
                blind(&mut values, n_columns);
            }
            tensors.push((name, vec![n_rows, n_columns], values));
        }
    }
    tensors
}

/// The tensors of the expert `EXPERTS[expert_idx]`: one initialisation of A shared by all, with a
/// small part of its own, and a B of its own. So the experts' mixtures, too, are far from the base.
pub fn expert_tensors(seed: u64, expert_idx: usize) -> Vec<NamedTensor> {
    let expert = EXPERTS[expert_idx];
    let mut tensors = Vec::new();
    for layer_idx in 0..N_LAYERS {
        for (linear, n_rows, n_columns) in LINEARS {
            let module = format!("base_model.model.model.layers.{layer_idx}.{linear}");
            let (a_name, b_name) =
                (format!("{module}.lora_A.weight"), format!("{module}.lora_B.weight"));
            let a_std = 1.0 / (n_columns as f32).sqrt();
            let n_a = RANK * n_columns;
            let mut a = Hash::new(seed, &format!("shared/{a_name}")).uniform(n_a, a_std);
            let own = Hash::new(seed, &format!("{expert}/{a_name}")).uniform(n_a, A_OWN * a_std);
            a.iter_mut().zip(own).for_each(|(shared, own)| *shared += own);
            let mut b =
                Hash::new(seed, &format!("{expert}/{b_name}")).uniform(n_rows * RANK, B_STD);
            if writes_to_the_residual(linear) {
                b[..N_WIRED * RANK].fill(0.0);
            } else {
                blind(&mut a, n_columns);
            }
            tensors.push((a_name, vec![RANK, n_columns], a));
            tensors.push((b_name, vec![n_rows, RANK], b));
        }
    }
    tensors
}

/// How far an expert's A is from the shared one, relative to it.
const A_OWN: f32 = 0.1;
/// Spread of B: at 0.16 two experts agree on one question of three, a little above chance.
const B_STD: f32 = 0.16;
/// How much softer than people, towns and values the words speak that all questions share. Were
/// they as loud, their sum would settle the answer, and one letter would take most of the
/// questions.
const QUIET: f32 = 0.02;

/// Spread of a linear layer's outputs for inputs of unit spread.
fn gain(linear: &str) -> f32 {
    if writes_to_the_residual(linear) { 2.0 } else { 1.2 }
}

/// Makes a matrix (rows, n_columns) that reads the hidden state see nothing of the wired channels.
fn blind(values: &mut [f32], n_columns: usize) {
    values.chunks_exact_mut(n_columns).for_each(|row| row[..N_WIRED].fill(0.0));
}

fn writes_to_the_residual(linear: &str) -> bool {
    linear == "self_attn.o_proj" || linear == "mlp.down_proj"
}

/// (VOCAB_SIZE, DIM), the two wired channels included.
fn embedding(seed: u64) -> NamedTensor {
    let name = "model.embed_tokens.weight".to_owned();
    let mut values = Hash::new(seed, &name).uniform(VOCAB_SIZE * DIM, 0.15);
    let content = content_pieces();
    for (row, piece) in values.chunks_exact_mut(DIM).zip(pieces()) {
        let is_answer = ANSWERS.contains(&piece.as_str());
        if !is_answer && !content.contains(&piece) {
            row.iter_mut().for_each(|value| *value *= QUIET);
        }
        row[CONSTANT] = if is_answer { 3.5 } else { 1.0 };
        row[ANSWERED] = if is_answer { 4.0 } else { 0.0 };
    }
    values[EOS * DIM + ANSWERED] = -1.0;
    (name, vec![VOCAB_SIZE, DIM], values)
}

/// Gains of mean zero (a gain is 1 plus the stored value): with gains around 1, tied embeddings
/// would make a random model repeat the token it has just read.
fn final_norm(seed: u64) -> NamedTensor {
    let name = "model.norm.weight".to_owned();
    let mut values = Hash::new(seed, &name).uniform(DIM, 1.0);
    values.iter_mut().for_each(|value| *value -= 1.0);
    values[CONSTANT] = 0.0;
    values[ANSWERED] = -2.0;
    (name, vec![DIM], values)
}
