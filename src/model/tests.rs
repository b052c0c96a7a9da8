pub(crate) mod made;

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
