//! What cannot be swept is refused, in words.

use super::{MEAN, MEAN_PER_POSITION, OTHER, RESAMPLE, ZERO, build, config, head, of, sent, tokens};
use attn_circuits::circuit::sweep::Sweep;
use attn_circuits::input::TokenBatch;
use attn_circuits::model::Channel;
use attn_circuits::model::intervention::{Downstream, Edit, Intervention, Reader, Site};
use ndarray::Array2;

#[test]
fn interventions_that_a_model_cannot_have_are_refused() {
    let config = config(2, 2, 4, 2, 3);
    let (from, to) = (head(0, 0), head(1, 1));
    let edge = |from, to| sent(from, Reader::Head(to, Channel::K));
    let message = |intervention: Intervention| intervention.check(&config).unwrap_err().to_string();
    let at = |site, by| message(Intervention::new(site, by));
    let missing = |id: &str| format!("there is no head {id}: the model has 2 layers of 2 heads, counted from 0");
    assert_eq!(at(Site::Z(head(0, 2)), ZERO), missing("0.2"));
    assert_eq!(at(Site::Input(head(2, 0), Channel::Q), ZERO), missing("2.0"));
    assert_eq!(at(edge(from, head(2, 1)), ZERO), missing("2.1"));
    assert_eq!(at(edge(to, from), ZERO), "head 0.0 does not read what 1.1 writes: it is in no later layer");
    assert_eq!(at(edge(from, head(0, 1)), ZERO), "head 0.1 does not read what 0.0 writes: it is in no later layer");
    assert_eq!(at(Site::Pattern(to), MEAN), "the pattern of 1.1 has no mean over positions, as its rows differ in length");
    assert_eq!(message(of(&[Site::Z(from), Site::Z(to), Site::Z(from)], ZERO)), "z of 0.0 is replaced twice");
    let pattern = |by| Edit { site: Site::Pattern(to), by };
    let twice = Intervention { edits: vec![pattern(ZERO), pattern(OTHER)], downstream: Downstream::Frozen };
    assert_eq!(message(twice), "the pattern of 1.1 is replaced twice");
    assert_eq!(message(of(&[Site::Input(to, Channel::V); 2], ZERO)), "v of 1.1 is replaced twice");
    assert_eq!(message(of(&[sent(from, Reader::Logits); 2], ZERO)), "what 0.0 sends into the logits is replaced twice");
    let later = sent(from, Reader::Later(Channel::K));
    assert_eq!(message(of(&[later, later], ZERO)), "what 0.0 sends into k of later heads is replaced twice");
    // What is sent to all later heads is also sent to one of them, in whatever order it is said.
    for sites in [[later, edge(from, to)], [edge(from, to), later]] {
        assert_eq!(message(of(&sites, ZERO)), "what 0.0 sends into k of 1.1 is replaced twice");
    }
    let apart = [later, sent(from, Reader::Head(to, Channel::Q)), edge(head(0, 1), to), Site::Z(from), Site::Z(to)];
    of(&apart, ZERO).check(&config).unwrap();
    for by in [ZERO, MEAN_PER_POSITION, OTHER, RESAMPLE] {
        Intervention::new(Site::Pattern(to), by).check(&config).unwrap();
    }
}

#[test]
fn sweeps_whose_batches_do_not_fit_are_refused() {
    let model = build(&config(1, 2, 4, 2, 3), false, 21);
    let draw = |sequences, n, d_vocab| tokens(sequences, n, d_vocab, 21, "batch");
    let (batch, one) = (draw(2, 5, 3), draw(1, 5, 3));
    let (longer, beyond) = (draw(2, 6, 3), TokenBatch::new(Array2::from_elem((2, 5), 3), None).unwrap());
    let ablation = |by| [Intervention::new(Site::Z(head(0, 0)), by)];
    let message = |sweep: Sweep, by| sweep.run(&ablation(by), &[vec![0]]).unwrap_err().to_string();
    let sweep = || Sweep::new(&model, &batch);
    let differs = |what, sequences, n| {
        format!("the {what} batch has {sequences} sequences of {n} tokens, not 2 of 5 as the one that is run")
    };
    assert_eq!(message(sweep().targets(&one), ZERO), differs("target", 1, 5));
    assert_eq!(message(sweep().targets(&longer), ZERO), differs("target", 2, 6));
    assert_eq!(message(sweep().reference(&longer), ZERO), differs("reference", 2, 6));
    assert_eq!(message(sweep().other(&one), OTHER), differs("other", 1, 5));
    assert_eq!(message(sweep().other(&longer), ZERO), differs("other", 2, 6));
    assert_eq!(message(sweep(), OTHER), "values of another run are to be put in, but there is no other batch");
    assert_eq!(message(Sweep::new(&model, &one), RESAMPLE), "there is only one sequence: no other one to resample from");
    let unknown = "token 3 is beyond the vocabulary of 3";
    for sweep in [Sweep::new(&model, &beyond), sweep().targets(&beyond), sweep().reference(&beyond), sweep().other(&beyond)] {
        assert_eq!(message(sweep, ZERO), unknown);
    }
    let long = draw(2, 17, 3);
    assert_eq!(message(Sweep::new(&model, &long), ZERO), "sequences of 17 tokens do not fit a context of 16");
    let wrong = [Intervention::new(Site::Z(head(0, 2)), ZERO)];
    let error = sweep().run(&wrong, &[vec![0]]).unwrap_err().to_string();
    assert_eq!(error, "there is no head 0.2: the model has 1 layers of 2 heads, counted from 0");
    // One sequence is enough where it is another than those that are run.
    assert!(sweep().can_resample() && !Sweep::new(&model, &one).can_resample());
    assert!(sweep().reference(&one).can_resample());
    sweep().reference(&one).run(&ablation(RESAMPLE), &[vec![0]]).unwrap();
}
