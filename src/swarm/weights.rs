//! The paper's literal arithmetic: x, v, p of every particle, and g, g_w, as flat f32 vectors.
//!
//! For pools that are not affine, and as the oracle of the coefficients: both must agree. The
//! vectors live in mapped scratch files, one per particle (x, v, p after one another) and one for
//! the swarm (g, g_w), so a swarm larger than memory is paged by the operating system. A step reads
//! five vectors and writes two, 28 bytes per weight. Each element is computed in f64 and rounded
//! once when stored, so it has the same bits whatever the number of threads.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use memmap2::MmapMut;
use rayon::prelude::*;

use super::space::{Coefficients, Space, advanced};
use crate::error::{Error, Result};

/// Elements that one thread handles at a time.
const BLOCK: usize = 1 << 16;

/// A swarm of weights, with its coefficients kept alongside so that locations can be written down.
#[derive(Debug)]
pub struct Weights {
    directory: PathBuf,
    dim: usize,
    rows: Coefficients,
    particles: Vec<Vectors>, // (3, dim) each: x, v, p
    swarm: Vectors,          // (2, dim): g, g_w
}

impl Weights {
    /// `n_particles` particles of `dim` weights at rest, the first `n_experts` of them filled by
    /// `load(expert, out)`. The files are created in `directory`, replacing earlier ones.
    pub fn create(
        directory: &Path,
        n_experts: usize,
        n_particles: usize,
        dim: usize,
        mut load: impl FnMut(usize, &mut [f32]) -> Result<()>,
    ) -> Result<Self> {
        let rows = Coefficients::new(n_experts, n_particles);
        fs::create_dir_all(directory).map_err(Error::io(directory, "create"))?;
        let swarm = Vectors::create(&directory.join("swarm.f32"), 2, dim)?;
        let mut weights =
            Self { directory: directory.into(), dim, rows, particles: Vec::new(), swarm };
        for particle in 0..n_particles {
            let fill = |out: &mut [f32]| match particle < n_experts {
                true => load(particle, out),
                false => Ok(()),
            };
            weights.push_particle(fill)?;
        }
        Ok(weights)
    }

    /// D, the number of weights of a location.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// x_i as weights, `(dim)`.
    pub fn location(&self, particle: usize) -> &[f32] {
        self.particles[particle].row(0, self.dim)
    }

    /// v_i as weights, `(dim)`.
    pub fn velocity(&self, particle: usize) -> &[f32] {
        self.particles[particle].row(1, self.dim)
    }

    /// p_i as weights, `(dim)`.
    pub fn personal_best(&self, particle: usize) -> &[f32] {
        self.particles[particle].row(2, self.dim)
    }

    /// g as weights, `(dim)`.
    pub fn global_best(&self) -> &[f32] {
        self.swarm.row(0, self.dim)
    }

    /// g_w as weights, `(dim)`.
    pub fn global_worst(&self) -> &[f32] {
        self.swarm.row(1, self.dim)
    }

    /// Appends an expert to the pool and a particle at rest on it, filled by `load`.
    pub fn append_expert(&mut self, load: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
        self.push_particle(load)?;
        self.rows.append_expert();
        Ok(())
    }

    fn push_particle(&mut self, fill: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
        let name = format!("particle-{:05}.f32", self.particles.len());
        let mut vectors = Vectors::create(&self.directory.join(name), 3, self.dim)?;
        let [x, _, p] = vectors.rows_mut(self.dim);
        fill(x)?;
        p.copy_from_slice(x);
        self.particles.push(vectors);
        Ok(())
    }
}

impl Space for Weights {
    fn coefficients(&self) -> &Coefficients {
        &self.rows
    }

    fn mix(&mut self, child: usize, [a, b]: [usize; 2], shares: [f64; 2]) {
        self.rows.mix(child, [a, b], shares);
        let Ok([child, a, b]) = self.particles.get_disjoint_mut([child, a, b]) else {
            panic!("a child and its two parents are three particles of the swarm");
        };
        let [x, _, p] = child.rows_mut(self.dim);
        let parents = (a.row(0, self.dim), b.row(0, self.dim));
        fill(x, |i| shares[0] * f64::from(parents.0[i]) + shares[1] * f64::from(parents.1[i]));
        p.copy_from_slice(x);
    }

    fn aim(&mut self, particle: usize, target: usize) {
        self.rows.aim(particle, target);
        let Ok([particle, target]) = self.particles.get_disjoint_mut([particle, target]) else {
            let [_, v, _] = self.particles[particle].rows_mut(self.dim);
            return v.fill(0.0);
        };
        let [x, v, _] = particle.rows_mut(self.dim);
        let target = target.row(0, self.dim);
        fill(v, |i| f64::from(target[i]) - f64::from(x[i]));
    }

    fn aim_at_global_best(&mut self, particle: usize) {
        self.rows.aim_at_global_best(particle);
        let [x, v, _] = self.particles[particle].rows_mut(self.dim);
        let g = self.swarm.row(0, self.dim);
        fill(v, |i| f64::from(g[i]) - f64::from(x[i]));
    }

    fn advance(&mut self, particle: usize, weights: [f64; 4], step: f64) {
        self.rows.advance(particle, weights, step);
        let [x, v, p] = self.particles[particle].rows_mut(self.dim);
        let (g, g_w) = (self.swarm.row(0, self.dim), self.swarm.row(1, self.dim));
        let pieces = x.par_chunks_mut(BLOCK).zip(v.par_chunks_mut(BLOCK)).enumerate();
        pieces.for_each(|(piece, (x, v))| {
            let here = piece * BLOCK..piece * BLOCK + x.len();
            let (p, g, g_w) = (&p[here.clone()], &g[here.clone()], &g_w[here]);
            for i in 0..x.len() {
                let here = [x[i], v[i], p[i], g[i], g_w[i]].map(f64::from);
                [v[i], x[i]] = advanced(here, weights, step).map(|value| value as f32);
            }
        });
    }

    fn mark_personal_best(&mut self, particle: usize) {
        self.rows.mark_personal_best(particle);
        let [x, _, p] = self.particles[particle].rows_mut(self.dim);
        p.copy_from_slice(x);
    }

    fn mark_global_best(&mut self, particle: usize) {
        self.rows.mark_global_best(particle);
        let [g, _] = self.swarm.rows_mut(self.dim);
        g.copy_from_slice(self.particles[particle].row(0, self.dim));
    }

    fn mark_global_worst(&mut self, particle: usize) {
        self.rows.mark_global_worst(particle);
        let [_, g_w] = self.swarm.rows_mut(self.dim);
        g_w.copy_from_slice(self.particles[particle].row(0, self.dim));
    }

    fn restart(&mut self, particle: usize) {
        self.rows.restart(particle);
        let [x, v, p] = self.particles[particle].rows_mut(self.dim);
        x.copy_from_slice(p);
        v.fill(0.0);
    }
}

/// Some vectors of f32 after one another in a mapped file of ours.
#[derive(Debug)]
struct Vectors {
    map: MmapMut,
}

impl Vectors {
    /// Creates the file at `path` with `n_rows * dim` zeros. They are written rather than left as a
    /// hole, so that a full disk is an error here and not a signal later.
    fn create(path: &Path, n_rows: usize, dim: usize) -> Result<Self> {
        // A map cannot be empty: no weights still take one element.
        let n_bytes = dim.max(1).checked_mul(4 * n_rows).ok_or_else(|| {
            Error::input(path, format!("{n_rows} vectors of {dim} weights do not fit in a file"))
        })?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true);
        let mut file = options.open(path).map_err(Error::io(path, "create"))?;
        write_zeros(&mut file, n_bytes).map_err(Error::io(path, "write"))?;
        // SAFETY: the file was just created or truncated by us, is as long as the map, and lies in
        // the run's scratch directory, where nothing else writes or shortens it.
        let map = unsafe { MmapMut::map_mut(&file) }.map_err(Error::io(path, "map"))?;
        assert_eq!(map.len(), n_bytes);
        Ok(Self { map })
    }

    fn row(&self, row: usize, dim: usize) -> &[f32] {
        // SAFETY: every bit pattern is an f32.
        let (before, all, _) = unsafe { self.map.align_to::<f32>() };
        assert!(before.is_empty(), "a map starts on a page");
        &all[row * dim..(row + 1) * dim]
    }

    fn rows_mut<const N: usize>(&mut self, dim: usize) -> [&mut [f32]; N] {
        // SAFETY: every bit pattern is an f32, and every f32 is four bytes.
        let (before, mut rest, _) = unsafe { self.map.align_to_mut::<f32>() };
        assert!(before.is_empty() && rest.len() >= N * dim, "a map starts on a page");
        std::array::from_fn(|_| {
            let (row, after) = std::mem::take(&mut rest).split_at_mut(dim);
            rest = after;
            row
        })
    }
}

fn write_zeros(file: &mut File, n_bytes: usize) -> std::io::Result<()> {
    let zeros = vec![0; n_bytes.min(1 << 20)];
    let mut left = n_bytes;
    while left > 0 {
        let now = left.min(zeros.len());
        file.write_all(&zeros[..now])?;
        left -= now;
    }
    Ok(())
}

/// out\[i\] = rounded value(i), in parallel blocks.
fn fill(out: &mut [f32], value: impl Fn(usize) -> f64 + Sync) {
    out.par_chunks_mut(BLOCK).enumerate().for_each(|(piece, out)| {
        for (i, out) in out.iter_mut().enumerate() {
            *out = value(piece * BLOCK + i) as f32;
        }
    });
}
