pub(crate) mod made;

use proptest::collection::vec;
use proptest::prelude::*;

use super::tests::made::{any_float, any_histogram};
use super::*;

#[test]
fn labels_are_sorted_and_lose_empty_values() {
    let labels = Labels::from_pairs([("z", "1"), ("a", "2"), ("e", "")]).unwrap();
    assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "2"), ("z", "1")]);
    assert_eq!(Labels::from_canonical(labels.as_bytes()).unwrap(), labels);
    assert!(matches!(Labels::from_pairs([("a", "1"), ("a", "2")]), Err(LabelError::Duplicate(_))));
    assert!(matches!(Labels::from_pairs([("", "1")]), Err(LabelError::EmptyName)));
}

#[test]
fn external_labels_win_and_dropped_labels_go() {
    let own = Labels::from_pairs([("a", "1"), ("c", "3"), ("r", "x")]).unwrap();
    let external = Labels::from_pairs([("b", "2"), ("c", "30")]).unwrap();
    let merged = own.with_external(&external, &["r".to_owned()]);
    assert_eq!(merged, Labels::from_pairs([("a", "1"), ("b", "2"), ("c", "30")]).unwrap());
}

proptest! {
    /// The order in which queriers merge what several stores send.
    #[test]
    fn label_sets_are_ordered_label_by_label_and_a_prefix_comes_first(
        sets in vec(prop::collection::btree_map("[abz_é]{1,3}", "[a-cü\u{1}]{1,200}|[ab]{1,2}", 0..4), 2..12),
    ) {
        type Pairs<'a> = Vec<(&'a [u8], &'a [u8])>;
        let mut labels: Vec<Labels> = sets.iter().map(|set| Labels::from_pairs(set).unwrap()).collect();
        let mut pairs: Vec<Pairs<'_>> =
            sets.iter().map(|set| set.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect()).collect();
        labels.sort();
        pairs.sort();
        let sorted: Vec<Pairs<'_>> =
            labels.iter().map(|set| set.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect()).collect();
        prop_assert_eq!(sorted, pairs);
    }
}

#[test]
fn series_hash_is_pinned() {
    // Stored in every block as `_series`: a change here is a change of format.
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "node")]).unwrap();
    let mut bytes = Vec::new();
    for part in ["__name__", "up", "job", "node"] {
        bytes.extend_from_slice(part.as_bytes());
        bytes.push(0xFF);
    }
    assert_eq!(labels.series_hash(), xxhash_rust::xxh64::xxh64(&bytes, 0));
}

#[test]
fn the_winner_is_decided_by_content_alone() {
    let stale = f64::from_bits(STALE_MARKER_BITS);
    let (nan, big_nan) = (f64::from_bits(0x7ff8_0000_0000_0000), f64::from_bits(0x7ff8_0000_0000_0001));
    let ascending = [stale, nan, big_nan, f64::NEG_INFINITY, -1.0, -0.0, 0.0, 1.0, f64::INFINITY];
    for (i, low) in ascending.iter().enumerate() {
        for high in &ascending[i..] {
            let (a, b) = (Sample::new(7, *low), Sample::new(7, *high));
            assert_eq!(a.winner(b), b);
            assert_eq!(b.winner(a), b);
        }
    }
}

#[test]
fn durations_read_as_prometheus_writes_them() {
    for (text, ms) in
        [("0", 0), ("7d", 604_800_000), ("1h30m", 5_400_000), ("100y", 3_153_600_000_000), ("5ms", 5)]
    {
        assert_eq!(parse_duration_ms(text), Ok(ms));
    }
    for text in ["", "7", "d", "1m1h", "1d1d", "-1d", "1.5h", "9999999999999999y"] {
        assert!(parse_duration_ms(text).is_err(), "{text}");
    }
    assert_eq!(format_duration_ms(5_400_000), "1h30m");
    assert_eq!(format_duration_ms(604_800_000), "1w");
}

#[test]
fn tenant_names_are_safe_path_segments() {
    assert!(TenantId::new("team-a_1.x").is_ok());
    for name in ["", ".", "..", ".a", "a/b", "a b", "ä", &"a".repeat(129), "%2e%2e"] {
        assert!(TenantId::new(name).is_err(), "{name}");
    }
}

#[test]
fn raw_windows_are_aligned_before_the_epoch_too() {
    assert_eq!(TimeRange::raw_window(-1), TimeRange { start_ms: -RAW_WINDOW_MS, end_ms: 0 });
    assert_eq!(TimeRange::raw_window(0).start_ms, 0);
}

/// Runs of one series around the end of a raw window and at the ends of time.
fn any_runs() -> impl Strategy<Value = Vec<SeriesData>> {
    let times =
        prop_oneof![8 => RAW_WINDOW_MS - 40..RAW_WINDOW_MS + 40, 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
    let floats = vec((times.clone(), any_float()), 0..12);
    let run = (floats, vec(any_histogram(times), 0..4)).prop_map(|(floats, histograms)| {
        let samples = floats.into_iter().map(|(ts_ms, value)| Sample::new(ts_ms, value)).collect();
        let (mut samples, mut histograms): (Vec<Sample>, _) = (samples, histograms);
        normalize_samples(&mut samples);
        normalize_histograms(&mut histograms);
        SeriesData::merge(vec![SeriesData { samples, histograms }])
    });
    vec(run, 0..5)
}

fn times_of(data: &SeriesData) -> Vec<i64> {
    let times = data.samples.iter().map(|s| s.ts_ms).chain(data.histograms.iter().map(|h| h.ts_ms));
    let mut times: Vec<i64> = times.collect();
    times.sort_unstable();
    times
}

proptest! {
    #[test]
    fn parts_hold_what_a_merge_holds_and_follow_each_other_within_raw_windows(runs in any_runs()) {
        let parts = SeriesData::merge_apart(runs.clone());
        for part in &parts {
            let window = TimeRange::raw_window(times_of(part)[0]);
            let inside = |ts_ms: &i64| window.contains(*ts_ms) || window.end_ms == i64::MAX;
            prop_assert!(times_of(part).iter().all(inside), "{part:?}");
        }
        let times: Vec<i64> = parts.iter().flat_map(times_of).collect();
        prop_assert!(times.is_sorted());
        prop_assert_eq!(SeriesData::join(parts), SeriesData::merge(runs));
    }
}

#[test]
fn a_part_does_not_depend_on_what_follows_it() {
    let run = |times: std::ops::Range<i64>| {
        SeriesData::floats(times.map(|ts_ms| Sample::new(ts_ms, 1.0)).collect())
    };
    let parts = SeriesData::merge_apart(vec![run(20..30), run(0..10), run(25..40)]);
    assert_eq!(parts, [run(0..10), run(20..40)], "sources that overlap are one part");
}
