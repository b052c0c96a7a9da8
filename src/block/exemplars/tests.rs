use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::block::tests::{block_on, cpu, labels, spec};
use crate::block::{BlockError, BlockReader, BlockStats, block_order, extend_label_columns};
use crate::model::*;
use crate::runtime::random_from_seed;

pub(in crate::block) type Found = Vec<(Labels, Vec<Exemplar>)>;

pub(in crate::block) fn write(mut series: Found) -> (Bytes, BlockStats) {
    series.sort_by(|a, b| block_order(&a.0, &b.0));
    let columns = extend_label_columns(&[], series.iter().map(|s| &s.0));
    let mut out = Vec::new();
    let stats = write_exemplars(&mut out, &spec(&columns), series).unwrap();
    (out.into(), stats)
}

pub(in crate::block) async fn find(
    file: &Bytes,
    matchers: &[Matcher],
    range: TimeRange,
) -> Result<Found, BlockError> {
    let reader = ExemplarReader::open(Arc::new(file.clone()), cpu(), file.len() as u64).await?;
    reader.find(matchers, range).await
}

fn exemplar(ts_ms: i64, value: f64, pairs: &[(&str, &str)]) -> Exemplar {
    Exemplar { labels: labels(pairs), value, ts_ms }
}

/// Each special case of the format once.
pub(in crate::block) fn special_cases() -> Found {
    let nan = f64::from_bits(0x7ff8_0000_dead_beef);
    vec![
        (
            labels(&[("__name__", "bits"), ("_private", "p")]),
            vec![
                exemplar(-1, nan, &[("trace_id", "t1"), ("span_id", "s1")]),
                exemplar(1, -0.0, &[("span_id", "s2"), ("traceID", "other"), ("ü", "é")]),
                exemplar(1, f64::INFINITY, &[("trace_id", "t3")]),
            ],
        ),
        (labels(&[("__name__", "bare"), ("job", "a")]), vec![exemplar(5, 0.25, &[])]),
    ]
}

fn series() -> impl Strategy<Value = Found> {
    let name =
        prop::sample::select(vec!["trace_id", "span_id", "a", "Trace_ID", "_x"]).prop_map(str::to_owned);
    let own = prop::collection::btree_map(name, "[a-b]{1,2}|\\PC{1,4}", 0..4)
        .prop_map(|pairs| Labels::from_pairs(pairs).unwrap());
    let exemplar = (own, any::<u64>(), prop_oneof![8 => 0i64..100, 1 => any::<i64>()])
        .prop_map(|(labels, bits, ts_ms)| Exemplar { labels, value: f64::from_bits(bits), ts_ms });
    let exemplars = prop::collection::vec(exemplar, 1..10).prop_map(|mut exemplars| {
        normalize_exemplars(&mut exemplars);
        exemplars
    });
    prop::collection::btree_map(("[a-b]{1,2}", "[a-b]{0,2}"), exemplars, 0..6).prop_map(|map| {
        let labels = |name: &str, job: &str| labels(&[("__name__", name), ("job", job)]);
        let mut series: Found = map.into_iter().map(|((name, job), e)| (labels(&name, &job), e)).collect();
        series.sort_by(|a, b| block_order(&a.0, &b.0));
        series
    })
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(series in series()) {
        let (file, stats) = write(series.clone());
        prop_assert_eq!(stats.samples as usize, series.iter().map(|s| s.1.len()).sum::<usize>());
        prop_assert_eq!(stats.rows, stats.samples);
        prop_assert_eq!(block_on(find(&file, &[], TimeRange::ALL)).unwrap(), series);
    }

    #[test]
    fn what_is_found_matches_and_lies_in_the_range(series in series(), start_ms in 0i64..100, len in 0i64..100, job in "[a-b]{0,2}") {
        let range = TimeRange { start_ms, end_ms: start_ms + len };
        let matchers = [Matcher::equal("job", &job)];
        let (file, _) = write(series.clone());
        let mut expected = series;
        expected.retain_mut(|(labels, exemplars)| {
            exemplars.retain(|e| range.contains(e.ts_ms));
            match_labels(&matchers, labels) && !exemplars.is_empty()
        });
        prop_assert_eq!(block_on(find(&file, &matchers, range)).unwrap(), expected);
    }
}

#[test]
fn special_cases_come_back() {
    let mut cases = special_cases();
    let (file, stats) = write(cases.clone());
    cases.sort_by(|a, b| block_order(&a.0, &b.0));
    assert_eq!(block_on(find(&file, &[], TimeRange::ALL)).unwrap(), cases);
    assert_eq!((stats.min_time_ms, stats.max_time_ms, stats.series), (-1, 6, 2));
}

#[test]
fn samples_are_not_found_in_exemplars() {
    let (file, _) = write(special_cases());
    let open = BlockReader::open(Arc::new(file.clone()), cpu(), file.len() as u64);
    assert_eq!(
        block_on(open).unwrap_err().to_string(),
        "the block holds exemplars, not samples or histograms"
    );
}

#[test]
fn damage_is_an_error_and_never_wrong_memory() {
    let (file, _) = write(special_cases());
    let random = random_from_seed(12);
    for _ in 0..200 {
        let mut bytes = file.to_vec();
        let at = random.next_u64() as usize % bytes.len();
        bytes[at] ^= 1 << (random.next_u64() % 8);
        let _ = block_on(find(&bytes.into(), &[], TimeRange::ALL));
    }
}
