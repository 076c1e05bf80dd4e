//! Wires a circuit, hides it among random heads and noise, and asks whether a detector of one's own finds it.
//!
//! ```sh
//! cargo run --example own_detector
//! ```

use attn_circuits::circuit::composition::composition;
use attn_circuits::circuit::weights::{Circuit, Circuits};
use attn_circuits::experiment::{self, LoadOptions};
use attn_circuits::model::{Channel, HeadId, Transformer};
use attn_circuits::{Error, Result};

/// Twenty draws of an induction circuit (0.0 → 1.0 through keys) at each level of noise.
const MODELS: &str = "
title: A circuit to be found
models:
  noisy:
    kind: wired
    circuit: induction
    vocab: 13
    context: 25
    scale: 3
    distractors: 3
    rotate: true
    replicates: 20
    sweep: { noise: [0.0, 0.5, 1.0, 2.0, 3.0] }
cells:
  - measure: composition
";

/// One's own detector: whether the later head, through keys that the earlier one wrote, looks for the token that it has itself. The
/// trace of the K-composition term over tokens, relative to its size.
fn matching(circuits: &Circuits, from: HeadId, to: HeadId) -> Result<f64> {
    let term = circuits.low_rank(Circuit::KComposition { from, to })?;
    let size = term.norm();
    Ok(if size > 0.0 { term.trace()? / size } else { 0.0 })
}

/// The probability that the true pair stands above a false one, by one's own detector and by the composition score.
fn places(model: &Transformer) -> Result<[f64; 2]> {
    let circuits = Circuits::new(model);
    let (mut own, mut usual) = (Vec::new(), Vec::new());
    for pair in composition(model)?.iter().filter(|pair| pair.channel == Channel::K) {
        own.push(matching(&circuits, pair.from, pair.to)?);
        usual.push(pair.value.map_or(0.0, |value| value.score));
    }
    // The wired heads are the first of their layers, and so their pair is the first.
    let above = |scores: &[f64]| scores[1..].iter().filter(|score| **score < scores[0]).count() as f64;
    Ok([own, usual].map(|scores| above(&scores) / (scores.len() - 1) as f64))
}

fn main() -> Result<()> {
    let experiment = experiment::load_str(MODELS, "own_detector.yaml".as_ref(), &[], &LoadOptions::default())?;
    let (name, model) = experiment.models.first().ok_or_else(|| Error::invalid("there are no models"))?;
    println!("area under the ROC curve, mean over {} models", model.replicates);
    println!("{:>6} {:>10} {:>12}", "noise", "matching", "composition");
    for (index, variant) in model.variants.iter().enumerate() {
        let mut sums = [0.0; 2];
        for instance in model.instances(name).filter(|instance| instance.variant_index == index) {
            let found = places(&experiment.build(&instance)?)?;
            sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += found / model.replicates as f64);
        }
        println!("{:>6} {:>10.3} {:>12.3}", variant.values[0], sums[0], sums[1]);
    }
    Ok(())
}
