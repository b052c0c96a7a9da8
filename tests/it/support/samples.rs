//! The plain model of what was written: series to sorted samples, values as bits.

use std::collections::BTreeMap;
use std::fmt::Write;

use prost::Message;

/// Labels of one series, sorted by name.
pub(crate) type LabelPairs = Vec<(String, String)>;

/// A label in every protocol of Prometheus and Thanos.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LabelMessage {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

/// Returns labels as they came.
pub(crate) fn pairs_of(labels: Vec<LabelMessage>) -> LabelPairs {
    labels.into_iter().map(|l| (l.name, l.value)).collect()
}

/// Returns labels as they are sent.
pub(crate) fn label_messages(labels: &LabelPairs) -> Vec<LabelMessage> {
    labels.iter().map(|(name, value)| LabelMessage { name: name.clone(), value: value.clone() }).collect()
}

const DIFFERENCES_SHOWN: usize = 8;

/// Returns sorted labels from literals.
pub(crate) fn label_pairs(pairs: &[(&str, &str)]) -> LabelPairs {
    let mut labels: LabelPairs = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    labels.sort();
    labels
}

/// Series with their samples `(ms, bits)`, each sorted by time.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct SampleSet {
    pub(crate) series: BTreeMap<LabelPairs, Vec<(i64, u64)>>,
}

impl SampleSet {
    /// Appends samples to a series; panics on time that does not advance, as that would be a sample given twice.
    pub(crate) fn append(&mut self, mut labels: LabelPairs, samples: impl IntoIterator<Item = (i64, u64)>) {
        labels.sort();
        let held = self.series.entry(labels).or_default();
        for sample in samples {
            if let Some(last) = held.last() {
                assert!(
                    last.0 < sample.0,
                    "a reader gave {} after {}: doubled or unsorted",
                    sample.0,
                    last.0
                );
            }
            held.push(sample);
        }
    }

    /// Returns the number of samples.
    pub(crate) fn samples(&self) -> usize {
        self.series.values().map(Vec::len).sum()
    }

    /// Returns the samples inside `[start, end]`, without series that have none there.
    pub(crate) fn within(&self, start_ms: i64, end_ms: i64) -> Self {
        let mut kept = Self::default();
        for (labels, samples) in &self.series {
            let inside: Vec<_> =
                samples.iter().copied().filter(|(ts, _)| (start_ms..=end_ms).contains(ts)).collect();
            if !inside.is_empty() {
                kept.series.insert(labels.clone(), inside);
            }
        }
        kept
    }

    /// Returns the set with labels removed from every series.
    pub(crate) fn without_labels(&self, names: &[&str]) -> Self {
        let mut kept = Self::default();
        for (labels, samples) in &self.series {
            let labels = labels.iter().filter(|(n, _)| !names.contains(&n.as_str())).cloned().collect();
            kept.append(labels, samples.iter().copied());
        }
        kept
    }

    /// Panics with the first differences when `got` is not this set, bit for bit.
    pub(crate) fn assert_same(&self, got: &Self, reader: &str) {
        if self == got {
            return;
        }
        let mut text = format!(
            "{reader}: {} series, {} samples expected; {} series, {} samples came\n",
            self.series.len(),
            self.samples(),
            got.series.len(),
            got.samples()
        );
        for line in self.differences(got).into_iter().take(DIFFERENCES_SHOWN) {
            let _ = writeln!(text, "  {line}");
        }
        panic!("{text}");
    }

    fn differences(&self, got: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (labels, expected) in &self.series {
            match got.series.get(labels) {
                None => lines.push(format!("missing series {labels:?} ({} samples)", expected.len())),
                Some(came) if came != expected => {
                    let at = expected.iter().zip(came).position(|(a, b)| a != b);
                    let at = at.unwrap_or(expected.len().min(came.len()));
                    lines.push(format!(
                        "{labels:?}: {} samples expected, {} came; first difference at {at}: {} and {}",
                        expected.len(),
                        came.len(),
                        shown(expected.get(at)),
                        shown(came.get(at)),
                    ));
                }
                Some(_) => {}
            }
        }
        for labels in got.series.keys().filter(|l| !self.series.contains_key(*l)) {
            lines.push(format!("unexpected series {labels:?}"));
        }
        lines
    }
}

fn shown(sample: Option<&(i64, u64)>) -> String {
    sample.map_or_else(
        || "nothing".to_owned(),
        |(ts, bits)| format!("{} at {ts} ({bits:#x})", f64::from_bits(*bits)),
    )
}
