//! Where a series has holes, and what fills them.

use crate::model::Sample;

/// A longer silence than so many intervals is a hole.
const HOLE_INTERVALS: i64 = 2;

/// With fewer samples a series' own interval is not known.
const STEPS_MIN: usize = 3;

/// Returns the other's samples that lie in holes of a series: silences of more than two intervals between its times,
/// before the first and after the last. Both are sorted. A series without a sample is one hole.
pub(super) fn fill(times_ms: &[i64], other: &[Sample]) -> Vec<Sample> {
    let (Some(first_ms), Some(last_ms)) = (times_ms.first(), times_ms.last()) else { return other.to_vec() };
    let their_times: Vec<i64> = other.iter().map(|sample| sample.ts_ms).collect();
    let own = interval_ms(times_ms).filter(|_| times_ms.len() > STEPS_MIN);
    let Some(interval_ms) = own.or_else(|| interval_ms(&their_times)) else { return Vec::new() };
    let hole_ms = interval_ms.saturating_mul(HOLE_INTERVALS);
    let margin_ms = interval_ms / 2;
    let mut filling = Vec::new();
    let mut rest = other;
    let mut take = |from_ms: i64, to_ms: i64| {
        let begin = rest.partition_point(|sample| sample.ts_ms <= from_ms);
        let end = rest.partition_point(|sample| sample.ts_ms < to_ms).max(begin);
        filling.extend_from_slice(&rest[begin..end]);
        rest = &rest[end..];
    };
    if their_times.first().is_some_and(|their_ms| first_ms.saturating_sub(*their_ms) > hole_ms) {
        take(i64::MIN, first_ms.saturating_sub(margin_ms));
    }
    for pair in times_ms.windows(2) {
        if pair[1].saturating_sub(pair[0]) > hole_ms {
            take(pair[0].saturating_add(margin_ms), pair[1].saturating_sub(margin_ms));
        }
    }
    if their_times.last().is_some_and(|their_ms| their_ms.saturating_sub(*last_ms) > hole_ms) {
        take(last_ms.saturating_add(margin_ms), i64::MAX);
    }
    filling
}

/// Returns the median step, where there is one above 0.
fn interval_ms(times_ms: &[i64]) -> Option<i64> {
    let mut steps: Vec<i64> = times_ms.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    let middle = steps.len() / 2;
    (!steps.is_empty()).then(|| *steps.select_nth_unstable(middle).1).filter(|interval_ms| *interval_ms > 0)
}
