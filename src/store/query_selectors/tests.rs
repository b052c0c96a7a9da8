use proptest::prelude::*;

use super::*;

/// The selectors as text, in order.
fn found(text: &str) -> Vec<String> {
    let show = |matchers: &Vec<Matcher>| {
        let mut parts: Vec<String> =
            matchers.iter().map(|m| format!("{}{:?}{}", m.name(), m.kind(), m.value())).collect();
        parts = parts.iter().map(|part| part.replace("__name__Equal", "")).collect();
        parts.sort();
        parts.join(" ")
    };
    let selectors = query_selectors(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    selectors.iter().map(show).collect()
}

#[test]
fn selectors_are_found_wherever_an_expression_has_a_value() {
    for (text, expected) in [
        ("up", &["up"][..]),
        (" up {job = 'a'} # the end", &["jobEquala up"]),
        ("rate(a:b_c[5m]) / on(job) group_left c", &["a:b_c", "c"]),
        ("rate(a[5m:1m] offset -1h)", &["a"]),
        ("a offset 5m @ 1.5e3 + b @ start() - c @end()", &["a", "b", "c"]),
        ("sum by (job, x) (a) + sum(b) without (y)", &["a", "b"]),
        ("topk(5, a) or vector(1) unless b", &["a", "b"]),
        (
            "histogram_quantile(0.9, sum by (le) (rate(h_bucket{x=~\"a|(b)\"}[1h30m])))",
            &["h_bucket xRegexa|(b)"],
        ),
        ("label_replace(a, \"dst\", \"$1 (b)\", 'src', `(.*)`)", &["a"]),
        ("a > bool 5 and on () b", &["a", "b"]),
        ("a == on(x) group_right(y, z) -b", &["a", "b"]),
        ("-(a) ^ --b", &["a", "b"]),
        ("0x1F + 1e-5 + .5 + Inf + NaN + a", &["a"]),
        ("time() - timestamp(a)", &["a"]),
        (
            "{\"dotted.name\", a!=\"b\"} * {__name__=~\"x.+\"}",
            &["aNotEqualb dotted.name", "__name__Regexx.+"],
        ),
        ("sum", &["sum"]),
        ("by + offset", &["by", "offset"]),
        ("inf{a=\"b\"}", &["aEqualb inf"]),
        ("SUM BY (a) (b) AND c OFFSET 1d", &["b", "c"]),
        ("{a=\"b\", } + {c=\"d\"}", &["aEqualb", "cEquald"]),
        ("\"text\"", &[]),
        ("1 + 2", &[]),
        ("a[5m:]", &["a"]),
        ("count_values(\"le\", a) by (x)", &["a"]),
        ("a !~ b", &["a", "b"]),
    ] {
        assert_eq!(found(text), expected, "{text}");
    }
}

#[test]
fn what_is_no_expression_is_refused_with_its_place() {
    for (text, at) in [
        ("", 0),
        ("a b", 3),
        ("rate(a", 6),
        ("a)", 1),
        ("(a, ", 4),
        ("a +", 3),
        ("a{b}", 3),
        ("a{b=\"c\"", 7),
        ("a[5m", 4),
        ("sum by x (a)", 7),
        ("a, b", 1),
        ("€", 0),
    ] {
        let error = query_selectors(text).unwrap_err();
        assert!(error.to_string().contains(&format!("byte {at}")), "{text}: {error}");
    }
    assert!(query_selectors("a{b=~\"(\"}").unwrap_err().to_string().contains("RE2"));
    assert_eq!(query_selectors(&"a+".repeat(65)).unwrap_err(), SelectorError::TooManySelectors);
    assert_eq!(query_selectors(&" ".repeat(70_000)).unwrap_err(), SelectorError::TooLong);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "[a-z(){}\\[\\]\"',=~!@ +5#é]{0,40}") {
        let _ = query_selectors(&text);
    }
}
