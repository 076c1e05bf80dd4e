use super::*;
use polars::prelude::{DataFrame, df};
use std::collections::BTreeSet;

fn found(left: &DataFrame, right: &DataFrame, tolerance: f64) -> TableComparison {
    compare(left, right, &BTreeSet::new(), Tolerance::new(tolerance).unwrap()).unwrap()
}

#[test]
fn numbers_beyond_the_tolerance_are_named_with_their_row() {
    let before = df!("model" => ["a", "a", "b"], "head" => [0i64, 1, 0], "value" => [0.5, 0.25, 3000.0]).unwrap();
    let after = df!("model" => ["a", "a", "b"], "head" => [0i64, 1, 0], "value" => [0.5, 0.26, 3000.02]).unwrap();
    let loose = found(&before, &after, 1e-5);
    assert!(loose.differs());
    assert_eq!((loose.differing(), loose.within().0), (1, 1));
    let (column, cell) = loose.first(9)[0];
    assert_eq!(
        (column, cell.place.as_str(), cell.left.as_str(), cell.right.as_str()),
        ("value", "model = a, head = 1", "0.25", "0.26")
    );
    let exact = found(&before, &after, 0.0);
    assert_eq!((exact.differing(), exact.within().0), (2, 0));
    assert_eq!(exact.columns[0].largest[0].place, "model = b, head = 0", "the largest comes first");
    assert!(!found(&before, &before, 0.0).differs());
}

#[test]
fn a_row_more_does_not_make_the_others_differ() {
    let before = df!("head" => [0i64, 2], "value" => [0.5, 0.25]).unwrap();
    let after = df!("head" => [0i64, 1, 2], "value" => [0.5, 0.1, 0.25]).unwrap();
    let more = found(&before, &after, 0.0);
    assert_eq!((more.added_rows.clone(), more.removed_rows.0, more.columns.len()), ((1, vec!["head = 1".to_string()]), 0, 0));
    let fewer = found(&after, &before, 0.0);
    assert_eq!((fewer.removed_rows.clone(), fewer.added_rows.0), ((1, vec!["head = 1".to_string()]), 0));
    assert!(more.differs() && fewer.differs());
}

#[test]
fn rows_without_keys_are_paired_by_position() {
    let before = df!("x" => [0.5, 0.25]).unwrap();
    let after = df!("x" => [0.5, 0.75, 1.0]).unwrap();
    let found = found(&before, &after, 0.0);
    assert_eq!((found.keys.len(), found.added_rows.clone()), (0, (1, vec!["row 3".to_string()])));
    assert_eq!(found.columns[0].first[0].place, "row 2");
}

#[test]
fn keys_behind_a_number_and_swept_numbers_are_keys_too() {
    let table = |values: [f64; 2]| df!("value" => values, "head" => [0i64, 1]).unwrap();
    assert_eq!(found(&table([0.1, 0.2]), &table([0.1, 0.3]), 0.0).keys, ["head"]);
    let table = |values: [f64; 2]| df!("noise" => [0.1, 0.3], "replicate" => [1i64, 1], "value" => values).unwrap();
    let swept = BTreeSet::from(["noise".to_string()]);
    let found = compare(&table([0.1, 0.2]), &table([0.1, 0.3]), &swept, Tolerance::EXACT).unwrap();
    assert_eq!(found.columns[0].first[0].place, "noise = 0.3", "a key that is the same everywhere says nothing");
}

#[test]
fn another_order_of_rows_is_noted_and_no_difference() {
    let before = df!("head" => [0i64, 1], "value" => [0.5, 0.25]).unwrap();
    let after = df!("head" => [1i64, 0], "value" => [0.25, 0.5]).unwrap();
    let found = found(&before, &after, 0.0);
    assert!(found.reordered_rows && !found.differs());
}

#[test]
fn columns_and_types_count() {
    let before = df!("head" => [0i64], "value" => [0.5], "old" => [true]).unwrap();
    let after = df!("head" => [0i64], "value" => ["0.5"], "new" => [1i64]).unwrap();
    let found = found(&before, &after, 0.0);
    assert_eq!(found.removed_columns, [("old".to_string(), "bool".to_string())]);
    assert_eq!(found.added_columns, [("new".to_string(), "i64".to_string())]);
    assert_eq!(found.retyped_columns, [("value".to_string(), "f64".to_string(), "str".to_string())]);
    let turned = df!("value" => [0.5], "head" => [0i64], "old" => [true]).unwrap();
    assert!(super::compare(&before, &turned, &BTreeSet::new(), Tolerance::EXACT).unwrap().differs());
}

#[test]
fn null_not_a_number_text_and_whole_numbers_are_compared_exactly() {
    let table = |value: Option<f64>| df!("head" => [0i64], "value" => [value]).unwrap();
    let values = [None, Some(f64::NAN), Some(0.0), Some(f64::INFINITY), Some(f64::NEG_INFINITY)];
    for (i, left) in values.iter().enumerate() {
        for (j, right) in values.iter().enumerate() {
            assert_eq!(found(&table(*left), &table(*right), 1e3).differs(), i != j, "{left:?} and {right:?}");
        }
    }
    let table = |value: i64, word: &str| df!("x" => [0.5], "count" => [value], "word" => [word]).unwrap();
    assert_eq!(found(&table(1_000_000, "a"), &table(1_000_001, "a"), 0.1).columns.len(), 0, "they are keys here");
    assert_eq!(found(&table(1_000_000, "a"), &table(1_000_001, "a"), 0.1).added_rows.0, 1);
    let table = |counts: [i64; 2]| df!("x" => ["a", "a"], "count" => counts, "y" => [0.5, 0.5]).unwrap();
    assert!(found(&table([5, 5]), &table([5, 6]), 0.9).differs());
}
