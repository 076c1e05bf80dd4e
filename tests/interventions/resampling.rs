//! Values from other sequences: which, and that it is the same for all sites.

use super::{OTHER, RESAMPLE, build, config, each_way, head, select, sent, single, sites, tokens};
use attn_circuits::circuit::sweep::Sweep;
use attn_circuits::input::TokenBatch;
use attn_circuits::model::intervention::{Intervention, Reader, Site};
use attn_circuits::model::{Channel, Transformer};
use attn_circuits::stream::Stream;
use ndarray::Array2;

#[test]
fn resampling_from_equal_sequences_changes_nothing() {
    let model = build(&config(2, 2, 12, 3, 6), true, 16);
    let batch = select(&tokens(1, 5, 6, 16, "batch"), &[0; 220]);
    let ways = each_way(&sites(), RESAMPLE);
    let found = Sweep::new(&model, &batch).run(&ways, &single(&batch)).unwrap();
    for (outcome, intervention) in found.intervened.iter().zip(&ways) {
        assert_eq!(outcome, &found.clean, "{intervention:?}");
    }
}

#[test]
fn of_two_sequences_each_is_replaced_by_the_other() {
    let model = build(&config(2, 2, 12, 3, 6), true, 17);
    let batch = tokens(2, 7, 6, 17, "batch");
    let swapped = select(&batch, &[1, 0]);
    let run = |by| Sweep::new(&model, &batch).other(&swapped).run(&each_way(&sites(), by), &single(&batch)).unwrap();
    assert_eq!(run(RESAMPLE), run(OTHER));
}

/// Which sequence of the reference takes the place of each sequence of the batch, read off the outcomes.
fn sources(model: &Transformer, batch: &TokenBatch, reference: Option<&TokenBatch>, stream: &Stream, site: Site) -> Vec<usize> {
    let reference = reference.unwrap_or(batch);
    let by = |sweep: Sweep, by| {
        let found = sweep.run(&[Intervention::new(site, by)], &single(batch)).unwrap();
        found.intervened.into_iter().next().unwrap().loss
    };
    let resampled = by(Sweep::new(model, batch).reference(reference).stream(stream.clone()), RESAMPLE);
    let candidates: Vec<_> = (0..reference.sequences())
        .map(|source| by(Sweep::new(model, batch).other(&select(reference, &vec![source; batch.sequences()])), OTHER))
        .collect();
    let source = |sequence: usize| {
        let off = |candidate: &Array2<f64>| {
            let rest = &candidate.row(sequence) - &resampled.row(sequence);
            rest.iter().fold(0.0f64, |largest, rest| largest.max(rest.abs()))
        };
        let fits: Vec<_> = (0..candidates.len()).filter(|&source| off(&candidates[source]) < 1e-6).collect();
        assert_eq!(fits.len(), 1, "sequence {sequence}");
        fits[0]
    };
    (0..batch.sequences()).map(source).collect()
}

fn sorted(mut numbers: Vec<usize>) -> Vec<usize> {
    numbers.sort_unstable();
    numbers
}

/// Every sequence is used once, none in its own place, and the same for every site; another stream draws another permutation.
#[test]
fn resampling_follows_one_seeded_permutation() {
    let model = build(&config(2, 2, 12, 3, 20), true, 18);
    let batch = tokens(9, 7, 20, 18, "batch");
    let stream = Stream::new(18);
    let found = sources(&model, &batch, None, &stream, Site::Z(head(0, 0)));
    assert_eq!(sorted(found.clone()), (0..9).collect::<Vec<_>>());
    assert!(found.iter().enumerate().all(|(sequence, &source)| sequence != source), "{found:?}");
    for site in [Site::Pattern(head(0, 1)), Site::Input(head(0, 0), Channel::V), sent(head(0, 0), Reader::Logits)] {
        assert_eq!(sources(&model, &batch, None, &stream, site), found, "{site}");
    }
    let others = [1, 2, 3].map(|seed| sources(&model, &batch, None, &Stream::new(seed), Site::Z(head(0, 0))));
    assert!(others.iter().all(|other| *other != found));
    assert_eq!(others.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);

    // Of a smaller reference, sequences are used again in the same order.
    let reference = tokens(4, 7, 20, 18, "reference");
    let found = sources(&model, &batch, Some(&reference), &stream, Site::Z(head(0, 0)));
    assert_eq!(sorted(found[..4].to_vec()), [0, 1, 2, 3]);
    assert_eq!(found[4..8], found[..4]);
    assert_eq!(found[8], found[0]);
}
