//! Imports weights and finds their induction heads, by what they attend to and by what their weights copy.
//!
//! ```sh
//! cargo run --example find_induction_heads                          # a model of this repository
//! cargo run --example find_induction_heads -- mine.safetensors      # yours, with a config.json beside it
//! ```

use attn_circuits::circuit::copying::copying_score;
use attn_circuits::circuit::head_scores::{Score, head_scores};
use attn_circuits::circuit::weights::{Circuit, Circuits};
use attn_circuits::notebook::Notebook;
use attn_circuits::{Error, Result};
use serde_json::json;

fn main() -> Result<()> {
    let weights = std::env::args().nth(1).unwrap_or_else(|| "experiments/models/trained/weights.safetensors".into());
    let mut notebook = Notebook::new("Induction heads of imported weights")?;
    let model = notebook.model("mine", &format!("{{ kind: import, weights: {} }}", json!(weights)))?;
    println!("{weights}: {}", model.config());

    // Random tokens, so that no statistics of a language help: half of the context, twice.
    let period = ((model.config().n_ctx - 1) / 2).min(model.config().d_vocab - 1);
    let repeated = format!("{{ kind: repeated_tokens, sequences: 16, period: {period}, repeats: 2 }}");
    let tokens = notebook.input("repeated", &repeated)?;

    let matching = Score::find("prefix_matching").expect("a score of this crate");
    // One value for each head of the model, in the order of its heads.
    let scores = head_scores(&model, &tokens, &[matching])?;
    let values = scores[0].values.as_ref().ok_or_else(|| Error::invalid("the tokens do not repeat"))?;
    let mut ranked: Vec<_> = model.config().heads().zip(values).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(a.1));
    println!("{:>6} {:>16} {:>14}", "head", "prefix matching", "copying score");
    let circuits = Circuits::new(&model);
    for (head, value) in ranked.iter().take(8) {
        let copying = copying_score(&circuits, Circuit::FullOv(*head))?;
        let copying = copying.map_or("–".into(), |share| format!("{share:.3}"));
        println!("{:>6} {:>16.3} {copying:>14}", head.to_string(), value);
    }
    Ok(())
}
