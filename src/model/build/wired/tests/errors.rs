//! What a user reads where a wiring does not fit.

use super::*;

/// The preset spelt out with one place changed.
fn changed(from: &str, to: &str) -> Wired {
    let text = format!("{}vocab: 7\ncontext: 5\n", induction_text());
    assert!(text.contains(from), "{from}");
    parse(&text.replacen(from, to, 1))
}

#[test]
fn errors_name_the_place_and_what_is_there() {
    let cases = [
        (
            changed("key: { from: previous }", "key: { from: previos }"),
            "heads[1].key.from",
            "head `induction` (heads[1]) reads its key from `previos`, which is not in `residual`; did you mean `previous`?",
        ),
        (
            changed("to: previous", "to: elsewhere"),
            "heads[0].value.to",
            "head `previous-token` (heads[0]) writes its value to `elsewhere`, which is not in `residual`; \
             there are `token`, `position`, `previous`, `output`",
        ),
        (
            changed("key: { from: previous }", "key: { from: position }"),
            "heads[1].key.from",
            "head `induction` (heads[1]) compares its query, `token` of 7 dimensions, with its key, `position` \
             of 5: they must be equal, one by one",
        ),
        (
            changed("value: { from: token, to: previous }", "value: { from: position, to: previous }"),
            "heads[0].value.to",
            "head `previous-token` (heads[0]) moves `position` of 5 dimensions to `previous` of 7: they must be equal",
        ),
        (
            changed("shift: -1", "shift: -5"),
            "heads[0].query.shift",
            "head `previous-token` (heads[0]) shifts its query by -5, off the end of `position`, which has 5 dimensions: \
             nothing would be left",
        ),
        (
            changed("name: induction", "name: previous-token"),
            "heads[1].name",
            "head `previous-token` (heads[1]) is called like heads[0]; each name may stand once",
        ),
        (
            changed("position: context ", "position: 6 "),
            "residual.position",
            "`position` has 6 dimensions, but W_pos writes a one-hot position there: it needs 5 (write `position: context`)",
        ),
        (
            changed("output: vocab ", "outputs: vocab "),
            "residual",
            "there is no `output`, the subspace that W_U reads; should `outputs` be called so?",
        ),
        (changed("previous: vocab ", "previous: 0 "), "residual.previous", "a subspace needs at least one dimension"),
        (
            changed("sharpness: 20", "sharpness: .nan"),
            "heads[0].sharpness",
            "head `previous-token` (heads[0]) has a sharpness of NaN; it must lie between -1000000 and 1000000",
        ),
        (
            changed("layer: 1", "layer: 18446744073709551615"),
            "heads[1].layer",
            "head `induction` (heads[1]) is in layer 18446744073709551615; the last possible one is 1000",
        ),
        (
            induction(json!({ "circuit": "inducton" })),
            "circuit",
            "there is no circuit `inducton`; did you mean `induction`? \
             (known: copying, duplicate-token, induction, induction-with-rest, n-back, n-token-prefix, pointer-arithmetic, \
             previous-of-previous, skip-trigram, skip-trigram-bug, tokenization)",
        ),
        (
            induction(json!({ "heads": [] })),
            "circuit",
            "a circuit stands for `residual` and `heads`: give either the circuit or both of these",
        ),
        (
            induction(json!({ "compress": 27 })),
            "compress",
            "compress must lie between 1 and 26, the sum of all subspaces, and is 27",
        ),
        (
            induction(json!({ "context": 1 })),
            "circuit",
            "head `previous-token` (heads[0]) shifts its query by -1, off the end of `position`, which has 1 dimensions: \
             nothing would be left",
        ),
        (induction(json!({ "vocab": 0 })), "vocab", "vocab must be at least 1"),
        (
            induction(json!({ "n": 2 })),
            "n",
            "the circuit `induction` has no `n`: leave it out (those that have one: `n-back`, `n-token-prefix`, \
             `skip-trigram-bug`, `tokenization`)",
        ),
        (
            induction(json!({ "circuit": "skip-trigram-bug", "n": 3 })),
            "n",
            "n, the number of heads of `skip-trigram-bug`, must lie between 1 and 2, and is 3",
        ),
        (
            induction(json!({ "circuit": "tokenization", "n": 3 })),
            "circuit",
            "head `second-half` (heads[0]) maps 8, but `token` has 7 dimensions, counted from 0",
        ),
        (
            parse(&format!("{}vocab: 7\ncontext: 5\nn: 2\n", induction_text())),
            "n",
            "n is a number of a circuit, and there is no `circuit` here",
        ),
        (
            changed("query: { from: token }", "query: { from: token, map: { 7: 1 } }"),
            "heads[1].query.map.7",
            "head `induction` (heads[1]) maps 7, but `token` has 7 dimensions, counted from 0",
        ),
        (
            changed("query: { from: token }", "query: { from: token, map: { 1: [2, 9] } }"),
            "heads[1].query.map.1",
            "head `induction` (heads[1]) maps 9, but `token` has 7 dimensions, counted from 0",
        ),
        (
            changed("query: { from: token }", "query: { from: token, map: { 1: [2, 3, 2] } }"),
            "heads[1].query.map",
            "head `induction` (heads[1]) maps 1 to 2 twice: give it a weight, `1: { 2: 2 }`",
        ),
        (
            changed("query: { from: token }", "query: { from: token, map: { in: 1 } }"),
            "heads[1].query.map.in",
            "head `induction` (heads[1]) maps `in`, which is not the number of a dimension of `token`",
        ),
        (
            changed("query: { from: token }", "query: { from: token, map: { 1: { \"2\": 1e9 } } }"),
            "heads[1].query.map.1",
            "head `induction` (heads[1]) has a weight of 1000000000; it must lie between -1000000 and 1000000",
        ),
        (
            changed("query: { from: token }", "query: { from: token, map: {} }"),
            "heads[1].query.map",
            "head `induction` (heads[1]) has an empty map for its query: it would read nothing",
        ),
        (
            changed("query: { from: token }", "query: { from: token, map: { 1: [] } }"),
            "heads[1].query.map.1",
            "head `induction` (heads[1]) maps 1 to nothing: leave it out",
        ),
        (
            changed("query: { from: token }", "query: { from: token, shift: 1, map: { 1: 2 } }"),
            "heads[1].query.shift",
            "head `induction` (heads[1]) both shifts and maps its query: write the shift into the map",
        ),
        (
            changed("query: { from: token }", "rest: .nan\n    query: { from: token }"),
            "heads[1].rest",
            "head `induction` (heads[1]) has a rest of NaN; it must lie between -1000000 and 1000000",
        ),
        (
            parse(
                "{ vocab: 4, context: 3, residual: { token: vocab, output: vocab }, heads: [{ layer: 0, query: { from: token }, \
                 key: { from: token }, value: { from: token, to: output }, current: 1 }] }",
            ),
            "heads[0].current",
            "heads[0] scores its `current` position, but there is no subspace `position` in `residual`",
        ),
        (induction(json!({ "noise": -0.1 })), "noise", "noise must lie between 0 and 1000000, and is -0.1"),
    ];
    for (kind, path, message) in cases {
        assert_eq!(parameter_error(&kind), (path.to_string(), message.to_string()));
    }
}

#[test]
fn no_number_overflows() {
    for field in ["vocab", "context", "distractors", "compress"] {
        assert!(induction(json!({ field: usize::MAX })).config(Path::new(".")).is_err(), "{field}");
    }
    for shift in [i64::MIN, i64::MAX] {
        assert!(changed("shift: -1", &format!("shift: {shift}")).config(Path::new(".")).is_err());
    }
    assert!(changed("previous: vocab ", &format!("previous: {} ", usize::MAX)).config(Path::new(".")).is_err());
}
