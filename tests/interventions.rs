//! Runs under interventions against a naive reference that computes everything anew, and what must hold of them besides.

mod common;
#[path = "interventions/measures.rs"]
mod measures;
#[path = "interventions/naive.rs"]
mod naive;
#[path = "interventions/refusals.rs"]
mod refusals;
#[path = "interventions/resampling.rs"]
mod resampling;

use attn_circuits::circuit::sweep::{Outcome, Sweep};
use attn_circuits::input::TokenBatch;
use attn_circuits::model::intervention::{Downstream, Edit, Intervention, Reader, Replacement, Site};
use attn_circuits::model::{Channel, HeadId, LayerNorm, ModelConfig, Normalization, Positions, Transformer};
use attn_circuits::stream::Stream;
use common::{config, gaussian, random_weights};
use naive::{Expected, Naive, Under};
use ndarray::{Array2, Axis};
use ndarray_rand::rand::Rng;
use proptest::prelude::*;
use proptest::sample::Index;
use rayon::ThreadPoolBuilder;

const MEAN: Replacement = Replacement::Mean;
const MEAN_PER_POSITION: Replacement = Replacement::MeanPerPosition;
const OTHER: Replacement = Replacement::Other;
const RESAMPLE: Replacement = Replacement::Resample;
const ZERO: Replacement = Replacement::Zero;

fn tokens(sequences: usize, n: usize, d_vocab: usize, seed: u64, name: &str) -> TokenBatch {
    let mut rng = Stream::new(seed).rng(name);
    TokenBatch::new(Array2::from_shape_fn((sequences, n), |_| rng.random_range(0..d_vocab as u32)), None).unwrap()
}

/// The sequences of a batch in another order, or some of them several times.
fn select(batch: &TokenBatch, sequences: &[usize]) -> TokenBatch {
    TokenBatch::new(batch.tokens().select(Axis(0), sequences), None).unwrap()
}

/// Random weights, those of LayerNorms too where there are any.
fn build(config: &ModelConfig, biases: bool, seed: u64) -> Transformer {
    let mut weights = random_weights(config, biases, seed);
    if config.normalization == Normalization::Ln {
        let stream = Stream::new(seed).child("ln");
        let norm = |name: String| {
            let part = |part: &str| gaussian(config.d_model, &stream, &format!("{name}.{part}")) * 0.3;
            Some(LayerNorm { w: part("w") + 1.0, b: part("b") })
        };
        weights.blocks.iter_mut().enumerate().for_each(|(layer, block)| block.ln = norm(layer.to_string()));
        weights.ln_final = norm("final".to_string());
    }
    Transformer::new(config.clone(), weights).unwrap()
}

fn head(layer: usize, head: usize) -> HeadId {
    HeadId::new(layer, head)
}

fn sent(from: HeadId, to: Reader) -> Site {
    Site::Sent { from, to }
}

fn of(sites: &[Site], by: Replacement) -> Intervention {
    let edits = sites.iter().map(|&site| Edit { site, by }).collect();
    Intervention { edits, downstream: Downstream::Recomputed }
}

/// Each position that predicts.
fn single(batch: &TokenBatch) -> Vec<Vec<usize>> {
    (0..batch.length() - 1).map(|position| vec![position]).collect()
}

/// The batches of a sweep.
struct Batches {
    batch: TokenBatch,
    /// If it is not the batch.
    targets: Option<TokenBatch>,
    reference: Option<TokenBatch>,
    other: Option<TokenBatch>,
}

impl Batches {
    fn sweep<'a>(&'a self, model: &'a Transformer) -> Sweep<'a> {
        let mut sweep = Sweep::new(model, &self.batch);
        if let Some(targets) = &self.targets {
            sweep = sweep.targets(targets);
        }
        if let Some(reference) = &self.reference {
            sweep = sweep.reference(reference);
        }
        if let Some(other) = &self.other {
            sweep = sweep.other(other);
        }
        sweep
    }

    /// Which sequences of the reference resampling puts in, if that does not depend on the stream: the one that there is, or the
    /// other one of two.
    fn permutation(&self) -> Option<Vec<usize>> {
        let count = self.reference.as_ref().unwrap_or(&self.batch).sequences();
        let known = count == 2 || (count == 1 && self.reference.is_some());
        known.then(|| (0..self.batch.sequences()).map(|sequence| (count - 1) - sequence % count).collect())
    }

    /// Compares a sweep with the reference at every position.
    fn check(&self, model: &Transformer, interventions: &[Intervention]) -> Result<(), TestCaseError> {
        let naive = Naive::new(model);
        let clean = naive.run(self.batch.tokens(), None);
        let reference = self.reference.as_ref().map(|reference| naive.run(reference.tokens(), None));
        let other = self.other.as_ref().map(|other| naive.run(other.tokens(), None));
        let found = self.sweep(model).run(interventions, &single(&self.batch)).unwrap();
        self.compare(&found.clean, &clean.logits, &"the clean run")?;
        prop_assert_eq!(found.intervened.len(), interventions.len());
        let permutation = self.permutation();
        for (found, intervention) in found.intervened.iter().zip(interventions) {
            let under = Under {
                intervention,
                clean: &clean,
                reference: reference.as_ref().unwrap_or(&clean),
                other: other.as_ref(),
                permutation: permutation.as_deref(),
            };
            let expected = naive.run(self.batch.tokens(), Some(&under));
            self.compare(found, &expected.logits, intervention)?;
        }
        Ok(())
    }

    fn compare(&self, found: &Outcome, logits: &naive::Values, what: &dyn std::fmt::Debug) -> Result<(), TestCaseError> {
        let targets = self.targets.as_ref().unwrap_or(&self.batch).tokens();
        let shape = (self.batch.sequences(), self.batch.length() - 1);
        for values in [&found.loss, &found.accuracy, &found.logit] {
            prop_assert_eq!(values.dim(), shape);
        }
        for (at, &loss) in found.loss.indexed_iter() {
            let (sequence, position) = at;
            let target = targets[(sequence, position + 1)] as usize;
            let expected = Expected::new(logits[sequence].row(position), target);
            for (name, found, expected) in [("loss", loss, expected.loss), ("logit", found.logit[at], expected.logit)] {
                let close = (found - expected).abs() < 1e-4 * (1.0 + expected.abs());
                prop_assert!(close, "{} at {:?} is {}, not {}, with {:?}", name, at, found, expected, what);
            }
            if expected.margin.abs() > 1e-3 {
                let right = f64::from(u8::from(expected.margin > 0.0));
                prop_assert_eq!(found.accuracy[at], right, "accuracy at {:?}, with {:?}", at, what);
            }
        }
        Ok(())
    }
}

/// A configuration with any of the options.
fn configs() -> impl Strategy<Value = ModelConfig> {
    let sizes = (1usize..4, 1usize..4, 1usize..6, 4usize..14, 2usize..9);
    let normalization = prop::sample::select(vec![Normalization::None, Normalization::Ln, Normalization::LnPre]);
    let positions = (0usize..5, 0usize..3, prop::sample::select(vec![10.0, 10_000.0]));
    (sizes, normalization, positions).prop_map(|((layers, heads, d_head, d_model, d_vocab), normalization, positions)| {
        let (scheme, pairs, base) = positions;
        let dim = 2 * pairs.min(d_head / 2);
        ModelConfig {
            normalization,
            positions: match scheme {
                0 => Positions::None,
                1 => Positions::Standard,
                2 => Positions::Shortformer,
                _ => Positions::Rotary { dim, base, adjacent_pairs: scheme == 3 },
            },
            attn_scale: 0.5 * (d_head as f64).sqrt(),
            ..config(layers, heads, d_model, d_head, d_vocab)
        }
    })
}

/// An edit of a model that is not known yet.
#[derive(Clone, Debug)]
struct AnyEdit {
    site: usize,
    from: Index,
    to: Index,
    channel: Channel,
    by: Replacement,
}

impl AnyEdit {
    fn of(&self, config: &ModelConfig) -> Edit {
        let heads: Vec<_> = config.heads().collect();
        let from = *self.from.get(&heads);
        let site = match self.site {
            0 => Site::Z(from),
            1 => Site::Pattern(from),
            2 | 3 => Site::Input(from, self.channel),
            4 => sent(from, Reader::Logits),
            5 => sent(from, Reader::Later(self.channel)),
            _ => sent(from, Reader::Head(*self.to.get(&heads), self.channel)),
        };
        Edit { site, by: self.by }
    }
}

fn edits() -> impl Strategy<Value = AnyEdit> {
    let by = prop::sample::select(Replacement::ALL.to_vec());
    let channel = prop::sample::select(Channel::ALL.to_vec());
    (0usize..9, any::<Index>(), any::<Index>(), channel, by).prop_map(|(site, from, to, channel, by)| AnyEdit {
        site,
        from,
        to,
        channel,
        by,
    })
}

/// Lists of edits, and whether patterns are frozen.
fn lists() -> impl Strategy<Value = Vec<(Vec<AnyEdit>, bool)>> {
    prop::collection::vec((prop::collection::vec(edits(), 0..7), any::<bool>()), 1..5)
}

/// Those of the edits that the model has and that can stand together.
fn intervention(edits: &[AnyEdit], frozen: bool, config: &ModelConfig, resample: bool) -> Intervention {
    let downstream = if frozen { Downstream::Frozen } else { Downstream::Recomputed };
    let mut all = Intervention { edits: Vec::new(), downstream };
    for edit in edits.iter().map(|edit| edit.of(config)) {
        if edit.by == RESAMPLE && !resample {
            continue;
        }
        all.edits.push(edit);
        if all.check(config).is_err() {
            all.edits.pop();
        }
    }
    all
}

/// Numbers of sequences: of the batch and of another reference; whether other targets.
fn shapes() -> impl Strategy<Value = (usize, Option<usize>, bool, usize)> {
    (1usize..6, prop::option::of(1usize..4), any::<bool>(), 2usize..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    /// Any edits of any model.
    #[test]
    fn runs_are_those_of_the_definition(
        (config, biases, lists) in (configs(), any::<bool>(), lists()),
        ((sequences, reference, targets, n), seed) in (shapes(), any::<u64>()),
    ) {
        let model = build(&config, biases, seed);
        let draw = |sequences, name| tokens(sequences, n, config.d_vocab, seed, name);
        let batches = Batches {
            batch: draw(sequences, "batch"),
            targets: targets.then(|| draw(sequences, "targets")),
            reference: reference.map(|sequences| draw(sequences, "reference")),
            other: Some(draw(sequences, "other")),
        };
        let resample = batches.permutation().is_some();
        let interventions: Vec<_> =
            lists.iter().map(|(edits, frozen)| intervention(edits, *frozen, &config, resample)).collect();
        batches.check(&model, &interventions)?;
    }
}

/// One site of every kind, from heads of the first layer of a model with two.
fn sites() -> Vec<Site> {
    let (from, to) = (head(0, 0), head(1, 1));
    let mut sites = vec![Site::Z(from), Site::Pattern(from), sent(from, Reader::Logits)];
    for channel in Channel::ALL {
        sites.extend([Site::Input(from, channel), sent(from, Reader::Later(channel)), sent(from, Reader::Head(to, channel))]);
    }
    sites
}

/// Each site alone, by one replacement, both ways downstream.
fn each_way(sites: &[Site], by: Replacement) -> Vec<Intervention> {
    let both = |&site: &Site| Downstream::ALL.map(|downstream| Intervention::new(site, by).with(downstream));
    sites.iter().flat_map(both).collect()
}

/// Several chunks of sequences; sequences beyond the plain loops; logits in several blocks.
#[test]
fn sizes_that_are_cut_into_pieces_are_those_of_the_definition() {
    for (normalization, biases) in [(Normalization::None, true), (Normalization::Ln, false)] {
        for (sequences, n, d_vocab) in [(250, 5, 6), (3, 150, 6), (70, 5, 2500)] {
            let config = ModelConfig { n_ctx: n, normalization, ..config(2, 2, 10, 3, d_vocab) };
            let model = build(&config, biases, 11);
            let draw = |sequences, name| tokens(sequences, n, d_vocab, 11, name);
            let batches = Batches {
                batch: draw(sequences, "batch"),
                targets: None,
                reference: Some(draw(2, "reference")),
                other: Some(draw(sequences, "other")),
            };
            let frozen = of(&[Site::Z(head(0, 1)), Site::Pattern(head(1, 0))], RESAMPLE).with(Downstream::Frozen);
            let mixed = Intervention {
                edits: vec![
                    Edit { site: Site::Pattern(head(0, 0)), by: MEAN_PER_POSITION },
                    Edit { site: Site::Input(head(0, 1), Channel::K), by: MEAN },
                    Edit { site: sent(head(0, 1), Reader::Head(head(1, 1), Channel::Q)), by: OTHER },
                    Edit { site: sent(head(1, 0), Reader::Logits), by: RESAMPLE },
                ],
                downstream: Downstream::Recomputed,
            };
            batches.check(&model, &[frozen, mixed]).unwrap();
        }
    }
}

/// Means over several chunks of a reference, which need not be as large as the batch.
#[test]
fn means_are_over_all_chunks_of_the_reference() {
    let model = build(&config(2, 2, 10, 3, 6), true, 12);
    let draw = |sequences, name| tokens(sequences, 5, 6, 12, name);
    for reference in [None, Some(draw(230, "reference"))] {
        let batches = Batches { batch: draw(110, "batch"), targets: None, reference, other: None };
        let from = head(0, 0);
        let interventions = [
            of(&[Site::Z(from), Site::Input(head(0, 1), Channel::V)], MEAN),
            of(&[Site::Pattern(from), Site::Z(head(1, 1)), Site::Input(head(1, 0), Channel::Q)], MEAN_PER_POSITION),
        ];
        batches.check(&model, &interventions).unwrap();
    }
}

#[test]
fn no_thread_more_or_less_changes_a_digit() {
    let model = build(&config(2, 2, 12, 3, 6), true, 13);
    // Five chunks, the last of them smaller.
    let (batch, other) = (tokens(450, 5, 6, 13, "batch"), tokens(450, 5, 6, 13, "other"));
    let sweep = Sweep::new(&model, &batch).other(&other);
    let mut interventions: Vec<_> =
        Replacement::ALL.iter().filter(|by| **by != MEAN).flat_map(|&by| each_way(&sites(), by)).collect();
    interventions.push(Intervention::of_heads(&[HeadId::new(0, 0), HeadId::new(0, 1)], MEAN));
    let run = |threads| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| sweep.run(&interventions, &[vec![0, 1], vec![3]]).unwrap())
    };
    let one = run(1);
    assert_eq!(one.clean.loss.dim(), (450, 2));
    assert!(one == run(3) && one == run(2));
}

/// To the last digit: a sweep says that a head has no effect, not a small one.
#[test]
fn what_changes_nothing_gives_the_clean_outcome() {
    for normalization in [Normalization::None, Normalization::Ln] {
        let model = build(&ModelConfig { normalization, ..config(2, 2, 12, 3, 6) }, true, 14);
        let (batch, other) = (tokens(4, 7, 6, 14, "batch"), tokens(4, 7, 6, 14, "other"));
        let mut nothing = vec![of(&[], ZERO), of(&[], ZERO).with(Downstream::Frozen)];
        // Nobody comes after the last layer.
        nothing.extend(Channel::ALL.map(|channel| of(&[sent(head(1, 0), Reader::Later(channel))], OTHER)));
        // Patterns that are held need no queries and keys.
        for channel in [Channel::Q, Channel::K] {
            let sites = [
                sent(head(0, 0), Reader::Later(channel)),
                sent(head(0, 1), Reader::Head(head(1, 0), channel)),
                Site::Input(head(0, 0), channel),
                Site::Input(head(1, 1), channel),
            ];
            nothing.push(of(&sites, OTHER).with(Downstream::Frozen));
            // Nor does a head whose pattern is put in look at them, nor one whose output is.
            let of_last = [Site::Pattern(head(1, 1)), sent(head(0, 0), Reader::Head(head(1, 1), channel))];
            let with_input = [&of_last[..], &[Site::Input(head(1, 1), channel)]].concat();
            let only_output = of(&[of_last[0]], OTHER);
            let found =
                Sweep::new(&model, &batch).other(&other).run(&[of(&with_input, OTHER), only_output], &single(&batch)).unwrap();
            assert_eq!(found.intervened[0], found.intervened[1]);
            assert_ne!(found.intervened[0], found.clean);
        }
        let found = Sweep::new(&model, &batch).other(&other).run(&nothing, &single(&batch)).unwrap();
        for (outcome, intervention) in found.intervened.iter().zip(&nothing) {
            assert_eq!(outcome, &found.clean, "{intervention:?}");
        }
        // What stands there already.
        let same = each_way(&sites(), OTHER);
        let found = Sweep::new(&model, &batch).other(&batch).run(&same, &single(&batch)).unwrap();
        for (outcome, intervention) in found.intervened.iter().zip(&same) {
            assert_eq!(outcome, &found.clean, "{intervention:?}");
        }
    }
}

/// What an edge carries, it carries to one reader: edges from a head to all its readers together are the head.
#[test]
fn all_edges_of_a_head_are_the_head() {
    let model = build(&ModelConfig { normalization: Normalization::LnPre, ..config(3, 2, 12, 3, 6) }, true, 15);
    let (batch, other) = (tokens(3, 7, 6, 15, "batch"), tokens(3, 7, 6, 15, "other"));
    let from = head(0, 1);
    let to_later: Vec<_> = Channel::ALL.iter().map(|&channel| sent(from, Reader::Later(channel))).collect();
    let to_each: Vec<_> = model
        .config()
        .heads()
        .filter(|id| id.layer > 0)
        .flat_map(|id| Channel::ALL.map(|channel| sent(from, Reader::Head(id, channel))))
        .collect();
    for downstream in Downstream::ALL {
        let whole = of(&[Site::Z(from)], OTHER).with(downstream);
        let [later, each] =
            [&to_later, &to_each].map(|edges| of(&[edges, &[sent(from, Reader::Logits)][..]].concat(), OTHER).with(downstream));
        let found = Sweep::new(&model, &batch).other(&other).run(&[whole, later, each], &single(&batch)).unwrap();
        let [whole, later, each] = [0, 1, 2].map(|index| &found.intervened[index].loss);
        assert!((whole - &found.clean.loss).iter().any(|change| change.abs() > 1e-2));
        assert!((whole - later).iter().chain(&(whole - each)).all(|rest| rest.abs() < 1e-5));
    }
}

#[test]
fn groups_are_means_over_their_positions() {
    let model = build(&config(2, 2, 12, 3, 3), true, 19);
    let batch = tokens(3, 5, 3, 19, "batch");
    let sweep = Sweep::new(&model, &batch);
    let ablation = [Intervention::of_heads(&[head(0, 0), head(1, 1)], ZERO)];
    let by_position = sweep.run(&ablation, &single(&batch)).unwrap();
    let groups = [vec![2], vec![0, 1, 2, 3], vec![3, 1]];
    let by_group = sweep.run(&ablation, &groups).unwrap();
    let pairs = [(&by_position.clean, &by_group.clean), (&by_position.intervened[0], &by_group.intervened[0])];
    for (positions, found) in pairs {
        let values: [fn(&Outcome) -> &Array2<f64>; 3] = [|of| &of.loss, |of| &of.accuracy, |of| &of.logit];
        for of in values {
            for ((sequence, group), &mean) in of(found).indexed_iter() {
                let at = &groups[group];
                let expected = at.iter().map(|&p| of(positions)[(sequence, p)]).sum::<f64>() / at.len() as f64;
                assert!((mean - expected).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn models_without_layers_and_sequences_of_one_token_can_be_swept() {
    let model = build(&config(0, 0, 4, 0, 3), false, 20);
    let batch = tokens(3, 5, 3, 20, "batch");
    let found = Sweep::new(&model, &batch).run(&[of(&[], ZERO)], &single(&batch)).unwrap();
    assert_eq!(found.intervened[..], *std::slice::from_ref(&found.clean));
    let model = build(&config(1, 1, 4, 2, 3), false, 20);
    let batch = tokens(3, 1, 3, 20, "batch");
    let found = Sweep::new(&model, &batch).run(&[of(&[Site::Z(head(0, 0))], ZERO)], &[]).unwrap();
    assert_eq!(found.intervened[0].loss.dim(), (3, 0));
    assert_eq!(Sweep::new(&model, &batch).run(&[], &[]).unwrap().intervened, []);
}
