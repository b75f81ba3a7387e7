//! AdamW with a warm-up and a cosine, over plain vectors, so that its state can be saved.

use std::collections::BTreeMap;

use crate::backend::cpu::math::sin_cos_f64;

/// Tensors by name, flat.
pub type Flat = BTreeMap<String, Vec<f32>>;

/// How a model is trained.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Steps in all.
    pub n_steps: usize,
    /// Steps until the full learning rate.
    pub n_warm_up: usize,
    /// The learning rate at its height.
    pub learning_rate: f64,
    /// What is left of it at the end.
    pub floor: f64,
    /// Decay of the weights, decoupled from the gradient.
    pub weight_decay: f64,
    /// The longest gradient; a longer one is shortened.
    pub clip: f64,
}

impl Schedule {
    /// The learning rate of a step, counted from 0.
    pub fn rate(&self, step: usize) -> f64 {
        let warm = ((step + 1) as f64 / self.n_warm_up.max(1) as f64).min(1.0);
        let done = step as f64 / self.n_steps as f64;
        let (_, cosine) = sin_cos_f64(std::f64::consts::PI * done);
        self.learning_rate * warm * (self.floor + (1.0 - self.floor) * 0.5 * (1.0 + cosine))
    }
}

/// The state of AdamW (Loshchilov and Hutter): a model and its moments.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AdamW {
    /// What is learnt.
    pub weights: Flat,
    /// Means of the gradients.
    pub first: Flat,
    /// Means of their squares.
    pub second: Flat,
    /// Steps done.
    pub step: usize,
}

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.98;
const EPSILON: f64 = 1e-8;

impl AdamW {
    /// No step done.
    pub fn new(weights: Flat) -> Self {
        let zeros = |weights: &Flat| {
            weights.iter().map(|(name, values)| (name.clone(), vec![0.0; values.len()])).collect()
        };
        Self { first: zeros(&weights), second: zeros(&weights), weights, step: 0 }
    }

    /// One step along the gradients, which name what the weights name.
    pub fn update(&mut self, gradients: &Flat, schedule: &Schedule) {
        let squares: f64 =
            gradients.values().flatten().map(|g| f64::from(*g) * f64::from(*g)).sum();
        let shorten = (schedule.clip / squares.sqrt().max(1e-12)).min(1.0) as f32;
        let rate = schedule.rate(self.step);
        self.step += 1;
        let (beta_1, beta_2) = (BETA_1 as f32, BETA_2 as f32);
        let correct_1 = 1.0 - BETA_1.powi(self.step as i32);
        let correct_2 = 1.0 - BETA_2.powi(self.step as i32);
        let pace = (rate / correct_1) as f32;
        for (name, weights) in &mut self.weights {
            // Only matrices decay; a norm's weight is a factor, not a direction.
            let is_norm = name.ends_with("norm.weight");
            let keep = 1.0 - if is_norm { 0.0 } else { (rate * schedule.weight_decay) as f32 };
            let first = self.first.get_mut(name).into_iter().flatten();
            let second = self.second.get_mut(name).into_iter().flatten();
            for (((w, m), v), g) in weights.iter_mut().zip(first).zip(second).zip(&gradients[name])
            {
                let g = g * shorten;
                *m = beta_1 * *m + (1.0 - beta_1) * g;
                *v = beta_2 * *v + (1.0 - beta_2) * g * g;
                let root = (f64::from(*v) / correct_2).sqrt() as f32;
                *w = *w * keep - pace * *m / (root + EPSILON as f32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bowl_is_descended_to_its_bottom() {
        // If this fails, training goes the wrong way, or a step is of the wrong size.
        let schedule = Schedule {
            n_steps: 400,
            n_warm_up: 10,
            learning_rate: 0.05,
            floor: 0.0,
            weight_decay: 0.0,
            clip: 1.0,
        };
        let bottom = [0.5f32, -2.0, 0.0];
        let mut adam = AdamW::new(Flat::from([("w".into(), vec![0.0, 0.0, 1.0])]));
        for _ in 0..schedule.n_steps {
            let gradient = adam.weights["w"].iter().zip(bottom).map(|(w, b)| w - b).collect();
            adam.update(&Flat::from([("w".into(), gradient)]), &schedule);
        }
        for (w, b) in adam.weights["w"].iter().zip(bottom) {
            assert!((w - b).abs() < 1e-2, "{w} {b}");
        }
    }
}
