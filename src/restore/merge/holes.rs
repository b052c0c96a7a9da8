//! Where a series has holes, and what fills them.

use crate::model::SeriesData;

/// A longer silence than so many intervals is a hole.
const HOLE_INTERVALS: i64 = 2;

/// With fewer samples a series' own interval is not known.
const STEPS_MIN: usize = 3;

/// A stretch of time between two instants that are no part of it.
type Gap = (i64, i64);

/// Returns the other's samples that lie in holes of a series: silences of more than two intervals between its times,
/// before the first and after the last. Both are sorted. A series without a sample is one hole.
pub(super) fn fill(times_ms: &[i64], mut other: SeriesData) -> SeriesData {
    if times_ms.is_empty() {
        return other;
    }
    let gaps = gaps(times_ms, &times_of(&other));
    let is_inside = |ts_ms: i64| {
        let next = gaps.partition_point(|(_, to_ms)| *to_ms <= ts_ms);
        gaps.get(next).is_some_and(|(from_ms, _)| *from_ms < ts_ms)
    };
    other.samples.retain(|sample| is_inside(sample.ts_ms));
    other.histograms.retain(|sample| is_inside(sample.ts_ms));
    other
}

/// Returns the times of all samples, sorted.
pub(super) fn times_of(data: &SeriesData) -> Vec<i64> {
    let floats = data.samples.iter().map(|sample| sample.ts_ms);
    let mut times_ms: Vec<i64> = floats.chain(data.histograms.iter().map(|sample| sample.ts_ms)).collect();
    if !data.histograms.is_empty() {
        times_ms.sort_unstable();
    }
    times_ms
}

/// Returns where samples of the other are wanted, in order of time.
fn gaps(times_ms: &[i64], their_times: &[i64]) -> Vec<Gap> {
    let (Some(first_ms), Some(last_ms)) = (times_ms.first(), times_ms.last()) else { return Vec::new() };
    let own = interval_ms(times_ms).filter(|_| times_ms.len() > STEPS_MIN);
    let Some(interval_ms) = own.or_else(|| interval_ms(their_times)) else { return Vec::new() };
    let hole_ms = interval_ms.saturating_mul(HOLE_INTERVALS);
    let margin_ms = interval_ms / 2;
    let mut gaps = Vec::new();
    if their_times.first().is_some_and(|their_ms| first_ms.saturating_sub(*their_ms) > hole_ms) {
        gaps.push((i64::MIN, first_ms.saturating_sub(margin_ms)));
    }
    for pair in times_ms.windows(2) {
        if pair[1].saturating_sub(pair[0]) > hole_ms {
            gaps.push((pair[0].saturating_add(margin_ms), pair[1].saturating_sub(margin_ms)));
        }
    }
    if their_times.last().is_some_and(|their_ms| their_ms.saturating_sub(*last_ms) > hole_ms) {
        gaps.push((last_ms.saturating_add(margin_ms), i64::MAX));
    }
    gaps
}

/// Returns the median step, where there is one above 0.
fn interval_ms(times_ms: &[i64]) -> Option<i64> {
    let mut steps: Vec<i64> = times_ms.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    let middle = steps.len() / 2;
    (!steps.is_empty()).then(|| *steps.select_nth_unstable(middle).1).filter(|interval_ms| *interval_ms > 0)
}
