use super::parse_instant_ms;

const NOW_MS: i64 = 1_795_356_179_500;

fn parsed(text: &str) -> i64 {
    parse_instant_ms(text, NOW_MS).unwrap()
}

fn refused(text: &str) -> String {
    parse_instant_ms(text, NOW_MS).unwrap_err().to_string()
}

#[test]
fn rfc_3339_is_read_in_any_zone_and_rounded_down() {
    assert_eq!(parsed("1970-01-01T00:00:00Z"), 0);
    assert_eq!(parsed("2026-11-22T14:02:59Z"), parsed("2026-11-22T16:02:59+02:00"));
    assert_eq!(parsed("2026-11-22 14:02:59Z"), parsed("2026-11-22t14:02:59z"));
    assert_eq!(parsed("2026-11-22T14:02:59.9999Z") % 1_000, 999);
    assert_eq!(parsed("1969-12-31T23:59:59.9999Z"), -1);
}

#[test]
fn unix_time_is_seconds_below_a_hundred_billion_and_milliseconds_above() {
    assert_eq!(parsed("1795356179"), 1_795_356_179_000);
    assert_eq!(parsed("1795356179.5"), NOW_MS);
    assert_eq!(parsed("1795356179.1239"), 1_795_356_179_123);
    assert_eq!(parsed("1795356179500"), NOW_MS);
    assert_eq!(parsed("1795356179500.9"), NOW_MS);
    assert_eq!(parsed("99999999999.999"), 99_999_999_999_999);
    assert_eq!(parsed("100000000000"), 100_000_000_000);
    assert_eq!(parsed("0"), 0);
    assert_eq!(parsed("9223372036854775807"), i64::MAX);
}

#[test]
fn relative_times_count_back_from_now() {
    for text in ["now", "NOW", " now ", "-0s", "0s ago"] {
        assert_eq!(parsed(text), NOW_MS, "{text}");
    }
    for text in ["-15m", "15m ago", "15mago", "now-15m", "now - 15m", "- 15m"] {
        assert_eq!(parsed(text), NOW_MS - 900_000, "{text}");
    }
    assert_eq!(parsed("-1h30m"), NOW_MS - 5_400_000);
}

#[test]
fn what_is_refused_says_why_and_what_is_allowed() {
    for (text, reason) in [
        ("2026-11-22T14:02:59", "time zone"),
        ("2026-11-22", "is a date"),
        ("yesterday", "form is not known"),
        ("", "not complete"),
        ("-15", "unit"),
        ("15 ago", "unit"),
        ("+15m", "ahead"),
        ("now+15m", "ahead"),
        ("-15x", "y, w, d"),
        ("1.2.3", "not complete"),
        (".5", "not complete"),
        ("99999999999999999999", "too large"),
        ("-999999999y", "time span"),
        ("é-15m", "form is not known"),
        (&"9".repeat(5_000), "too long"),
    ] {
        let error = refused(text);
        assert!(error.contains(reason) && error.contains("RFC 3339"), "{error}");
        assert!(error.len() < 500, "{error}");
    }
}
