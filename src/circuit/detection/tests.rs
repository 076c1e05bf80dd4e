//! Detection: what is true, what is ranked, and where it stands.

use super::*;
use crate::circuit::closed_forms::of_wiring;
use crate::circuit::testing::model;
use crate::input::InputKind;
use crate::kind::Kind;
use crate::model::build::{MODELS, ModelKind};
use serde_json::{Value, json};
use std::path::Path;

fn wiring(parameters: Value) -> (Wiring, ModelConfig) {
    let kind = Kind::<dyn ModelKind>::find(MODELS, "wired").unwrap();
    let kind = (kind.parse)(parameters).unwrap();
    (kind.wiring().unwrap().unwrap(), kind.config(Path::new("")).unwrap())
}

fn words(candidate: &Candidate) -> String {
    match candidate {
        Candidate::Head(id) => id.to_string(),
        Candidate::Edge { channel, from, to } => format!("{from}>{to} through {}", channel.name()),
    }
}

fn truths(parameters: Value, channels: &[Channel]) -> Vec<(&'static str, Vec<String>)> {
    let (wiring, config) = wiring(parameters);
    let forms = of_wiring(&wiring, &config, &[]).unwrap();
    let truth = |detector: Detector| {
        let truth = detector.truth(&wiring, &forms, channels);
        // Whatever is true is among what is ranked.
        let candidates = detector.candidates(&config, channels);
        assert!(truth.iter().all(|candidate| candidates.contains(candidate)), "{}", detector.name());
        (detector.name(), truth.iter().map(words).collect())
    };
    Detector::ALL.into_iter().map(truth).collect()
}

fn repeated(vocab: usize, sequences: usize) -> TokenBatch {
    let kind = Kind::<dyn InputKind>::find(crate::input::INPUTS, "repeated_tokens").unwrap();
    let kind = (kind.parse)(json!({ "sequences": sequences, "period": 6, "repeats": 2 })).unwrap();
    let context = crate::input::InputContext { base: Path::new(""), stream: Stream::new(3), d_vocab: vocab, original: None };
    kind.build(&context).unwrap()
}

#[test]
fn the_truth_of_a_wiring_is_what_its_names_say() {
    let induction = truths(json!({ "circuit": "induction", "vocab": 9, "context": 13 }), &Channel::ALL);
    let edge = "0.0>1.0 through k";
    let expected: [(&str, &[&str]); 12] = [
        ("alignment", &[edge]),
        ("composition", &[edge]),
        ("composition_z", &[edge]),
        ("copying", &["1.0"]),
        ("duplicate_token", &[]),
        ("matching", &[edge]),
        ("prefix_matching", &["1.0"]),
        ("previous_token", &["0.0"]),
        ("resample_ablation", &["0.0", "1.0"]),
        ("resample_path_patching", &[edge]),
        ("zero_ablation", &["0.0", "1.0"]),
        ("zero_path_patching", &[edge]),
    ];
    let text = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(induction, expected.map(|(name, list)| (name, text(list))));
    // Edges through other channels are neither candidates nor true.
    let values = truths(json!({ "circuit": "induction", "vocab": 9, "context": 13 }), &[Channel::V]);
    assert!(values.iter().filter(|(name, _)| Detector::find(name).unwrap().finds_edges()).all(|(_, list)| list.is_empty()));
    let pointer = truths(json!({ "circuit": "pointer-arithmetic", "vocab": 9, "context": 13 }), &Channel::ALL);
    let of = |name: &str| pointer.iter().find(|(of, _)| *of == name).unwrap().1.clone();
    assert_eq!(of("composition"), ["0.0>1.0 through q"]);
    assert_eq!((of("duplicate_token"), of("prefix_matching")), (vec!["0.0".to_string()], vec!["1.0".to_string()]));
    assert_eq!((of("previous_token"), of("matching")), (vec![], vec![]));
}

/// What every circuit is true to: its previous-token, duplicate-token and prefix-matching heads, the heads that copy, its edges.
#[test]
fn the_truth_of_every_circuit_is_what_its_description_says() {
    let expected: [(&str, [&[&str]; 5]); 11] = [
        ("copying", [&[], &[], &[], &["0.0"], &[]]),
        ("duplicate-token", [&[], &["0.0"], &[], &["0.0"], &[]]),
        ("induction", [&["0.0"], &[], &["1.0"], &["1.0"], &["0.0>1.0 through k"]]),
        ("induction-with-rest", [&["0.0"], &[], &["1.0"], &["1.0"], &["0.0>1.0 through k"]]),
        ("n-back", [&[], &[], &[], &["0.0"], &[]]),
        (
            "n-token-prefix",
            [&["0.0"], &[], &["1.0"], &["1.0"], &["0.0>1.0 through k", "0.1>1.0 through k", "0.0>1.0 through q"]],
        ),
        ("pointer-arithmetic", [&[], &["0.0"], &["1.0"], &["1.0"], &["0.0>1.0 through q"]]),
        ("previous-of-previous", [&["0.0", "1.0"], &[], &[], &[], &["0.0>1.0 through v"]]),
        ("skip-trigram", [&[], &[], &[], &[], &[]]),
        ("skip-trigram-bug", [&[], &[], &[], &[], &[]]),
        ("tokenization", [&[], &[], &[], &[], &[]]),
    ];
    assert_eq!(expected.len(), crate::model::build::wired::circuits::CIRCUITS.len());
    for (circuit, truth) in expected {
        let found = truths(json!({ "circuit": circuit, "vocab": 9, "context": 13 }), &Channel::ALL);
        let of = |name: &str| found.iter().find(|(of, _)| *of == name).unwrap().1.clone();
        let detectors = ["previous_token", "duplicate_token", "prefix_matching", "copying", "composition"];
        assert_eq!(detectors.map(of), truth.map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>()), "{circuit}");
    }
}

/// A sharp circuit among few, weak random heads is found by everything.
#[test]
fn every_detector_finds_a_circuit_that_is_plain_to_see() {
    let parameters =
        json!({ "circuit": "induction", "vocab": 17, "context": 13, "scale": 3, "distractors": 2, "rotate": true });
    let (model, (wiring, config)) = (model("wired", parameters.clone()), wiring(parameters));
    let forms = of_wiring(&wiring, &config, &[]).unwrap();
    let detections = detect(&model, &repeated(17, 8), &Detector::ALL, &Channel::ALL, &Stream::new(1)).unwrap();
    assert_eq!(detections.len(), Detector::ALL.len());
    for detection in detections {
        let truth = detection.detector.truth(&wiring, &forms, &Channel::ALL);
        let found = detection.find(&truth);
        assert_eq!(found.len(), truth.len());
        for of in found {
            let name = detection.detector.name();
            assert_eq!(of.auc(), Some(1.0), "{name}: {of:?}");
            assert!(of.value > of.best_false, "{name}: {of:?}");
            let candidates = if name == "matching" {
                9
            } else if detection.detector.finds_edges() {
                27
            } else {
                6
            };
            assert_eq!(of.false_candidates, candidates - truth.len(), "{name}");
        }
    }
}

/// Each number is what the measure of that name says by itself.
#[test]
fn numbers_are_those_of_the_measures() {
    let model = model("random", json!({ "layers": 2, "heads": 2, "d_model": 12, "vocab": 17, "context": 13, "std": 0.5 }));
    let batch = repeated(17, 5);
    let stream = Stream::new(1);
    let found = detect(&model, &batch, &Detector::ALL, &Channel::ALL, &stream).unwrap();
    let value = |detector: Detector, candidate: Candidate| {
        let of = found.iter().find(|found| found.detector == detector).unwrap();
        of.values.iter().find(|(c, _)| *c == candidate).unwrap().1.unwrap()
    };
    let (from, to) = (HeadId::new(0, 1), HeadId::new(1, 0));
    for pair in composition(&model).unwrap() {
        let edge = Candidate::Edge { channel: pair.channel, from: pair.from, to: pair.to };
        let expected = pair.value.unwrap();
        let of = [Detector::Alignment, Detector::Composition, Detector::CompositionZ].map(|detector| value(detector, edge));
        assert_eq!(of, [expected.alignment, expected.score, expected.z.unwrap()]);
    }
    let circuits = Circuits::new(&model);
    let share = |circuit| copying_score(&circuits, circuit).unwrap().unwrap();
    assert!((value(Detector::Copying, Candidate::Head(to)) - share(Circuit::FullOv(to))).abs() < 1e-9);
    let edge = |channel| Candidate::Edge { channel, from, to };
    assert!((value(Detector::Matching, edge(Channel::K)) - share(Circuit::KComposition { from, to })).abs() < 1e-9);
    let score = Score::find("prefix_matching").unwrap();
    let scored = head_scores(&model, &batch, std::slice::from_ref(&score)).unwrap();
    assert_eq!(value(Detector::PrefixMatching, Candidate::Head(from)), scored[0].values.as_ref().unwrap()[1]);
    // Position 6 is the last of the first repeat, the token at 12 predicts nothing.
    let later: Vec<usize> = (7..12).collect();
    let sweep = Sweep::new(&model, &batch).stream(stream.clone());
    let sites = [Site::Z(from), Site::Sent { from, to: Reader::Head(to, Channel::V) }];
    let candidates = [Candidate::Head(from), edge(Channel::V)];
    for (detectors, by) in [
        ([Detector::ZeroAblation, Detector::ZeroPathPatching], Replacement::Zero),
        ([Detector::ResampleAblation, Detector::ResamplePathPatching], Replacement::Resample),
    ] {
        let interventions = sites.map(|site| Intervention::new(site, by));
        let outcomes = sweep.run(&interventions, std::slice::from_ref(&later)).unwrap();
        for (place, (detector, candidate)) in detectors.into_iter().zip(candidates).enumerate() {
            let expected = outcomes.intervened[place].loss.mean().unwrap() - outcomes.clean.loss.mean().unwrap();
            assert!((value(detector, candidate) - expected).abs() < 1e-9, "{}", detector.name());
        }
    }
    // With one sequence there is nothing to resample from, and no number; and nobody has a place.
    let alone = detect(&model, &repeated(17, 1), &[Detector::ResampleAblation], &Channel::ALL, &stream).unwrap();
    assert!(alone[0].values.iter().all(|(_, value)| value.is_none()));
    let found = alone[0].find(&[Candidate::Head(to)]);
    assert_eq!((found[0].above, found[0].auc(), found[0].false_candidates), (None, None, 3));
}

#[test]
fn ties_count_half_and_what_has_no_number_is_last() {
    let detection = |values: &[Option<f64>]| Detection {
        detector: Detector::Copying,
        values: values.iter().enumerate().map(|(head, &value)| (Candidate::Head(HeadId::new(0, head)), value)).collect(),
    };
    let first = |values: &[Option<f64>]| detection(values).find(&[Candidate::Head(HeadId::new(0, 0))])[0];
    assert_eq!(first(&[Some(1.0), Some(2.0), Some(1.0), None]).above, Some(1.5));
    assert_eq!(first(&[None, Some(2.0), None]).above, Some(1.5));
    assert_eq!(first(&[Some(-1.0), None]).auc(), Some(1.0));
    let harmful = first(&[Some(-2.0), Some(1.0), Some(-3.0), Some(2.0), None]);
    assert_eq!((harmful.auc(), harmful.auc_by_size()), (Some(0.5), Some(0.625)));
    assert_eq!(first(&[Some(-1.0)]).auc(), None);
    // Of several true ones, none is false.
    let truth = [0, 1].map(|head| Candidate::Head(HeadId::new(0, head)));
    let found = detection(&[Some(0.0), Some(1.0), Some(0.5)]).find(&truth);
    assert_eq!([found[0].above, found[1].above], [Some(1.0), Some(0.0)]);
    assert_eq!(found[0].best_false, Some(0.5));
    assert!(detection(&[Some(0.0)]).find(&[Candidate::Head(HeadId::new(7, 0))]).is_empty());
}
