use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::messages::*;
use super::*;
use crate::model::tests::made::{any_exemplar, any_histogram, any_metadata};
use crate::model::{Metadata, MetadataEntry};

/// A series as it is made up: pairs that may be double, empty or unsorted.
#[derive(Debug, Clone)]
struct Made {
    pairs: Vec<(String, String)>,
    samples: Vec<Sample>,
    created_ms: i64,
    histograms: Vec<HistogramSample>,
    exemplars: Vec<Exemplar>,
    metadata: Option<Metadata>,
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
    let histograms = vec(any_histogram(any::<i64>()), 0..3);
    let exemplars = vec(any_exemplar(any::<i64>()), 0..3);
    let metadata = proptest::option::of(any_metadata());
    (vec((text(), text()), 0..6), vec(made_sample(), 0..5), created, histograms, exemplars, metadata)
        .prop_map(|(pairs, samples, created_ms, histograms, exemplars, metadata)| Made {
            pairs,
            samples,
            created_ms,
            histograms,
            exemplars,
            metadata,
        })
}

fn any_families() -> impl Strategy<Value = Vec<MetadataEntry>> {
    let entry = ("[a-z]{1,8}", any_metadata());
    vec(entry.prop_map(|(family, metadata)| MetadataEntry { family, since_ms: 0, metadata }), 0..4)
}

fn v1_body(series: &[Made], families: &[MetadataEntry]) -> Vec<u8> {
    let pair = |(name, value): &(String, String)| Label { name: name.clone(), value: value.clone() };
    let exemplar = |e: &Exemplar| WireExemplar {
        labels: e.labels.iter().map(|(n, v)| Label { name: n.to_owned(), value: v.to_owned() }).collect(),
        value: Some(e.value),
        timestamp: e.ts_ms,
    };
    let timeseries = series.iter().map(|made| TimeSeries {
        labels: made.pairs.iter().map(pair).collect(),
        samples: made.wire_samples(),
        exemplars: made.exemplars.iter().map(exemplar).collect(),
        histograms: made.histograms.iter().map(WireHistogram::from).collect(),
    });
    let metadata = families.iter().map(|entry| WireMetadata {
        kind: i32::from(entry.metadata.kind.number()),
        family: entry.family.clone(),
        help: entry.metadata.help.clone(),
        unit: entry.metadata.unit.clone(),
    });
    WriteRequest { timeseries: timeseries.collect(), metadata: metadata.collect() }.encode_to_vec()
}

fn v2_request(series: &[Made]) -> RequestV2 {
    let mut symbols = vec![String::new()];
    let mut place = |text: &str| {
        symbols.push(text.to_owned());
        symbols.len() as u32 - 1
    };
    let timeseries = series.iter().map(|made| TimeSeriesV2 {
        labels_refs: made.pairs.iter().flat_map(|(n, v)| [n, v]).map(|text| place(text)).collect(),
        samples: made.wire_samples(),
        histograms: made.histograms.iter().map(WireHistogram::from).collect(),
        exemplars: made
            .exemplars
            .iter()
            .map(|e| WireExemplarV2 {
                labels_refs: e.labels.iter().flat_map(|(n, v)| [n, v]).map(&mut place).collect(),
                value: Some(e.value),
                timestamp: e.ts_ms,
            })
            .collect(),
        metadata: made.metadata.as_ref().map(|metadata| super::messages::Metadata {
            kind: i32::from(metadata.kind.number()),
            help_ref: if metadata.help.is_empty() { 0 } else { place(&metadata.help) },
            unit_ref: if metadata.unit.is_empty() { 0 } else { place(&metadata.unit) },
        }),
        created_timestamp: made.created_ms,
    });
    let timeseries = timeseries.collect();
    RequestV2 { symbols, timeseries }
}

fn expected_v1(made: &Made) -> Seen {
    Seen {
        samples: made.samples.iter().map(|s| Sample { start_ms: 0, ..*s }).collect(),
        histograms: made.histograms.iter().map(|h| HistogramSample { start_ms: 0, ..h.clone() }).collect(),
        metadata: None,
        ..expected(made)
    }
}

/// What has to come out of a request with start timestamps and metadata in its series.
fn expected(made: &Made) -> Seen {
    let start_ms = |start_ms: i64| if start_ms == 0 { made.created_ms } else { start_ms };
    let samples = made.samples.iter().map(|s| Sample { start_ms: start_ms(s.start_ms), ..*s });
    let histograms = made.histograms.iter();
    let histograms = histograms.map(|h| HistogramSample {
        start_ms: start_ms(h.start_ms),
        histogram: h.histogram.clone(),
        ..*h
    });
    // The last name counts where a label comes twice; such a series is refused for that.
    let name = made.pairs.iter().find(|(name, _)| name == "__name__").map(|(_, value)| value);
    let said = made.metadata.clone().filter(|metadata| *metadata != Metadata::default());
    let ending = |name: &str, metadata: &Metadata| {
        let classic = matches!(metadata.kind.name(), "histogram" | "gaugehistogram" | "summary");
        let cut = name.strip_suffix("_count").or(name.strip_suffix("_sum"));
        let cut = cut.or(name.strip_suffix("_bucket").filter(|_| metadata.kind.name() != "summary"));
        cut.filter(|family| classic && !family.is_empty()).unwrap_or(name).to_owned()
    };
    let metadata = name.zip(said).filter(|(name, _)| !name.is_empty());
    Seen {
        labels: made.labels(),
        samples: samples.collect(),
        histograms: histograms.collect(),
        exemplars: made.exemplars.clone(),
        metadata: metadata.map(|(name, metadata)| MetadataEntry {
            family: ending(name, &metadata),
            since_ms: 0,
            metadata,
        }),
        refused: None,
    }
}

fn expected_v2(made: &Made) -> Seen {
    if made.samples.is_empty() && made.histograms.is_empty() && made.exemplars.is_empty() {
        return Seen::refused(SeriesError::NoSamples);
    }
    let mut seen = expected(made);
    let unnamed =
        made.pairs.iter().find(|(name, _)| name == "__name__").is_some_and(|name| name.1.is_empty());
    if unnamed && made.metadata.as_ref().is_some_and(|metadata| *metadata != Metadata::default()) {
        seen.refused =
            Some(RefusedParts { histograms: 0, exemplars: 0, metadata: 1, first: PartError::NoFamily });
    }
    seen
}

proptest! {
    #[test]
    fn a_1_0_request_comes_out_as_another_implementation_wrote_it(
        series in vec(made(), 0..8),
        families in any_families(),
    ) {
        let series: Vec<Made> = series.into_iter().map(|made| Made { created_ms: 0, ..made }).collect();
        let seen = read_all(Protocol::V1, &v1_body(&series, &families)).unwrap();
        prop_assert_eq!(&seen.series, &series.iter().map(expected_v1).collect::<Vec<_>>());
        prop_assert_eq!(seen.totals.metadata, families.len() as u64);
        prop_assert_eq!(seen.families, families.into_iter().map(Ok).collect::<Vec<_>>());
        prop_assert_eq!(seen.totals.samples, series.iter().map(|s| s.samples.len() as u64).sum::<u64>());
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
        fields.extend(made.histograms.iter().map(|h| field(4, &WireHistogram::from(h).encode_to_vec())));
        fields.push(field(1000, b"unknown"));
        let shuffled: Vec<u8> = order.iter().filter_map(|i| fields.get(*i)).flatten().copied().collect();
        let body = field(1, &shuffled);
        let (mut seen, _) = read(Protocol::V1, &body).unwrap();
        let mut expected = expected_v1(&Made { exemplars: Vec::new(), created_ms: 0, ..made });
        let key = |s: &Sample| (s.ts_ms, s.value.to_bits());
        seen[0].samples.sort_by_key(key);
        expected.samples.sort_by_key(key);
        let key = |h: &HistogramSample| format!("{h:?}");
        seen[0].histograms.sort_by_key(key);
        expected.histograms.sort_by_key(key);
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
        let good: Vec<(Labels, &Made)> =
            series.iter().filter_map(|made| Some((made.labels().ok()?, made))).collect();
        let to_send: Vec<_> = good.iter().map(|(labels, made)| FullSeriesToSend {
            floats: SeriesToSend { labels, samples: &made.samples },
            histograms: &made.histograms,
            exemplars: &made.exemplars,
            metadata: made.metadata.as_ref(),
        }).collect();
        let v1 = encode_full_request(Protocol::V1, &to_send, &[]);
        let v2 = encode_full_request(Protocol::V2, &to_send, &[]);
        let v1 = WriteRequest::decode(v1.as_slice()).unwrap();
        let v2 = RequestV2::decode(v2.as_slice()).unwrap();
        for (i, (labels, made)) in good.iter().enumerate() {
            let sent = v1.timeseries[i].labels.iter().map(|l| (l.name.as_str(), l.value.as_str()));
            prop_assert!(sent.eq(labels.iter()));
            let symbol = |i: u32| v2.symbols[i as usize].as_str();
            let sent = v2.timeseries[i].labels_refs.chunks(2).map(|pair| (symbol(pair[0]), symbol(pair[1])));
            prop_assert!(sent.eq(labels.iter()));
            let read = |s: &WireSample| Sample {
                ts_ms: s.timestamp, value: s.value.unwrap_or_default(), start_ms: s.start_timestamp,
            };
            prop_assert_eq!(v2.timeseries[i].samples.iter().map(read).collect::<Vec<_>>(), made.samples.clone());
            let metadata = v2.timeseries[i].metadata.as_ref();
            let metadata = metadata.map(|m| (m.kind, symbol(m.help_ref), symbol(m.unit_ref)));
            let expected = made.metadata.as_ref();
            let expected = expected.map(|m| (i32::from(m.kind.number()), m.help.as_str(), m.unit.as_str()));
            prop_assert_eq!(metadata, expected);
            let stamps = |h: &WireHistogram| (h.timestamp, h.start_timestamp, h.schema, h.positive_spans.len());
            let expected: Vec<_> = made.histograms.iter().map(WireHistogram::from).collect();
            prop_assert!(v2.timeseries[i].histograms.iter().map(stamps).eq(expected.iter().map(stamps)));
            let times = v1.timeseries[i].exemplars.iter().map(|e| e.timestamp);
            prop_assert!(times.eq(made.exemplars.iter().map(|e| e.ts_ms)));
        }
    }

    #[test]
    fn damaged_requests_never_break_a_promise(
        series in vec(made(), 0..4),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        for mut body in [v1_body(&series, &[]), v2_request(&series).encode_to_vec()] {
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
