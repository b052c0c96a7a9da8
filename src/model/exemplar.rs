//! Exemplars: single observations with the labels of a trace.

use std::cmp::Ordering;

use super::labels::Labels;

/// One exemplar of a series.
#[derive(Debug, Clone)]
pub struct Exemplar {
    /// The labels of the observation, such as `trace_id`; not those of the series.
    pub labels: Labels,
    /// The observed value; every bit pattern is meaningful.
    pub value: f64,
    /// When, in milliseconds since the Unix epoch.
    pub ts_ms: i64,
}

impl PartialEq for Exemplar {
    /// Compares bit patterns.
    fn eq(&self, other: &Self) -> bool {
        self.ts_ms == other.ts_ms
            && self.value.to_bits() == other.value.to_bits()
            && self.labels == other.labels
    }
}

impl Eq for Exemplar {}

impl Exemplar {
    /// Orders the exemplars of a series by time, labels and value.
    #[must_use]
    pub fn series_order(&self, other: &Self) -> Ordering {
        let by_content = || {
            let by_labels = self.labels.cmp(&other.labels);
            by_labels.then_with(|| self.value.to_bits().cmp(&other.value.to_bits()))
        };
        self.ts_ms.cmp(&other.ts_ms).then_with(by_content)
    }
}

/// Sorts exemplars by time, labels and value and leaves one of equal ones.
pub fn normalize_exemplars(exemplars: &mut Vec<Exemplar>) {
    exemplars.sort_by(Exemplar::series_order);
    exemplars.dedup();
}
