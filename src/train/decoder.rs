//! A Gemma decoder that can be differentiated: the forward pass of `model`, in candle's operations.
//!
//! Weights carry the names that transformers gives them. Where an adapter is trained, its factor A
//! stays as it was drawn and only B learns: the update is then linear in what is trained, and the
//! updates of experts that share A add up without cross terms.

use std::collections::BTreeMap;

use candle_core::{D, Device, Result, Tensor};

use crate::model::weights::LINEARS;

/// Sizes of the model.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub dim: usize,
    /// Decoder layers.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Width of the feed-forward network.
    pub ffn_dim: usize,
}

/// Gemma's rotary base and norm epsilon.
pub const ROPE_THETA: f64 = 10_000.0;
/// Added to the mean square before its root.
pub const NORM_EPS: f64 = 1e-6;

impl Sizes {
    /// (outputs, inputs) of a linear layer of [`LINEARS`].
    pub fn linear(&self, name: &str) -> (usize, usize) {
        let (q_dim, kv_dim) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        match name {
            "self_attn.q_proj" => (q_dim, self.dim),
            "self_attn.k_proj" | "self_attn.v_proj" => (kv_dim, self.dim),
            "self_attn.o_proj" => (self.dim, q_dim),
            "mlp.gate_proj" | "mlp.up_proj" => (self.ffn_dim, self.dim),
            "mlp.down_proj" => (self.dim, self.ffn_dim),
            _ => unreachable!("{name} is none of a layer's linears"),
        }
    }

    /// Name and shape of every tensor of the model.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut tensors =
            vec![("model.embed_tokens.weight".into(), vec![self.vocab_size, self.dim])];
        for layer in 0..self.n_layers {
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                tensors.push((format!("model.layers.{layer}.{norm}.weight"), vec![self.dim]));
            }
            for linear in LINEARS {
                let (n_out, n_in) = self.linear(linear);
                tensors.push((format!("model.layers.{layer}.{linear}.weight"), vec![n_out, n_in]));
            }
        }
        tensors.push(("model.norm.weight".into(), vec![self.dim]));
        tensors
    }
}

/// What is learnt or used: tensors by name.
pub type Weights = BTreeMap<String, Tensor>;

/// An adapter under training: for each linear layer its A and B, and the factor on their product.
pub struct Lora<'a> {
    /// `model.layers.0.mlp.up_proj` -> (A (rank, n_in), B (n_out, rank)).
    pub factors: &'a BTreeMap<String, (Tensor, Tensor)>,
    /// alpha / rank, or what stands in for it at this step.
    pub scale: f64,
}

/// The decoder over given weights.
pub struct Decoder<'a> {
    /// Its sizes.
    pub sizes: Sizes,
    /// Its weights.
    pub weights: &'a Weights,
    /// The adapter beside them, if any.
    pub lora: Option<Lora<'a>>,
}

impl Decoder<'_> {
    /// Logits (n_rows * n_tokens, vocab_size) of `tokens` (n_rows, n_tokens).
    pub fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let (n_rows, n_tokens) = tokens.dims2()?;
        let embedding = self.weight("model.embed_tokens.weight");
        let dim = self.sizes.dim;
        let rope = Rope::new(&self.sizes, n_tokens, tokens.device())?;
        let mask = causal_mask(n_tokens, tokens.device())?;
        let mut x = embedding.index_select(&tokens.flatten_all()?, 0)?;
        x = (x * (dim as f64).sqrt())?;
        for layer in 0..self.sizes.n_layers {
            let name = format!("model.layers.{layer}");
            let normed = self.norm(&x, &format!("{name}.input_layernorm.weight"))?;
            let attended = self.attend(&name, &normed, (n_rows, n_tokens), &rope, &mask)?;
            x = (x + self.linear(&name, "self_attn.o_proj", &attended)?)?;
            let normed = self.norm(&x, &format!("{name}.post_attention_layernorm.weight"))?;
            let gate = self.linear(&name, "mlp.gate_proj", &normed)?.gelu()?;
            let inner = (gate * self.linear(&name, "mlp.up_proj", &normed)?)?;
            x = (x + self.linear(&name, "mlp.down_proj", &inner)?)?;
        }
        self.norm(&x, "model.norm.weight")?.matmul(&embedding.t()?)
    }

    fn weight(&self, name: &str) -> &Tensor {
        &self.weights[name]
    }

    /// RMSNorm with Gemma's added one.
    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
        let x = x.broadcast_div(&(mean_square + NORM_EPS)?.sqrt()?)?;
        x.broadcast_mul(&(self.weight(name) + 1.0)?)
    }

    /// `x W^T + scale (x A^T) B^T`
    fn linear(&self, layer: &str, linear: &str, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.weight(&format!("{layer}.{linear}.weight")).t()?)?;
        let Some(lora) = &self.lora else { return Ok(y) };
        let (a, b) = &lora.factors[&format!("{layer}.{linear}")];
        y + (x.matmul(&a.t()?)?.matmul(&b.t()?)? * lora.scale)?
    }

    fn attend(
        &self,
        layer: &str,
        x: &Tensor,
        (n_rows, n_tokens): (usize, usize),
        rope: &Rope,
        mask: &Tensor,
    ) -> Result<Tensor> {
        let Sizes { n_heads, n_kv_heads, head_dim, .. } = self.sizes;
        let heads = |name: &str, n: usize| -> Result<Tensor> {
            let y = self.linear(layer, name, x)?;
            y.reshape((n_rows, n_tokens, n, head_dim))?.transpose(1, 2)?.contiguous()
        };
        let q = rope.rotate(&heads("self_attn.q_proj", n_heads)?)?;
        let k = rope.rotate(&heads("self_attn.k_proj", n_kv_heads)?)?;
        let v = heads("self_attn.v_proj", n_kv_heads)?;
        // Query heads that share a key head stand one below the other.
        let group = n_heads / n_kv_heads;
        let q = q.reshape((n_rows, n_kv_heads, group * n_tokens, head_dim))?;
        let scores = (q.matmul(&k.t()?)? / (head_dim as f64).sqrt())?;
        let scores = scores.reshape((n_rows, n_heads, n_tokens, n_tokens))?.broadcast_add(mask)?;
        let shares = softmax(&scores)?;
        let shares = shares.reshape((n_rows, n_kv_heads, group * n_tokens, n_tokens))?;
        let out = shares.matmul(&v)?.reshape((n_rows, n_heads, n_tokens, head_dim))?;
        out.transpose(1, 2)?.reshape((n_rows * n_tokens, n_heads * head_dim))
    }
}

fn softmax(scores: &Tensor) -> Result<Tensor> {
    let max = scores.max_keepdim(D::Minus1)?.detach();
    let numerators = scores.broadcast_sub(&max)?.exp()?;
    numerators.broadcast_div(&numerators.sum_keepdim(D::Minus1)?)
}

/// (n_tokens, n_tokens): 0 where a row may look, minus infinity elsewhere.
fn causal_mask(n_tokens: usize, device: &Device) -> Result<Tensor> {
    let mask: Vec<f32> = (0..n_tokens * n_tokens)
        .map(|i| if i % n_tokens > i / n_tokens { f32::NEG_INFINITY } else { 0.0 })
        .collect();
    Tensor::from_vec(mask, (n_tokens, n_tokens), device)
}

/// Cosines and sines, (n_tokens, head_dim / 2).
struct Rope {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    fn new(sizes: &Sizes, n_tokens: usize, device: &Device) -> Result<Self> {
        let half = sizes.head_dim / 2;
        let angles: Vec<f32> = (0..n_tokens * half)
            .map(|i| {
                let exponent = (i % half) as f64 / half as f64;
                ((i / half) as f64 / ROPE_THETA.powf(exponent)) as f32
            })
            .collect();
        let angles = Tensor::from_vec(angles, (n_tokens, half), device)?;
        Ok(Self { cos: angles.cos()?, sin: angles.sin()? })
    }

    fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let half = x.dim(D::Minus1)? / 2;
        let (a, b) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
        let first = (a.broadcast_mul(&self.cos)? - b.broadcast_mul(&self.sin)?)?;
        let second = (b.broadcast_mul(&self.cos)? + a.broadcast_mul(&self.sin)?)?;
        Tensor::cat(&[first, second], D::Minus1)
    }
}
