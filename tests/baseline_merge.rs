//! Merging at its edges: what no golden shows.

use model_swarms::adapter::{Expert, Pool, save};
use model_swarms::baseline::merge::{
    DareTies, Divide, Election, Form, Grain, Masks, Method, Rescale, Space, Tensors, Ties,
    drawn_mask, inner_product, linear, merge, merge_layers, model_stock, n_layers, slerp, trimmed,
    update,
};
use model_swarms::example::{EXPERTS, write_experts};

/// The example's experts.
fn experts(seed: u64) -> Vec<Expert> {
    let folder = tempfile::tempdir().unwrap();
    write_experts(&folder.path().join("experts"), seed).unwrap();
    Pool::open(&folder.path().join("experts")).unwrap().experts
}

#[test]
fn slerp_with_a_zero_tensor_shortens_the_other() {
    // Broken: an untrained factor would be interpolated otherwise than by mergekit.
    let v = [3.0f32, -4.0, 0.5];
    for (i, x) in slerp(&[0.0; 3], &v, 0.5).into_iter().enumerate() {
        assert!((f64::from(x) - f64::from(v[i]) * 0.5f64.sqrt()).abs() < 1e-6, "{i}: {x}");
    }
    assert_eq!(slerp(&[0.0; 3], &[0.0; 3], 0.3), [0.0; 3]);
    assert_eq!(slerp(&[], &[], 0.3), [0.0; 0]);
    // The ends are the two tensors, to the bit.
    let other = [0.25f32, 7.0, -1.0];
    assert_eq!(slerp(&v, &other, 0.0), v);
    assert_eq!(slerp(&v, &other, 1.0), other);
}

#[test]
fn model_stock_of_opposites_is_the_base() {
    // Broken: a singular share would fill an adapter with infinities.
    let (x, y, base) = ([2.0f32, 0.0, 4.0], [0.0f32, 2.0, 2.0], [1.0f32, 1.0, 3.0]);
    let tensors = [x.as_slice(), &y];
    assert_eq!(model_stock(Tensors::new(&tensors).from_base(&base), 3), base);
    // Experts that agree are kept whole.
    let tensors = [x.as_slice(), &x, &x];
    assert_eq!(model_stock(Tensors::new(&tensors), 3), x);
    assert_eq!(model_stock(Tensors::new(&tensors), 1), x);
}

#[test]
fn trimming_keeps_the_largest_and_of_equals_the_first() {
    // Broken: ties would differ from one machine to the next where magnitudes are equal.
    let x = [1.0f32, -2.0, 2.0, 0.0, -1.0, 2.0];
    let tensors = [x.as_slice()];
    let kept = |density| trimmed(Tensors::new(&tensors), 0, density);
    assert_eq!(kept(1.0), None);
    assert_eq!(kept(0.01).unwrap(), [false, true, false, false, false, false]);
    assert_eq!(kept(0.34).unwrap(), [false, true, true, false, false, false]);
    assert_eq!(kept(0.7).unwrap(), [true, true, true, false, false, true]);
}

#[test]
fn masks_have_an_address_each() {
    // Broken: what DARE drops would depend on which other tensors and experts there are.
    let mask = |seed, name, expert| drawn_mask(seed, name, expert, 0.3, 10_000).unwrap();
    let first = mask(1, "model.layers.0.q.weight", 0);
    assert_eq!(first, mask(1, "model.layers.0.q.weight", 0));
    let n_kept = first.iter().filter(|&&kept| kept).count();
    assert!((2850..3150).contains(&n_kept), "{n_kept} of 10000 are kept");
    for other in [
        mask(2, "model.layers.0.q.weight", 0),
        mask(1, "model.layers.1.q.weight", 0),
        mask(1, "model.layers.0.q.weight", 1),
    ] {
        let n_same = first.iter().zip(&other).filter(|(one, other)| one == other).count();
        assert!((5500..6100).contains(&n_same), "{n_same} of 10000 are the same"); // 5800
    }
    assert_eq!(drawn_mask(1, "x", 0, 1.0, 5), None);
    // A shorter tensor of the same name has the beginning: no draw is skipped.
    let short = drawn_mask(1, "model.layers.0.q.weight", 0, 0.3, 17).unwrap();
    assert_eq!(short, first[..17]);
}

#[test]
fn weighted_sums_need_not_be_divided() {
    // Broken: LoraHub's weights would be brought to a sum of 1, or the base would be scaled.
    let (x, y, base) = ([3.0f32, 1.0], [1.0f32, 5.0], [1.0f32, 1.0]);
    let tensors = [x.as_slice(), &y];
    let sum = |divide| linear(Tensors::new(&tensors), &[2.0, -0.5], divide);
    assert_eq!(sum(Divide::ByNothing), [5.5, -0.5]);
    assert_eq!(sum(Divide::ByWeights), [5.5 / 1.5, -0.5 / 1.5]);
    let tensors = Tensors::new(&tensors).from_base(&base);
    assert_eq!(linear(tensors, &[2.0, -0.5], Divide::ByNothing), [5.0, -1.0]);
}

#[test]
fn inner_products_are_those_of_the_formed_updates() {
    // Broken: slerp and model stock of updates would take the angle between other matrices.
    let experts = experts(3);
    for (left, right) in [(0, 0), (0, 1), (4, 2)] {
        let (left, right) = (&experts[left], &experts[right]);
        for idx in 0..left.layout().modules.len() {
            let (x, y) = (update(left, idx, None), update(right, idx, None));
            let terms = x.iter().zip(&y).map(|(x, y)| f64::from(*x) * f64::from(*y));
            let (wanted, norm): (f64, f64) =
                (terms.clone().sum(), terms.map(f64::abs).sum::<f64>());
            let found = inner_product(left, right, idx);
            assert!((found - wanted).abs() <= 1e-6 * norm, "{idx}: {found} is not {wanted}");
        }
    }
}

#[test]
fn updates_of_other_ranks_and_scales_are_merged() {
    // Broken: the sum of updates would take one expert's scale for all, or PEFT another rank.
    let dir = tempfile::tempdir().unwrap();
    let pool = experts(5);
    // Another rank, scale and way to scale: the sum of two experts, and one of rsLoRA.
    let weights =
        |weights: &[f64]| Method::Linear { weights: weights.to_vec(), divide: Divide::ByNothing };
    let two = merge(&pool[..2], &weights(&[1.0, 1.0]), Space::Delta).unwrap();
    let wide = dir.path().join("wide");
    save(&wide, &two.adapter, &two.config, two.dtype, "").unwrap();
    let config = std::fs::read_to_string(wide.join("adapter_config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["use_rslora"] = true.into();
    config["lora_alpha"] = 3.into();
    std::fs::write(wide.join("adapter_config.json"), config.to_string()).unwrap();

    let wide = Expert::open(&wide).unwrap();
    assert_ne!(wide.layout().modules[0].scale, pool[0].layout().modules[0].scale);
    let mixed = [wide, pool.into_iter().nth(3).unwrap()];
    let error = merge(&mixed, &weights(&[0.5, 2.0]), Space::Factor).unwrap_err().to_string();
    assert!(error.contains("the experts are not alike: rank of module"), "{error}");

    let merged = merge(&mixed, &weights(&[0.5, 2.0]), Space::Delta).unwrap();
    assert_eq!(merged.form, Form::Concatenated);
    let to = dir.path().join("merged");
    save(&to, &merged.adapter, &merged.config, merged.dtype, "").unwrap();
    let merged = Expert::open(&to).unwrap();
    for idx in 0..merged.layout().modules.len() {
        let [x, y] = [0, 1].map(|expert_idx: usize| update(&mixed[expert_idx], idx, None));
        for ((found, x), y) in update(&merged, idx, None).iter().zip(x).zip(y) {
            let wanted = 0.5 * x + 2.0 * y;
            assert!((found - wanted).abs() <= 1e-6, "{found} is not {wanted}");
        }
    }
}

#[test]
fn impossible_parameters_are_refused() {
    // Broken: a slip in a suite would end in a panic, or in an adapter of nothing.
    let experts = experts(6);
    let ties = |weights: Vec<f64>, density| Ties {
        densities: vec![density; EXPERTS.len()],
        weights,
        election: Election::Sum,
        divide: Divide::ByWeights,
    };
    let one_each = vec![1.0; EXPERTS.len()];
    let dare = |ties| {
        let masks = Masks::Drawn { seed: 1 };
        Method::DareTies(DareTies { ties, rescale: Rescale::ByDensity, masks })
    };
    let cases = [
        (Method::Slerp { t: 0.5 }, "slerp is between two experts, 10 were given"),
        (
            Method::Linear { weights: vec![1.0; 9], divide: Divide::ByNothing },
            "9 weights for 10 experts",
        ),
        (Method::Ties(ties(vec![f64::NAN; 10], 0.5)), "a weight is NaN"),
        (Method::Ties(ties(one_each.clone(), 0.0)), "density is 0, wanted more than 0"),
        (dare(ties(one_each.clone(), 1.5)), "density is 1.5, wanted more than 0 and at most 1"),
        (dare(ties(one_each, f64::NAN)), "density is NaN"),
    ];
    for (method, wanted) in cases {
        let error = merge(&experts, &method, Space::Delta).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let cases: [(usize, Method, &str); 3] = [
        (2, Method::Slerp { t: -0.1 }, "t is -0.1, wanted a number from 0 to 1"),
        (1, Method::ModelStock { grain: Grain::Tensor }, "at least two experts"),
        (0, Method::Linear { weights: vec![], divide: Divide::ByNothing }, "at least one expert"),
    ];
    for (n_experts, method, wanted) in cases {
        let error = merge(&experts[..n_experts], &method, Space::Factor).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn layers_have_rows_of_their_own() {
    // Broken: EvolMerge would cross the experts over in the wrong layers.
    let pool = Pool::from_experts(experts(7)).unwrap();
    assert_eq!(n_layers(pool.layout()), Some(2));
    let one_hot = |expert_idx| {
        let mut row = vec![0.0; EXPERTS.len()];
        row[expert_idx] = 1.0;
        row
    };
    let rows = [one_hot(4), one_hot(1)];
    let merged = merge_layers(&pool, &[&rows[0], &rows[1]]).unwrap();
    for (idx, module) in pool.layout().modules.iter().enumerate() {
        let expert = &pool.experts[if module.name.contains("layers.0.") { 4 } else { 1 }];
        assert_eq!(merged.a(idx), expert.a(idx).to_f32());
        assert_eq!(merged.b(idx), expert.b(idx).to_f32());
    }
    let error = merge_layers(&pool, &[&rows[0]]).unwrap_err().to_string();
    assert!(error.contains("layers.1.") && error.contains("is in none of 1 layers"), "{error}");
}
