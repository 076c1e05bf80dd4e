//! What turns a wired model away from its ideal: rotation, noise, distractors, compression; and the draws behind them.

use super::*;

#[test]
fn a_rotation_changes_the_weights_and_no_product() {
    for deviations in [json!({}), json!({ "noise": 0.5, "distractors": 2, "compress": 20 })] {
        let mut kind = induction(deviations);
        let plain = build(&kind);
        kind.rotate = true;
        let turned = build(&kind);
        assert!(norm(&(double(plain.w_e()) - double(turned.w_e()))) > 1.0);
        for (layer, head) in [(0, 0), (1, 0)] {
            let (a, b) = (plain.head(HeadId::new(layer, head)), turned.head(HeadId::new(layer, head)));
            let full = |model: &Transformer, circuit: Array2<f64>| double(model.w_e()).dot(&circuit).dot(&double(model.w_u()));
            assert_near(&full(&turned, ov(b)), &full(&plain, ov(a)), 2e-5);
            let scores = |model: &Transformer, circuit: Array2<f64>| {
                let w_pos = double(model.w_pos().unwrap());
                w_pos.dot(&circuit).dot(&w_pos.t())
            };
            assert_near(&scores(&turned, qk(b)), &scores(&plain, qk(a)), 2e-4);
        }
        for (a, b) in composition(&plain).into_iter().zip(composition(&turned)) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
    }
}

#[test]
fn noise_has_the_stated_relative_size_in_every_matrix() {
    let mut kind = induction(json!({ "vocab": 40, "context": 40 }));
    let plain = build(&kind);
    kind.noise = 0.3;
    let noisy = build(&kind);
    let relative = |clean: ArrayView2<f32>, noisy: ArrayView2<f32>| {
        let clean = double(clean);
        norm(&(double(noisy) - &clean)) / norm(&clean)
    };
    let mut found = vec![
        relative(plain.w_e(), noisy.w_e()),
        relative(plain.w_pos().unwrap(), noisy.w_pos().unwrap()),
        relative(plain.w_u(), noisy.w_u()),
    ];
    for layer in 0..2 {
        let (a, b) = (plain.head(HeadId::new(layer, 0)), noisy.head(HeadId::new(layer, 0)));
        found.extend([relative(a.w_q, b.w_q), relative(a.w_k, b.w_k), relative(a.w_v, b.w_v), relative(a.w_o, b.w_o)]);
    }
    // 6400 entries a matrix: five standard errors are 4.5 %.
    assert!(found.iter().all(|value| (value / 0.3 - 1.0).abs() < 0.045), "{found:?}");
}

#[test]
fn a_head_of_zeros_gets_no_noise() {
    let mut kind = parse(&format!("{}vocab: 7\ncontext: 5\nnoise: 1\n", induction_text()));
    kind.heads.as_mut().unwrap()[1].layer = 2;
    let model = build(&kind);
    let head = model.head(HeadId::new(1, 0));
    assert!([head.w_q, head.w_k, head.w_v, head.w_o].iter().all(|matrix| matrix.iter().all(|&value| value == 0.0)));
}

#[test]
fn deviations_do_not_disturb_each_other() {
    let noisy = build(&induction(json!({ "noise": 0.3 })));
    let both = build(&induction(json!({ "noise": 0.3, "distractors": 2 })));
    let three = build(&induction(json!({ "noise": 0.3, "distractors": 3 })));
    assert_eq!((noisy.config().n_heads, both.config().n_heads, three.config().n_heads), (1, 3, 4));
    for layer in 0..2 {
        assert_eq!(noisy.head(HeadId::new(layer, 0)).w_q, both.head(HeadId::new(layer, 0)).w_q);
        assert_eq!(noisy.head(HeadId::new(layer, 0)).w_o, both.head(HeadId::new(layer, 0)).w_o);
        assert_eq!(both.head(HeadId::new(layer, 2)).w_v, three.head(HeadId::new(layer, 2)).w_v);
    }
    assert_eq!(noisy.w_u(), both.w_u());
    assert_ne!(both.head(HeadId::new(0, 1)).w_q, both.head(HeadId::new(1, 1)).w_q);
    assert_ne!(both.head(HeadId::new(0, 1)).w_q, both.head(HeadId::new(0, 2)).w_q);

    // No two heads share a draw.
    let mut twins = parse(&format!("{}vocab: 7\ncontext: 5\nnoise: 0.3\n", induction_text()));
    let mut twin = twins.heads.as_ref().unwrap()[0].clone();
    twin.name = None;
    twins.heads.as_mut().unwrap().push(twin);
    let twins = build(&twins);
    assert_ne!(twins.head(HeadId::new(0, 0)).w_v, twins.head(HeadId::new(0, 1)).w_v);

    // Twice the noise is the same draw, twice as large.
    let plain = double(build(&induction(json!({}))).w_e());
    let single = double(noisy.w_e()) - &plain;
    let double_noise = double(build(&induction(json!({ "noise": 0.6 }))).w_e()) - &plain;
    assert_near(&double_noise, &(single * 2.0), 1e-6);
}

#[test]
fn distractors_are_as_large_as_the_wired_heads_on_average() {
    let model = build(&induction(json!({ "distractors": 2 })));
    let of = |matrix: fn(Head) -> ArrayView2<f32>, layer: usize, head: usize| {
        norm(&double(matrix(model.head(HeadId::new(layer, head)))))
    };
    let matrices: [fn(Head) -> ArrayView2<f32>; 4] = [|h| h.w_q, |h| h.w_k, |h| h.w_v, |h| h.w_o];
    for matrix in matrices {
        let mean = (of(matrix, 0, 0) + of(matrix, 1, 0)) / 2.0;
        for (layer, head) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
            assert!((of(matrix, layer, head) / mean - 1.0).abs() < 1e-5);
        }
    }
}

#[test]
fn compression_keeps_lengths_on_average_and_makes_subspaces_interfere() {
    let (vocab, context, width) = (40, 40, 80);
    let kind = induction(json!({ "vocab": vocab, "context": context, "compress": width }));
    let model = build(&kind);
    assert_eq!(model.config(), &kind.config(Path::new(".")).unwrap());
    assert_eq!(model.config().d_model, width);
    let all = ndarray::concatenate![ndarray::Axis(0), double(model.w_e()), double(model.w_pos().unwrap())];
    let gram = all.dot(&all.t());
    let lengths: Array1<f64> = gram.diag().to_owned();
    let mean = lengths.mean().unwrap();
    assert!((mean - 1.0).abs() < 0.1, "{mean}");
    // Of d = 160 directions in m = 80 dimensions two overlap with variance (1/m)(1 − m/d), near enough.
    let overlaps = gram.indexed_iter().filter(|((i, j), _)| i < j).map(|(_, value)| value * value).collect::<Vec<_>>();
    let variance = overlaps.iter().sum::<f64>() / overlaps.len() as f64;
    assert!((variance * 160.0 - 1.0).abs() < 0.1, "{variance}");
    // Without room lost, nothing interferes: the closed forms hold.
    let whole = build(&induction(json!({ "compress": 3 * VOCAB + CONTEXT })));
    let [q, k, v] = composition(&whole);
    assert!((k - 1.0 / (VOCAB as f64).sqrt()).abs() < 1e-6 && q < 1e-6 && v < 1e-6, "{q} {k} {v}");
}

#[test]
fn replicates_differ_exactly_where_something_is_random() {
    for (overrides, random) in [
        (json!({ "sharpness": 3.0 }), false),
        (json!({ "rotate": true }), true),
        (json!({ "noise": 0.1 }), true),
        (json!({ "compress": 9 }), true),
        (json!({ "distractors": 1 }), true),
    ] {
        let kind = induction(overrides.clone());
        let replicate =
            |name: &str| kind.build(&BuildContext { base: Path::new("."), stream: Stream::new(1).child(name) }).unwrap();
        assert_eq!(kind.is_random(), random, "{overrides}");
        assert_eq!(replicate("1") != replicate("2"), random, "{overrides}");
        assert_eq!(replicate("1"), replicate("1"));
    }
}
