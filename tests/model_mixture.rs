//! Experts that answer together: held to single experts, and to a mixture made step by step.

mod common;

use model_swarms::adapter::{Adapter, Expert};
use model_swarms::backend::cpu::Isa;
use model_swarms::example;
use model_swarms::model::decode::{Job, Report, TextJob};
use model_swarms::model::embed::EmbedJob;
use model_swarms::model::lora::Places;
use model_swarms::model::memory::Held;
use model_swarms::model::mixture::{MixedJob, MixedText, Share};
use model_swarms::model::{Adapted, Application, Device, Model};
use model_swarms::tensors::Tensors;

use common::{golden_roots, read_json};

const N_NEW: usize = 12;
const EOS: [u32; 1] = [1];

struct Example {
    model: Model,
    dir: tempfile::TempDir,
}

impl Example {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        example::write_base(&dir.path().join("base"), 1).unwrap();
        example::write_experts(&dir.path().join("experts"), 1).unwrap();
        let base = dir.path().join("base");
        let model = Model::open(
            &base,
            Device::Cpu,
            Isa::detect(),
            Some(Application::Merged),
            Held::default(),
        )
        .unwrap();
        Self { model, dir }
    }

    /// These experts, their updates times a factor: with a large one they hardly agree.
    fn experts(&self, expert_idxs: &[usize], factor: f32) -> Adapted {
        let (adapters, places) = self.open(expert_idxs, factor);
        self.model.adapt(&places, &adapters.iter().collect::<Vec<_>>()).unwrap()
    }

    fn open(&self, expert_idxs: &[usize], factor: f32) -> (Vec<Adapter>, Places) {
        let path = |idx: &usize| self.dir.path().join("experts").join(example::EXPERTS[*idx]);
        let open = |idx: &usize| {
            let mut adapter = Expert::open(&path(idx)).unwrap().to_adapter();
            adapter.data.iter_mut().for_each(|x| *x *= factor);
            adapter
        };
        let adapters: Vec<Adapter> = expert_idxs.iter().map(open).collect();
        let layout = &adapters[0].layout;
        let places = Places::find(layout, &self.model.config, self.dir.path()).unwrap();
        (adapters, places)
    }

    /// What one expert continues.
    fn alone(&self, experts: &Adapted, idx: usize, prompts: &[Vec<u32>]) -> Vec<Vec<u32>> {
        let job = |tokens| Job { adapter_idx: idx, tokens, max_new_tokens: N_NEW };
        let jobs: Vec<Job> = prompts.iter().map(|tokens| job(tokens)).collect();
        let done = self.model.generate(experts, &jobs, &EOS, Some(5), Report::Tokens).unwrap();
        done.into_iter().map(|done| done.tokens).collect()
    }

    fn together(
        &self,
        experts: &Adapted,
        prompts: &[Vec<u32>],
        shares: &[Vec<Share>],
        batch: usize,
    ) -> Vec<Vec<u32>> {
        let jobs: Vec<MixedJob> = prompts
            .iter()
            .zip(shares)
            .map(|(tokens, shares)| MixedJob { shares, tokens, max_new_tokens: N_NEW })
            .collect();
        self.model.generate_mixed(experts, &jobs, &EOS, Some(batch)).unwrap()
    }

    /// softmax of an expert's logits behind a prompt.
    fn probabilities(&self, experts: &Adapted, idx: usize, tokens: &[u32]) -> Vec<f64> {
        let job = Job { adapter_idx: idx, tokens, max_new_tokens: 0 };
        let done = self.model.generate(experts, &[job], &EOS, Some(1), Report::Logits).unwrap();
        let logits = done[0].logits.as_ref().unwrap();
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let parts: Vec<f64> = logits.iter().map(|z| f64::from(z - max).exp()).collect();
        let sum: f64 = parts.iter().sum();
        parts.into_iter().map(|part| part / sum).collect()
    }
}

/// Prompts of very different lengths, one beyond what is read at once.
fn prompts(n: usize) -> Vec<Vec<u32>> {
    let length = |i: usize| if i == 3 { 230 } else { 1 + (i * 7) % 23 };
    let token = |i: usize, at: usize| (6 + (i * 131 + at * at * 17 + at * 29) % 1000) as u32;
    (0..n).map(|i| (0..length(i)).map(|at| token(i, at)).collect()).collect()
}

fn shares(of: &[(usize, f64)]) -> Vec<Share> {
    of.iter().map(|&(expert_idx, weight)| Share { expert_idx, weight }).collect()
}

#[test]
fn an_expert_with_all_the_weight_answers_as_it_does_alone() {
    // Broken: a mixture would not be made of its experts' own answers.
    let example = Example::new();
    let prompts = prompts(11);
    let experts = example.experts(&[0, 4, 7], 1.0);
    let wanted = [0, 1, 2].map(|idx| example.alone(&experts, idx, &prompts));
    assert_ne!(wanted[0], wanted[1]);
    for (expert_idx, wanted) in wanted.iter().enumerate() {
        let all = vec![shares(&[(expert_idx, 1.0)]); prompts.len()];
        assert_eq!(example.together(&experts, &prompts, &all, 4), *wanted, "{expert_idx}");
    }
    let (adapters, places) = example.open(&[0, 4, 7], 1.0);
    let adapters: Vec<&Adapter> = adapters.iter().collect();
    let beside = example.model.adapt_beside(&places, &adapters).unwrap();
    let all = vec![shares(&[(1, 1.0)]); prompts.len()];
    assert_eq!(example.together(&beside, &prompts, &all, 4), wanted[1], "beside");
    // Each prompt by another expert, and by others at its side that hardly weigh.
    let each: Vec<_> = (0..prompts.len()).map(|i| shares(&[(i % 3, 1.0)])).collect();
    let nearly: Vec<_> = (0..prompts.len())
        .map(|i| shares(&[0, 1, 2].map(|j| (j, if j == i % 3 { 1.0 } else { 1e-300 }))))
        .collect();
    for shares in [each, nearly] {
        let found = example.together(&experts, &prompts, &shares, 4);
        for (i, found) in found.iter().enumerate() {
            assert_eq!(*found, wanted[i % 3][i], "prompt {i}");
        }
    }
}

#[test]
fn equal_experts_answer_as_either() {
    // Broken: weights would not be those of an average.
    let example = Example::new();
    let (prompts, experts) = (prompts(9), example.experts(&[2, 2], 1.0));
    let wanted = example.alone(&experts, 0, &prompts);
    for weights in [[0.5, 0.5], [0.9, 0.1], [1.0 / 3.0, 2.0 / 3.0]] {
        let both = vec![shares(&[(0, weights[0]), (1, weights[1])]); prompts.len()];
        assert_eq!(example.together(&experts, &prompts, &both, 3), wanted, "{weights:?}");
    }
}

#[test]
fn a_mixture_takes_the_token_that_is_most_probable_on_average() {
    // Broken: logits would be mixed, or experts go on from answers of their own.
    let example = Example::new();
    let prompts = prompts(16);
    let experts = example.experts(&[0, 4, 7, 9], 2.5);
    let of: [&[(usize, f64)]; 3] = [
        &[(0, 0.28), (1, 0.26), (2, 0.24), (3, 0.22)],
        &[(0, 0.1), (1, 0.3), (2, 0.3), (3, 0.3)],
        &[(1, 0.45), (3, 0.55)],
    ];
    let shares: Vec<_> = (0..prompts.len()).map(|i| shares(of[i % 3])).collect();
    let found = example.together(&experts, &prompts, &shares, 3);
    let mut n_of_nobody = 0;
    for (i, found) in found.iter().enumerate() {
        let mut tokens = prompts[i].clone();
        for (step, token) in found.iter().enumerate() {
            let mut mixed = vec![0.0; example.model.config.vocab_size];
            for share in &shares[i] {
                let own = example.probabilities(&experts, share.expert_idx, &tokens);
                mixed.iter_mut().zip(own).for_each(|(sum, p)| *sum += share.weight * p);
            }
            let best = (0..mixed.len()).fold(0, |a, b| if mixed[b] > mixed[a] { b } else { a });
            assert_eq!(*token as usize, best, "prompt {i}, step {step}");
            tokens.push(*token);
        }
        assert!(found.len() == N_NEW || found.last() == Some(&EOS[0]), "prompt {i}");
        let alone = |share: &Share| {
            let prompt = std::slice::from_ref(&prompts[i]);
            example.alone(&experts, share.expert_idx, prompt).remove(0)
        };
        n_of_nobody += usize::from(shares[i].iter().all(|share| alone(share) != *found));
    }
    assert!(n_of_nobody > 0, "some answers are of the mixture alone");
}

#[test]
fn batches_threads_and_neighbours_change_no_answer() {
    // Broken: an answer would depend on what else is asked.
    let example = Example::new();
    let prompts = prompts(13);
    let experts = example.experts(&[1, 5, 8], 2.5);
    let shares: Vec<_> = (0..prompts.len())
        .map(|i| match i % 4 {
            0 => shares(&[(0, 0.5), (1, 0.25), (2, 0.25)]),
            1 => shares(&[(1, 0.6), (2, 0.4)]),
            2 => shares(&[(0, 0.51), (2, 0.49)]),
            _ => shares(&[(2, 1.0)]),
        })
        .collect();
    let wanted = example.together(&experts, &prompts, &shares, 1);
    for n_threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        for batch in [2, 5, 13, 1000] {
            let found = pool.install(|| example.together(&experts, &prompts, &shares, batch));
            assert_eq!(found, wanted, "{batch} on {n_threads} threads");
        }
    }
    let last = prompts.len() - 1;
    assert_eq!(example.together(&experts, &prompts[last..], &shares[last..], 1)[0], wanted[last]);
    assert!(example.together(&experts, &[], &[], 4).is_empty());
}

#[test]
fn texts_are_as_likely_as_their_experts_find_them_on_average() {
    // Broken: a perplexity of several experts would be that of another mixture.
    let example = Example::new();
    let texts: Vec<Vec<u32>> = prompts(6).into_iter().filter(|text| text.len() > 2).collect();
    let experts = example.experts(&[0, 4], 1.0);
    let scored = |text: &Vec<u32>| (0..text.len()).map(|i| i > 0 && i % 3 != 1).collect();
    let scored: Vec<Vec<bool>> = texts.iter().map(scored).collect();
    let mixed = |shares: &[Share], batch: usize| {
        let job = |(tokens, scored)| MixedText { shares, tokens, scored };
        let jobs: Vec<MixedText> =
            texts.iter().zip(&scored).map(|(t, s)| job((&t[..], &s[..]))).collect();
        example.model.log_likelihoods_mixed(&experts, &jobs, Some(batch)).unwrap()
    };
    for expert_idx in [0, 1] {
        let job = |(tokens, scored)| TextJob { adapter_idx: expert_idx, tokens, scored };
        let jobs: Vec<TextJob> =
            texts.iter().zip(&scored).map(|(t, s)| job((&t[..], &s[..]))).collect();
        let alone = example.model.log_likelihoods(&experts, &jobs, Some(2)).unwrap();
        for (found, wanted) in mixed(&shares(&[(expert_idx, 1.0)]), 2).iter().zip(alone) {
            assert!((found - wanted).abs() < 1e-5 * wanted.abs(), "{found} {wanted}");
        }
    }
    let both = shares(&[(0, 0.75), (1, 0.25)]);
    let found = mixed(&both, 1);
    assert_eq!(mixed(&both, 9), found);
    for (i, found) in found.iter().enumerate().filter(|(i, _)| texts[*i].len() < 50) {
        let mut wanted = 0.0;
        for at in (1..texts[i].len()).filter(|at| scored[i][*at]) {
            let p = |share: &Share| {
                let own = example.probabilities(&experts, share.expert_idx, &texts[i][..at]);
                share.weight * own[texts[i][at] as usize]
            };
            wanted += both.iter().map(p).sum::<f64>().ln();
        }
        assert!((found - wanted).abs() < 1e-5 * wanted.abs(), "{found} {wanted}");
    }
}

#[test]
fn a_text_is_the_mean_of_its_hidden_states() {
    // Broken: nearness would be told from other states than the text's own.
    let example = Example::new();
    let long: Vec<u32> = (0..450).map(|at| 6 + (at * at * 13 + at * 7) % 1000).collect();
    let embed = |jobs: &[(&[u32], &[bool])], batch: usize| {
        let jobs: Vec<EmbedJob> =
            jobs.iter().map(|(tokens, counts)| EmbedJob { tokens, counts }).collect();
        example.model.mean_hidden(&jobs, Some(batch)).unwrap()
    };
    let (all, none) = (vec![true; 450], vec![false; 450]);
    // What follows changes nothing of what was read before it.
    for n in [1, 191, 192, 193, 400] {
        let first: Vec<bool> = (0..450).map(|at| at < n).collect();
        let found = embed(&[(&long, &first), (&long[..n], &all[..n]), (&long[..n], &none[..n])], 2);
        assert_eq!(found[0], found[1], "{n}");
        assert_eq!(found[1], found[2], "{n}");
        assert_eq!(found[0].len(), example.model.config.dim);
    }
    let two = embed(&[(&long[..7], &all[..7]), (&long, &all)], 1);
    assert_eq!(
        embed(&[(&long, &all), (&long[..7], &all[..7])], 8),
        [two[1].clone(), two[0].clone()]
    );
}

#[test]
fn golden_hidden_states() {
    // Broken: the states would be those before the last norm, or of another layer.
    for root in golden_roots() {
        let folder = root.join("forward/tiny-mha");
        if !folder.join("golden.safetensors").exists() {
            continue;
        }
        println!("tiny-mha prompt 7, {}", root.display());
        let model =
            Model::open(&folder.join("model"), Device::Cpu, Isa::detect(), None, Held::default())
                .unwrap();
        let golden = read_json(&folder.join("golden.json"));
        let ids = golden["prompts"][7]["input_ids"].as_array().unwrap();
        let ids: Vec<u32> = ids.iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let file = Tensors::open(&folder.join("golden.safetensors")).unwrap();
        let (n, dim) = (ids.len(), model.config.dim);
        let states = file.get("debug.base.prompt7.hidden4", &[n, dim]).unwrap().to_f32();
        let counts: Vec<bool> = (0..n).map(|at| at > 0).collect();
        let job = EmbedJob { tokens: &ids, counts: &counts };
        let found = model.mean_hidden(&[job], Some(1)).unwrap().remove(0);
        for (i, found) in found.iter().enumerate() {
            let sum: f64 = (1..n).map(|at| f64::from(states[at * dim + i])).sum();
            let wanted = sum / (n - 1) as f64;
            assert!((found - wanted).abs() < 1e-4, "{i}: {found}, wanted {wanted}");
        }
    }
}
