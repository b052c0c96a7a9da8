use super::*;
use crate::model::{ErrorKind, LabelError, STALE_MARKER_BITS};

fn symbols(list: &[&[u8]]) -> Vec<u8> {
    list.iter().flat_map(|symbol| field(4, symbol)).collect()
}

#[test]
fn content_types_name_the_protocol() {
    for (text, expected) in [
        ("", Protocol::V1),
        ("application/x-protobuf", Protocol::V1),
        ("Application/X-Protobuf; charset=utf-8", Protocol::V1),
        ("application/x-protobuf;proto=prometheus.WriteRequest", Protocol::V1),
        ("application/x-protobuf;proto=io.prometheus.write.v2.Request", Protocol::V2),
        ("application/x-protobuf ; proto=\"io.prometheus.write.v2.Request\"", Protocol::V2),
    ] {
        assert_eq!(Protocol::from_content_type(text).unwrap(), expected, "{text}");
        assert_eq!(Protocol::from_content_type(expected.content_type()).unwrap(), expected);
    }
    let long = "x".repeat(100_000);
    for text in [
        "application/json",
        "text/plain",
        "application/x-protobuf;proto=io.prometheus.write.v3.Request",
        &long,
    ] {
        let refused = Protocol::from_content_type(text).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        assert!(refused.to_string().len() < 500);
    }
}

#[test]
fn canonical_labels_are_handed_on_as_they_stand_in_the_body() {
    let set = labels(&[("__name__", "up"), ("job", "node"), ("zone", "é")]);
    let samples = [Sample::new(5, 1.0)];
    let body = encode_request(Protocol::V1, &[SeriesToSend { labels: &set, samples: &samples }]);
    let mut visits = 0;
    walk(Protocol::V1, &body, &LIMITS, |part| {
        let Part::Series(WrittenSeries { labels: SentLabels::Encoded(labels), .. }) = part else { panic!() };
        assert_eq!(labels, set.as_bytes());
        assert!(body.as_ptr_range().contains(&labels.as_ptr()), "borrowed");
        visits += 1;
    })
    .unwrap();
    let body = encode_request(Protocol::V2, &[SeriesToSend { labels: &set, samples: &samples }]);
    walk(Protocol::V2, &body, &LIMITS, |part| {
        let Part::Series(WrittenSeries { labels: SentLabels::Symbols(labels), .. }) = part else { panic!() };
        let texts = labels.references().iter().map(|reference| labels.symbol(*reference).unwrap());
        assert!(texts.eq(set.iter().flat_map(|(name, value)| [name, value])), "in the order of the set");
        visits += 1;
    })
    .unwrap();
    assert_eq!(visits, 2);
}

#[test]
fn an_empty_body_and_a_metadata_only_request_are_fine() {
    assert_eq!(read(Protocol::V1, b"").unwrap().1, Totals::default());
    assert_eq!(read(Protocol::V2, b"").unwrap().1, Totals::default());
    let seen = read_all(Protocol::V1, &field(3, &field(2, b"up")).repeat(3)).unwrap();
    assert!(seen.series.is_empty());
    assert_eq!(seen.totals, Totals { metadata: 3, ..Totals::default() });
}

#[test]
fn absent_fields_are_zero_and_the_last_of_a_double_field_stays() {
    let twice = [&[0x10, 1, 0x10, 2], [0x10, 3].as_slice()].concat();
    let body = field(1, &[label("a", "1"), field(2, b""), field(2, &twice)].concat());
    let (seen, _) = read(Protocol::V1, &body).unwrap();
    assert_eq!(seen[0].samples, [Sample::new(0, 0.0), Sample::new(3, 0.0)]);

    let renamed = field(1, &[field(1, b"x"), field(2, b"1"), field(1, b"b")].concat());
    let (seen, _) = read(Protocol::V1, &field(1, &[renamed, sample(1)].concat())).unwrap();
    assert_eq!(seen[0].labels, Ok(labels(&[("b", "1")])));
}

#[test]
fn stale_markers_keep_every_bit() {
    let value = [[0x09].as_slice(), &STALE_MARKER_BITS.to_le_bytes()].concat();
    let (seen, _) = read(Protocol::V1, &field(1, &[label("a", "1"), field(2, &value)].concat())).unwrap();
    assert!(crate::model::is_stale(seen[0].samples[0].value));
}

#[test]
fn a_series_without_samples_is_nothing_in_1_0_and_refused_in_2_0() {
    let (seen, _) = read(Protocol::V1, &field(1, &label("a", "1"))).unwrap();
    assert_eq!((seen[0].labels.is_ok(), seen[0].samples.len()), (true, 0));

    let table = symbols(&[b"", b"a", b"1"]);
    let bare = [table.clone(), field(5, &field(1, &[1, 2]))].concat();
    assert_eq!(read(Protocol::V2, &bare).unwrap().0[0].labels, Err(SeriesError::NoSamples));
    for number in [3, 4] {
        let other = [table.clone(), field(5, &[field(1, &[1, 2]), field(number, b"")].concat())].concat();
        assert_eq!(read(Protocol::V2, &other).unwrap().0[0].labels, Ok(labels(&[("a", "1")])));
    }
}

#[test]
fn the_created_timestamp_stands_for_absent_starts_only() {
    let table = symbols(&[b"", b"a", b"1"]);
    let own_start = field(2, &[0x10, 9, 0x18, 7]);
    let series = field(5, &[field(1, &[1, 2]), field(2, &[0x10, 8]), own_start, vec![0x30, 3]].concat());
    let (seen, _) = read(Protocol::V2, &[table, series].concat()).unwrap();
    let expected =
        [Sample { start_ms: 3, ..Sample::new(8, 0.0) }, Sample { start_ms: 7, ..Sample::new(9, 0.0) }];
    assert_eq!(seen[0].samples, expected);
}

#[test]
fn bad_references_refuse_the_request() {
    let table = symbols(&[b"", b"a", b"1"]);
    for (refs, what) in [
        (vec![1, 3], "does not have"),
        (vec![1, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F], "does not have"),
        (vec![1, 2, 1], "pairs"),
        (vec![1, 0x80], "cut off"),
    ] {
        let body = [table.clone(), field(5, &[field(1, &refs), sample(1)].concat())].concat();
        let said = malformed(Protocol::V2, &body);
        assert!(said.contains(what), "{said}");
    }
    assert!(malformed(Protocol::V2, &symbols(&[b"a"])).contains("symbol 0"));
}

#[test]
fn a_symbol_that_is_not_utf8_refuses_only_the_series_that_use_it() {
    let table = symbols(&[b"", b"a", b"1", b"\xff"]);
    let series = |refs: &[u8]| field(5, &[field(1, refs), sample(1)].concat());
    let body = [table, series(&[1, 3]), series(&[3, 1]), series(&[1, 2])].concat();
    let (seen, totals) = read(Protocol::V2, &body).unwrap();
    assert_eq!(seen[0].labels, Err(SeriesError::NotUtf8));
    assert_eq!(seen[1].labels, Err(SeriesError::NotUtf8));
    assert_eq!(seen[2].labels, Ok(labels(&[("a", "1")])));
    assert_eq!(totals.samples, 3);
}

#[test]
fn labels_are_sorted_and_bad_ones_refused() {
    let refused = |bytes: Vec<u8>| canonical_labels(&bytes, &LIMITS).unwrap_err();
    let sorted = canonical_labels(&[label("b", "2"), label("c", ""), label("a", "1")].concat(), &LIMITS);
    assert_eq!(sorted, Ok(labels(&[("a", "1"), ("b", "2")])));
    assert_eq!(refused(Vec::new()), LabelError::EmptySet.into());
    assert_eq!(refused(label("a", "")), LabelError::EmptySet.into());
    assert_eq!(refused(label("", "1")), LabelError::EmptyName.into());
    assert_eq!(refused(label("a", "1").repeat(2)), LabelError::Duplicate("a".to_owned()).into());
    assert_eq!(
        refused([label("a", "1"), label("a", "")].concat()),
        LabelError::Duplicate("a".to_owned()).into()
    );
    assert_eq!(refused(field(1, &field(1, b"\xff"))), SeriesError::NotUtf8);
    assert!(matches!(refused(vec![0x0A, 5, 0x0A]), SeriesError::Labels(LabelError::Malformed(_))));
    assert!(matches!(refused(field(1, &[0x08, 1])), SeriesError::Labels(LabelError::Malformed(_))));
    assert!(matches!(refused(field(2, b"")), SeriesError::Labels(LabelError::Malformed(_))));
}

#[test]
fn limits_hold_to_the_byte_in_both_protocols() {
    let limits = Limits { labels_max: 2, name_bytes_max: 3, value_bytes_max: 4 };
    let cases = [
        (vec![("a", "1"), ("b", "2")], None),
        (vec![("a", "1"), ("b", "2"), ("c", "")], None),
        (vec![("a", "1"), ("b", "2"), ("c", "3")], Some("more than 2 labels")),
        (vec![("abc", "1234")], None),
        (vec![("abcd", "1")], Some("label name \"abcd\" has 4 bytes and 3 are allowed")),
        (vec![("a", "12345")], Some("the value of label \"a\" has 5 bytes and 4 are allowed")),
    ];
    for (pairs, expected) in cases {
        let sent: Vec<u8> = pairs.iter().flat_map(|(name, value)| label(name, value)).collect();
        let alone = canonical_labels(&sent, &limits).err();
        let mut body = symbols(&[b""]);
        pairs.iter().for_each(|(name, value)| body.extend(symbols(&[name.as_bytes(), value.as_bytes()])));
        let refs: Vec<u8> = (1..=2 * pairs.len() as u8).collect();
        body.extend(field(5, &[field(1, &refs), sample(1)].concat()));
        let mut assembled = None;
        walk(Protocol::V2, &body, &limits, |part| {
            let Part::Series(one) = part else { panic!() };
            assert!(one.labels.describe().starts_with('{') && one.samples.len() == 1);
            assembled = one.labels.canonical(&limits).err();
        })
        .unwrap();
        assert_eq!(alone, assembled);
        assert_eq!(alone.is_some(), expected.is_some());
        if let (Some(said), Some(expected)) = (alone, expected) {
            assert!(said.to_string().contains(expected), "{said}");
        }
    }
}

#[test]
fn a_body_of_the_other_protocol_is_refused_and_not_read_as_nothing() {
    let set = labels(&[("a", "1")]);
    let series = [SeriesToSend { labels: &set, samples: &[Sample::new(1, 1.0)] }];
    for (written, announced) in [(Protocol::V1, Protocol::V2), (Protocol::V2, Protocol::V1)] {
        let said = malformed(announced, &encode_request(written, &series));
        assert!(said.contains("Content-Type"), "{said}");
    }
}

#[test]
fn wrong_wire_types_and_broken_numbers_are_malformed() {
    let in_series = |bytes: &[u8]| field(1, bytes);
    for (body, what) in [
        (vec![0x08, 1], "wire type"),
        (vec![0x18, 1], "wire type"),
        (in_series(&[0x08, 1]), "wire type"),
        (in_series(&[0x15, 0, 0, 0, 0]), "wire type"),
        (in_series(&field(2, &[0x08, 1])), "wire type"),
        (in_series(&field(2, &[0x11, 0, 0, 0, 0, 0, 0, 0, 0])), "wire type"),
        (in_series(&field(2, &[0x09, 0, 0])), "cut off"),
        (in_series(&field(2, &[0x10])), "cut off"),
        (in_series(&field(2, &[&[0x10], [0xFF; 10].as_slice()].concat())), "ten bytes"),
        (in_series(&field(2, &[&[0x10], [0xFF; 9].as_slice(), &[2]].concat())), "64 bits"),
        (vec![0x00, 1], "number 0"),
        (vec![0x0A, 5, 0], "longer than what holds it"),
        (vec![0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], "longer than what holds it"),
        (vec![0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], "field number"),
        (vec![0x4D, 0, 0], "cut off"),
        (vec![0x49, 0, 0], "cut off"),
        (vec![0x4E], "group"),
    ] {
        let said = malformed(Protocol::V1, &body);
        assert!(said.contains(what), "{body:02x?}: {said}");
    }
    let unknown =
        [vec![0x48, 1], vec![0x49, 0, 0, 0, 0, 0, 0, 0, 0], vec![0x4D, 0, 0, 0, 0], field(9, b"x")].concat();
    assert_eq!(read(Protocol::V1, &unknown).unwrap().1, Totals::default());
}

#[test]
fn places_of_damage_are_places_in_the_request() {
    let good = field(1, &[label("a", "1"), sample(1)].concat());
    let body = [good.clone(), field(1, &field(2, &[0x00]))].concat();
    let Err(WireError::Malformed(found)) = read(Protocol::V1, &body) else { panic!("not refused") };
    assert_eq!(found.at, body.len());
}
