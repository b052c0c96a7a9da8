use chrono::{Datelike, Timelike};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::ms;
use crate::jobs::Schedule;
use crate::model::format_time_ms;

fn slots(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(expression, zone.parse().unwrap()).unwrap();
    let mut at_ms = ms(after);
    let mut next = || {
        at_ms = schedule.next_after(at_ms).unwrap();
        format_time_ms(at_ms)
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn five_fields_are_those_of_a_crontab_and_six_begin_with_the_second() {
    let from = "2024-01-01T00:00:00Z"; // a Monday
    assert_eq!(slots("30 2 * * *", "UTC", from, 1), ["2024-01-01T02:30:00Z"]);
    assert_eq!(slots("15 30 2 * * *", "UTC", from, 1), ["2024-01-01T02:30:15Z"]);
    assert_eq!(slots("*/20 9-10 * * *", "UTC", from, 4)[3], "2024-01-01T10:00:00Z");
    assert_eq!(slots("@weekly", "UTC", from, 1), ["2024-01-07T00:00:00Z"]);
    assert_eq!(slots("0 0 1 jan *", "UTC", from, 1), ["2025-01-01T00:00:00Z"]);
    assert_eq!(slots("0 0 29 2 *", "UTC", from, 2)[1], "2028-02-29T00:00:00Z");
}

#[test]
fn days_of_the_week_are_counted_from_sunday_at_0_and_7() {
    let from = "2024-01-01T00:00:00Z";
    for sunday in ["0", "7", "sun", "SUN"] {
        assert_eq!(slots(&format!("0 5 * * {sunday}"), "UTC", from, 1), ["2024-01-07T05:00:00Z"], "{sunday}");
    }
    let friday_to_sunday = ["2024-01-05T05:00:00Z", "2024-01-06T05:00:00Z", "2024-01-07T05:00:00Z"];
    for days in ["5-7", "fri-sun", "fri,sat,0"] {
        assert_eq!(slots(&format!("0 5 * * {days}"), "UTC", from, 3), friday_to_sunday, "{days}");
    }
    assert_eq!(slots("0 5 * * 1-5", "UTC", from, 1), ["2024-01-01T05:00:00Z"]);
    assert_eq!(slots("0 5 * * 1-5/2", "UTC", from, 2)[1], "2024-01-03T05:00:00Z");
}

#[test]
fn of_two_restricted_day_fields_either_is_enough() {
    let found = slots("0 0 13 * fri", "UTC", "2024-09-01T00:00:00Z", 3);
    assert_eq!(found, ["2024-09-06T00:00:00Z", "2024-09-13T00:00:00Z", "2024-09-20T00:00:00Z"]);
    let stepped = slots("0 0 */2 * fri", "UTC", "2024-09-01T00:00:00Z", 2);
    assert_eq!(
        stepped,
        ["2024-09-13T00:00:00Z", "2024-09-27T00:00:00Z"],
        "a star with a step restricts both"
    );
}

#[test]
fn a_skipped_local_time_runs_when_the_clocks_have_moved_on() {
    let found = slots("30 2 * * *", "Europe/Berlin", "2024-03-30T12:00:00Z", 2);
    assert_eq!(found, ["2024-03-31T01:00:00Z", "2024-04-01T00:30:00Z"]);
    let several = slots("*/20 2 * * *", "Europe/Berlin", "2024-03-30T12:00:00Z", 2);
    assert_eq!(several, ["2024-03-31T01:00:00Z", "2024-04-01T00:00:00Z"], "all of the gap together run once");
}

#[test]
fn a_repeated_local_time_runs_the_first_time_only() {
    let found = slots("30 2 * * *", "Europe/Berlin", "2024-10-26T12:00:00Z", 2);
    assert_eq!(found, ["2024-10-27T00:30:00Z", "2024-10-28T01:30:00Z"]);
    let second_pass = slots("30 2 * * *", "Europe/Berlin", "2024-10-27T01:10:00Z", 1);
    assert_eq!(second_pass, ["2024-10-28T01:30:00Z"]);
}

#[test]
fn with_every_hour_elapsed_time_counts() {
    let autumn = slots("*/30 * * * *", "Europe/Berlin", "2024-10-27T00:15:00Z", 4);
    assert_eq!(
        autumn,
        ["2024-10-27T00:30:00Z", "2024-10-27T01:00:00Z", "2024-10-27T01:30:00Z", "2024-10-27T02:00:00Z"]
    );
    let spring = slots("45 * * * *", "Europe/Berlin", "2024-03-31T00:00:00Z", 3);
    assert_eq!(spring, ["2024-03-31T00:45:00Z", "2024-03-31T01:45:00Z", "2024-03-31T02:45:00Z"]);
    // Half an hour back: 02:00 becomes 01:30, and 01:45 comes twice.
    let half = slots("45 * * * *", "Australia/Lord_Howe", "2024-04-06T14:40:00Z", 3);
    assert_eq!(half, ["2024-04-06T14:45:00Z", "2024-04-06T15:15:00Z", "2024-04-06T16:15:00Z"]);
}

#[test]
fn a_wrong_expression_is_refused_with_its_field_and_what_is_allowed() {
    for (expression, expected) in [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("0 0 0 1 1 * 2024", "7 fields"),
        ("@often", "@daily"),
        ("60 * * * *", "\"60\" (minute): allowed are *, 0-59"),
        ("* 24 * * *", "(hour): allowed are *, 0-23"),
        ("* * 0 * *", "(day of month)"),
        ("* * * 13 *", "(month)"),
        ("* * * * 8", "(day of week)"),
        ("* * * * mon-", "(day of week)"),
        ("* * * * sat-mon", "(day of week)"),
        ("*/0 * * * *", "(minute)"),
        ("5-1 * * * *", "(minute)"),
        ("1, * * * *", "(minute)"),
        ("61 * * * * *", "(second)"),
        ("0 0 30 2 *", "no day matches"),
    ] {
        let reason = Schedule::parse(expression, Tz::UTC).unwrap_err();
        assert!(reason.contains(expected), "{expression:?}: {reason}");
    }
}

#[test]
fn beyond_the_year_2100_and_at_the_ends_of_time_there_is_an_answer() {
    let schedule = Schedule::parse("* * * * *", Tz::UTC).unwrap();
    assert_eq!(schedule.next_after(i64::MIN), Some(60_000));
    assert_eq!(schedule.next_after(i64::MAX), None);
    assert_eq!(schedule.next_after(ms("2100-12-31T23:59:30Z")), None);
    // Apia skipped 30 December 2011.
    let skipped = slots("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", 2);
    assert_eq!(skipped, ["2011-12-30T10:00:00Z", "2012-12-29T22:00:00Z"]);
}

fn list(values: &[u32]) -> String {
    values.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_next_slot_is_the_first_minute_that_matches(
        minutes in prop::collection::vec(0u32..60, 1..4),
        hours in prop::collection::vec(0u32..24, 1..4),
        days in prop::option::of(prop::collection::vec(1u32..=31, 1..4)),
        weekdays in prop::option::of(prop::collection::vec(0u32..=7, 1..3)),
        start in 0i64..40_000_000,
    ) {
        let field = |values: &Option<Vec<u32>>| values.as_ref().map_or("*".to_owned(), |v| list(v));
        let expression =
            format!("{} {} {} * {}", list(&minutes), list(&hours), field(&days), field(&weekdays));
        let schedule = Schedule::parse(&expression, Tz::UTC).unwrap();
        let after_ms = 1_600_000_000_000 + start * 1_000;
        let matches = |at_ms: i64| {
            let at = chrono::DateTime::from_timestamp_millis(at_ms).unwrap();
            let day = days.as_ref().map(|days| days.contains(&at.day()));
            let sunday_based = at.weekday().num_days_from_sunday();
            let weekday = weekdays.as_ref().map(|w| w.iter().any(|d| d % 7 == sunday_based));
            let any_day = match (day, weekday) {
                (Some(day), Some(weekday)) => day || weekday,
                (day, weekday) => day.unwrap_or(true) && weekday.unwrap_or(true),
            };
            any_day && minutes.contains(&at.minute()) && hours.contains(&at.hour())
        };
        let first_ms = (after_ms / 60_000 + 1) * 60_000;
        let expected = (0..70 * 1_440).map(|minute| first_ms + minute * 60_000).find(|at| matches(*at));
        prop_assert_eq!(schedule.next_after(after_ms), expected, "{}", expression);
    }
}
