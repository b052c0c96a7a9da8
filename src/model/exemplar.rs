//! Exemplars: single observations with the labels of a trace.

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

/// Sorts exemplars by time, labels and value and leaves one of equal ones.
pub fn normalize_exemplars(exemplars: &mut Vec<Exemplar>) {
    exemplars.sort_by(|a, b| {
        let by_content = a.labels.cmp(&b.labels).then(a.value.to_bits().cmp(&b.value.to_bits()));
        a.ts_ms.cmp(&b.ts_ms).then(by_content)
    });
    exemplars.dedup();
}
