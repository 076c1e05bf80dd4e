//! The card of a head score.

use crate::circuit::head_scores::{OFFSET, Score, ideal_scores};
use crate::input::{Repeats, TokenBatch};
use ndarray::Array2;
use std::fmt::Write;

/// The score called `name`; that with the parameter N is shown with 2.
pub(super) fn score(name: &str) -> Option<Score> {
    if name == OFFSET.name { Some(Score::offset(2)) } else { Score::find(name) }
}

/// A score's card: its definition, who uses it, and what its ideal head scores by every convention, computed here and now.
pub(super) fn score_card(name: &str, score: &Score) -> String {
    let mut text = format!("score `{name}`\n\n{}\n", score.summary());
    let _ = writeln!(text, "\n{}", score.formula());
    let _ = writeln!(text, "Used by: {}", score.source());
    let head = score.head();
    let _ = writeln!(
        text,
        "
`ceiling` is what an ideal {head} scores, one that attends to the marks of a destination in equal parts, and to
position 0 where there are none; `floor` is what uniform attention scores. An ideal {head} and uniform attention
by every convention, on a start token and a period of 50 distinct tokens that stands there twice, and four times:
"
    );
    let mut all = Score::all();
    if !all.contains(score) {
        all.push(score.clone());
    }
    let [twice, four_times] = [2, 4].map(|count| ideal_scores(score, &repeated(50, count), &all));
    let width = all.iter().map(|score| score.name().len()).max().unwrap_or(0);
    let _ = writeln!(text, "  {:width$}  {:>17}  {:>17}", "", "two repeats", "four repeats");
    let _ = writeln!(text, "  {:width$}  {:>8} {:>8}  {:>8} {:>8}", "", "ideal", "uniform", "ideal", "uniform");
    for (twice, four_times) in twice.iter().zip(&four_times) {
        let name = twice.score.name();
        let number = |value: Option<f64>| value.map_or("–".to_string(), |value| format!("{value:.3}"));
        let [a, b, c, d] = [twice.ceiling, twice.floor, four_times.ceiling, four_times.floor].map(number);
        let mark = if name == score.name() { "← this score" } else { "" };
        let line = format!("  {name:width$}  {a:>8} {b:>8}  {c:>8} {d:>8}  {mark}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let parameter = match score.name().strip_prefix("offset_") {
        Some(offset) => format!("offsets: [{offset}]"),
        None => format!("scores: [{}]", score.name()),
    };
    let _ = write!(text, "\nExample:\n  - measure: head_scores\n    input: repeated\n    {parameter}\n");
    text
}

/// A start token, and a period of distinct tokens that stands there `count` times.
fn repeated(period: usize, count: usize) -> TokenBatch {
    let token = |(_, position): (usize, usize)| if position == 0 { 0 } else { ((position - 1) % period + 1) as u32 };
    let tokens = Array2::from_shape_fn((1, 1 + period * count), token);
    TokenBatch::new(tokens, Some(Repeats { start: 1, period, count })).expect("the period repeats")
}
