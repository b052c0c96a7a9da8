use super::*;

fn time(text: &str) -> Option<i64> {
    parse_time("start", text).ok()
}

#[test]
fn times_are_unix_seconds_or_rfc_3339_and_saturate() {
    for (text, expected) in [
        ("1700000000", 1_700_000_000_000),
        ("1700000000.1234", 1_700_000_000_123),
        ("-1.5", -1_500),
        ("1e9", 1_000_000_000_000),
        ("1e300", i64::MAX),
        ("-1e300", i64::MIN),
        ("inf", i64::MAX),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T23:13:20.5+01:00", 1_700_000_000_500),
        (MIN_TIME_TEXT, i64::MIN),
        (MAX_TIME_TEXT, i64::MAX),
    ] {
        assert_eq!(time(text), Some(expected), "{text}");
    }
    for text in ["NaN", "now", "2023-11-14", "2023-13-14T22:13:20Z", "1700000000s", "0x10"] {
        assert_eq!(time(text), None, "{text}");
    }
}

#[test]
fn label_names_are_unescaped_as_prometheus_does() {
    for (path, name) in [
        ("job", "job"),
        ("__name__", "__name__"),
        ("U__my_2e_label", "my.label"),
        ("U__two__words", "two_words"),
        ("U___1F600_", "\u{1F600}"),
        ("U__", ""),
        // What is not the escaped form is the name itself.
        ("U__open_2e", "U__open_2e"),
        ("U__end_", "U__end_"),
        ("U___zz_", "U___zz_"),
        ("U___d800_", "U___d800_"),
        ("U___0000041_", "U___0000041_"),
        ("u__my_2e_label", "u__my_2e_label"),
    ] {
        assert_eq!(unescape_label_name(path), name, "{path}");
    }
}

#[test]
fn parameters_are_bounded_and_the_first_time_counts() {
    let parsed = Parameters::parse(&Form::parse(&[
        b"start=1&end=2&limit=5&match[]=up",
        b"start=7&start=&match[]=down",
    ]));
    let parsed = parsed.unwrap();
    assert_eq!(parsed.range, TimeRange::from_inclusive(1_000, 2_000));
    assert_eq!((parsed.limit, parsed.matchers.len()), (5, 2));
    let none = Parameters::parse(&Form::parse(&[b"start=&end=&limit="])).unwrap();
    assert_eq!((none.range, none.limit), (TimeRange::ALL, 0));
    let many = "match[]=up&".repeat(SELECTORS_MAX + 1);
    assert!(matches!(Parameters::parse(&Form::parse(&[many.as_bytes()])), Err(StoreError::Parameter { .. })));
}

#[test]
fn labels_are_hidden_only_on_demand_and_those_of_the_request_come_first() {
    let configured = ["replica".to_owned(), "rack".to_owned()];
    let hidden =
        |query: &str| Hiding::parse(&Form::parse(&[query.as_bytes()])).map(|h| h.labels(&configured));
    for (query, expected) in [
        ("", &[][..]),
        ("dedup=false&replicaLabels[]=a", &[]),
        ("dedup=0", &[]),
        ("dedup=true", &["replica", "rack"]),
        ("dedup=1&dedup=false", &["replica", "rack"]),
        ("dedup=t&replicaLabels[]=a&replicaLabels[]=&replicaLabels%5B%5D=b", &["a", "b"]),
    ] {
        assert_eq!(hidden(query).unwrap(), expected, "{query}");
    }
    for query in ["dedup=yes".to_owned(), "replicaLabels[]=a&".repeat(65)] {
        assert!(matches!(hidden(&query), Err(StoreError::Parameter { .. })), "{query}");
    }
}
