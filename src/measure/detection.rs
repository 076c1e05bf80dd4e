use super::columns::{INTEGER, NUMBER, TEXT, chosen, integer, pair_count, schema};
use super::{Cost, Measure, Subject, bytes_of, scores};
use crate::circuit::closed_forms::of_wiring;
use crate::circuit::detection::{Candidate, Detector, Found, detect};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::{Channel, HeadId, ModelConfig};
use crate::names::closest;
use crate::{Error, Result};
use polars::prelude::{DataFrame, Schema, df};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Where the parts of a known circuit stand if all heads, or all pairs of heads, are ranked by a measure.
///
/// Each detector is a measure of this program, and gives a number to every head or to every edge (what one head hands to a later one
/// through one channel). What it should find is known from the wiring of the model, whatever `noise`, `compress` and
/// `distractors` have made of it:
///
/// - heads: `previous_token`, `prefix_matching` and `duplicate_token` (the head scores) find the heads that look for that position;
///   `copying` those whose full OV circuit copies; `zero_ablation` and `resample_ablation` (what the loss rises by) all wired heads;
/// - edges: `composition`, `composition_z` and `alignment` (the columns `score`, `z` and `alignment` of the measure `composition`),
///   `zero_path_patching` and `resample_path_patching` (what the loss rises by) find the edges with composition in the wiring; `matching` (the
///   eigenvalues of the K-composition term over tokens), through keys alone, those that match.
///
/// One row for each head or edge that should be found: `value`, its number; `best_false`, the largest number of one that should not;
/// `above`, how many of the `false_candidates` stand above it, ties counting half, and what has no number (a head of zeros)
/// below all others. `auc` = 1 − `above`/`false_candidates`: 1 if it stands above all, ½ by chance. Its mean over the rows of a
/// detector is the area under that detector's ROC curve in one model; where one threshold is to serve several models, compare
/// `value` and `best_false`. `auc_by_size` is the same for a ranking by absolute values. `layer` and `head` are the head, of an
/// edge the one that reads.
///
/// Losses are means over the second repeat and later ones, over all positions of an input without repeats. They see what lowers the
/// loss on this input: a head that says something else (`n-back` or `skip-trigram` on repeated tokens), or is sure of what is
/// wrong, does harm, and stands last. Resampled values are those of another sequence, and do not differ in what is the same in
/// every sequence (positions of copies, in `pointer-arithmetic`); with a single one they are null, and so are the places.
///
/// A model that was not wired has no rows, unless `truth` says what is to be found.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Detection {
    /// Which detectors; default: all.
    #[serde(default)]
    #[schemars(schema_with = "names")]
    detectors: Option<Vec<String>>,
    /// Edges through which inputs of the later head are ranked, and sought, all in one list; default: each of the three.
    #[serde(default)]
    #[schemars(length(min = 1))]
    channels: Option<Vec<Channel>>,
    /// What is to be found by a detector, in the place of what the wiring says: heads as in `["0.3"]`, edges as in `["0.3>1.2"]`
    /// (true through each of the channels).
    #[serde(default)]
    truth: BTreeMap<String, Vec<String>>,
}

fn names(_: &mut SchemaGenerator) -> schemars::Schema {
    scores::names_schema(Detector::ALL.into_iter().map(Detector::name))
}

impl Detection {
    fn detectors(&self) -> Vec<Detector> {
        let wanted = |name: &str| self.detectors.as_ref().is_none_or(|list| list.iter().any(|named| named == name));
        Detector::ALL.into_iter().filter(|detector| wanted(detector.name())).collect()
    }

    fn channels(&self) -> Vec<Channel> {
        chosen(self.channels.as_deref(), &Channel::ALL)
    }

    /// What `truth` says of a detector, if anything.
    fn told(&self, detector: Detector, model: &ModelConfig) -> Result<Option<Vec<Candidate>>> {
        let Some(list) = self.truth.get(detector.name()) else { return Ok(None) };
        let head = |text: &str| text.parse::<HeadId>().and_then(|id| model.check_head(id).map(|()| id));
        let mut told = Vec::new();
        for (index, text) in list.iter().enumerate() {
            let name = detector.name();
            let wrong = |message: String| Error::parameter(format!("truth.{name}[{index}]"), message);
            match (text.split_once('>'), detector.finds_edges()) {
                (None, false) => told.push(Candidate::Head(head(text).map_err(|error| wrong(error.to_string()))?)),
                (Some((from, to)), true) => {
                    let from = head(from).map_err(|error| wrong(error.to_string()))?;
                    let to = head(to).map_err(|error| wrong(error.to_string()))?;
                    model.check_edge(from, to).map_err(|error| wrong(error.to_string()))?;
                    told.extend(self.channels().into_iter().map(|channel| Candidate::Edge { channel, from, to }));
                }
                (Some(_), false) => return Err(wrong(format!("`{name}` finds heads: write one as in `0.3`"))),
                (None, true) => return Err(wrong(format!("`{name}` finds edges: write one as in `0.3>1.2`"))),
            }
        }
        Ok(Some(told))
    }
}

impl Described for Detection {
    const NAME: &'static str = "detection";
    const EXAMPLE: &'static str = "\
- measure: detection
  models: [wired]
  input: repeated
  detectors: [previous_token, composition, zero_path_patching]
";
}

impl Measure for Detection {
    fn columns(&self) -> Schema {
        schema([
            ("detector", TEXT),
            ("channel", TEXT),
            ("layer", INTEGER),
            ("head", INTEGER),
            ("from_layer", INTEGER),
            ("from_head", INTEGER),
            ("value", NUMBER),
            ("best_false", NUMBER),
            ("false_candidates", INTEGER),
            ("above", NUMBER),
            ("auc", NUMBER),
            ("auc_by_size", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        true
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        for name in self.truth.keys() {
            let Some(detector) = Detector::find(name) else {
                let known = Detector::ALL.map(Detector::name);
                let hint = closest(name, &known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                let text = format!("there is no detector `{name}`{hint} (known: {})", known.join(", "));
                return Err(Error::parameter(format!("truth.{name}"), text));
            };
            let path = format!("truth.{name}");
            if !self.detectors().contains(&detector) {
                return Err(Error::parameter(path, format!("`{name}` is not among `detectors`")));
            }
            if detector == Detector::Matching && !self.channels().contains(&Channel::K) {
                let text = "`matching` ranks edges through keys alone, and `channels` has no `k`";
                return Err(Error::parameter(path, text));
            }
            self.told(detector, model)?;
        }
        Ok(())
    }

    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost {
        let heads = model.n_layers.saturating_mul(model.n_heads);
        let edges = pair_count(model, None, None).saturating_mul(self.channels().len());
        let ranked = |detector: &Detector| if detector.finds_edges() { edges } else { heads };
        let rows = self.detectors().iter().map(ranked).fold(0, usize::saturating_add);
        // As if every number came from a run under an intervention; and the factors of all heads and pairs that are decomposed.
        let runs = super::sweep_bytes(model, input, 1, rows, 1);
        let factors = bytes_of::<f64>(&[model.d_model, model.d_head, heads, 4]);
        let square = bytes_of::<f64>(&[model.d_model, model.d_model, 2]);
        let bytes = [runs, super::chunk_bytes(model, input), factors, square].into_iter().fold(0, usize::saturating_add);
        Cost { rows, bytes }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let (model, batch) = (subject.model, subject.required_input()?);
        let (config, channels) = (model.config(), self.channels());
        let known = match subject.origin.map_or(Ok(None), |origin| origin.wiring())? {
            Some(wiring) => Some((of_wiring(&wiring, config, &[])?, wiring)),
            None => None,
        };
        // What is to be found comes first: without it, nothing need be measured.
        let mut truths = BTreeMap::new();
        for detector in self.detectors() {
            let truth = match (self.told(detector, config)?, &known) {
                (Some(told), _) => told,
                (None, Some((forms, wiring))) => detector.truth(wiring, forms, &channels),
                (None, None) => Vec::new(),
            };
            if !truth.is_empty() {
                truths.insert(detector, truth);
            }
        }
        let detectors: Vec<_> = truths.keys().copied().collect();
        let detections = detect(model, batch, &detectors, &channels, &subject.stream)?;
        let mut rows: Vec<(Detector, Found)> = Vec::new();
        for detection in &detections {
            let found = detection.find(&truths[&detection.detector]);
            rows.extend(found.into_iter().map(|found| (detection.detector, found)));
        }
        let edge = |(_, found): &(Detector, Found)| match found.candidate {
            Candidate::Edge { channel, from, .. } => Some((channel, from)),
            Candidate::Head(_) => None,
        };
        let sender =
            |of: fn(HeadId) -> usize| rows.iter().map(|row| edge(row).map(|(_, from)| integer(of(from)))).collect::<Vec<_>>();
        let number = |of: fn(&Found) -> Option<f64>| rows.iter().map(|row| of(&row.1)).collect::<Vec<_>>();
        Ok(df!(
            "detector" => rows.iter().map(|row| row.0.name()).collect::<Vec<_>>(),
            "channel" => rows.iter().map(|row| edge(row).map(|(channel, _)| channel.name())).collect::<Vec<_>>(),
            "layer" => rows.iter().map(|row| integer(row.1.candidate.head().layer)).collect::<Vec<_>>(),
            "head" => rows.iter().map(|row| integer(row.1.candidate.head().head)).collect::<Vec<_>>(),
            "from_layer" => sender(|from| from.layer),
            "from_head" => sender(|from| from.head),
            "value" => number(|found| found.value),
            "best_false" => number(|found| found.best_false),
            "false_candidates" => rows.iter().map(|row| integer(row.1.false_candidates)).collect::<Vec<_>>(),
            "above" => number(|found| found.above),
            "auc" => number(Found::auc),
            "auc_by_size" => number(Found::auc_by_size),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Repeats, TokenBatch};
    use crate::model::Transformer;
    use crate::model::build::{BuildContext, MODELS, ModelKind};
    use crate::stream::Stream;
    use ndarray::Array2;
    use serde_json::{Value, json};
    use std::path::Path;

    fn built(name: &str, parameters: Value) -> (Box<dyn ModelKind>, Transformer) {
        let kind = crate::kind::Kind::<dyn ModelKind>::find(MODELS, name).unwrap();
        let kind = (kind.parse)(parameters).unwrap();
        let model = kind.build(&BuildContext { base: Path::new(""), stream: Stream::new(2) }).unwrap();
        (kind, model)
    }

    fn table(name: &str, model: Value, measure: Value) -> DataFrame {
        let (origin, model) = built(name, model);
        let period = |sequence: usize, at: usize| if at == 0 { 0 } else { (1 + sequence + (at - 1) % 4) as u32 };
        let tokens = Array2::from_shape_fn((3, 9), |(sequence, at)| period(sequence, at));
        let batch = TokenBatch::new(tokens, Some(Repeats { start: 1, period: 4, count: 2 })).unwrap();
        let mut subject = Subject::new(&model, Some(&batch));
        subject.origin = Some(origin.as_ref());
        let measure: Detection = serde_json::from_value(measure).unwrap();
        measure.check(model.config(), None).unwrap();
        measure.compute(&subject).unwrap()
    }

    fn random() -> Value {
        json!({ "layers": 3, "heads": 2, "d_model": 8, "vocab": 9, "context": 9 })
    }

    #[test]
    fn what_is_told_takes_the_place_of_the_wiring() {
        let wired = json!({ "circuit": "induction", "vocab": 9, "context": 9, "distractors": 1 });
        let detectors = json!(["previous_token", "composition"]);
        let found =
            table("wired", wired.clone(), json!({ "detectors": detectors, "truth": { "previous_token": ["0.1", "1.1"] } }));
        let column = |name: &str| found.column(name).unwrap().i64().unwrap().iter().collect::<Vec<_>>();
        assert_eq!(column("layer"), [Some(1), Some(0), Some(1)]);
        assert_eq!(column("head"), [Some(0), Some(1), Some(1)]);
        assert_eq!((column("from_layer"), column("from_head")), (vec![Some(0), None, None], vec![Some(0), None, None]));
        assert_eq!(column("false_candidates"), [Some(11), Some(2), Some(2)]);
        // Nothing is sought through values alone.
        assert_eq!(table("wired", wired, json!({ "detectors": ["composition"], "channels": ["v"] })).height(), 0);
    }

    #[test]
    fn of_a_model_that_was_not_wired_nothing_is_known_but_what_is_told() {
        assert_eq!(table("random", random(), json!({})).height(), 0);
        let told = table("random", random(), json!({ "truth": { "zero_path_patching": ["0.1>2.0"] } }));
        let channels = told.column("channel").unwrap().str().unwrap().iter().flatten().collect::<Vec<_>>();
        assert_eq!(channels, ["k", "q", "v"]);
        // Three pairs of layers, four pairs of heads each, through three channels.
        assert!(told.column("false_candidates").unwrap().i64().unwrap().iter().all(|count| count == Some(33)));
    }

    #[test]
    fn what_cannot_be_true_is_named() {
        let (_, model) = built("random", random());
        let error = |truth: Value| {
            let measure: Detection = serde_json::from_value(json!({ "truth": truth })).unwrap();
            match measure.check(model.config(), None).unwrap_err() {
                Error::Parameter { path, message } => format!("{path}: {message}"),
                other => panic!("{other}"),
            }
        };
        assert_eq!(
            error(json!({ "copying": ["0.1", "0.1>1.0"] })),
            "truth.copying[1]: `copying` finds heads: write one as in `0.3`"
        );
        let backwards = "truth.matching[0]: head 0.1 does not read what 1.0 writes: it is in no later layer";
        assert_eq!(error(json!({ "matching": ["1.0>0.1"] })), backwards);
        assert!(error(json!({ "matching": ["0.0>7.1"] })).contains("there is no head 7.1"));
    }
}
