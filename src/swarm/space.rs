//! Where particles are and how they move: the arithmetic of Algorithm 1 on locations.
//!
//! Populate, first velocity and update are linear with coefficients that sum to 1, 0 and 1, so
//! every location is an affine combination of the n experts and [`Coefficients`] keeps just that
//! row. [`super::Weights`] does the same on the weights themselves. Neither knows why a particle
//! moves.

/// A swarm's state: for each particle x, v and p, for the swarm g and g_w.
pub trait Space {
    /// The state as rows of coefficients over the experts.
    fn coefficients(&self) -> &Coefficients;

    /// x_child = shares\[0\] x_a + shares\[1\] x_b, and p_child the same. `child` is not a parent
    /// and the parents differ.
    fn mix(&mut self, child: usize, parents: [usize; 2], shares: [f64; 2]);

    /// v_i = x_target - x_i.
    fn aim(&mut self, particle: usize, target: usize);

    /// v_i = g - x_i.
    fn aim_at_global_best(&mut self, particle: usize);

    /// Velocity and location update: v_i = a_v v_i + a_p (p_i - x_i) + a_g (g - x_i) +
    /// a_w (x_i - g_w), then x_i = x_i + step v_i.
    fn advance(&mut self, particle: usize, weights: [f64; 4], step: f64);

    /// p_i = x_i.
    fn mark_personal_best(&mut self, particle: usize);

    /// g = x_i.
    fn mark_global_best(&mut self, particle: usize);

    /// g_w = x_i.
    fn mark_global_worst(&mut self, particle: usize);

    /// x_i = p_i, v_i = 0.
    fn restart(&mut self, particle: usize);
}

/// One element of the update: the new v and x. The terms are added in the authors' order.
#[inline]
pub(super) fn advanced(
    [x, v, p, g, g_w]: [f64; 5],
    [a_v, a_p, a_g, a_w]: [f64; 4],
    step: f64,
) -> [f64; 2] {
    let v = a_v * v + a_p * (p - x) + a_g * (g - x) + a_w * (x - g_w);
    [v, x + step * v]
}

/// Locations as rows of coefficients over n experts. Rows of x, p, g and g_w sum to 1, of v to 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Coefficients {
    n_experts: usize,
    particles: Vec<Particle>,
    global_best: Vec<f64>,  // (n_experts)
    global_worst: Vec<f64>, // (n_experts)
}

#[derive(Debug, Clone, PartialEq)]
struct Particle {
    x: Vec<f64>, // (n_experts)
    v: Vec<f64>, // (n_experts)
    p: Vec<f64>, // (n_experts)
}

impl Particle {
    /// At rest on expert `expert`, or on the origin where there is no such expert.
    fn on(expert: usize, n_experts: usize) -> Self {
        let x: Vec<f64> = (0..n_experts).map(|j| f64::from(u8::from(j == expert))).collect();
        Self { p: x.clone(), x, v: vec![0.0; n_experts] }
    }
}

impl Coefficients {
    /// `n_particles` particles at rest, the first `n_experts` of them on the experts; the others
    /// wait to be mixed.
    pub fn new(n_experts: usize, n_particles: usize) -> Self {
        assert!(n_particles >= n_experts, "{n_particles} particles for {n_experts} experts");
        Self {
            n_experts,
            particles: (0..n_particles).map(|i| Particle::on(i, n_experts)).collect(),
            global_best: vec![0.0; n_experts],
            global_worst: vec![0.0; n_experts],
        }
    }

    /// n.
    pub fn n_experts(&self) -> usize {
        self.n_experts
    }

    /// N.
    pub fn n_particles(&self) -> usize {
        self.particles.len()
    }

    /// x_i, `(n_experts)`: where the particle was last evaluated, or has moved unevaluated.
    pub fn location(&self, particle: usize) -> &[f64] {
        &self.particles[particle].x
    }

    /// v_i, `(n_experts)`.
    pub fn velocity(&self, particle: usize) -> &[f64] {
        &self.particles[particle].v
    }

    /// p_i, `(n_experts)`.
    pub fn personal_best(&self, particle: usize) -> &[f64] {
        &self.particles[particle].p
    }

    /// g, `(n_experts)`.
    pub fn global_best(&self) -> &[f64] {
        &self.global_best
    }

    /// g_w, `(n_experts)`.
    pub fn global_worst(&self) -> &[f64] {
        &self.global_worst
    }

    /// Appends an expert to the pool and a particle at rest on it: one more column, one more row.
    pub fn append_expert(&mut self) {
        self.n_experts += 1;
        for particle in &mut self.particles {
            particle.x.push(0.0);
            particle.v.push(0.0);
            particle.p.push(0.0);
        }
        self.global_best.push(0.0);
        self.global_worst.push(0.0);
        self.particles.push(Particle::on(self.n_experts - 1, self.n_experts));
    }
}

impl Space for Coefficients {
    fn coefficients(&self) -> &Coefficients {
        self
    }

    fn mix(&mut self, child: usize, [a, b]: [usize; 2], [share_a, share_b]: [f64; 2]) {
        for j in 0..self.n_experts {
            let mixed = share_a * self.particles[a].x[j] + share_b * self.particles[b].x[j];
            self.particles[child].x[j] = mixed;
            self.particles[child].p[j] = mixed;
        }
    }

    fn aim(&mut self, particle: usize, target: usize) {
        for j in 0..self.n_experts {
            self.particles[particle].v[j] =
                self.particles[target].x[j] - self.particles[particle].x[j];
        }
    }

    fn aim_at_global_best(&mut self, particle: usize) {
        let Particle { x, v, .. } = &mut self.particles[particle];
        for j in 0..self.n_experts {
            v[j] = self.global_best[j] - x[j];
        }
    }

    fn advance(&mut self, particle: usize, weights: [f64; 4], step: f64) {
        let Particle { x, v, p } = &mut self.particles[particle];
        for j in 0..self.n_experts {
            let here = [x[j], v[j], p[j], self.global_best[j], self.global_worst[j]];
            [v[j], x[j]] = advanced(here, weights, step);
        }
    }

    fn mark_personal_best(&mut self, particle: usize) {
        let Particle { x, p, .. } = &mut self.particles[particle];
        p.copy_from_slice(x);
    }

    fn mark_global_best(&mut self, particle: usize) {
        self.global_best.copy_from_slice(&self.particles[particle].x);
    }

    fn mark_global_worst(&mut self, particle: usize) {
        self.global_worst.copy_from_slice(&self.particles[particle].x);
    }

    fn restart(&mut self, particle: usize) {
        let Particle { x, v, p } = &mut self.particles[particle];
        x.copy_from_slice(p);
        v.fill(0.0);
    }
}
