use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::messages::*;
use super::*;

/// A series as it is made up: pairs that may be double, empty or unsorted.
#[derive(Debug, Clone)]
struct Made {
    pairs: Vec<(String, String)>,
    samples: Vec<Sample>,
    created_ms: i64,
    histograms: usize,
    exemplars: usize,
}

impl Made {
    /// What has to come out, by the rules of the model.
    fn labels(&self) -> Result<Labels, SeriesError> {
        let labels = Labels::from_pairs(self.pairs.clone())?;
        if labels.is_empty() { Err(crate::model::LabelError::EmptySet.into()) } else { Ok(labels) }
    }

    fn wire_samples(&self) -> Vec<WireSample> {
        let wire =
            |s: &Sample| WireSample { value: Some(s.value), timestamp: s.ts_ms, start_timestamp: s.start_ms };
        self.samples.iter().map(wire).collect()
    }
}

fn opaque(count: usize) -> Vec<Opaque> {
    vec![Opaque { text: "x".repeat(count), number: -1 }; count]
}

fn text() -> impl Strategy<Value = String> {
    // Short names meet often, so that double and empty ones are common; the rest is any UTF-8.
    prop_oneof!["[ab]{0,2}", "\\PC{0,12}", Just("__name__".to_owned()), "[a-z]{120,140}"]
}

fn made_sample() -> impl Strategy<Value = Sample> {
    let value = prop_oneof![
        any::<u64>(),
        Just(crate::model::STALE_MARKER_BITS),
        Just((-0.0f64).to_bits()),
        Just(0),
        (1u64..1 << 51).prop_map(|payload| 0x7FF0_0000_0000_0000 | payload),
    ];
    let time = prop_oneof![any::<i64>(), Just(0), 1_700_000_000_000i64..1_800_000_000_000];
    (time.clone(), value, prop_oneof![Just(0), time]).prop_map(|(ts_ms, bits, start_ms)| Sample {
        ts_ms,
        value: f64::from_bits(bits),
        start_ms,
    })
}

fn made() -> impl Strategy<Value = Made> {
    let created = prop_oneof![Just(0), any::<i64>()];
    (vec((text(), text()), 0..6), vec(made_sample(), 0..5), created, 0usize..3, 0usize..3).prop_map(
        |(pairs, samples, created_ms, histograms, exemplars)| Made {
            pairs,
            samples,
            created_ms,
            histograms,
            exemplars,
        },
    )
}

fn v1_body(series: &[Made], metadata: usize) -> Vec<u8> {
    let pair = |(name, value): &(String, String)| Label { name: name.clone(), value: value.clone() };
    let timeseries = series.iter().map(|made| TimeSeries {
        labels: made.pairs.iter().map(pair).collect(),
        samples: made.wire_samples(),
        exemplars: opaque(made.exemplars),
        histograms: opaque(made.histograms),
    });
    WriteRequest { timeseries: timeseries.collect(), metadata: opaque(metadata) }.encode_to_vec()
}

fn v2_request(series: &[Made]) -> RequestV2 {
    let mut request = RequestV2 { symbols: vec![String::new()], timeseries: Vec::new() };
    for made in series {
        let mut labels_refs = Vec::new();
        for symbol in made.pairs.iter().flat_map(|(name, value)| [name, value]) {
            labels_refs.push(request.symbols.len() as u32);
            request.symbols.push(symbol.clone());
        }
        request.timeseries.push(TimeSeriesV2 {
            labels_refs,
            samples: made.wire_samples(),
            histograms: opaque(made.histograms),
            exemplars: opaque(made.exemplars),
            metadata: (made.created_ms % 2 == 0).then_some(Metadata { kind: 1, help_ref: 0 }),
            created_timestamp: made.created_ms,
        });
    }
    request
}

fn expected_v1(made: &Made) -> Seen {
    Seen {
        labels: made.labels(),
        samples: made.samples.iter().map(|s| Sample { start_ms: 0, ..*s }).collect(),
        counts: [made.histograms as u64, made.exemplars as u64, 0],
    }
}

fn expected_v2(made: &Made) -> Seen {
    if made.samples.is_empty() && made.histograms + made.exemplars == 0 {
        return Seen { labels: Err(SeriesError::NoSamples), samples: Vec::new(), counts: [0; 3] };
    }
    let start_ms = |s: &Sample| if s.start_ms == 0 { made.created_ms } else { s.start_ms };
    Seen {
        labels: made.labels(),
        samples: made.samples.iter().map(|s| Sample { start_ms: start_ms(s), ..*s }).collect(),
        counts: [made.histograms as u64, made.exemplars as u64, u64::from(made.created_ms % 2 == 0)],
    }
}

proptest! {
    #[test]
    fn a_1_0_request_comes_out_as_another_implementation_wrote_it(
        series in vec(made(), 0..8),
        metadata in 0usize..3,
    ) {
        let (seen, totals) = read(Protocol::V1, &v1_body(&series, metadata)).unwrap();
        prop_assert_eq!(&seen, &series.iter().map(expected_v1).collect::<Vec<_>>());
        prop_assert_eq!(totals.metadata, metadata as u64);
        prop_assert_eq!(totals.samples, series.iter().map(|s| s.samples.len() as u64).sum::<u64>());
    }

    #[test]
    fn a_2_0_request_comes_out_as_another_implementation_wrote_it(series in vec(made(), 0..8)) {
        let (seen, totals) = read(Protocol::V2, &v2_request(&series).encode_to_vec()).unwrap();
        prop_assert_eq!(&seen, &series.iter().map(expected_v2).collect::<Vec<_>>());
        prop_assert_eq!(totals.series, series.len() as u64);
    }

    #[test]
    fn fields_may_come_in_any_order(
        made in made(),
        order in Just((0usize..40).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut fields: Vec<Vec<u8>> = made.pairs.iter().map(|(name, value)| {
            // The value before the name, too.
            field(1, &[field(2, value.as_bytes()), field(1, name.as_bytes())].concat())
        }).collect();
        for mut sample in made.wire_samples() {
            sample.start_timestamp = 0;
            fields.push(field(2, &sample.encode_to_vec()));
        }
        fields.extend(std::iter::repeat_n(field(3, b""), made.exemplars));
        fields.extend(std::iter::repeat_n(field(4, b""), made.histograms));
        fields.push(field(1000, b"unknown"));
        let shuffled: Vec<u8> = order.iter().filter_map(|i| fields.get(*i)).flatten().copied().collect();
        let body = field(1, &shuffled);
        let (mut seen, _) = read(Protocol::V1, &body).unwrap();
        let mut expected = expected_v1(&made);
        let key = |s: &Sample| (s.ts_ms, s.value.to_bits());
        seen[0].samples.sort_by_key(key);
        expected.samples.sort_by_key(key);
        // Which of two bad labels is named depends on the order.
        if expected.labels.is_err() {
            prop_assert!(seen[0].labels.is_err());
            expected.labels = seen[0].labels.clone();
        }
        prop_assert_eq!(&seen[0], &expected);
    }

    #[test]
    fn symbols_behind_the_series_and_unpacked_references_are_read(series in vec(made(), 1..5)) {
        let request = v2_request(&series);
        let mut body = Vec::new();
        for one in &request.timeseries {
            let refs = UnpackedReferences { labels_refs: one.labels_refs.clone() }.encode_to_vec();
            let rest = TimeSeriesV2 { labels_refs: Vec::new(), ..one.clone() }.encode_to_vec();
            body.extend(field(5, &[rest, refs].concat()));
        }
        body.extend(RequestV2 { timeseries: Vec::new(), ..request }.encode_to_vec());
        let (seen, _) = read(Protocol::V2, &body).unwrap();
        prop_assert_eq!(&seen, &series.iter().map(expected_v2).collect::<Vec<_>>());
    }

    #[test]
    fn requests_written_here_are_read_by_another_implementation(series in vec(made(), 0..6)) {
        let good: Vec<(Labels, Vec<Sample>)> =
            series.iter().filter_map(|s| Some((s.labels().ok()?, s.samples.clone()))).collect();
        let to_send: Vec<_> = good.iter().map(|(labels, samples)| SeriesToSend { labels, samples }).collect();
        let v1 = WriteRequest::decode(encode_request(Protocol::V1, &to_send).as_slice()).unwrap();
        let v2 = RequestV2::decode(encode_request(Protocol::V2, &to_send).as_slice()).unwrap();
        for (i, (labels, samples)) in good.iter().enumerate() {
            let sent = v1.timeseries[i].labels.iter().map(|l| (l.name.as_str(), l.value.as_str()));
            prop_assert!(sent.eq(labels.iter()));
            let symbol = |i: u32| v2.symbols[i as usize].as_str();
            let sent = v2.timeseries[i].labels_refs.chunks(2).map(|pair| (symbol(pair[0]), symbol(pair[1])));
            prop_assert!(sent.eq(labels.iter()));
            let read = |s: &WireSample| Sample {
                ts_ms: s.timestamp, value: s.value.unwrap_or_default(), start_ms: s.start_timestamp,
            };
            prop_assert_eq!(v2.timeseries[i].samples.iter().map(read).collect::<Vec<_>>(), samples.clone());
        }
    }

    #[test]
    fn damaged_requests_never_break_a_promise(
        series in vec(made(), 0..4),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        for mut body in [v1_body(&series, 1), v2_request(&series).encode_to_vec()] {
            crate::wire::fuzz::fuzz_remote_write(&body);
            for (at, byte) in damage.iter().filter(|_| !series.is_empty()) {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            crate::wire::fuzz::fuzz_remote_write(&body);
            body.truncate(cut.index(body.len() + 1));
            crate::wire::fuzz::fuzz_remote_write(&body);
            crate::wire::fuzz::fuzz_snappy(&body);
            crate::wire::fuzz::fuzz_snappy(&crate::wire::snappy::encode(&body).unwrap());
        }
    }

    #[test]
    fn any_bytes_at_all_never_break_a_promise(bytes in vec(any::<u8>(), 0..200)) {
        crate::wire::fuzz::fuzz_remote_write(&bytes);
        crate::wire::fuzz::fuzz_snappy(&bytes);
    }
}
