use proptest::prelude::*;

use super::*;
use crate::model::STALE_MARKER_BITS;
use crate::model::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Histogram, Span};
use crate::model::{HistogramSample, NativeHistogram, Sample};
use crate::tsdb::bits::{BitReader, BitWriter};

const GOLDEN: &str = include_str!("../../../tests/fixtures/prometheus/block/chunks.v3.14.txt");
const BASE_MS: i64 = 1_700_000_000_000;

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn decode(encoding: Encoding, data: &[u8]) -> Result<Vec<ChunkSample>, ChunkError> {
    decode_chunk(encoding, data).collect()
}

/// The chunk of histograms that the fixture has for a set and an encoding.
fn golden_histograms(set: usize, encoding: Encoding) -> Vec<u8> {
    let start = format!("hist {set} enc {} ", encoding.to_byte());
    from_hex(GOLDEN.lines().find_map(|line| line.strip_prefix(&start)).unwrap())
}

fn span(offset: i32, length: u32) -> Span {
    Span { offset, length }
}

/// The histograms of the fixture, and when they were taken.
fn golden_values(set: usize) -> Vec<(i64, Histogram)> {
    if set == 1 {
        let first = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 6,
            sum: 3.25,
            positive_spans: vec![span(0, 3)],
            positive_buckets: vec![1, 1, 1],
            custom_values: vec![0.005, 1.0 / 3.0, 33_554.43, 1e9],
            ..Histogram::default()
        };
        let second = Histogram { count: 9, sum: 4.25, positive_buckets: vec![2, 1, 1], ..first.clone() };
        return vec![(BASE_MS, first), (BASE_MS + 15_000, second)];
    }
    let first = Histogram {
        schema: 3,
        zero_threshold: 2f64.powi(-128),
        zero_count: 2,
        count: 12,
        sum: 18.4,
        positive_spans: vec![span(-3, 2), span(4, 3)],
        positive_buckets: vec![1, 1, -1, 0, 1],
        negative_spans: vec![span(0, 1)],
        negative_buckets: vec![2],
        ..Histogram::default()
    };
    let (count, sum, zero_count) = (1_012, 9_918.4, 3);
    let positive_buckets = vec![2, 998, -990, 0, 30];
    let second = Histogram { zero_count, count, sum, positive_buckets, ..first.clone() };
    let positive_buckets = vec![2, 999, -991, 0, 30];
    let third = Histogram { count: 1_013, sum: 9_919.5, positive_buckets, ..second.clone() };
    let stale = Histogram { sum: f64::from_bits(STALE_MARKER_BITS), ..Histogram::default() };
    vec![(BASE_MS, first), (BASE_MS + 15_000, second), (BASE_MS + 30_013, third), (BASE_MS + 45_000, stale)]
}

fn to_float(value: &Histogram) -> FloatHistogram {
    let counts = |deltas: &[i64]| {
        let mut count = 0;
        deltas
            .iter()
            .map(|delta| {
                count += delta;
                count as f64
            })
            .collect()
    };
    FloatHistogram {
        counter_reset_hint: value.counter_reset_hint,
        schema: value.schema,
        zero_threshold: value.zero_threshold,
        zero_count: value.zero_count as f64,
        count: value.count as f64,
        sum: value.sum,
        positive_spans: value.positive_spans.clone(),
        negative_spans: value.negative_spans.clone(),
        positive_buckets: counts(&value.positive_buckets),
        negative_buckets: counts(&value.negative_buckets),
        custom_values: value.custom_values.clone(),
    }
}

/// What a chunk says about resets: nothing for the first sample and for stale ones.
fn with_hint(index: usize, value: &Histogram) -> Histogram {
    let is_stale = value.sum.to_bits() == STALE_MARKER_BITS;
    let counter_reset_hint = if index == 0 || is_stale { 0 } else { 2 };
    Histogram { counter_reset_hint, ..value.clone() }
}

#[test]
fn xor2_chunks_that_prometheus_wrote_decode_to_their_samples() {
    let mut chunks = 0;
    let mut lines = GOLDEN.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(chunk) = line.strip_prefix("xor2 ") else { continue };
        let data = from_hex(chunk.split_once(' ').unwrap().1);
        let mut expected = Vec::new();
        while let Some(sample) = lines.next_if(|line| line.starts_with(' ')) {
            let fields: Vec<&str> = sample.split_whitespace().collect();
            let start_ms: i64 = fields[0].parse().unwrap();
            expected.push(ChunkSample {
                t_ms: fields[1].parse().unwrap(),
                start_ms: (start_ms != 0).then_some(start_ms),
                value: SampleValue::Float(u64::from_str_radix(fields[2], 16).unwrap()),
            });
        }
        assert_eq!(decode(Encoding::Xor2, &data).unwrap(), expected);
        chunks += 1;
    }
    assert_eq!(chunks, 3);
}

#[test]
fn histogram_chunks_that_prometheus_wrote_decode_to_their_samples() {
    for set in 0..2 {
        for has_start in [false, true] {
            let whole = if has_start { Encoding::HistogramStart } else { Encoding::Histogram };
            let float = if has_start { Encoding::FloatHistogramStart } else { Encoding::FloatHistogram };
            let samples = decode(whole, &golden_histograms(set, whole)).unwrap();
            let floats = decode(float, &golden_histograms(set, float)).unwrap();
            assert_eq!(samples.len(), golden_values(set).len());
            assert_eq!(floats.len(), samples.len());
            for (i, (t_ms, value)) in golden_values(set).iter().enumerate() {
                let start_ms = has_start.then_some(if i > 1 { BASE_MS + 1 } else { BASE_MS - 77 });
                let value = with_hint(i, value);
                let float = SampleValue::FloatHistogram(Box::new(to_float(&value)));
                assert_eq!(floats[i], ChunkSample { t_ms: *t_ms, start_ms, value: float });
                let value = SampleValue::Histogram(Box::new(value));
                assert_eq!(samples[i], ChunkSample { t_ms: *t_ms, start_ms, value });
            }
        }
    }
}

#[test]
fn histograms_encode_to_the_bytes_that_prometheus_writes() {
    for set in 0..2 {
        let (mut whole, mut float) = (HistogramEncoder::default(), FloatHistogramEncoder::default());
        let (mut whole_bytes, mut float_bytes) = (Vec::new(), Vec::new());
        for (i, (t_ms, value)) in golden_values(set).iter().enumerate() {
            if i == 0 {
                whole.start(&mut whole_bytes, *t_ms, value, false).unwrap();
                float.start(&mut float_bytes, *t_ms, &to_float(value), false).unwrap();
            } else {
                assert_eq!(whole.append(&mut whole_bytes, *t_ms, value).unwrap(), Fit::Appended);
                assert_eq!(float.append(&mut float_bytes, *t_ms, &to_float(value)).unwrap(), Fit::Appended);
            }
        }
        whole.finish(&mut whole_bytes);
        float.finish(&mut float_bytes);
        assert_eq!(whole_bytes, golden_histograms(set, Encoding::Histogram));
        assert_eq!(float_bytes, golden_histograms(set, Encoding::FloatHistogram));
    }
}

#[test]
fn a_histogram_whose_buckets_contradict_its_spans_is_refused() {
    let value = Histogram { positive_spans: vec![span(0, u32::MAX)], ..Histogram::default() };
    let mut out = Vec::new();
    let error = HistogramEncoder::default().start(&mut out, 5, &value, false).unwrap_err();
    assert_eq!(error, ChunkError::Buckets { t_ms: 5, buckets: 0, spans: u64::from(u32::MAX) });
    assert!(out.is_empty());
}

#[test]
fn a_layout_of_more_buckets_than_bytes_is_refused_before_it_is_allocated() {
    let mut bits = BitWriter::default();
    let mut data = vec![0, 1, 0];
    let layout = layout::Layout { positive: vec![span(0, u32::MAX)], ..layout::Layout::default() };
    layout.put(&mut bits, &mut data);
    bits.finish(&mut data);
    for encoding in [Encoding::Histogram, Encoding::FloatHistogram] {
        assert!(matches!(decode(encoding, &data), Err(ChunkError::Layout { .. })));
    }
}

#[test]
fn unknown_encodings_are_named() {
    for byte in 1..=6 {
        assert_eq!(Encoding::from_byte(byte).unwrap().to_byte(), byte);
    }
    for byte in [0, 7, 255] {
        assert_eq!(Encoding::from_byte(byte), Err(ChunkError::Encoding { found: byte }));
    }
}

#[test]
fn zero_thresholds_and_bounds_keep_every_bit() {
    let thresholds = [0.0, -0.0, 2f64.powi(-243), 2f64.powi(-244), 1024.0, 2048.0, 0.001, f64::NAN, -4.0];
    let bounds = [0.0, -0.0, 0.001, 0.1, 33_554.43, 33_554.431, 1e300, -1.0, f64::INFINITY, f64::NAN];
    for threshold in thresholds {
        let layout = layout::Layout {
            schema: CUSTOM_BUCKETS_SCHEMA,
            zero_threshold: threshold.to_bits(),
            custom_values: bounds.iter().map(|bound| bound.to_bits()).collect(),
            ..layout::Layout::default()
        };
        let (mut bits, mut out) = (BitWriter::default(), Vec::new());
        layout.put(&mut bits, &mut out);
        bits.finish(&mut out);
        assert_eq!(layout::Layout::take(&mut BitReader::new(&out), 1).unwrap(), layout);
    }
}

proptest! {
    #[test]
    fn numbers_of_variable_width_come_back(numbers in prop::collection::vec(any_number(), 1..40)) {
        let (mut bits, mut out) = (BitWriter::default(), Vec::new());
        for number in &numbers {
            varbit::put_int(&mut bits, &mut out, *number);
            varbit::put_uint(&mut bits, &mut out, *number as u64);
        }
        bits.finish(&mut out);
        let mut bits = BitReader::new(&out);
        for number in &numbers {
            prop_assert_eq!(varbit::take_int(&mut bits), Some(*number));
            prop_assert_eq!(varbit::take_uint(&mut bits), Some(*number as u64));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..300)) {
        crate::tsdb::block::fuzz_block_chunks(&data);
    }
}

fn any_number() -> impl Strategy<Value = i64> {
    (0u32..64, any::<i64>(), -2i64..3).prop_map(|(shift, number, near)| {
        if near == 2 { number >> shift } else { (1i64 << shift).wrapping_add(near) }
    })
}

fn native(value: &SampleValue) -> Option<NativeHistogram> {
    match value {
        SampleValue::Float(_) => None,
        SampleValue::Histogram(value) => Some(NativeHistogram::Int(value.clone())),
        SampleValue::FloatHistogram(value) => Some(NativeHistogram::Float(value.clone())),
    }
}

/// Encodes samples, decodes the chunks and returns what came back, with the encoding of each chunk.
fn through_chunks(samples: &[(i64, SampleValue)]) -> (Vec<(i64, SampleValue)>, Vec<Encoding>) {
    let (mut floats, mut histograms) = (Vec::new(), Vec::new());
    for (ts_ms, value) in samples {
        match (native(value), value) {
            (Some(histogram), _) => {
                histograms.push(HistogramSample { ts_ms: *ts_ms, start_ms: 0, histogram })
            }
            (None, SampleValue::Float(bits)) => floats.push(Sample::new(*ts_ms, f64::from_bits(*bits))),
            (None, _) => unreachable!("only floats are no histograms"),
        }
    }
    let mut chunks = SampleChunks::new();
    // What was there before must not show.
    chunks.push_histogram(1, &golden_values(0)[0].1).unwrap();
    chunks.push_float(2, 7);
    chunks.clear();
    chunks.push_all(&floats, &histograms).unwrap();
    chunks.finish();
    let (mut back, mut encodings) = (Vec::new(), Vec::new());
    for chunk in chunks.iter() {
        let decoded = decode(chunk.encoding, chunk.data).unwrap();
        assert!((1..=120).contains(&decoded.len()));
        assert_eq!(chunk.min_time_ms, decoded[0].t_ms);
        assert_eq!(chunk.max_time_ms, decoded[decoded.len() - 1].t_ms);
        back.extend(decoded.into_iter().map(|sample| (sample.t_ms, sample.value)));
        encodings.push(chunk.encoding);
    }
    (back, encodings)
}

fn without_hint(value: &SampleValue) -> SampleValue {
    match value.clone() {
        SampleValue::Histogram(value) => {
            SampleValue::Histogram(Box::new(Histogram { counter_reset_hint: 0, ..*value }))
        }
        SampleValue::FloatHistogram(value) => {
            SampleValue::FloatHistogram(Box::new(FloatHistogram { counter_reset_hint: 0, ..*value }))
        }
        float => float,
    }
}

#[test]
fn a_run_of_the_golden_samples_has_the_bytes_that_prometheus_writes() {
    for set in 0..2 {
        let mut chunks = SampleChunks::new();
        for (t_ms, value) in golden_values(set) {
            chunks.push_histogram(t_ms, &value).unwrap();
        }
        for (t_ms, value) in golden_values(set) {
            chunks.push_float_histogram(t_ms + 60_000, &to_float(&value)).unwrap();
        }
        chunks.finish();
        let encoded: Vec<EncodedChunk<'_>> = chunks.iter().collect();
        assert_eq!(encoded.len(), 2);
        assert_eq!(encoded[0].data, golden_histograms(set, Encoding::Histogram));
        assert_eq!(encoded[1].encoding, Encoding::FloatHistogram);
    }
}

#[test]
fn a_new_chunk_starts_where_kind_layout_or_counter_changes_and_says_why() {
    let base = golden_values(0)[0].1.clone();
    let grown = Histogram { count: base.count + 1, zero_count: base.zero_count + 1, ..base.clone() };
    let gauge = Histogram { counter_reset_hint: 3, ..base.clone() };
    let wider = Histogram { schema: 2, count: grown.count, ..base.clone() };
    let stale = Histogram { sum: f64::from_bits(STALE_MARKER_BITS), ..Histogram::default() };
    let reset = Histogram { counter_reset_hint: 1, ..grown.clone() };
    let mut chunks = SampleChunks::new();
    let mut t_ms = 0;
    let mut push = |value: &Histogram| {
        t_ms += 1;
        chunks.push_histogram(t_ms, value).unwrap();
    };
    // unknown: grows, ends stale | not reset | reset | scale | gauges | explicit reset
    for value in [&base, &grown, &stale, &stale, &base, &grown, &base, &wider, &gauge, &gauge, &base, &reset]
    {
        push(value);
    }
    chunks.finish();
    let found: Vec<(u16, u8)> =
        chunks.iter().map(|c| (c.encoding.sample_count(c.data), c.data[2] >> 6)).collect();
    // 0 unknown, 1 not reset, 2 reset, 3 gauge.
    assert_eq!(found, [(4, 0), (2, 0), (1, 2), (1, 0), (2, 3), (1, 0), (1, 2)]);
}

#[test]
fn chunks_end_after_120_samples_and_go_on_without_a_reset() {
    let base = golden_values(0)[0].1.clone();
    let samples: Vec<(i64, SampleValue)> = (0..300)
        .map(|i| {
            let (count, sum) = (base.count + i, i as f64);
            (i as i64, SampleValue::Histogram(Box::new(Histogram { count, sum, ..base.clone() })))
        })
        .collect();
    let (back, encodings) = through_chunks(&samples);
    assert_eq!(encodings, [Encoding::Histogram; 3]);
    let hints: Vec<u8> = back
        .iter()
        .map(|(_, value)| match value {
            SampleValue::Histogram(value) => value.counter_reset_hint,
            _ => panic!("a histogram went in"),
        })
        .collect();
    assert_eq!((hints[0], &hints[1..]), (0, &[2; 299][..]), "later chunks follow without a reset");
}

proptest! {
    #[test]
    fn samples_of_every_kind_come_back_in_order(kinds in prop::collection::vec((0u8..5, 1u64..4, any::<u64>()), 1..400)) {
        let (mut t_ms, mut count) = (0i64, 0u64);
        let mut samples = Vec::new();
        for (kind, step, bits) in kinds {
            t_ms += step as i64 * 997;
            // Now and then the counter starts again.
            count = if bits % 29 == 0 { 0 } else { count + step };
            let value = Histogram {
                count: count * 3,
                zero_count: count,
                sum: f64::from_bits(bits),
                schema: if bits % 31 == 0 { 1 } else { 3 },
                positive_spans: vec![span(-2, 1), span(1, 1)],
                positive_buckets: vec![count as i64, 0],
                ..Histogram::default()
            };
            samples.push((t_ms, match kind {
                0 => SampleValue::Float(bits),
                1 => SampleValue::Histogram(Box::new(Histogram { sum: f64::from_bits(STALE_MARKER_BITS), ..Histogram::default() })),
                2 => SampleValue::FloatHistogram(Box::new(to_float(&value))),
                _ => SampleValue::Histogram(Box::new(value)),
            }));
        }
        let (back, _) = through_chunks(&samples);
        prop_assert_eq!(back.len(), samples.len());
        for ((t_ms, value), (back_ms, back)) in samples.iter().zip(&back) {
            prop_assert_eq!((t_ms, without_hint(value)), (back_ms, without_hint(back)));
        }
    }
}
