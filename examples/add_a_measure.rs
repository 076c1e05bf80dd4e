//! Adds a measure: how spread out the attention of each head is. It then is a measure like all others: experiments name it, errors
//! show where its parameters are wrong, and its table can be queried, drawn and claimed about.
//!
//! ```sh
//! cargo run --example add_a_measure
//! ```
//!
//! A measure that belongs into the program is the same in a file of `src/measure`, with its line in `MEASURES` there.

use attn_circuits::experiment::{self, LoadOptions, Registries, RunOptions};
use attn_circuits::input::InputShape;
use attn_circuits::kind::Described;
use attn_circuits::measure::{Cost, MEASURES, Measure, Subject};
use attn_circuits::model::{Keep, ModelConfig};
use attn_circuits::store::Run;
use attn_circuits::{Error, Result, kind};
use ndarray::Axis;
use polars::prelude::{Column, DataFrame, DataType, Field, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

/// How spread out the attention of each head is: the mean entropy of its pattern's rows, in nats. 0 for a head that looks at one
/// position only.
///
/// This text is what `describe` prints, and the JSON Schema carries.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AttentionEntropy {
    /// Rows before this position are left out: they have little to choose from. Default: 1.
    #[serde(default = "first")]
    from: usize,
}

fn first() -> usize {
    1
}

impl Described for AttentionEntropy {
    const NAME: &'static str = "attention_entropy";
    const EXAMPLE: &'static str = "- measure: attention_entropy\n  input: repeated\n  from: 10\n";
}

impl Measure for AttentionEntropy {
    fn columns(&self) -> Schema {
        let columns = [("layer", DataType::Int64), ("head", DataType::Int64), ("entropy", DataType::Float64)];
        columns.into_iter().map(|(name, dtype)| Field::new(name.into(), dtype)).collect()
    }

    fn needs_input(&self) -> bool {
        true
    }

    fn check(&self, _: &ModelConfig, input: Option<&InputShape>) -> Result<()> {
        match input {
            Some(input) if self.from >= input.length => {
                Err(Error::parameter("from", format!("the sequences have only {} tokens", input.length)))
            }
            _ => Ok(()),
        }
    }

    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost {
        let rows = model.n_layers.saturating_mul(model.n_heads);
        // All patterns of all sequences are held at the same time.
        let patterns = input.map_or(0, |input| input.length.saturating_mul(input.length).saturating_mul(input.sequences));
        Cost { rows, bytes: rows.saturating_mul(patterns).saturating_mul(size_of::<f32>()) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let input = subject.input.ok_or_else(|| Error::invalid("this measure needs an input"))?;
        let cache = subject.model.run(input, Keep { patterns: true, ..Keep::NOTHING })?;
        let (mut layers, mut heads, mut entropies) = (Vec::new(), Vec::new(), Vec::new());
        for (layer, patterns) in cache.patterns.iter().enumerate() {
            for (head, pattern) in patterns.axis_iter(Axis(1)).enumerate() {
                // [sequences, destinations, sources]
                let rows = pattern.slice(ndarray::s![.., self.from.., ..]);
                let nats = |p: &f32| if *p > 0.0 { -f64::from(*p) * f64::from(*p).ln() } else { 0.0 };
                let sum: f64 = rows.iter().map(nats).sum();
                layers.push(layer as i64);
                heads.push(head as i64);
                entropies.push(sum / (rows.len_of(Axis(0)) * rows.len_of(Axis(1))) as f64);
            }
        }
        Ok(DataFrame::new(
            layers.len(),
            vec![
                Column::new("layer".into(), layers),
                Column::new("head".into(), heads),
                Column::new("entropy".into(), entropies),
            ],
        )?)
    }
}

const EXPERIMENT: &str = "
title: Which heads know exactly where to look?
models:
  wired: { kind: wired, circuit: induction, vocab: 33, context: 61 }
inputs:
  repeated: { kind: repeated_tokens, sequences: 16, period: 20, repeats: 3 }
cells:
  - measure: attention_entropy
    from: 21
  - claim: Both heads of an induction circuit look at one or two places.
    check: SELECT MAX(entropy) < LN(2) + 0.01 AS holds, MAX(entropy) AS most FROM attention_entropy
";

fn main() -> Result<()> {
    let mut measures = MEASURES.to_vec();
    measures.push(kind!(dyn Measure, AttentionEntropy));
    let registries = Registries { measures: &measures, ..Registries::standard() };
    let options = LoadOptions { registries, ..LoadOptions::default() };
    let experiment = experiment::load_str(EXPERIMENT, "entropy.yaml".as_ref(), &[], &options)?;
    let out = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    let run = Run::open(experiment::run(&experiment, out.path(), &RunOptions::default())?.folder)?;
    println!("{}", run.table("attention_entropy")?);
    for claim in run.manifest.claims() {
        println!("{} {}", if claim.holds { "holds:" } else { "fails:" }, claim.line());
    }

    let wrong = EXPERIMENT.replace("from: 21", "from: 99");
    let error =
        experiment::load_str(&wrong, "entropy.yaml".as_ref(), &[], &options).expect_err("the sequences are not that long");
    println!("\n{error}");
    Ok(())
}
