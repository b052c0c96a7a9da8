//! Bucket counts turned around: from buckets by sample to samples by bucket.

use super::layout::{Side, is_bare};
use crate::model::{HistogramSample, Span};

/// The counts of one side of a row: all samples of the first bucket, then of the second; `None` where a sample does
/// not have the bucket.
pub(super) struct Matrix<T> {
    samples: usize,
    cells: Vec<Option<T>>,
}

impl<T: Copy> Matrix<T> {
    /// Gathers the counts of samples; `counts` returns spans and absolute counts of one.
    pub(super) fn gather<'a>(
        side: &Side,
        samples: &'a [HistogramSample],
        counts: impl Fn(&'a HistogramSample) -> Option<(&'a [Span], Vec<T>)>,
    ) -> Self {
        let mut cells = vec![None; side.buckets * samples.len()];
        let mut known: Option<(&[Span], Option<Vec<usize>>)> = None;
        for (i, sample) in samples.iter().enumerate().filter(|(_, sample)| !is_bare(sample)) {
            let Some((spans, counts)) = counts(sample) else { continue };
            // Neighbouring samples mostly have the same spans.
            if known.as_ref().is_none_or(|(before, _)| *before != spans) {
                known = Some((spans, side.numbers_of(spans, counts.len())));
            }
            let numbers = known.as_ref().and_then(|(_, numbers)| numbers.as_ref());
            for (j, count) in counts.into_iter().enumerate() {
                let bucket = numbers.map_or(Some(j), |numbers| numbers.get(j).copied());
                if let Some(cell) = bucket.and_then(|bucket| cells.get_mut(bucket * samples.len() + i)) {
                    *cell = Some(count);
                }
            }
        }
        Self { samples: samples.len(), cells }
    }

    /// Returns the counts of each bucket over the samples.
    pub(super) fn buckets(&self) -> impl Iterator<Item = &[Option<T>]> {
        self.cells.chunks_exact(self.samples.max(1))
    }
}

/// Returns absolute counts from differences between neighbouring buckets.
pub(super) fn absolute(differences: &[i64]) -> Vec<i64> {
    let mut count = 0i64;
    let next = |difference: &i64| {
        count = count.wrapping_add(*difference);
        count
    };
    differences.iter().map(next).collect()
}
