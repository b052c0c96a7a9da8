use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::row::HistogramRow;
use super::*;
use crate::block::tests::{block_on, cpu, labels, spec};
use crate::block::{BlockError, BlockReader, BlockRow, BlockStats, block_order, extend_label_columns};
use crate::model::*;
use crate::runtime::random_from_seed;

const STALE: f64 = f64::from_bits(STALE_MARKER_BITS);

pub(in crate::block) fn write(mut runs: Vec<HistogramRun>) -> (Bytes, BlockStats) {
    runs.sort_by(|a, b| block_order(&a.labels, &b.labels));
    let columns = extend_label_columns(&[], runs.iter().map(|r| &r.labels));
    let mut out = Vec::new();
    let stats = write_histograms(&mut out, &spec(&columns), runs).unwrap();
    (out.into(), stats)
}

async fn read_rows(file: &Bytes) -> Result<Vec<(BlockRow, Vec<HistogramSample>)>, BlockError> {
    let reader = BlockReader::open(Arc::new(file.clone()), cpu(), file.len() as u64).await?;
    let rows = reader.find_rows(&[], TimeRange::ALL).await?;
    let numbers: Vec<u32> = rows.iter().map(|r| r.row).collect();
    let read = reader.read_histograms(&numbers).await?;
    Ok(rows.into_iter().zip(read).collect())
}

pub(in crate::block) async fn read(file: &Bytes) -> Result<Vec<HistogramRun>, BlockError> {
    let mut runs: Vec<HistogramRun> = Vec::new();
    for (row, histograms) in read_rows(file).await? {
        assert_eq!(row.samples as usize, histograms.len());
        assert_eq!(Some(row.min_time_ms), histograms.first().map(|s| s.ts_ms));
        assert_eq!(Some(row.max_time_ms), histograms.last().map(|s| s.ts_ms));
        match runs.last_mut() {
            Some(last) if last.labels == row.labels => last.histograms.extend(histograms),
            _ => runs.push(HistogramRun { labels: row.labels, histograms }),
        }
    }
    Ok(runs)
}

pub(in crate::block) fn span(offset: i32, length: u32) -> Span {
    Span { offset, length }
}

fn sample(ts_ms: i64, histogram: Histogram) -> HistogramSample {
    HistogramSample { ts_ms, start_ms: 0, histogram: NativeHistogram::Int(Box::new(histogram)) }
}

fn float_sample(ts_ms: i64, histogram: FloatHistogram) -> HistogramSample {
    HistogramSample { ts_ms, start_ms: 0, histogram: NativeHistogram::Float(Box::new(histogram)) }
}

/// A histogram with buckets at these places; the counts come from the time.
fn at_places(ts_ms: i64, places: &[i64]) -> HistogramSample {
    let positive_spans = layout::shortest_spans(places).unwrap();
    let positive_buckets = (0..places.len() as i64).map(|i| ts_ms % 7 + i - 3).collect();
    let histogram =
        Histogram { schema: 3, positive_spans, positive_buckets, count: 9, sum: 1.5, ..Histogram::default() };
    sample(ts_ms, histogram)
}

fn bare(ts_ms: i64) -> HistogramSample {
    sample(ts_ms, Histogram { sum: STALE, ..Histogram::default() })
}

/// Histograms with every field in use, one of each family and one with buckets of its own.
fn full_histograms() -> (Histogram, Histogram, FloatHistogram) {
    let nan = f64::from_bits(0x7ff8_0000_dead_beef);
    let full = Histogram {
        counter_reset_hint: 2,
        schema: -4,
        zero_threshold: 1e-128,
        zero_count: u64::MAX,
        count: u64::MAX - 1,
        sum: nan,
        positive_spans: vec![span(-3, 2), span(5, 1)],
        negative_spans: vec![span(i32::MIN, 1), span(7, 2)],
        positive_buckets: vec![i64::MAX, 5, i64::MIN],
        negative_buckets: vec![1, -1, 4],
        custom_values: Vec::new(),
    };
    let custom = Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 6,
        sum: -0.0,
        positive_spans: vec![span(0, 3)],
        positive_buckets: vec![1, 1, 1],
        custom_values: vec![0.1, 0.5, f64::INFINITY],
        ..Histogram::default()
    };
    let float = FloatHistogram {
        counter_reset_hint: 3,
        schema: 8,
        zero_threshold: 0.001,
        zero_count: 0.1,
        count: nan,
        sum: f64::NEG_INFINITY,
        positive_spans: vec![span(1, 2)],
        negative_spans: vec![span(0, 1)],
        positive_buckets: vec![0.1 + 0.2, nan],
        negative_buckets: vec![-0.0],
        custom_values: Vec::new(),
    };
    (full, custom, float)
}

/// Each special case of the format once.
pub(in crate::block) fn special_cases() -> Vec<HistogramRun> {
    let run = |name: &str, histograms: Vec<HistogramSample>| HistogramRun {
        labels: labels(&[("__name__", name), ("job", "a"), ("_private", "p")]),
        histograms,
    };
    let (full, custom, float) = full_histograms();
    let mut started = at_places(1_000, &[1, 2]);
    started.start_ms = 500;
    let odd = |spans: Vec<Span>, buckets: Vec<i64>| Histogram {
        positive_spans: spans,
        positive_buckets: buckets,
        ..Histogram::default()
    };
    vec![
        run("bits", vec![sample(1, full.clone()), sample(2, Histogram { sum: STALE, ..full })]),
        run("custom", vec![sample(1, custom)]),
        run(
            "float",
            vec![
                float_sample(1, float.clone()),
                float_sample(2, FloatHistogram { sum: STALE, ..FloatHistogram::default() }),
                float_sample(3, float),
                sample(4, Histogram::default()),
            ],
        ),
        run(
            "growing",
            vec![
                at_places(1_000, &[4]),
                at_places(2_000, &[4, 5]),
                bare(3_000),
                at_places(4_000, &[2, 4, 5, 9]),
                at_places(5_000, &[]),
                at_places(6_000, &[2, 9]),
            ],
        ),
        run(
            "odd",
            vec![
                sample(1, odd(vec![span(0, 0), span(2, 1)], vec![1])),
                sample(2, odd(vec![span(0, 1), span(0, 1)], vec![1, 2])),
                sample(3, odd(vec![span(0, 5)], vec![1, 2])),
                sample(4, odd(vec![span(3, 1), span(-9, 1)], vec![1, 2])),
                sample(5, odd(vec![span(3, 1), span(-9, 1)], vec![1, 7])),
            ],
        ),
        run("stale", vec![bare(1), bare(2)]),
        run("started", vec![started, at_places(2_000, &[1, 2])]),
        run("windows", [-1, 0, RAW_WINDOW_MS].map(|ts_ms| at_places(ts_ms, &[0])).to_vec()),
    ]
}

fn number() -> BoxedStrategy<f64> {
    prop_oneof![
        2 => (0i64..1000).prop_map(|i| i as f64 / 8.0),
        1 => Just(STALE),
        1 => any::<u64>().prop_map(f64::from_bits),
    ]
    .boxed()
}

fn spans() -> impl Strategy<Value = (Vec<Span>, usize)> {
    let places = prop::collection::btree_set(-20i64..20, 0..8).prop_map(|places| {
        let places: Vec<i64> = places.into_iter().collect();
        (layout::shortest_spans(&places).unwrap(), places.len())
    });
    let odd = (prop::collection::vec((any::<i32>(), 0u32..4), 0..4), 0usize..8).prop_map(|(spans, extra)| {
        let spans: Vec<Span> = spans.into_iter().map(|(offset, length)| span(offset, length)).collect();
        let total: u32 = spans.iter().map(|s| s.length).sum();
        (spans, if extra < 7 { total as usize } else { 3 })
    });
    prop_oneof![9 => places, 1 => odd]
}

/// Spans with counts for their buckets.
type Buckets<T> = (Vec<Span>, Vec<T>);

fn buckets<T: std::fmt::Debug + Clone>(
    count: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = Buckets<T>> {
    spans().prop_flat_map(move |(spans, n)| (Just(spans), prop::collection::vec(count.clone(), n)))
}

fn bounds() -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(number(), 1..3)]
}

fn whole() -> impl Strategy<Value = NativeHistogram> {
    let count = || prop_oneof![4 => 0u64..9, 1 => any::<u64>()];
    let difference = prop_oneof![4 => -9i64..9, 1 => any::<i64>()].boxed();
    let fields = (0u8..4, prop_oneof![4 => Just(3), 1 => any::<i32>()], count(), count(), number(), bounds());
    (fields, buckets(difference.clone()), buckets(difference)).prop_map(|(fields, positive, negative)| {
        let (counter_reset_hint, schema, zero_count, count, sum, custom_values) = fields;
        NativeHistogram::Int(Box::new(Histogram {
            counter_reset_hint,
            schema,
            zero_threshold: 0.5,
            zero_count,
            count,
            sum,
            positive_spans: positive.0,
            negative_spans: negative.0,
            positive_buckets: positive.1,
            negative_buckets: negative.1,
            custom_values,
        }))
    })
}

fn fractional() -> impl Strategy<Value = NativeHistogram> {
    let fields = (0u8..4, number(), number(), number(), number(), bounds());
    (fields, buckets(number()), buckets(number())).prop_map(|(fields, positive, negative)| {
        let (counter_reset_hint, zero_threshold, zero_count, count, sum, custom_values) = fields;
        NativeHistogram::Float(Box::new(FloatHistogram {
            counter_reset_hint,
            schema: 0,
            zero_threshold,
            zero_count,
            count,
            sum,
            positive_spans: positive.0,
            negative_spans: negative.0,
            positive_buckets: positive.1,
            negative_buckets: negative.1,
            custom_values,
        }))
    })
}

fn runs() -> impl Strategy<Value = Vec<HistogramRun>> {
    let histogram = prop_oneof![
        6 => whole(),
        3 => fractional(),
        1 => (any::<bool>(), 0u8..4).prop_map(|(float, hint)| layout::bare(float, STALE, hint)),
    ];
    let ts = prop_oneof![8 => 0i64..10_000, 2 => -2 * RAW_WINDOW_MS..2 * RAW_WINDOW_MS, 1 => any::<i64>()];
    let start = prop_oneof![4 => Just(0i64), 1 => any::<i64>()];
    let sample = (ts, start, histogram);
    let samples = prop::collection::vec(sample, 1..20).prop_map(|samples| {
        let sample = |(ts_ms, start_ms, histogram)| HistogramSample { ts_ms, start_ms, histogram };
        let mut samples: Vec<HistogramSample> = samples.into_iter().map(sample).collect();
        normalize_histograms(&mut samples);
        samples
    });
    prop::collection::btree_map("[a-c]{1,2}", samples, 0..4).prop_map(|map| {
        let run = |(name, histograms): (String, _)| HistogramRun {
            labels: labels(&[("__name__", &name)]),
            histograms,
        };
        map.into_iter().map(run).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_goes_in_comes_out(runs in runs()) {
        let (file, stats) = write(runs.clone());
        let samples = runs.iter().flat_map(|r| &r.histograms);
        prop_assert_eq!(stats.samples as usize, samples.clone().count());
        prop_assert_eq!(stats.stale as usize, samples.filter(|s| s.histogram.is_stale()).count());
        prop_assert_eq!(block_on(read(&file)).unwrap(), runs);
    }
}

fn row_sizes(samples: &[HistogramSample]) -> Vec<(usize, usize)> {
    let size = |row: HistogramRow<'_>| (row.samples.len(), row.layout.buckets());
    split_rows(samples).map(size).collect()
}

#[test]
fn special_cases_come_back() {
    let (file, _) = write(special_cases());
    let mut cases = special_cases();
    cases.sort_by(|a, b| block_order(&a.labels, &b.labels));
    assert_eq!(block_on(read(&file)).unwrap(), cases);
}

#[test]
fn buckets_that_come_and_go_stay_in_one_row() {
    let growing: Vec<HistogramSample> = (0..40i64)
        .map(|i| at_places(i, &(0..=i).collect::<Vec<_>>()))
        .chain([bare(40), at_places(41, &[7])])
        .collect();
    assert_eq!(row_sizes(&growing), [(42, 40)]);
}

#[test]
fn a_row_ends_where_samples_share_no_layout() {
    let other_schema = sample(3, Histogram { schema: 4, ..Histogram::default() });
    let float = float_sample(4, FloatHistogram { schema: 4, ..FloatHistogram::default() });
    let samples = [at_places(1, &[1]), at_places(2, &[2]), other_schema, float];
    assert_eq!(row_sizes(&samples), [(2, 2), (1, 0), (1, 0)]);
}

#[test]
fn rows_end_at_windows_and_at_the_limits() {
    let narrow: Vec<HistogramSample> = (0..5_000).map(|ts_ms| at_places(ts_ms, &[1])).collect();
    assert_eq!(row_sizes(&narrow), [(4_096, 1), (904, 1)]);
    let places: Vec<i64> = (0..512).collect();
    let wide: Vec<HistogramSample> = (0..600).map(|ts_ms| at_places(ts_ms, &places)).collect();
    assert_eq!(row_sizes(&wide), [(512, 512), (88, 512)]);
    let times = [RAW_WINDOW_MS - 1, RAW_WINDOW_MS].map(|ts_ms| at_places(ts_ms, &[1]));
    assert_eq!(row_sizes(&times), [(1, 1), (1, 1)]);
}

#[test]
fn buckets_that_never_meet_do_not_fill_rows_with_nulls() {
    let scattered: Vec<HistogramSample> = (0..1_000).map(|ts_ms| at_places(ts_ms, &[ts_ms * 2])).collect();
    assert!(row_sizes(&scattered).iter().all(|(samples, buckets)| samples * buckets <= 2 * samples + 4_096));
}

#[tokio::test]
async fn blocks_of_one_kind_are_not_read_as_another() {
    let (file, _) = write(special_cases());
    let reader = BlockReader::open(Arc::new(file.clone()), cpu(), file.len() as u64).await.unwrap();
    assert_eq!(reader.meta().kind, BlockKind::Histograms);
    let error = reader.read_samples(&[0]).await.unwrap_err();
    assert_eq!(error.to_string(), "the block holds histograms, not samples");
    assert!(matches!(reader.read_histograms(&[u32::MAX]).await, Err(BlockError::Rows { .. })));
}

#[test]
fn series_and_samples_out_of_order_are_refused() {
    let run = |name: &str, times: &[i64]| HistogramRun {
        labels: labels(&[("__name__", name)]),
        histograms: times.iter().map(|ts_ms| at_places(*ts_ms, &[1])).collect(),
    };
    let refused = |runs: Vec<HistogramRun>| write_histograms(Vec::new(), &spec(&[]), runs).unwrap_err();
    assert!(matches!(refused(vec![run("b", &[1]), run("a", &[1])]), BlockError::SeriesOrder { .. }));
    assert!(matches!(refused(vec![run("a", &[2, 1])]), BlockError::SampleOrder { .. }));
}

#[test]
fn damage_is_an_error_and_never_wrong_memory() {
    let (file, _) = write(special_cases());
    let random = random_from_seed(11);
    for _ in 0..400 {
        let mut bytes = file.to_vec();
        let at = random.next_u64() as usize % bytes.len();
        if random.next_u64().is_multiple_of(4) {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << (random.next_u64() % 8);
        }
        // Pages carry no checksum (the catalog's SHA-256 is it), so a flipped bit may also read as other values.
        let _ = block_on(read_rows(&bytes.into()));
    }
}
