//! Every choice of a search as data, with the defaults of both modes.
//!
//! Mode `paper` follows the text (section 2, Algorithm 1, section 3), mode `code` the program that
//! the authors published. Each difference between the two is one field here, so the search itself
//! never asks for a mode; each row of Tables 6 and 7 and of Figure 9 is one field set otherwise.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::error::{Error, Result};
use crate::mode::Mode;

/// More particles than this are taken for a slip of the keyboard.
const MAX_PARTICLES: usize = 1 << 16;

/// How the pool of n experts becomes N particles (Step 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Populate {
    /// No children, N = n (Table 6 "w/o 1", Table 7 "no crossover").
    Off,
    /// Parents are two of the n experts, child = t x_a + (1 - t) x_b, t ~ U(0, 1). The paper.
    Experts,
    /// Parents may be earlier children, and t ~ U(0, 2): half of the children extrapolate. The
    /// code.
    Growing,
}

/// Where a particle's first velocity points (Step 0; Table 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Velocity {
    /// To any of the N particles, itself included. The paper.
    Random,
    /// To any of the N - 1 others. The code.
    RandomOther,
    /// Nowhere: v = 0 (Table 6 "w/o 2").
    Zero,
    /// To the global best of the first evaluation.
    Best,
}

/// The walk randomness factors r_v, r_p, r_g, r_w (Step 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Randomness {
    /// U(0, 1).
    Uniform,
    /// All 1 (Table 6 "w/o 3").
    Off,
    /// U(-0.2, 1) (Limitations), where C = sum r phi can vanish: the four are drawn again while
    /// C < 0.05 sum phi, at most 100 times, after which their absolute values are taken.
    Annealed,
    /// U(-0.2, 1) as printed; only C = 0 is caught.
    AnnealedLiteral,
}

/// When a particle whose personal best has grown old is put back on it (Step 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never (Table 7 "no restart").
    Off,
    /// At the end of iteration k, if k - (iteration of the personal best) >= c_r. The paper.
    AfterMove,
    /// At the start of iteration k by the same test, so one iteration earlier. The code.
    BeforeMove,
}

/// How the patience c is counted at the start of iteration k, t being the last change of g.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PatienceRule {
    /// Stop if (k - 1) - t >= c: c iterations passed without a change. The paper.
    Unchanged,
    /// Stop if k > c and the last c values of f(g) are equal: c - 1 unchanged iterations. The code.
    EqualHistory,
}

/// Which of several equal utilities wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tie {
    /// The lowest particle index.
    Lowest,
    /// The highest particle index.
    Highest,
}

/// Which location is the product of the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResultRule {
    /// The global best g, which its first finder keeps. The paper.
    GlobalBest,
    /// The personal best of the lowest particle whose f(p) is the highest. The code's final
    /// metrics.
    FirstBestParticle,
}

/// Where the draws come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrawSource {
    /// All from the run's own seed.
    Seed,
    /// Children, first velocities and dropped evaluations as the authors' `random.seed(42)` gives
    /// them in every run; the walk factors, which they leave unseeded, from the run's own seed.
    #[serde(rename = "authors-42")]
    Authors42,
}

/// What the search keeps in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Rows of coefficients over the experts.
    Coefficients,
    /// The weights themselves, in mapped files.
    Weights,
}

/// All choices of a search. `--set KEY=VALUE` names these fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How experts become particles.
    pub populate: Populate,
    /// N, the number of particles when `populate` is not off.
    pub particles: usize,
    /// The first velocities.
    pub velocity: Velocity,
    /// phi_v.
    pub inertia: f64,
    /// phi_p.
    pub cognitive: f64,
    /// phi_g.
    pub social: f64,
    /// phi_w; at 0 the repel term is out, also of C (Table 7 "no repel").
    pub repel: f64,
    /// lambda of the first iteration.
    pub step: f64,
    /// phi_lambda; 1 is Table 7's "no schedule".
    pub step_factor: f64,
    /// The least lambda that the schedule reaches.
    pub step_min: f64,
    /// The walk randomness factors.
    pub randomness: Randomness,
    /// When stray particles restart.
    pub restart: Restart,
    /// c_r in iterations, as compared; the authors' 0.67 * 10 makes it fractional.
    pub restart_after: f64,
    /// Probability that an iteration evaluates nothing (Figure 9, drop-K).
    pub drop_iterations: f64,
    /// Probability that a particle is not evaluated in an iteration (Figure 9, drop-N).
    pub drop_particles: f64,
    /// c in iterations.
    pub patience: u32,
    /// How c is counted.
    pub patience_rule: PatienceRule,
    /// K.
    pub max_iterations: u32,
    /// Which particle becomes g_w when several share the new minimum after iteration 0. The first
    /// g_w, and g always, go to the lowest index in paper and code alike.
    pub worst_tie: Tie,
    /// Which location is returned.
    pub result: ResultRule,
    /// Where draws come from.
    pub draws: DrawSource,
    /// What is kept in memory.
    pub state: State,
}

impl Settings {
    /// The defaults of `mode`.
    pub fn new(mode: Mode) -> Self {
        match mode {
            Mode::Paper => Self::paper(),
            Mode::Code => Self::code(),
        }
    }

    /// The paper's text: N = 20, phi_lambda = 0.95, c = 10, c_r = 5, K = 50 (section 3). The other
    /// five were searched over a grid in the paper; these are its centre.
    pub fn paper() -> Self {
        Self {
            populate: Populate::Experts,
            particles: 20,
            velocity: Velocity::Random,
            inertia: 0.2,
            cognitive: 0.3,
            social: 0.4,
            repel: 0.05,
            step: 0.8,
            step_factor: 0.95,
            step_min: 0.0,
            randomness: Randomness::Uniform,
            restart: Restart::AfterMove,
            restart_after: 5.0,
            drop_iterations: 0.0,
            drop_particles: 0.0,
            patience: 10,
            patience_rule: PatienceRule::Unchanged,
            max_iterations: 50,
            worst_tie: Tie::Lowest,
            result: ResultRule::GlobalBest,
            draws: DrawSource::Seed,
            state: State::Coefficients,
        }
    }

    /// The authors' program with its flags left out. It does not populate unless told to
    /// (`populate=growing`), and then needs the number of particles.
    pub fn code() -> Self {
        Self {
            populate: Populate::Off,
            particles: 20,
            velocity: Velocity::RandomOther,
            inertia: 0.4,
            cognitive: 0.3,
            social: 0.3,
            repel: 0.3,
            step: 1.0,
            step_factor: 0.95,
            step_min: 0.1,
            randomness: Randomness::Uniform,
            restart: Restart::BeforeMove,
            restart_after: 5.0,
            drop_iterations: 0.0,
            drop_particles: 0.0,
            patience: 10,
            patience_rule: PatienceRule::EqualHistory,
            max_iterations: 200,
            worst_tie: Tie::Highest,
            result: ResultRule::FirstBestParticle,
            draws: DrawSource::Authors42,
            state: State::Coefficients,
        }
    }

    /// Sets one field by its name, from text, as `--set KEY=VALUE` does.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let mut fields = self.fields();
        let Some(field) = fields.get_mut(key) else {
            let keys: Vec<&str> = fields.keys().map(String::as_str).collect();
            let keys = keys.join(", ");
            return Err(Error::Usage(format!("no setting is called {key:?}; there are {keys}")));
        };
        *field = match field {
            Value::Number(_) => Value::Number(number(value).ok_or_else(|| {
                Error::Usage(format!("setting {key}: {value:?} is not a finite number"))
            })?),
            _ => Value::String(value.to_owned()),
        };
        *self = serde_json::from_value(Value::Object(fields))
            .map_err(|error| Error::Usage(format!("setting {key}: {error}")))?;
        Ok(())
    }

    /// N for a pool of `n_experts`.
    pub fn n_particles(&self, n_experts: usize) -> usize {
        match self.populate {
            Populate::Off => n_experts,
            Populate::Experts | Populate::Growing => self.particles,
        }
    }

    /// Whether a search over `n_experts` experts can be run with these settings.
    pub fn check(&self, n_experts: usize) -> Result<()> {
        let refuse = |what: String| Err(Error::Usage(what));
        let n_particles = self.n_particles(n_experts);
        if n_experts == 0 {
            return refuse("a search needs at least one expert".into());
        }
        if n_particles < n_experts || n_particles > MAX_PARTICLES {
            return refuse(format!(
                "setting particles is {n_particles}; with {n_experts} experts it must lie between \
                 {n_experts} and {MAX_PARTICLES}"
            ));
        }
        if n_particles > n_experts && n_experts < 2 {
            return refuse("setting populate: a child needs two experts, the pool has 1".into());
        }
        if n_particles < 2 && self.velocity == Velocity::RandomOther {
            return refuse("setting velocity: random-other needs two particles, there is 1".into());
        }
        if self.patience == 0 {
            return refuse("setting patience is 0; it must be at least 1".into());
        }
        for (key, value, least, most) in self.ranges() {
            if !(least..=most).contains(&value) {
                return refuse(format!(
                    "setting {key} is {value}; it must lie between {least} and {most}"
                ));
            }
        }
        Ok(())
    }

    fn ranges(&self) -> [(&'static str, f64, f64, f64); 10] {
        [
            ("inertia", self.inertia, 0.0, 1e6),
            ("cognitive", self.cognitive, 0.0, 1e6),
            ("social", self.social, 0.0, 1e6),
            ("repel", self.repel, 0.0, 1e6),
            ("step", self.step, 0.0, 1e6),
            ("step_factor", self.step_factor, 0.0, 1e6),
            ("step_min", self.step_min, 0.0, 1e6),
            ("restart_after", self.restart_after, 1.0, 1e9),
            ("drop_iterations", self.drop_iterations, 0.0, 1.0),
            ("drop_particles", self.drop_particles, 0.0, 1.0),
        ]
    }

    fn fields(&self) -> serde_json::Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            other => unreachable!("settings are a struct of numbers and names, not {other:?}"),
        }
    }
}

fn number(text: &str) -> Option<Number> {
    if let Ok(whole) = text.parse::<u64>() {
        return Some(whole.into());
    }
    Number::from_f64(text.parse().ok()?)
}
