use super::*;

fn parsed(text: &str) -> Vec<(String, MatchKind, String)> {
    let matchers = parse_selector(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    matchers.iter().map(|m| (m.name().to_owned(), m.kind(), m.value().to_owned())).collect()
}

fn is(name: &str, kind: MatchKind, value: &str) -> (String, MatchKind, String) {
    (name.to_owned(), kind, value.to_owned())
}

use MatchKind::{Equal, NotEqual, NotRegex, Regex};

#[test]
fn names_and_all_four_kinds_are_read() {
    let up = || is("__name__", Equal, "up");
    assert_eq!(parsed("up"), [up()]);
    assert_eq!(parsed(" \t\n up { } # all of them"), [up()]);
    assert_eq!(parsed("a:b:c"), [is("__name__", Equal, "a:b:c")]);
    assert_eq!(parsed(":x"), [is("__name__", Equal, ":x")]);
    assert_eq!(
        parsed(r#"up{a="1",b!="2", c =~ "3.*" ,d!~"4",}"#),
        [is("a", Equal, "1"), is("b", NotEqual, "2"), is("c", Regex, "3.*"), is("d", NotRegex, "4"), up()]
    );
    assert_eq!(parsed(r#"{a=""}"#), [is("a", Equal, "")]);
    assert_eq!(parsed("{}"), []);
    assert_eq!(parsed("{ # nothing\n a='b' # still\n}"), [is("a", Equal, "b")]);
    assert_eq!(
        parsed(r#"{__name__=~"a.*",__name__!="ab"}"#),
        [is("__name__", Regex, "a.*"), is("__name__", NotEqual, "ab")]
    );
}

#[test]
fn quoted_names_may_hold_anything() {
    assert_eq!(parsed(r#"{"my.metric"}"#), [is("__name__", Equal, "my.metric")]);
    assert_eq!(
        parsed(r#"{"my.metric", "label with space"="x", '\'q\''!~`.`}"#),
        [is("label with space", Equal, "x"), is("'q'", NotRegex, "."), is("__name__", Equal, "my.metric")]
    );
    assert_eq!(parsed(r#"{a="b", "é"}"#), [is("a", Equal, "b"), is("__name__", Equal, "é")]);
}

#[test]
fn strings_have_the_escapes_of_promql() {
    for (text, value) in [
        (r#""\a\b\f\n\r\t\v\\\"'""#, "\x07\x08\x0c\n\r\t\x0b\\\"'"),
        (r#"'\'"'"#, "'\""),
        (r#""\101\x42\u0043\U0001F600""#, "ABC\u{1F600}"),
        (r#""\xc3\xa9\303\251""#, "éé"),
        ("`\\n\"'\n`", "\\n\"'\n"),
        ("\"größer\"", "größer"),
        (r##""#hash,}""##, "#hash,}"),
    ] {
        assert_eq!(parsed(&format!("{{a={text}}}")), [is("a", Equal, value)], "{text}");
    }
}

#[test]
fn what_is_not_a_selector_is_refused_with_the_place() {
    for (text, at) in [
        ("", 0),
        ("1up", 0),
        ("up{", 3),
        ("up}", 2),
        ("up{a}", 4),
        ("up{a=}", 5),
        ("up{a=b}", 5),
        ("up{a==\"b\"}", 5),
        ("up{a!\"b\"}", 5),
        ("up{a=\"b\" c=\"d\"}", 9),
        ("up{,}", 3),
        ("up{a:b=\"c\"}", 4),
        ("up{} or down", 5),
        ("up[5m]", 2),
        ("sum(up)", 3),
        ("up{\"a\" \"b\"}", 7),
        ("{a=\"b\"}{}", 7),
    ] {
        match parse_selector(text) {
            Err(SelectorError::Syntax { at: found, .. }) => assert_eq!(found, at, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn strings_that_are_not_text_are_refused() {
    for text in [
        r#""open"#,
        "\"line\nend\"",
        r#""\z""#,
        r#""\'""#,
        r#""\400""#,
        r#""\18""#,
        r#""\x4""#,
        r#""\ud800""#,
        r#""\U00110000""#,
        r#""\xff""#,
    ] {
        let parsed = parse_selector(&format!("{{a={text}}}"));
        assert!(matches!(parsed, Err(SelectorError::Text { .. })), "{text}: {parsed:?}");
    }
}

#[test]
fn a_metric_has_one_name() {
    for text in [r#"up{"down"}"#, r#"{"up","down"}"#, r#"up{__name__="down"}"#] {
        let parsed = parse_selector(text);
        assert!(matches!(parsed, Err(SelectorError::NameTwice(..))), "{text}: {parsed:?}");
    }
    assert_eq!(parsed(r#"up{__name__!="down"}"#).len(), 2);
}

#[test]
fn length_matchers_and_expressions_are_bounded() {
    assert_eq!(parse_selector(&"a".repeat(SELECTOR_BYTES_MAX + 1)).unwrap_err(), SelectorError::TooLong);
    let many = format!("{{{}}}", "a=\"b\",".repeat(MATCHERS_MAX + 1));
    assert_eq!(parse_selector(&many).unwrap_err(), SelectorError::TooMany);
    assert!(matches!(parse_selector(r#"{a=~"("}"#), Err(SelectorError::Matcher(_))));
}
