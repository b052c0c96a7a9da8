use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::tests::made::{any_exemplar, any_histogram, any_metadata};
use crate::model::{
    Exemplar, HistogramSample, Labels, MatchKind, Matcher, MetadataEntry, RAW_WINDOW_MS, STALE_MARKER_BITS,
    Sample, SeriesData, TenantId, TimeRange, normalize_exemplars,
};

fn labels(metric: &str, job: &str) -> Labels {
    Labels::from_pairs([("__name__", metric), ("job", job)]).unwrap()
}

fn new_head() -> Head {
    Head::new(TenantId::new("t").unwrap())
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        Just(f64::from_bits(STALE_MARKER_BITS)),
        Just(-0.0),
        (-5i64..5).prop_map(|n| n as f64),
    ]
}

fn any_sample() -> impl Strategy<Value = Sample> {
    // Few distinct times, so that duplicates and conflicts are common; two raw windows.
    let start = prop_oneof![Just(0), Just(1_000), -50i64..50];
    (-200i64..400, any_value(), start).prop_map(|(ts, value, start_ms)| Sample {
        ts_ms: ts * 120_000,
        value,
        start_ms,
    })
}

proptest! {
    #[test]
    fn samples_in_any_order_come_back_sorted_with_one_winner_a_timestamp(
        batches in prop::collection::vec(prop::collection::vec((0u32..3, any_sample()), 0..400), 1..4),
    ) {
        let head = new_head();
        let numbers = head.resolve(&[labels("a", "x"), labels("a", "y"), labels("b", "x")]);
        let mut model: Vec<BTreeMap<i64, Sample>> = vec![BTreeMap::new(); 3];
        for batch in batches {
            for (series, sample) in &batch {
                let slot = model[*series as usize].entry(sample.ts_ms).or_insert(*sample);
                *slot = slot.winner(*sample);
            }
            head.append(batch.iter().map(|(series, sample)| (numbers[*series as usize], sample)));
        }
        for range in [TimeRange::ALL, TimeRange { start_ms: -120_000, end_ms: 12_000_000 }] {
            let found: Vec<_> = head.read(&numbers, range).into_iter().map(|data| data.samples).collect();
            for (found, model) in found.iter().zip(&model) {
                let wanted: Vec<Sample> =
                    model.values().copied().filter(|s| range.contains(s.ts_ms)).collect();
                prop_assert_eq!(found, &wanted);
            }
        }
        let windows: std::collections::BTreeSet<i64> = model
            .iter()
            .flat_map(|series| series.keys().map(|ts| ts.div_euclid(RAW_WINDOW_MS) * RAW_WINDOW_MS))
            .collect();
        prop_assert_eq!(head.raw_windows(), windows);
    }
}

#[test]
fn a_series_without_samples_is_invisible() {
    let head = new_head();
    let _ = head.resolve(&[labels("a", "x")]);
    assert!(head.select(&[], TimeRange::ALL).is_empty());
    assert_eq!(head.sample_count(), 0);
}

#[test]
fn the_metric_index_answers_like_a_scan() {
    let head = new_head();
    let all = [labels("up", "a"), labels("up", "b"), labels("down", "a")];
    let numbers = head.resolve(&all);
    let sample = Sample::new(5, 1.0);
    head.append(numbers.iter().map(|n| (*n, &sample)));
    let named = |kind, value: &str| vec![Matcher::new(kind, "__name__", value).unwrap()];
    let found = |matchers: &[Matcher]| {
        let mut found: Vec<u32> =
            head.select(matchers, TimeRange::ALL).into_iter().map(|s| s.series).collect();
        found.sort_unstable();
        found
    };
    assert_eq!(found(&named(MatchKind::Equal, "up")), [0, 1]);
    assert_eq!(found(&named(MatchKind::NotEqual, "up")), [2]);
    assert_eq!(found(&named(MatchKind::Regex, "u.|down")), [0, 1, 2]);
    assert_eq!(found(&named(MatchKind::NotRegex, "u.")), [2]);
    assert_eq!(found(&[Matcher::equal("__name__", "up"), Matcher::equal("job", "b")]), [1]);
    assert!(head.select(&[], TimeRange { start_ms: 6, end_ms: 9 }).is_empty());
}

#[test]
fn look_up_finds_series_by_their_bytes() {
    let head = new_head();
    let known = labels("up", "a");
    let number = head.resolve(std::slice::from_ref(&known))[0];
    head.look_up(|find| {
        assert_eq!(find.by_labels(known.as_bytes()), Some(number));
        assert_eq!(find.by_labels(labels("up", "b").as_bytes()), None);
    });
    assert_eq!(head.resolve(&[labels("up", "b"), known]), [1, number]);
}

#[test]
fn the_earliest_time_is_that_of_samples_histograms_and_exemplars() {
    let heads = Heads::new();
    let head = heads.active(&TenantId::new("t").unwrap());
    assert_eq!((head.min_time_ms(), heads.min_time_ms()), (None, None));
    let number = head.resolve(&[labels("up", "a")])[0];
    head.append([
        (number, &Sample::new(9, 1.0)),
        (number, &Sample::new(8, 1.0)),
        (number, &Sample::new(10, 1.0)),
    ]);
    assert_eq!(head.min_time_ms(), Some(8));
    for part in HeadPart::for_threads(2) {
        head.append_part(part, [(number, &Sample::new(7, 1.0))]);
    }
    assert_eq!(head.min_time_ms(), Some(7));
    let histogram = crate::model::NativeHistogram::Int(Box::default());
    head.append_histograms([(number, &HistogramSample { ts_ms: 6, start_ms: 0, histogram })]);
    assert_eq!(head.min_time_ms(), Some(6));
    head.append_exemplars([(number, Exemplar { labels: Labels::empty(), value: 1.0, ts_ms: -5 })]);
    assert_eq!(head.min_time_ms(), Some(-5));
    let _ = heads.freeze();
    let next = heads.active(head.tenant());
    next.append([(next.resolve(&[labels("up", "a")])[0], &Sample::new(3, 1.0))]);
    assert_eq!(heads.min_time_ms(), Some(-5), "frozen heads count");
    heads.release(&head);
    assert_eq!(heads.min_time_ms(), Some(3));
}

#[test]
fn a_cut_freezes_heads_with_samples_and_forgets_empty_ones() {
    let heads = Heads::new();
    let (full, empty) = (TenantId::new("full").unwrap(), TenantId::new("empty").unwrap());
    let head = heads.active(&full);
    let number = head.resolve(&[labels("up", "a")])[0];
    head.append([(number, &Sample::new(1, 1.0))]);
    let _ = heads.active(&empty);
    let frozen = heads.freeze();
    assert_eq!(frozen.len(), 1);
    assert!(Arc::ptr_eq(&frozen[0], &head) && head.is_frozen());
    assert!(!Arc::ptr_eq(&heads.active(&full), &head), "new samples go to a new head");
    assert_eq!(heads.of_tenant(&full).len(), 2, "readers still see the frozen one");
    heads.release(&head);
    assert_eq!(heads.of_tenant(&full).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn histograms_come_back_bit_by_bit_beside_floats(
        batches in prop::collection::vec((
            prop::collection::vec((0u32..3, any_sample()), 0..20),
            prop::collection::vec((0u32..3, any_histogram((-200i64..400).prop_map(|ts| ts * 120_000))), 0..90),
        ), 1..4),
    ) {
        let head = new_head();
        let numbers = head.resolve(&[labels("a", "x"), labels("a", "y"), labels("b", "x")]);
        let mut model: Vec<SeriesData> = vec![SeriesData::default(); 3];
        for (floats, histograms) in &batches {
            for (series, sample) in floats {
                model[*series as usize].samples.push(*sample);
            }
            for (series, sample) in histograms {
                model[*series as usize].histograms.push(sample.clone());
            }
            head.append(floats.iter().map(|(series, sample)| (numbers[*series as usize], sample)));
            head.append_histograms(histograms.iter().map(|(series, sample)| (numbers[*series as usize], sample)));
        }
        let held: usize = model.iter().map(SeriesData::len).sum();
        prop_assert_eq!(head.sample_count(), held as u64);
        let model: Vec<SeriesData> = model
            .into_iter()
            .map(|data| {
                let mut samples = data.samples;
                crate::model::normalize_samples(&mut samples);
                SeriesData::merge(vec![SeriesData { samples, histograms: data.histograms }])
            })
            .collect();
        for range in [TimeRange::ALL, TimeRange { start_ms: -120_000, end_ms: 12_000_000 }] {
            let selected = head.select(&[], range);
            for (number, (found, model)) in numbers.iter().zip(head.read(&numbers, range).into_iter().zip(&model)) {
                let mut wanted = model.clone();
                wanted.clip(range);
                let told = selected.iter().find(|s| s.series == *number).map_or(0, |s| s.samples_max);
                prop_assert!(told >= wanted.len());
                prop_assert_eq!(found, wanted);
            }
        }
    }

    #[test]
    fn exemplars_are_found_by_labels_and_time(
        exemplars in prop::collection::vec((0u32..3, any_exemplar(-50i64..50)), 0..40),
    ) {
        let head = new_head();
        let names = [labels("a", "x"), labels("a", "y"), labels("b", "x")];
        let numbers = head.resolve(&names);
        head.append_exemplars(exemplars.iter().map(|(s, e)| (numbers[*s as usize], e.clone())));
        let range = TimeRange { start_ms: -20, end_ms: 30 };
        let found = head.exemplars(&[Matcher::equal("job", "x")], range);
        let mut wanted = Vec::new();
        for series in [0u32, 2] {
            let own = exemplars.iter().filter(|(s, e)| *s == series && range.contains(e.ts_ms));
            let mut own: Vec<Exemplar> = own.map(|(_, e)| e.clone()).collect();
            normalize_exemplars(&mut own);
            if !own.is_empty() {
                wanted.push((names[series as usize].clone(), own));
            }
        }
        prop_assert_eq!(found, wanted);
        prop_assert_eq!(head.is_empty(), exemplars.is_empty());
    }

    #[test]
    fn metadata_is_kept_once_a_text_with_its_first_time(
        said in prop::collection::vec((0u8..3, any_metadata(), 0i64..9), 0..20),
    ) {
        let head = new_head();
        let entry = |(family, metadata, since_ms): &(u8, crate::model::Metadata, i64)| MetadataEntry {
            family: format!("f{family}"),
            since_ms: *since_ms,
            metadata: metadata.clone(),
        };
        let entries: Vec<_> = said.iter().map(entry).collect();
        head.append_metadata(entries.clone());
        let held = head.metadata();
        for entry in &entries {
            let first = entries.iter().filter(|e| e.family == entry.family && e.metadata == entry.metadata);
            let since_ms = first.map(|e| e.since_ms).min().unwrap();
            let kept = MetadataEntry { since_ms, ..entry.clone() };
            prop_assert!(held.contains(&kept));
            prop_assert!(head.knows_metadata(&entry.family, |held| held.metadata == entry.metadata));
        }
        prop_assert!(!head.knows_metadata("other", |_| true));
    }

    #[test]
    fn series_are_found_by_the_symbols_they_were_sent_as(
        names in prop::collection::btree_set(("[a-c]{1,2}", "[a-f]{1,2}"), 1..40),
        other in ("[a-c]{1,2}", "[g-i]{1,2}"),
    ) {
        let head = new_head();
        let names: Vec<Labels> = names.iter().map(|(metric, job)| labels(metric, job)).collect();
        let numbers = head.resolve(&names);
        let sent: Vec<_> = numbers.iter().copied().zip(names.iter().cloned()).collect();
        head.remember_symbols(&sent);
        head.remember_symbols(&sent);
        head.look_up(|lookup| {
            let row = |labels: &Labels| -> Option<Vec<u8>> {
                let numbers = labels.iter().flat_map(|(name, value)| [name, value]).map(|t| lookup.symbol(t));
                let numbers: Option<Vec<u32>> = numbers.collect();
                Some(numbers?.into_iter().flat_map(u32::to_le_bytes).collect())
            };
            let mut cursor = RowCursor::default();
            // In order, backwards, and every third: the expected row is the right one, or is not.
            let orders = [sent.clone(), sent.iter().rev().cloned().collect(), sent.iter().step_by(3).cloned().collect()];
            for (number, labels) in orders.iter().flatten() {
                assert_eq!(lookup.by_symbols(&row(labels).unwrap(), &mut cursor), Some(*number));
            }
            let unknown = labels(&other.0, &other.1);
            assert_eq!(row(&unknown).and_then(|row| lookup.by_symbols(&row, &mut cursor)), None);
        });
    }
}

fn one_histogram(ts_ms: i64) -> HistogramSample {
    let histogram = crate::model::NativeHistogram::Int(Box::default());
    HistogramSample { ts_ms, start_ms: 0, histogram }
}

#[test]
fn a_series_of_histograms_only_is_selected_and_cut() {
    let heads = Heads::new();
    let tenant = TenantId::new("t").unwrap();
    let head = heads.active(&tenant);
    let number = head.resolve(&[labels("rpc", "a")])[0];
    head.append_histograms([(number, &one_histogram(5)), (number, &one_histogram(RAW_WINDOW_MS))]);
    let found = head.select(&[Matcher::equal("__name__", "rpc")], TimeRange::ALL);
    assert_eq!((found.len(), found[0].samples_max), (1, 2));
    assert!(head.select(&[], TimeRange { start_ms: RAW_WINDOW_MS + 1, end_ms: i64::MAX }).is_empty());
    assert_eq!(head.raw_windows().into_iter().collect::<Vec<_>>(), [0, RAW_WINDOW_MS]);
    assert!(head.bytes() > 0);
    assert_eq!(heads.freeze().len(), 1);
}

#[test]
fn exemplars_and_metadata_alone_make_a_head_that_is_cut() {
    let heads = Heads::new();
    let (traced, said) = (TenantId::new("traced").unwrap(), TenantId::new("said").unwrap());
    let head = heads.active(&traced);
    let number = head.resolve(&[labels("rpc", "a")])[0];
    head.append_exemplars([(number, Exemplar { labels: Labels::empty(), value: 1.0, ts_ms: -1 })]);
    assert_eq!(head.raw_windows().into_iter().collect::<Vec<_>>(), [-RAW_WINDOW_MS]);
    assert!(head.select(&[], TimeRange::ALL).is_empty(), "it has no samples");
    let entry = MetadataEntry { family: "up".to_owned(), since_ms: 1, metadata: Default::default() };
    heads.active(&said).append_metadata([entry]);
    assert_eq!(heads.freeze().len(), 2);
}

#[test]
fn packed_histograms_take_less_than_plain_ones() {
    let head = new_head();
    let number = head.resolve(&[labels("rpc", "a")])[0];
    let before = head.bytes();
    let buckets = |n: i64| (0..40).map(|i| (i * 37 + n) % 11 - 5).collect::<Vec<_>>();
    let sample = |n: i64| {
        let histogram = crate::model::Histogram { positive_buckets: buckets(n), ..Default::default() };
        let histogram = crate::model::NativeHistogram::Int(Box::new(histogram));
        HistogramSample { ts_ms: n * 15_000, start_ms: 0, histogram }
    };
    let samples: Vec<_> = (0..3_200).map(sample).collect();
    head.append_histograms(samples.iter().map(|sample| (number, sample)));
    let each = (head.bytes() - before) / samples.len();
    assert!(each < 60, "{each} bytes a histogram of 40 buckets");
    assert_eq!(head.read(&[number], TimeRange::ALL)[0].histograms, samples);
}
