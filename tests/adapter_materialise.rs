//! Adapters made from a pool: in fresh memory and in memory that held others.

use model_swarms::adapter::{Pool, materialise, materialise_into};
use model_swarms::backend::cpu::Isa;
use model_swarms::example::{EXPERTS, write_experts};

/// If this fails, an adapter made in used memory keeps something of the one that it replaces.
#[test]
fn used_memory_makes_the_same_adapters() {
    let folder = tempfile::tempdir().unwrap();
    write_experts(&folder.path().join("experts"), 7).unwrap();
    let pool = Pool::open(&folder.path().join("experts")).unwrap();
    let location = |p: usize| -> Vec<f64> {
        (0..EXPERTS.len()).map(|i| ((i * 7 + p * 3) % 5) as f64 - 1.9).collect()
    };
    let locations: Vec<Vec<f64>> = (0..6).map(location).collect();
    let locations: Vec<&[f64]> = locations.iter().map(Vec::as_slice).collect();
    let fresh = materialise(Isa::detect(), &pool, &locations);
    let mut used = Vec::new();
    // More adapters than before, then fewer, others each time.
    for range in [0..2, 1..6, 3..6] {
        materialise_into(Isa::detect(), &pool, &locations[range.clone()], &mut used);
        for (used, fresh) in used.iter().zip(&fresh[range]) {
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&used.data), bits(&fresh.data));
        }
    }
}

/// If this fails, the location of an expert is not the expert.
#[test]
fn an_experts_own_location_is_the_expert() {
    let folder = tempfile::tempdir().unwrap();
    write_experts(&folder.path().join("experts"), 8).unwrap();
    let pool = Pool::open(&folder.path().join("experts")).unwrap();
    for (i, expert) in pool.experts.iter().enumerate() {
        let mut location = vec![0.0; EXPERTS.len()];
        location[i] = 1.0;
        let made = materialise(Isa::detect(), &pool, &[&location]).remove(0);
        // A zero may have lost its sign: the sum adds 0 to it.
        assert_eq!(made.data[..], expert.to_flat()[..], "{}", expert.name);
    }
}
