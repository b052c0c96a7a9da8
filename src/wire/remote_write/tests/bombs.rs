use super::*;
use crate::model::ErrorKind;

#[test]
fn ten_million_symbols_are_refused_before_they_take_memory() {
    let body = [field(4, b""), field(4, b"x").repeat(10_000_000)].concat();
    let refused = read(Protocol::V2, &body).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    assert!(matches!(refused, WireError::TooMany { what: "symbols", .. }));
}

#[test]
fn ten_million_empty_samples_are_refused_before_they_take_memory() {
    let series = field(2, b"").repeat(10_000_000);
    for (protocol, number) in [(Protocol::V1, 1), (Protocol::V2, 5)] {
        let refused = read(protocol, &field(number, &series)).unwrap_err();
        assert!(matches!(refused, WireError::TooMany { what: "samples", .. }), "{refused}");
    }
}

#[test]
fn a_series_of_a_million_labels_is_refused_alone() {
    for one in [label("a", "1"), label("a", ""), field(1, b"")] {
        let bomb = field(1, &[one.repeat(1_000_000), sample(1)].concat());
        let good = field(1, &[label("a", "1"), sample(1)].concat());
        let (seen, _) = read(Protocol::V1, &[bomb, good].concat()).unwrap();
        assert_eq!(seen[0].labels, Err(SeriesError::TooManyLabels { limit: 64 }));
        assert_eq!(seen[1].labels, Ok(labels(&[("a", "1")])));
    }
}

#[test]
fn a_series_of_a_million_references_is_refused_alone() {
    let symbols = [field(4, b""), field(4, b"a"), field(4, b"1")].concat();
    for pair in [[1, 2], [1, 0], [0, 0]] {
        let bomb = field(5, &[field(1, &pair.repeat(1_000_000)), sample(1)].concat());
        let good = field(5, &[field(1, &[1, 2]), sample(1)].concat());
        let (seen, _) = read(Protocol::V2, &[symbols.clone(), bomb, good].concat()).unwrap();
        assert_eq!(seen[0].labels, Err(SeriesError::TooManyLabels { limit: 64 }));
        assert_eq!(seen[0].counts[0], 1, "its sample is counted");
        assert_eq!(seen[1].labels, Ok(labels(&[("a", "1")])));
    }
}

#[test]
fn references_that_unfold_to_gibibytes_are_refused() {
    let symbols = [field(4, b""), field(4, &[b'n'; 1 << 10]), field(4, &[b'v'; 2 << 10])].concat();
    let one = field(5, &[field(1, &[1, 2].repeat(64)), sample(1)].concat());
    let refused = walk(Protocol::V2, &[symbols, one.repeat(100_000)].concat(), &LIMITS, |_| {}).unwrap_err();
    assert!(matches!(refused, WireError::TooMany { what: "bytes of labels", .. }), "{refused}");
}

#[test]
fn nested_messages_are_stepped_over_without_recursion() {
    let mut nested = Vec::new();
    for _ in 0..2_000 {
        nested = field(9, &nested);
    }
    let series = field(1, &[label("a", "1"), field(7, &nested), sample(1)].concat());
    let (seen, _) = read(Protocol::V1, &[field(9, &nested), series].concat()).unwrap();
    assert_eq!(seen[0].labels, Ok(labels(&[("a", "1")])));

    let groups = vec![0x4B; 100_000];
    assert!(malformed(Protocol::V1, &groups).contains("group"));
    assert!(malformed(Protocol::V1, &field(1, &groups)).contains("group"));
}

#[test]
fn descriptions_stay_short() {
    let long = "ä".repeat(10_000);
    let text = describe_labels(&[label("__name__", "up"), label(&long, &long), label("z", "1")].concat());
    assert!(text.starts_with("{__name__=\"up\", ä") && text.ends_with("…}"), "{text}");
    assert!(text.len() < 220, "{}", text.len());
    assert!(describe_labels(&field(1, b"").repeat(100_000)).len() < 220);
    assert_eq!(describe_labels(&[label("a", "1"), label("b", "\n")].concat()), r#"{a="1", b="\n"}"#);
    assert_eq!(describe_labels(b"\xff\xff"), "{}");
}
