//! Queries, checks and the columns of figures.

use super::*;

#[test]
fn columns_and_tables_are_underlined_inside_queries() {
    let text = edited(&[
        ("FROM scores", "FROM scors"),
        ("MAX(value) > 0.5 FROM best", "MAX(b.value) > 0.5 FROM scores AS b WHERE b.modle = 'modle'"),
        ("of: best", "of: SELECT layr FROM scores"),
    ]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: there is no table `scors`
      --> x.yaml:17:12
       |
    17 |       FROM scors
       |            ^^^^^
       |
       = help: did you mean `scores`?

    error: there is no column `layr`
      --> x.yaml:21:16
       |
    21 |     of: SELECT layr FROM scores
       |                ^^^^
       |
       = help: did you mean `layer`?

    error: there is no column `modle`
      --> x.yaml:26:63
       |
    26 |     check: SELECT MAX(b.value) > 0.5 FROM scores AS b WHERE b.modle = 'modle'
       |                                                               ^^^^^
       |
       = help: did you mean `model`?
    "#);
}

#[test]
fn syntax_errors_of_sql_have_their_place() {
    let text = edited(&[("GROUP BY model, layer", "GROUP BYY model, layer")]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: this is not SQL: Expected: end of statement, found: GROUP
      --> x.yaml:18:7
       |
    18 |       GROUP BYY model, layer
       |       ^^^^^
    "#);
}

#[test]
fn a_check_needs_one_column_that_decides() {
    let text = edited(&[(
        "MAX(value) > 0.5 FROM best\n",
        "MAX(value) FROM best\n  - claim: Both.\n    check: SELECT 1 < 2 AS a, 2 < 3 AS b FROM best\n  - claim: Text.\n    check: SELECT 'yes' AS holds FROM best\n",
    )]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: a check needs a column that is true or false, and this one yields `value`
      --> x.yaml:26:12
       |
    26 |     check: SELECT MAX(value) FROM best
       |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: compare, as in `SELECT MAX(value) > 0.95 AS holds, MAX(value) AS value FROM …`

    error: the columns `a` and `b` could all decide: call one of them `holds`
      --> x.yaml:28:12
       |
    28 |     check: SELECT 1 < 2 AS a, 2 < 3 AS b FROM best
       |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: compare, as in `SELECT MAX(value) > 0.95 AS holds, MAX(value) AS value FROM …`

    error: the column `holds` of a check must be true or false
      --> x.yaml:30:12
       |
    30 |     check: SELECT 'yes' AS holds FROM best
       |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: compare, as in `SELECT MAX(value) > 0.95 AS holds, MAX(value) AS value FROM …`
    "#);
}

#[test]
fn figures_name_columns_that_exist() {
    let text = edited(&[("x: layer\n    y: [value]", "x: layr\n    y: [model, valeu]")]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: there is no column `layr` in the figure's data
      --> x.yaml:23:8
       |
    23 |     x: layr
       |        ^^^^
       |
       = help: did you mean `layer`?

    error: there is no column `valeu` in the figure's data
      --> x.yaml:24:16
       |
    24 |     y: [model, valeu]
       |                ^^^^^
       |
       = help: did you mean `value`?
    "#);
}
