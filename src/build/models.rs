//! The models' sizes, and the weights that training starts from.

use crate::mini::world::World;
use crate::model::weights::LINEARS;
use crate::rng::{Draws, Purpose};
use crate::train::decoder::Sizes;
use crate::train::optimizer::Flat;

/// Rank of the adapters; `lora_alpha` is the same, so that their product counts once.
pub const RANK: usize = 8;
/// Decoder layers.
const N_LAYERS: usize = 4;

/// The model's sizes.
pub fn sizes(world: &World) -> Sizes {
    Sizes {
        vocab_size: world.vocabulary.pieces().len(),
        dim: 96,
        n_layers: N_LAYERS,
        n_heads: 4,
        n_kv_heads: 1,
        head_dim: 24,
        ffn_dim: 288,
    }
}

/// The linear layers by name, with their (outputs, inputs).
pub fn linears(sizes: &Sizes) -> Vec<(String, (usize, usize))> {
    let of_layer = |layer: usize| {
        LINEARS.map(|linear| (format!("model.layers.{layer}.{linear}"), sizes.linear(linear)))
    };
    (0..sizes.n_layers).flat_map(of_layer).collect()
}

/// The base's weights before its training: norms as they are, all else random. Wide enough that
/// attention is not even from the start: it then finds the options some three times sooner.
pub fn base_start(world: &World, seed: u64) -> Flat {
    let draws = Draws::new(seed);
    let start = |(idx, (name, shape)): (usize, (String, Vec<usize>))| {
        let n: usize = shape.iter().product();
        let spread = match name.as_str() {
            name if name.ends_with("norm.weight") => 0.0,
            "model.embed_tokens.weight" => 0.05,
            name if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") => 0.05,
            _ => 0.08,
        };
        (name, uniform(&draws, idx, n, spread))
    };
    sizes(world).tensors().into_iter().enumerate().map(start).collect()
}

/// Factor A of every linear layer, (RANK, n_in): one initialisation for all adapters.
pub fn factors_a(world: &World, seed: u64) -> Flat {
    let draws = Draws::new(seed);
    let factor = |(idx, (name, (_, n_in))): (usize, (String, (usize, usize)))| {
        (name, uniform(&draws, 1000 + idx, RANK * n_in, 1.0 / (n_in as f64).sqrt()))
    };
    linears(&sizes(world)).into_iter().enumerate().map(factor).collect()
}

/// Factor B of every linear layer, (n_out, RANK), before training: nothing.
pub fn zero_b(world: &World) -> Flat {
    let zero = |(name, (n_out, _)): (String, (usize, usize))| (name, vec![0.0; n_out * RANK]);
    linears(&sizes(world)).into_iter().map(zero).collect()
}

/// Numbers of mean 0 and this standard deviation.
fn uniform(draws: &Draws, tensor: usize, n: usize, spread: f64) -> Vec<f32> {
    let mut stream = draws.stream(Purpose::Weights, 0, tensor);
    let width = spread * 12f64.sqrt();
    (0..n).map(|_| ((stream.uniform() - 0.5) * width) as f32).collect()
}
