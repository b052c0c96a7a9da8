use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{
    Labels, MatchKind, Matcher, RAW_WINDOW_MS, STALE_MARKER_BITS, Sample, TenantId, TimeRange,
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
            head.append(batch.into_iter().map(|(series, sample)| (numbers[series as usize], sample)));
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
    head.append(numbers.iter().map(|n| (*n, Sample::new(5, 1.0))));
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
        assert_eq!(find(known.as_bytes()), Some(number));
        assert_eq!(find(labels("up", "b").as_bytes()), None);
    });
    assert_eq!(head.resolve(&[labels("up", "b"), known]), [1, number]);
}

#[test]
fn a_cut_freezes_heads_with_samples_and_forgets_empty_ones() {
    let heads = Heads::new();
    let (full, empty) = (TenantId::new("full").unwrap(), TenantId::new("empty").unwrap());
    let head = heads.active(&full);
    let number = head.resolve(&[labels("up", "a")])[0];
    head.append([(number, Sample::new(1, 1.0))]);
    let _ = heads.active(&empty);
    let frozen = heads.freeze();
    assert_eq!(frozen.len(), 1);
    assert!(Arc::ptr_eq(&frozen[0], &head) && head.is_frozen());
    assert!(!Arc::ptr_eq(&heads.active(&full), &head), "new samples go to a new head");
    assert_eq!(heads.of_tenant(&full).len(), 2, "readers still see the frozen one");
    heads.release(&head);
    assert_eq!(heads.of_tenant(&full).len(), 1);
}
