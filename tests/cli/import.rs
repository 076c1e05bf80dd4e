//! Models from files through the whole program, against numbers that TransformerLens computed from them (tests/oracle/README.md).

use crate::common::tensors;
use crate::desk::{Desk, Row, Table, repository};
use ndarray::{ArrayD, Axis};
use std::collections::{BTreeMap, BTreeSet};

const FOLDERS: [&str; 7] = ["handwired", "layernorm", "layernorm_pre", "one_layer", "rotary", "shortformer", "two_layer"];

/// The columns of each measure's table after the keys, as users may rely on them.
const COLUMNS: [(&str, &str); 6] = [
    ("head_scores", "layer,head,score,value,floor,ceiling"),
    ("attention", "layer,head,sequence,destination,source,destination_token,source_token,value"),
    ("loss", "position,repeat,loss,accuracy"),
    ("logits", "sequence,position,token,value"),
    ("composition", "kind,from_layer,from_head,to_layer,to_head,score,chance,chance_sd,z,alignment"),
    (
        "ablation",
        "layer,head,others,method,patterns,channel,repeat,loss,loss_change,loss_change_low,loss_change_high,accuracy,accuracy_change,logit,\
         logit_change",
    ),
];

/// An oracle folder's model, measured.
struct Measured {
    desk: Desk,
    name: &'static str,
    expected: BTreeMap<String, ArrayD<f64>>,
    layers: usize,
    heads: usize,
}

impl Measured {
    fn new(name: &'static str) -> Self {
        let folder = repository(&format!("tests/oracle/{name}"));
        let cells: String = COLUMNS.iter().map(|(measure, _)| format!("  - measure: {measure}\n")).collect();
        let experiment = format!(
            "title: Import of {name}
models:
  imported: {{ kind: import, weights: '{folder}/weights.safetensors' }}
inputs:
  repeated: {{ kind: tokens, file: '{folder}/inputs.safetensors', tensor: tokens_rep }}
cells:
{cells}"
        );
        let desk = Desk::with("import.yaml", &experiment);
        desk.run_well("import.yaml");
        let expected = tensors(format!("{folder}/expected_f64.safetensors").as_ref());
        let [layers, heads] = expected["comp.Q"].shape()[..2] else { unreachable!("comp.Q is [L, H, L, H]") };
        Self { desk, name, expected, layers, heads }
    }

    fn table(&self, name: &str) -> Table {
        self.desk.table(&format!("results/import/tables/{name}.csv"))
    }

    #[track_caller]
    fn assert_close(&self, row: Row, column: &str, expected: f64, tolerance: f64) {
        let found = row.number(column);
        // A quotient of zeros is null, never NaN.
        let close = found.map_or(expected.is_nan(), |found| (found - expected).abs() <= tolerance);
        assert!(close, "{}: {column} should be {expected}: {row:?}", self.name);
    }

    /// Every pair of heads and every channel has one row, with TransformerLens' score.
    fn check_composition(&self) {
        let table = self.table("composition");
        let mut seen = BTreeSet::new();
        for row in table.rows() {
            let place = ["from_layer", "from_head", "to_layer", "to_head"].map(|column| row.index(column));
            assert!(place[0] < place[2], "{row:?}");
            let kind = row.text("kind");
            let expected = self.expected[&format!("comp.{}", kind.to_uppercase())][place.as_slice()];
            self.assert_close(row, "score", expected, 1e-5);
            for column in ["chance", "chance_sd", "z", "alignment"] {
                assert_eq!(row.number(column).is_none(), expected.is_nan(), "{column}: {row:?}");
            }
            assert!(seen.insert((kind.to_string(), place)), "twice: {row:?}");
        }
        assert_eq!(seen.len(), 3 * self.heads * self.heads * self.layers * (self.layers - 1) / 2, "{}", self.name);
    }

    /// The loss at each position is the mean over sequences.
    fn check_loss(&self) {
        let table = self.table("loss");
        let expected = self.expected["rep.loss"].mean_axis(Axis(0)).unwrap();
        assert_eq!(table.rows.len(), expected.len());
        for (position, row) in table.rows().enumerate() {
            assert_eq!((row.index("position"), row.text("repeat")), (position, ""));
            self.assert_close(row, "loss", expected[[position]], 1e-4);
        }
    }

    fn check_logits(&self) {
        let table = self.table("logits");
        let expected = &self.expected["rep.logits"];
        assert_eq!(table.rows.len(), expected.len());
        for (row, (place, &value)) in table.rows().zip(expected.indexed_iter()) {
            let found = ["sequence", "position", "token"].map(|column| row.index(column));
            assert_eq!(found, [place[0], place[1], place[2]]);
            self.assert_close(row, "value", value, 2e-4 + 1e-4 * value.abs());
        }
    }

    fn check_ablation(&self) {
        let whole = self.expected["rep.loss"].mean().unwrap();
        let table = self.table("ablation").of("patterns", "recomputed").of("channel", "all").of("repeat", "");
        let mut seen = BTreeSet::new();
        for row in table.rows() {
            let method = match row.text("method") {
                "zero" => "zero",
                "mean" => "mean_batch_pos",
                "mean_per_position" => "mean_batch",
                // The reference has another permutation; `cargo test --test oracle` compares with that.
                "resample" => continue,
                other => panic!("an unknown method {other}"),
            };
            let (layer, head) = (row.index("layer"), row.index("head"));
            let of_layer = self.expected[&format!("ablate.{method}.loss")].index_axis(Axis(0), layer);
            let loss = of_layer.index_axis(Axis(0), head).mean().unwrap();
            self.assert_close(row, "loss", loss, 1e-4);
            self.assert_close(row, "loss_change", loss - whole, 1e-4);
            assert!(seen.insert((method, layer, head)), "twice: {row:?}");
        }
        assert_eq!(seen.len(), 3 * self.layers * self.heads, "{}", self.name);
    }

    /// TransformerLens' detectors, averaged over sequences.
    fn check_head_scores(&self) {
        let table = self.table("head_scores");
        let mut seen = BTreeSet::new();
        for row in table.rows() {
            let Some(score) = row.text("score").strip_prefix("tl_") else { continue };
            let (kind, convention) = score.split_at(score.find("_mul").or(score.find("_abs")).expect("a convention"));
            let kind = kind.strip_suffix("_token").map_or(kind.to_string(), |kind| format!("{kind}_token"));
            let expected = self.expected[&format!("detect.{kind}_head.{}", &convention[1..])].mean_axis(Axis(0)).unwrap();
            let (layer, head) = (row.index("layer"), row.index("head"));
            // The reference rounds `abs` to three decimals.
            let tolerance = if convention.starts_with("_abs") { 0.001001 } else { 1e-5 };
            self.assert_close(row, "value", expected[[layer, head]], tolerance);
            assert!(seen.insert((score.to_string(), layer, head)), "twice: {row:?}");
        }
        assert_eq!(seen.len(), 12 * self.layers * self.heads, "{}", self.name);
    }

    /// Each row of a pattern is a probability distribution over the positions up to its own.
    fn check_attention(&self) {
        let table = self.table("attention").of("sequence", "0");
        let mut sums = BTreeMap::new();
        for row in table.rows() {
            assert!(row.index("source") <= row.index("destination"), "{row:?}");
            *sums.entry(["layer", "head", "destination"].map(|column| row.index(column))).or_insert(0.0) +=
                row.number("value").expect("a probability");
        }
        let length = self.expected["rep.logits"].shape()[1];
        assert_eq!(sums.len(), self.layers * self.heads * length);
        assert!(sums.values().all(|sum: &f64| (sum - 1.0).abs() < 1e-5), "{sums:?}");
    }
}

#[test]
fn imported_models_measure_as_in_transformer_lens() {
    for name in FOLDERS {
        let measured = Measured::new(name);
        measured.check_composition();
        measured.check_loss();
        measured.check_logits();
        measured.check_ablation();
        measured.check_head_scores();
        measured.check_attention();
    }
}

#[test]
fn all_zero_heads_have_no_composition_score() {
    let measured = Measured::new("handwired");
    let nulls = measured.table("composition").rows().filter(|row| row.number("score").is_none()).count();
    let not_numbers =
        ["comp.Q", "comp.K", "comp.V"].map(|name| measured.expected[name].iter().filter(|score| score.is_nan()).count());
    assert!(nulls > 0);
    assert_eq!(nulls, not_numbers.iter().sum::<usize>());
}

/// With one layer there is no pair of heads; with two there is. The columns are the same.
#[test]
fn tables_have_the_promised_columns_in_order() {
    for name in ["one_layer", "two_layer"] {
        let measured = Measured::new(name);
        for (measure, columns) in COLUMNS {
            let table = measured.table(measure);
            assert_eq!(table.columns.join(","), format!("model,replicate,{columns}"));
            assert_eq!(table.rows.is_empty(), (name, measure) == ("one_layer", "composition"), "{name}, {measure}");
            assert!(table.rows().all(|row| row.text("model") == "imported" && row.text("replicate") == "1"));
        }
    }
}
