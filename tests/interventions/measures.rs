//! The tables of the measures that intervene, against the sweep that they are made of.

use super::{ZERO, build, config, head, of, sent, tokens};
use attn_circuits::circuit::sweep::{Outcome, Sweep};
use attn_circuits::input::TokenBatch;
use attn_circuits::kind::Kind;
use attn_circuits::measure::{MEASURES, Measure, Subject};
use attn_circuits::model::intervention::{Downstream, Intervention, Reader, Replacement, Site};
use attn_circuits::model::{Channel, HeadId, Transformer};
use attn_circuits::stream::Stream;
use polars::prelude::{AnyValue, DataFrame};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn measure(name: &str, parameters: Value) -> Box<dyn Measure> {
    (Kind::<dyn Measure>::find(MEASURES, name).unwrap().parse)(parameters).unwrap()
}

/// A model of two layers of two heads, an input and its counterpart.
fn subject() -> (Transformer, TokenBatch, TokenBatch) {
    let model = build(&config(2, 2, 8, 3, 9), true, 5);
    let n = model.config().n_ctx.min(6);
    (model, tokens(4, n, 9, 1, "clean"), tokens(4, n, 9, 2, "corrupted"))
}

/// Rows as texts and numbers, by the names of their columns.
struct Rows(DataFrame);

impl Rows {
    fn number(&self, row: usize, column: &str) -> Option<f64> {
        self.0.column(column).unwrap().f64().unwrap().get(row)
    }

    fn index(&self, row: usize, column: &str) -> usize {
        usize::try_from(self.0.column(column).unwrap().i64().unwrap().get(row).unwrap()).unwrap()
    }

    fn text(&self, row: usize, column: &str) -> &str {
        self.0.column(column).unwrap().str().unwrap().get(row).unwrap()
    }

    fn is_null(&self, row: usize, column: &str) -> bool {
        self.0.column(column).unwrap().get(row).unwrap() == AnyValue::Null
    }

    fn head(&self, row: usize, prefix: &str) -> HeadId {
        head(self.index(row, &format!("{prefix}layer")), self.index(row, &format!("{prefix}head")))
    }
}

fn mean(outcome: &Outcome) -> [f64; 2] {
    [&outcome.loss, &outcome.logit].map(|values| values.mean().unwrap())
}

/// Loss and logit as they are, and under an intervention.
fn run(sweep: &Sweep, n: usize, intervention: &Intervention) -> [[f64; 2]; 2] {
    let outcomes = sweep.run(std::slice::from_ref(intervention), &[(0..n - 1).collect()]).unwrap();
    [mean(&outcomes.clean), mean(&outcomes.intervened[0])]
}

fn assert_close(found: Option<f64>, expected: f64, what: &str) {
    assert!(found.is_some_and(|found| (found - expected).abs() < 1e-9), "{what}: {found:?} {expected}");
}

#[test]
fn every_row_of_path_patching_is_the_edge_that_it_names() {
    let (model, clean, corrupted) = subject();
    let subject = Subject::new(&model, Some(&clean)).with("corrupted", &corrupted);
    let rows = Rows(measure("path_patching", json!({ "corrupted": "c" })).compute(&subject).unwrap());
    let sweep = Sweep::new(&model, &clean).other(&corrupted);
    let mut seen = BTreeSet::new();
    for row in 0..rows.0.height() {
        let (method, channel, from) = (rows.text(row, "method"), rows.text(row, "channel"), rows.head(row, "from_"));
        let to = match Channel::ALL.into_iter().find(|of| of.name() == channel) {
            Some(channel) => Reader::Head(rows.head(row, "to_"), channel),
            None => Reader::Logits,
        };
        assert_eq!((to == Reader::Logits, channel == "logits"), (rows.is_null(row, "to_layer"), rows.is_null(row, "to_head")));
        let by = if method == "zero" { ZERO } else { Replacement::Other };
        let [as_it_is, cut] = run(&sweep, clean.length(), &of(&[sent(from, to)], by));
        let what = format!("{method} {from} {to}");
        assert_close(rows.number(row, "loss"), cut[0], &what);
        assert_close(rows.number(row, "loss_change"), cut[0] - as_it_is[0], &what);
        assert_close(rows.number(row, "logit_change"), cut[1] - as_it_is[1], &what);
        let [low, high] = ["loss_change_low", "loss_change_high"].map(|column| rows.number(row, column).unwrap());
        assert!(low <= cut[0] - as_it_is[0] && cut[0] - as_it_is[0] <= high, "{what}");
        assert!(seen.insert((by, from, to)), "twice: {what}");
    }
    // Two methods; four pairs through three channels, and four heads to the logits.
    assert_eq!(seen.len(), 2 * (4 * 3 + 4));
}

#[test]
fn every_row_of_activation_patching_moves_what_it_names_in_its_direction() {
    let (model, clean, corrupted) = subject();
    let subject = Subject::new(&model, Some(&clean)).with("corrupted", &corrupted);
    let rows = Rows(measure("activation_patching", json!({ "corrupted": "c" })).compute(&subject).unwrap());
    let mut seen = BTreeSet::new();
    for row in 0..rows.0.height() {
        let (what, direction, id) = (rows.text(row, "what"), rows.text(row, "direction"), rows.head(row, ""));
        let site = match what {
            "pattern" => Site::Pattern(id),
            "z" => Site::Z(id),
            _ => Site::Input(id, Channel::ALL.into_iter().find(|channel| channel.name() == what).unwrap()),
        };
        let (read, other) = if direction == "restore" { (&corrupted, &clean) } else { (&clean, &corrupted) };
        let sweep = Sweep::new(&model, read).targets(&clean).other(other);
        let [as_it_is, patched] = run(&sweep, clean.length(), &of(&[site], Replacement::Other));
        let [there, _] = run(&Sweep::new(&model, other).targets(&clean), clean.length(), &of(&[Site::Z(head(0, 0))], ZERO));
        let (good, bad) = if direction == "restore" { (there[0], as_it_is[0]) } else { (as_it_is[0], there[0]) };
        let name = format!("{direction} {site}");
        assert_close(rows.number(row, "loss"), patched[0], &name);
        assert_close(rows.number(row, "recovered"), (bad - patched[0]) / (bad - good), &name);
        assert!(seen.insert((direction.to_string(), site)), "twice: {name}");
    }
    assert_eq!(seen.len(), 2 * 5 * 4);
}

/// Two runs that differ in nothing but rounding recover nothing.
#[test]
fn between_equal_runs_nothing_is_recovered() {
    let (model, clean, _) = subject();
    let subject = Subject::new(&model, Some(&clean)).with("corrupted", &clean);
    let rows = Rows(measure("activation_patching", json!({ "corrupted": "c" })).compute(&subject).unwrap());
    assert!((0..rows.0.height()).all(|row| rows.is_null(row, "recovered") && !rows.is_null(row, "loss")));
}

#[test]
fn every_row_of_ablation_takes_out_the_heads_that_it_names_for_whom_it_says() {
    let (model, clean, reference) = subject();
    let stream = Stream::new(9);
    let mut subject = Subject::new(&model, Some(&clean)).with("reference", &reference);
    subject.stream = stream.clone();
    let parameters = json!({ "reference": "r", "pairs": true, "layers": true, "sets": [["0.0", "0.1", "1.1"]] });
    let rows = Rows(measure("ablation", parameters).compute(&subject).unwrap());
    let sweep = Sweep::new(&model, &clean).reference(&reference).stream(stream);
    let mut seen = BTreeSet::new();
    for row in 0..rows.0.height() {
        let mut heads = vec![rows.head(row, "")];
        if !rows.is_null(row, "others") {
            heads.extend(rows.text(row, "others").split('+').map(|text| text.parse::<HeadId>().unwrap()));
        }
        let by = Replacement::ALL.into_iter().find(|by| by.name() == rows.text(row, "method")).unwrap();
        let downstream = Downstream::ALL.into_iter().find(|d| d.name() == rows.text(row, "patterns")).unwrap();
        let channel = Channel::ALL.into_iter().find(|channel| channel.name() == rows.text(row, "channel"));
        let site = |&id: &HeadId| channel.map_or(Site::Z(id), |channel| sent(id, Reader::Later(channel)));
        let sites: Vec<_> = heads.iter().map(site).collect();
        let [as_it_is, out] = run(&sweep, clean.length(), &of(&sites, by).with(downstream));
        let what = format!("{heads:?} {by:?} {downstream:?} {channel:?}");
        assert_close(rows.number(row, "loss_change"), out[0] - as_it_is[0], &what);
        assert_close(rows.number(row, "logit"), out[1], &what);
        assert!(seen.insert(what.clone()), "twice: {what}");
    }
    // Four heads, six pairs (two of them layers), one set; four methods, two kinds of patterns, four channels.
    assert_eq!(seen.len(), (4 + 6 + 1) * 4 * 2 * 4);
}
