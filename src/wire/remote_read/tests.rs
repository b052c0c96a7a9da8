use prost::Message as _;

use super::*;
use crate::model::{ErrorKind, MatchKind};
use crate::model::{FloatHistogram, Histogram, HistogramSample, NativeHistogram, Span};
use crate::wire::ChunkKind;
use crate::wire::fuzz_read::fuzz_remote_read;

fn matcher(kind: i32, name: &str, value: &str) -> messages::LabelMatcher {
    messages::LabelMatcher { r#type: kind, name: name.to_owned(), value: value.to_owned() }
}

fn request() -> messages::ReadRequest {
    let query = messages::Query {
        start_timestamp_ms: -5,
        end_timestamp_ms: 1_000,
        matchers: vec![matcher(0, "__name__", "up"), matcher(3, "job", "a|b.*")],
        hints: Some(messages::ReadHints {
            step_ms: 15_000,
            func: "rate".to_owned(),
            grouping: vec!["job".to_owned()],
            ..Default::default()
        }),
    };
    messages::ReadRequest {
        queries: vec![query, messages::Query::default()],
        accepted_response_types: vec![1, 0],
    }
}

#[test]
fn a_request_becomes_matchers_and_a_half_open_range() {
    let body = request().encode_to_vec();
    fuzz_remote_read(&body);
    let read = decode_request(&body).unwrap();
    assert_eq!(read.response_type, ResponseType::StreamedXorChunks);
    assert_eq!(read.queries.len(), 2);
    assert_eq!(read.queries[0].range, TimeRange { start_ms: -5, end_ms: 1_001 });
    assert_eq!(read.queries[0].matchers[1].kind(), MatchKind::NotRegex);
    assert!(!read.queries[0].matchers[1].matches("bc") && read.queries[0].matchers[1].matches("c"));
    assert!(!read.queries[0].labels_only);
    assert!(read.queries[1].matchers.is_empty());
}

#[test]
fn a_client_that_lists_series_is_known_by_its_hint() {
    let mut body = request();
    body.queries[0].hints.as_mut().unwrap().func = "series".to_owned();
    assert!(decode_request(&body.encode_to_vec()).unwrap().queries[0].labels_only);
}

#[test]
fn the_first_accepted_response_type_that_exists_is_taken() {
    let negotiate = |accepted: &[i32]| {
        let body = messages::ReadRequest { accepted_response_types: accepted.to_vec(), ..request() };
        decode_request(&body.encode_to_vec()).map(|r| r.response_type)
    };
    assert_eq!(negotiate(&[]).unwrap(), ResponseType::Samples);
    assert_eq!(negotiate(&[0, 1]).unwrap(), ResponseType::Samples);
    assert_eq!(negotiate(&[7, 1, 0]).unwrap(), ResponseType::StreamedXorChunks);
    assert_eq!(negotiate(&[7, -1]).unwrap_err().kind(), ErrorKind::Unsupported);
    // Unpacked, as a proto2 client would send them.
    let read = decode_request(&[0x10, 0x07, 0x10, 0x01]).unwrap();
    assert_eq!(read.response_type, ResponseType::StreamedXorChunks);
}

#[test]
fn bad_requests_are_refused() {
    let with = |matchers| messages::ReadRequest {
        queries: vec![messages::Query { matchers, ..Default::default() }],
        accepted_response_types: vec![],
    };
    let kind = |request: messages::ReadRequest| decode_request(&request.encode_to_vec()).unwrap_err().kind();
    assert_eq!(kind(with(vec![matcher(2, "a", "(")])), ErrorKind::Invalid);
    assert_eq!(kind(with(vec![matcher(4, "a", "b")])), ErrorKind::Invalid);
    assert_eq!(kind(with(vec![matcher(0, "a", "b"); MATCHERS_MAX + 1])), ErrorKind::TooLarge);
    let queries = vec![messages::Query::default(); QUERIES_MAX + 1];
    assert_eq!(kind(messages::ReadRequest { queries, ..Default::default() }), ErrorKind::TooLarge);
    assert_eq!(decode_request(&vec![0; REQUEST_BYTES_MAX + 1]).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(decode_request(&[0x12, 0x7F]).unwrap_err().kind(), ErrorKind::Invalid);
    let packed_types = [&[0x12, 100][..], &[0; 100]].concat();
    assert_eq!(decode_request(&packed_types).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn damaged_requests_never_panic() {
    let body = request().encode_to_vec();
    for at in 0..body.len() {
        fuzz_remote_read(&body[..at]);
        for bit in 0..8 {
            let mut body = body.clone();
            body[at] ^= 1 << bit;
            fuzz_remote_read(&body);
        }
    }
}

#[test]
fn samples_answers_decode_to_what_was_put_in() {
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "node")]).unwrap();
    let values = [1.5, -0.0, 0.0, f64::from_bits(0x7ff0_0000_0000_0002), f64::INFINITY, f64::NAN];
    let times = [i64::MIN, -1, 0, 1, 1_700_000_000_000, i64::MAX];
    let mut answer = SamplesAnswer::default();
    let samples = times.into_iter().zip(values).map(|(ts_ms, value)| Sample::new(ts_ms, value));
    let data = SeriesData { samples: samples.collect(), histograms: histograms() };
    answer.push_series(&labels, std::slice::from_ref(&data));
    answer.push_series(&Labels::empty(), &[]);
    answer.end_query();
    answer.end_query();
    let read = messages::ReadResponse::decode(answer.finish().as_slice()).unwrap();
    assert_eq!(read.results.len(), 2);
    assert!(read.results[1].timeseries.is_empty());
    let series = &read.results[0].timeseries;
    assert_eq!(series.len(), 2);
    assert!(series[1].samples.is_empty());
    let names: Vec<_> = series[0].labels.iter().map(|l| (l.name.as_str(), l.value.as_str())).collect();
    assert_eq!(names, labels.iter().collect::<Vec<_>>());
    let samples: Vec<_> = series[0].samples.iter().map(|s| (s.timestamp, s.value.to_bits())).collect();
    assert_eq!(samples, times.into_iter().zip(values.map(f64::to_bits)).collect::<Vec<_>>());
    let read: Vec<_> = series[0].histograms.iter().map(from_message).collect();
    assert_eq!(read, data.histograms);
}

/// One of each kind, every field in use.
fn histograms() -> Vec<HistogramSample> {
    let whole = Histogram {
        counter_reset_hint: 3,
        schema: -4,
        zero_threshold: -0.0,
        zero_count: u64::MAX,
        count: u64::MAX - 1,
        sum: -0.0,
        positive_spans: vec![Span { offset: -3, length: 2 }, Span { offset: 7, length: 1 }],
        negative_spans: vec![Span { offset: i32::MIN, length: 1 }],
        positive_buckets: vec![1, -1, i64::MAX],
        negative_buckets: vec![i64::MIN],
        custom_values: vec![],
    };
    let fractional = FloatHistogram {
        counter_reset_hint: 1,
        schema: -53,
        zero_threshold: 0.0,
        zero_count: 0.0,
        count: 1.5,
        sum: f64::from_bits(0x7ff8_0000_dead_beef),
        positive_spans: vec![Span { offset: 0, length: 2 }],
        negative_spans: vec![],
        positive_buckets: vec![0.25, 1.25],
        negative_buckets: vec![],
        custom_values: vec![0.1, f64::INFINITY],
    };
    let sample = |ts_ms, histogram| HistogramSample { ts_ms, start_ms: 0, histogram };
    vec![
        sample(-7, NativeHistogram::Int(Box::new(whole))),
        sample(5, NativeHistogram::Float(Box::new(fractional))),
    ]
}

fn from_message(message: &messages::Histogram) -> HistogramSample {
    use messages::histogram::{Count, ZeroCount};
    let spans = |spans: &[messages::BucketSpan]| -> Vec<Span> {
        spans.iter().map(|s| Span { offset: s.offset, length: s.length }).collect()
    };
    let histogram = match (message.count.unwrap(), message.zero_count.unwrap()) {
        (Count::CountInt(count), ZeroCount::ZeroCountInt(zero_count)) => {
            NativeHistogram::Int(Box::new(Histogram {
                counter_reset_hint: message.reset_hint as u8,
                schema: message.schema,
                zero_threshold: message.zero_threshold,
                zero_count,
                count,
                sum: message.sum,
                positive_spans: spans(&message.positive_spans),
                negative_spans: spans(&message.negative_spans),
                positive_buckets: message.positive_deltas.clone(),
                negative_buckets: message.negative_deltas.clone(),
                custom_values: message.custom_values.clone(),
            }))
        }
        (Count::CountFloat(count), ZeroCount::ZeroCountFloat(zero_count)) => {
            NativeHistogram::Float(Box::new(FloatHistogram {
                counter_reset_hint: message.reset_hint as u8,
                schema: message.schema,
                zero_threshold: message.zero_threshold,
                zero_count,
                count,
                sum: message.sum,
                positive_spans: spans(&message.positive_spans),
                negative_spans: spans(&message.negative_spans),
                positive_buckets: message.positive_counts.clone(),
                negative_buckets: message.negative_counts.clone(),
                custom_values: message.custom_values.clone(),
            }))
        }
        other => panic!("counts of two kinds: {other:?}"),
    };
    HistogramSample { ts_ms: message.timestamp, start_ms: 0, histogram }
}

fn read_frames(mut bytes: &[u8]) -> Vec<messages::ChunkedReadResponse> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let len = prost::encoding::decode_varint(&mut bytes).unwrap() as usize;
        let (sum, rest) = bytes.split_first_chunk::<4>().unwrap();
        let (message, rest) = rest.split_at(len);
        assert_eq!(u32::from_be_bytes(*sum), crc32c::crc32c(message));
        frames.push(messages::ChunkedReadResponse::decode(message).unwrap());
        bytes = rest;
    }
    frames
}

#[test]
fn a_streamed_series_is_split_over_frames_with_its_labels_in_each() {
    let labels = Labels::from_pairs([("__name__", "up")]).unwrap();
    let data: Vec<Vec<u8>> = (0..30u8).map(|i| vec![i; 100_000]).collect();
    let kinds = [ChunkKind::Xor, ChunkKind::Histogram, ChunkKind::FloatHistogram];
    let chunks = data.iter().enumerate().map(|(i, data)| WireChunk {
        kind: kinds[i % 3],
        min_time_ms: i as i64 * 10 - 100,
        max_time_ms: i as i64 * 10 - 91,
        data,
    });
    let mut out = Vec::new();
    encode_frames(3, &labels, chunks.clone(), &mut out);
    let frames = read_frames(&out);
    assert_eq!(frames.len(), 3);
    let mut read = Vec::new();
    for frame in &frames {
        assert!(frame.encoded_len() < FRAME_BYTES_MAX + 110_000);
        assert_eq!(frame.query_index, 3);
        assert_eq!(frame.chunked_series.len(), 1);
        assert_eq!(frame.chunked_series[0].labels[0].value, "up");
        for chunk in &frame.chunked_series[0].chunks {
            let kind = kinds[chunk.r#type as usize - 1];
            let (min_time_ms, max_time_ms) = (chunk.min_time_ms, chunk.max_time_ms);
            read.push(WireChunk { kind, min_time_ms, max_time_ms, data: &chunk.data });
        }
    }
    assert_eq!(read, chunks.collect::<Vec<_>>());

    out.clear();
    encode_frames(0, &labels, std::iter::empty(), &mut out);
    assert!(out.is_empty());
}
