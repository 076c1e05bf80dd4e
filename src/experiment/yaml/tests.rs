use super::*;

fn value(text: &str) -> Value {
    parse(text, 0, 0).unwrap_or_else(|problems| panic!("{text:?}: {problems:?}")).0.value
}

fn problem(text: &str) -> (String, String) {
    let problem = parse(text, 0, 0).map_or_else(|problems| problems, |(_, problems)| problems).remove(0);
    (problem.message, text[problem.span.start..problem.span.end].to_string())
}

#[test]
fn scalars_follow_the_core_schema() {
    for (text, expected) in [
        ("", Value::Null),
        ("# nothing\n", Value::Null),
        ("~", Value::Null),
        ("yes", Value::Str("yes".into())),
        ("TRUE", Value::Bool(true)),
        ("-12", Value::Int(-12)),
        ("+12", Value::Int(12)),
        ("0x1f", Value::Int(31)),
        ("0o17", Value::Int(15)),
        ("99999999999999999999", Value::Int(99_999_999_999_999_999_999)),
        ("1.", Value::Float(1.0)),
        (".5", Value::Float(0.5)),
        ("-1.5e3", Value::Float(-1500.0)),
        ("1e3", Value::Float(1000.0)),
        ("1e", Value::Str("1e".into())),
        (".", Value::Str(".".into())),
        ("1_000", Value::Str("1_000".into())),
        ("\"12\"", Value::Str("12".into())),
        ("!!str 12", Value::Str("12".into())),
        ("! 12", Value::Str("12".into())),
        ("!!int 12", Value::Int(12)),
    ] {
        assert_eq!(value(text), expected, "{text:?}");
    }
}

#[test]
fn every_key_and_value_has_its_place() {
    let text = "títle: 'ä'\r\nlist:\r\n  - [1, two]\r\n  - k: |\r\n      some\r\n      text\r\nempty:\r\n";
    let (root, _) = parse(text, 0, 0).unwrap();
    let at = |span: Span| &text[span.start..span.end];
    let (key, node) = root.entry("títle").unwrap();
    assert_eq!((at(key.span), at(node.span)), ("títle", "'ä'"));
    let list = root.get("list").unwrap();
    assert_eq!(at(list.items()[0].span), "[1, two]");
    assert_eq!(at(list.items()[0].items()[1].span), "two");
    let block = list.items()[1].get("k").unwrap();
    assert_eq!(block.as_str(), Some("some\ntext\n"));
    assert!(at(block.span).contains("some\r\n      text"), "{:?}", at(block.span));
    assert_eq!(at(root.get("empty").unwrap().span), "empty");
}

#[test]
fn anchors_aliases_and_merge_keys_work() {
    let text = "a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, y: 3}\n";
    assert_eq!(value(text), value("a: {x: 1, y: 2}\nb: {x: 1, y: 2}\nc: {y: 3, x: 1}\n"));
}

#[test]
fn what_is_wrong_is_said_at_its_place() {
    for (text, message, place) in [
        ("a: 1\nb: 2\na: 3", "the key `a` is here twice", "a"),
        ("a: .nan", "`.nan` is no number that an experiment can use: numbers must be finite", ".nan"),
        ("a: -.inf", "`-.inf` is no number that an experiment can use: numbers must be finite", "-.inf"),
        ("a: 1e999", "the number 1e999 is too large", "1e999"),
        ("a: *b", "the alias `*b` refers to no anchor `&b` above it", "*b"),
        ("a: &a [*a]", "this alias stands inside the value that it refers to", "*a"),
        ("a: !!int x", "the tag `!!int` does not fit the string `x`", "!!int"),
        ("a: !weights x", "the tag `!weights` does not fit the string `x`", "!weights"),
        ("a: b\n\tc: d", "this is not YAML: while scanning a plain scalar, found a tab", "\t"),
        ("a: 1\n---\nb: 2\n", "a second YAML document starts here", "---"),
        ("[a]: 1", "a key must be a name, not an alias, a list or a map", "["),
        ("<<: 1", "the merge key `<<` takes a map or a list of maps", "<<"),
    ] {
        assert_eq!(problem(text), (message.to_string(), place.to_string()), "{text:?}");
    }
}

#[test]
fn budgets_hold() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{items}]\n");
    }
    assert!(problem(&bomb).0.starts_with("the file holds too much"));
    assert!(problem(&"[".repeat(10_000)).0.starts_with("this is not YAML"));
    assert!(problem(&"- ".repeat(10_000)).0.starts_with("this is not YAML"));
    assert!(problem(&"{a: ".repeat(10_000)).0.starts_with("this is not YAML"));
}
