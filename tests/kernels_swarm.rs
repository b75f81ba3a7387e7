//! The swarm's arithmetic as kernels, against the CPU, bit for bit: materialising locations, the
//! paper's step on weights, and what slerp and model stock need.
#![cfg(feature = "kernel-tests")]

mod kernels_common;

use half::{bf16, f16};
use kernels_common::values::{assert_bits, tiny_values, value, values};
use kernels_common::{Argument, Device, Launch, Null, SEEDS, must_launch};
use model_swarms::backend::cpu::Isa;
use model_swarms::backend::cpu::combine::combine;
use model_swarms::baseline::merge::{
    Tensors, cosine, model_stock, slerp, slerp_shares, stock_share,
};
use model_swarms::swarm::{Space, Weights};
use model_swarms::tensors::{Dtype, Tensor};

fn on(name: &str, grid: [usize; 2], block: usize, seed: u64) -> Launch<'_> {
    Launch { name, grid: [grid[0], grid[1], 1], block, shared_bytes: 0, seed }
}

/// An expert's weights as a file has them.
fn file_bytes(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        Dtype::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
    }
}

#[test]
fn materialised_adapters_are_the_cpus() {
    // Broken: the same location is another adapter on a GPU than on a CPU.
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for (n_experts, n_particles, len) in [
            (1, 1, 0),
            (3, 0, 5),
            (1, 1, 1),
            (10, 4, 511),
            (2, 5, 512),
            (5, 3, 513),
            (10, 20, 1030),
        ] {
            let experts: Vec<Vec<u8>> =
                (0..n_experts).map(|i| file_bytes(dtype, &values(i as u32, len))).collect();
            let coefficients: Vec<Vec<f32>> =
                (0..n_particles).map(|p| values(77 + p as u32, n_experts)).collect();
            let mut wanted = vec![vec![0.0f32; len]; n_particles];
            let tensors = vec![experts.iter().map(|bytes| Tensor { dtype, bytes }).collect()];
            let outs = wanted.iter_mut().map(|out| &mut out[..]).collect();
            combine(Isa::detect(), &tensors, &coefficients, outs);

            let devices: Vec<Device<u8>> = experts.iter().map(|bytes| Device::new(bytes)).collect();
            let table = Device::new(&devices.iter().map(Device::address).collect::<Vec<u64>>());
            let rows = Device::new(&coefficients.concat());
            let stride = len.next_multiple_of(4) + 4;
            for seed in SEEDS {
                for version in ["v1", "v2"] {
                    let out = Device::unset(n_particles * stride);
                    let name = format!("combine_{dtype}_{version}").to_lowercase();
                    let sizes = [n_experts as i32, n_particles as i32];
                    let mut args: Vec<&dyn Argument> = vec![&table, &rows, &out, &sizes[0]];
                    let what = if version == "v1" {
                        on(&name, [len.div_ceil(256), n_particles], 256, seed)
                    } else {
                        args.push(&sizes[1]);
                        let grid = [if n_particles == 0 { 0 } else { len.div_ceil(512) }, 1];
                        let shared_bytes = n_experts * 512 * 4;
                        Launch { shared_bytes, ..on(&name, grid, 128, seed) }
                    };
                    let (len_, stride_) = (len as i64, stride as i64);
                    args.extend([&len_ as &dyn Argument, &stride_]);
                    must_launch(what, &args);
                    for (p, wanted) in wanted.iter().enumerate() {
                        let ours = &out.read()[p * stride..][..len];
                        let case = format!("{name} {n_experts} {n_particles} {len} seed {seed}");
                        assert_bits(ours, wanted, &case);
                    }
                }
            }
        }
    }
}

#[test]
fn steps_are_those_of_a_swarm_of_weights() {
    // Broken: a search on weights goes another way on a GPU than on a CPU.
    for len in [1, 3, 4, 255, 1024, 1027] {
        let folder = tempfile::tempdir().unwrap();
        let load = |expert: usize, out: &mut [f32]| {
            out.copy_from_slice(&values(expert as u32, out.len()));
            Ok(())
        };
        let mut swarm = Weights::create(folder.path(), 4, 4, len, load).unwrap();
        swarm.mark_global_best(1);
        swarm.mark_global_worst(2);
        swarm.aim(0, 3);
        swarm.aim(3, 1);
        let weights = [[0.3, 0.21, 0.4, 0.09], [1.1, -0.2, 0.3, -0.2]];
        let stride = len.next_multiple_of(4);
        let rows = |row: &dyn Fn(usize) -> Vec<f32>| {
            let mut rows = row(0);
            rows.resize(stride, f32::NAN);
            rows.extend(row(3));
            rows.resize(2 * stride, f32::NAN);
            Device::new(&rows)
        };
        let x = [(); 2].map(|()| rows(&|i| swarm.location(i).to_vec()));
        let v = [(); 2].map(|()| rows(&|i| swarm.velocity(i).to_vec()));
        let p = rows(&|i| swarm.personal_best(i).to_vec());
        let (g, g_w) = (Device::new(swarm.global_best()), Device::new(swarm.global_worst()));
        let factors = Device::new(&weights.concat());
        for (step, length) in [0.7, 0.35].into_iter().enumerate() {
            swarm.advance(0, weights[0], length);
            swarm.advance(3, weights[1], length);
            for (i, version) in ["v1", "v2"].into_iter().enumerate() {
                let name = format!("step_{version}");
                let per_block = if version == "v1" { 256 } else { 1024 };
                let what = on(&name, [len.div_ceil(per_block), 2], 256, step as u64);
                let (len_, stride_) = (len as i64, stride as i64);
                let args: [&dyn Argument; 9] =
                    [&x[i], &v[i], &p, &g, &g_w, &factors, &length, &len_, &stride_];
                must_launch(what, &args);
                let (x, v) = (x[i].read(), v[i].read());
                for (row, particle) in [0, 3].into_iter().enumerate() {
                    let case = format!("{name} {len} particle {particle}");
                    assert_bits(&x[row * stride..][..len], swarm.location(particle), &case);
                    assert_bits(&v[row * stride..][..len], swarm.velocity(particle), &case);
                }
            }
        }
    }
}

/// share_a a + share_b b by the kernel.
fn mix(a: &[f32], b: &[f32], [share_a, share_b]: [f64; 2]) -> Vec<f32> {
    let (out, len) = (Device::unset(a.len()), a.len() as i64);
    let (a, b) = (Device::new(a), Device::new(b));
    let what = on("mix_v1", [(len as usize).div_ceil(256), 1], 256, 1);
    must_launch(what, &[&a, &b, &share_a, &share_b, &out, &len]);
    out.read()
}

#[test]
fn crossover_and_first_velocities_are_those_of_a_swarm_of_weights() {
    // Broken: a search on weights begins elsewhere on a GPU than on a CPU.
    for len in [1, 255, 257] {
        let folder = tempfile::tempdir().unwrap();
        let load = |expert: usize, out: &mut [f32]| {
            out.copy_from_slice(&tiny_values(expert as u32, out.len()));
            out.iter_mut().step_by(5).for_each(|x| *x = value(expert as u32, len));
            Ok(())
        };
        let mut swarm = Weights::create(folder.path(), 2, 3, len, load).unwrap();
        let (a, b) = (swarm.location(0).to_vec(), swarm.location(1).to_vec());
        swarm.mix(2, [0, 1], [0.3, 0.7]);
        assert_bits(&mix(&a, &b, [0.3, 0.7]), swarm.location(2), "crossover");
        swarm.aim(0, 1);
        assert_bits(&mix(&b, &a, [1.0, -1.0]), swarm.velocity(0), "first velocity");
    }
}

/// Inner products of every two vectors, by the kernels of a version: (n, n), upper triangle.
fn gram(version: &str, vectors: &[&[f32]], base: Option<&[f32]>, seed: u64) -> Vec<f64> {
    let (n, len) = (vectors.len(), vectors[0].len());
    let devices: Vec<Device<f32>> = vectors.iter().map(|vector| Device::new(vector)).collect();
    let table = Device::new(&devices.iter().map(Device::address).collect::<Vec<u64>>());
    let base = base.map(Device::new);
    let base: &dyn Argument = base.as_ref().map_or(&Null, |base| base);
    let (out, n_pairs) = (Device::new(&vec![0.0f64; n * n]), n * (n + 1) / 2);
    let (n_, len_) = (n as i32, len as i64);
    if version == "v1" {
        let what = on("gram_v1", [n_pairs, 1], 1, seed);
        must_launch(what, &[&table, base, &out, &n_, &len_]);
    } else {
        let n_pieces = len.div_ceil(1024);
        let pieces = Device::new(&vec![0.0f64; n_pairs * n_pieces]);
        let what = on("gram_pieces_v2", [n_pieces, 1], 256, seed);
        let what = Launch { shared_bytes: (n + 1) * 1024 * 4, ..what };
        must_launch(what, &[&table, base, &pieces, &n_, &len_]);
        let what = on("gram_sum_v2", [n_pairs, 1], 1, seed);
        must_launch(what, &[&pieces, &out, &n_, &(n_pieces as i32)]);
    }
    out.read()
}

#[test]
fn slerp_by_kernels_is_the_cpus() {
    // Broken: two experts are merged into another one on a GPU than on a CPU.
    for len in [1, 31, 1023, 1025, 3000] {
        let (v0, v1) = (values(1, len), values(2, len));
        for t in [0.0, 0.3, 0.5, 1.0] {
            let products = gram("v1", &[&v0, &v1], None, 1);
            let shares = slerp_shares(cosine([products[0], products[1], products[3]]), t);
            assert_bits(&mix(&v0, &v1, shares), &slerp(&v0, &v1, t), &format!("{len} at {t}"));
        }
    }
}

#[test]
fn model_stock_by_kernels_is_the_cpus() {
    // Broken: experts are merged into another one on a GPU than on a CPU.
    for (n, len) in [(2, 1), (3, 33), (10, 1030)] {
        let experts: Vec<Vec<f32>> = (0..n).map(|i| values(i, len)).collect();
        let experts: Vec<&[f32]> = experts.iter().map(|expert| &expert[..]).collect();
        let base = values(50, len);
        let n = experts.len();
        for base in [None, Some(&base[..])] {
            let products = gram("v1", &experts, base, 1);
            let pair = |i: usize, j: usize| products[i.min(j) * n + i.max(j)];
            let share = stock_share(n, pair) / n as f64;
            let at = |i: usize| base.map_or(0.0, |base| f64::from(base[i]));
            let ours: Vec<f32> = (0..len)
                .map(|i| {
                    let offsets = experts.iter().map(|expert| f64::from(expert[i]) - at(i));
                    (at(i) + share * offsets.sum::<f64>()) as f32
                })
                .collect();
            let tensors = Tensors::new(&experts);
            let tensors = base.map_or(tensors, |base| tensors.from_base(base));
            assert_bits(&ours, &model_stock(tensors, len), &format!("{n} of {len}"));
        }
    }
}

/// The order of `gram_pieces_v2`, written down once more.
fn in_pieces(left: &[f32], right: &[f32]) -> f64 {
    let piece = |(left, right): (&[f32], &[f32])| {
        let mut lanes = [-0.0f64; 32];
        for (i, (l, r)) in left.iter().zip(right).enumerate() {
            lanes[i % 32] += f64::from(*l) * f64::from(*r);
        }
        for half in [16, 8, 4, 2, 1] {
            (0..half).for_each(|i| lanes[i] += lanes[i + half]);
        }
        lanes[0]
    };
    left.chunks(1024).zip(right.chunks(1024)).map(piece).sum()
}

#[test]
fn inner_products_in_pieces_keep_their_order() {
    // Broken: merged experts depend on the schedule of a GPU's threads, or on the chip.
    for len in [1, 33, 1023, 1024, 1025, 2500] {
        let vectors = [values(1, len), values(2, len), tiny_values(3, len)];
        let vectors = vectors.each_ref().map(|vector| &vector[..]);
        let plain = gram("v1", &vectors, None, 0);
        for seed in SEEDS {
            let pieces = gram("v2", &vectors, None, seed);
            for i in 0..3 {
                for j in i..3 {
                    let (ours, wanted) = (pieces[i * 3 + j], in_pieces(vectors[i], vectors[j]));
                    assert_eq!(ours.to_bits(), wanted.to_bits(), "{len} [{i}][{j}] seed {seed}");
                    // len additions, each off by 2^-53 of sums that are at most len.
                    let bound = (len * len) as f64 * f64::EPSILON;
                    assert!((ours - plain[i * 3 + j]).abs() <= bound, "{len} [{i}][{j}]");
                }
            }
        }
    }
}
