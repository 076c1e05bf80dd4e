use super::*;
use ndarray::array;

/// A start token, then tokens 1..=period, so many times.
fn repeated(period: usize, count: usize) -> TokenBatch {
    let length = 1 + period * count;
    let token = |(_, i): (usize, usize)| if i == 0 { 0 } else { ((i - 1) % period + 1) as u32 };
    TokenBatch::new(Array2::from_shape_fn((1, length), token), Some(Repeats { start: 1, period, count })).unwrap()
}

fn scores(names: &[&str]) -> Vec<Score> {
    names.iter().map(|name| Score::find(name).unwrap()).collect()
}

/// What the ideal head of `of` scores by the conventions `names`.
fn ideal(of: &str, batch: &TokenBatch, names: &[&str]) -> Vec<f64> {
    ideal_scores(&Score::find(of).unwrap(), batch, &scores(names)).iter().map(|found| found.ceiling.unwrap()).collect()
}

#[track_caller]
fn assert_near(found: &[f64], expected: &[f64]) {
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(near && found.len() == expected.len(), "{found:?}, expected {expected:?}");
}

#[test]
fn names_are_sorted_and_each_is_found() {
    let all = Score::all();
    assert!(all.windows(2).all(|pair| pair[0].name() < pair[1].name()));
    for score in all.iter().chain(&[Score::offset(0), Score::offset(17)]) {
        assert_eq!(Score::find(score.name()).as_ref(), Some(score));
        assert!(score.summary().ends_with(['.', ']', '`']) && !score.source().is_empty());
    }
    for name in ["", "offset_", "offset_N", "offset_+1", "offset_-1", "offset_007", "prefix"] {
        assert_eq!(Score::find(name), None, "{name}");
    }
}

/// The numbers that one and the same head gets in the literature.
#[test]
fn an_ideal_induction_head_by_each_convention() {
    let names = ["prefix_matching", "induction_entry", "induction_stripe", "induction_stripe_repeats", "tl_induction_mul"];
    let found = ideal("prefix_matching", &repeated(50, 2), &names);
    assert_near(&found, &[1.0, 1.0, 51.0 / 52.0, 1.0, 50.0 / 101.0]);
    // Shared among one, two and three copies: 50·3 of 50·(1 + 2 + 3) entries. The stripe sees the latest copy, 1 + 1/2 + 1/3 of 3;
    // of its 152 entries the first, in repeat 1, is the rest at position 0, and the second has nothing to match.
    let found = ideal("induction_stripe", &repeated(50, 4), &names);
    let repeats = 50.0 * (1.0 + 0.5 + 1.0 / 3.0);
    assert_near(&found, &[1.0, 0.5, (1.0 + repeats) / 152.0, repeats / 150.0, 150.0 / 201.0]);
}

#[test]
fn ideal_heads_of_the_other_targets() {
    let batch = repeated(5, 2);
    let names = ["previous_token", "current_token", "first_token", "duplicate_token", "prefix_matching", "offset_4"];
    // 11 positions. Position 1 attends to position 0, and so does position 0, which has nothing before it.
    assert_near(&ideal("previous_token", &batch, &names), &[1.0, 1.0 / 11.0, 0.1, 0.0, 0.0, 0.0]);
    assert_near(&ideal("duplicate_token", &batch, &names), &[0.1, 1.0 / 11.0, 0.5, 1.0, 0.0, 1.0 / 7.0]);
    assert_near(&ideal("first_token", &batch, &names), &[0.1, 1.0 / 11.0, 1.0, 0.0, 0.0, 1.0 / 7.0]);
    // Period 5: the copy's successor stands 4 back.
    assert_near(&ideal("offset_4", &batch, &names[4..]), &[1.0, 1.0]);
}

#[test]
fn the_floor_is_uniform_attention() {
    let batch = repeated(3, 2);
    let found = ideal_scores(&Score::offset(2), &batch, &scores(&["offset_2", "induction_entry", "tl_induction_mul"]));
    let of_uniform = |destinations: std::ops::Range<usize>| destinations.map(|i| 1.0 / (i + 1) as f64).sum::<f64>();
    assert_near(&[found[0].floor.unwrap()], &[of_uniform(2..7) / 5.0]);
    // One mark for each destination of repeat 2.
    assert_near(&[found[1].floor.unwrap()], &[of_uniform(4..7) / 3.0]);
    assert_near(&[found[2].floor.unwrap()], &[of_uniform(4..7) / 7.0]);
}

#[test]
fn without_repeats_there_is_no_stripe() {
    let tokens = array![[0, 1, 2, 1, 3]];
    let names = ["induction_stripe", "induction_stripe_repeats", "prefix_matching", "induction_entry", "offset_5", "offset_4"];
    let once = Some(Repeats { start: 1, period: 4, count: 1 });
    for (repeats, expected) in
        [(None, [false, false, true, true, false, true]), (once, [false, false, false, true, false, true])]
    {
        let batch = TokenBatch::new(tokens.clone(), repeats).unwrap();
        let found = ideal_scores(&Score::offset(1), &batch, &scores(&names));
        assert_eq!(found.iter().map(|score| score.ceiling.is_some()).collect::<Vec<_>>(), expected, "{repeats:?}");
        assert_eq!(found.iter().map(|score| score.floor.is_some()).collect::<Vec<_>>(), expected, "{repeats:?}");
    }
}

/// A period of one token: the copy's successor is the current position itself.
#[test]
fn the_stripe_of_a_period_of_one_is_the_diagonal() {
    let found = ideal_scores(&Score::offset(0), &repeated(1, 3), &scores(&["induction_stripe", "induction_stripe_repeats"]));
    assert_near(&found.iter().map(|score| score.ceiling.unwrap()).collect::<Vec<_>>(), &[1.0, 1.0]);
}
