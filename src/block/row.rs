//! Rows: how a run of samples is cut, and the statistics of one row.

use crate::model::{Labels, Sample, TimeRange, is_stale};

/// The most samples in one row.
pub const ROW_SAMPLES_MAX: usize = 4_096;

/// One series with its samples, sorted by time, one per timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesRun {
    /// The series' labels.
    pub labels: Labels,
    /// Its samples.
    pub samples: Vec<Sample>,
}

/// Cuts a run's samples into rows: at aligned 8 h windows and after [`ROW_SAMPLES_MAX`] samples.
pub(super) fn split_rows(mut samples: &[Sample]) -> impl Iterator<Item = &[Sample]> {
    std::iter::from_fn(move || {
        let window = TimeRange::raw_window(samples.first()?.ts_ms);
        // The window at the end of time is cut short by saturation and holds what is left.
        let inside = samples.partition_point(|s| s.ts_ms < window.end_ms || window.end_ms == i64::MAX);
        let (row, rest) = samples.split_at(inside.min(ROW_SAMPLES_MAX));
        samples = rest;
        Some(row)
    })
}

/// Statistics over the finite values of a row, left to right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Finite {
    pub(super) sum: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) first: f64,
    pub(super) last: f64,
    /// What a counter grew by; a drop counts as a reset to zero.
    pub(super) increase: f64,
}

/// The statistics of one row.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct RowSummary {
    pub(super) stale: usize,
    pub(super) nonfinite: usize,
    pub(super) finite: Option<Finite>,
}

/// Computes a row's statistics.
pub(super) fn summarize(samples: &[Sample]) -> RowSummary {
    let mut summary = RowSummary::default();
    for sample in samples {
        let value = sample.value;
        if !value.is_finite() {
            if is_stale(value) {
                summary.stale += 1;
            } else {
                summary.nonfinite += 1;
            }
            continue;
        }
        match &mut summary.finite {
            Some(f) => {
                f.sum += value;
                f.min = if value < f.min { value } else { f.min };
                f.max = if value > f.max { value } else { f.max };
                f.increase += if value >= f.last { value - f.last } else { value };
                f.last = value;
            }
            none => {
                let (sum, min, max, first, last) = (value, value, value, value, value);
                *none = Some(Finite { sum, min, max, first, last, increase: 0.0 });
            }
        }
    }
    summary
}
