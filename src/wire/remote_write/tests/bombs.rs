use super::*;
use crate::model::{ErrorKind, HistogramError};

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
        assert_eq!(seen[0].samples.len(), 1, "its sample is told");
        assert_eq!(seen[1].labels, Ok(labels(&[("a", "1")])));
    }
}

const UNFOLDED: &str = "bytes behind references to symbols";

/// Walks a body of 2.0 that must be refused, building each label set and keeping none.
fn read_unkept(body: &[u8]) -> WireError {
    let canonical = |part: Part<'_>| {
        if let Part::Series(one) = part {
            let _ = one.labels.canonical(&LIMITS);
        }
    };
    walk(Protocol::V2, body, &LIMITS, canonical).unwrap_err()
}

#[test]
fn references_that_unfold_to_gibibytes_are_refused() {
    let symbols = [field(4, b""), field(4, &[b'n'; 1 << 10]), field(4, &[b'v'; 2 << 10])].concat();
    let one = field(5, &[field(1, &[1, 2].repeat(64)), sample(1)].concat());
    let refused = read_unkept(&[symbols, one.repeat(100_000)].concat());
    assert!(matches!(refused, WireError::TooMany { what: UNFOLDED, .. }), "{refused}");
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

/// A histogram message behind a label.
fn with_histogram(protocol: Protocol, message: &[u8]) -> Vec<u8> {
    match protocol {
        Protocol::V1 => field(1, &[label("a", "1"), field(4, message)].concat()),
        Protocol::V2 => [field(4, b""), field(5, &field(3, message))].concat(),
    }
}

#[test]
fn more_buckets_spans_or_bounds_than_a_request_may_have_are_refused() {
    let millions = 5_000_000;
    let packed = |number: u32, element: &[u8]| field(number, &element.repeat(millions));
    let float = 1.0f64.to_le_bytes();
    for message in [
        packed(9, &[0]),
        packed(12, &[0]),
        packed(10, &float),
        packed(13, &float),
        packed(16, &float),
        field(8, b"").repeat(millions),
        field(11, b"").repeat(millions),
        [0x60, 0].repeat(millions),
    ] {
        for protocol in [Protocol::V1, Protocol::V2] {
            let refused = read(protocol, &with_histogram(protocol, &message)).unwrap_err();
            assert!(matches!(refused, WireError::TooMany { what: "histogram buckets", .. }), "{refused}");
        }
    }
}

#[test]
fn a_histogram_with_a_hundred_thousand_buckets_is_refused_alone() {
    let message = field(12, &[0].repeat(100_000));
    let (seen, _) = read(Protocol::V1, &with_histogram(Protocol::V1, &message)).unwrap();
    let refused = seen[0].refused.as_ref().unwrap();
    assert_eq!(refused.histograms, 1);
    assert!(refused.first.to_string().contains("100000 counts"), "{}", refused.first);
}

#[test]
fn spans_that_claim_billions_of_buckets_are_refused_alone() {
    let span = field(11, &[0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]);
    let (seen, _) = read(Protocol::V1, &with_histogram(Protocol::V1, &span.repeat(3))).unwrap();
    let first = &seen[0].refused.as_ref().unwrap().first;
    assert!(matches!(first, PartError::Histogram(HistogramError::Spans { .. })), "{first}");
}

#[test]
fn millions_of_empty_histograms_exemplars_and_metadata_entries_are_refused() {
    for (protocol, number, field_number, what) in [
        (Protocol::V1, 1, 4, "histograms"),
        (Protocol::V2, 5, 3, "histograms"),
        (Protocol::V1, 1, 3, "exemplars"),
        (Protocol::V2, 5, 4, "exemplars"),
    ] {
        let parts = field(field_number, b"").repeat(1_000_000);
        let refused = read(protocol, &field(number, &parts)).unwrap_err();
        assert!(matches!(refused, WireError::TooMany { what: found, .. } if found == what), "{refused}");
    }
    let refused = read(Protocol::V1, &field(3, b"").repeat(1_000_000)).unwrap_err();
    assert!(matches!(refused, WireError::TooMany { what: "metadata entries", .. }), "{refused}");
}

#[test]
fn metadata_and_exemplars_that_unfold_to_gibibytes_are_refused() {
    let mut body = [field(4, b""), field(4, b"__name__"), field(4, &[b'h'; 60 << 10])].concat();
    let mut series = Vec::new();
    for number in 0..10_000u32 {
        body.extend(field(4, format!("family_{number}").as_bytes()));
        let mut refs = vec![1];
        prost::encoding::encode_varint(u64::from(number) + 3, &mut refs);
        series.extend(field(5, &[field(1, &refs), sample(1), field(5, &[0x18, 2])].concat()));
    }
    body.extend(series);
    assert!(matches!(read_unkept(&body), WireError::TooMany { what: UNFOLDED, .. }));

    let symbols = [field(4, b""), field(4, b"a"), field(4, &[b'v'; 2 << 10])].concat();
    let one = field(5, &[field(1, &[1, 1]), field(4, &field(1, &[1, 2]))].concat());
    let refused = read_unkept(&[symbols, one.repeat(200_000)].concat());
    assert!(matches!(refused, WireError::TooMany { what: UNFOLDED, .. }), "{refused}");
}
