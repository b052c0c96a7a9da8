use super::figures::{Figures, Outcome};
use super::*;
use crate::runtime::ManualClock;

#[test]
fn percentiles_are_within_five_percent_of_the_true_ones() {
    let clock = ManualClock::new(0);
    let figures = Figures::new(Arc::clone(&clock) as Arc<dyn Clock>);
    clock.advance_ms(2_000);
    for ms in 1..=1_000 {
        figures.count("204", (10, 100), f64::from(ms), Outcome::Acknowledged);
    }
    let report = figures.report();
    for (found, wanted) in
        [(report.latency_p50_ms, 500.0), (report.latency_p90_ms, 900.0), (report.latency_p99_ms, 990.0)]
    {
        assert!(found >= wanted && found <= wanted * 1.05, "{found} is not {wanted}");
    }
    assert_eq!(report.latency_max_ms, 1_000.0);
    assert_eq!((report.samples_acknowledged, report.samples_per_second), (10_000, 5_000.0));
    assert_eq!((report.bytes_sent, report.bytes_per_sample), (100_000, 10.0));
}

#[test]
fn refused_and_failed_requests_are_told_from_acknowledged_ones() {
    let figures = Figures::new(ManualClock::new(0));
    figures.count("400", (10, 1), 1.0, Outcome::Refused(4, "too old".to_owned()));
    figures.count("503", (10, 1), 1.0, Outcome::Failed("busy".to_owned()));
    figures.count("204", (10, 1), 1.0, Outcome::Acknowledged);
    let report = figures.report();
    assert_eq!((report.samples_acknowledged, report.samples_refused), (16, 4));
    assert_eq!((report.requests_acknowledged, report.requests_failed), (1, 1));
    assert_eq!(report.first_failure.as_deref(), Some("too old"));
    assert_eq!(report.statuses.len(), 3);
}

#[test]
fn rates_are_numbers_above_zero_or_max() {
    assert_eq!(rate("max"), Ok(Rate::Max));
    assert_eq!(rate("2500.5"), Ok(Rate::PerSecond(2_500.5)));
    for wrong in ["0", "-1", "fast", "inf", "NaN", ""] {
        assert!(rate(wrong).is_err(), "{wrong}");
    }
}
