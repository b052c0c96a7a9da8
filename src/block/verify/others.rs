//! Verification of histograms, exemplars and metadata.

use std::cmp::Ordering;

use super::{Findings, check_order, check_times};
use crate::block::columns::block_order;
use crate::block::error::BlockError;
use crate::block::meta::BlockStats;
use crate::block::reader::BlockReader;
use crate::block::{ExemplarReader, MetadataReader};
use crate::model::{TimeRange, normalize_exemplars};

/// So many histograms are decoded at once, of some hundred bytes each; a row is always read whole.
const BATCH_HISTOGRAMS: u64 = 1 << 13;

impl BlockReader {
    /// Decodes all histograms and compares: the order of rows and samples, each row's times and count with its samples,
    /// and the footer with the whole.
    pub(super) async fn verify_histograms(
        &self,
        advance: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Vec<String>, BlockError> {
        let rows = self.find_rows(&[], TimeRange::ALL).await?;
        let mut findings = Findings::default();
        let mut start = 0;
        while start < rows.len() {
            let mut samples = 0;
            let fits = rows[start..].iter().take_while(|row| {
                samples += u64::from(row.samples);
                samples <= BATCH_HISTOGRAMS
            });
            let end = start + fits.count().max(1);
            let numbers: Vec<u32> = rows[start..end].iter().map(|row| row.row).collect();
            let read = self.read_histograms(&numbers).await?;
            for (at, histograms) in (start..end).zip(&read) {
                check_order(at.checked_sub(1).map(|before| &rows[before]), &rows[at], &mut findings);
                let times: Vec<i64> = histograms.iter().map(|sample| sample.ts_ms).collect();
                check_times(&rows[at], &times, Vec::new(), &mut findings);
                findings.stale +=
                    histograms.iter().filter(|sample| sample.histogram.is_stale()).count() as u64;
            }
            advance(read.iter().map(|histograms| histograms.len() as u64).sum());
            start = end;
        }
        self.check_footer(&rows, &mut findings);
        Ok(findings.found)
    }
}

impl ExemplarReader {
    /// Decodes all exemplars and compares their order and the footer. Returns what is wrong.
    ///
    /// # Errors
    /// Failed reads, and damage that keeps the rest from being decoded.
    pub async fn verify(&self) -> Result<Vec<String>, BlockError> {
        let found = self.find(&[], TimeRange::ALL).await?;
        let mut findings = Findings::default();
        for (before, (labels, exemplars)) in found.iter().enumerate() {
            let previous = before.checked_sub(1).map(|before| &found[before].0);
            if previous.is_some_and(|previous| block_order(previous, labels) != Ordering::Less) {
                findings.add(|| format!("series {labels} is not in order"));
            }
            let mut sorted = exemplars.clone();
            normalize_exemplars(&mut sorted);
            if sorted != *exemplars {
                findings.add(|| format!("the exemplars of {labels} are not in order, or one is there twice"));
            }
            findings.count(exemplars.iter().map(|exemplar| exemplar.ts_ms));
        }
        findings.compare(&self.meta().stats);
        Ok(findings.found)
    }
}

impl MetadataReader {
    /// Decodes all entries and compares their order and the footer. Returns what is wrong.
    ///
    /// # Errors
    /// Failed reads, and damage that keeps the rest from being decoded.
    pub async fn verify(&self) -> Result<Vec<String>, BlockError> {
        let entries = self.entries().await?;
        let mut findings = Findings::default();
        for pair in entries.windows(2) {
            if (&pair[0].family, pair[0].since_ms) > (&pair[1].family, pair[1].since_ms) {
                findings.add(|| format!("family {} is not in order", pair[1].family));
            }
        }
        for family in entries.chunk_by(|one, other| one.family == other.family) {
            findings.count(family.iter().map(|entry| entry.since_ms));
        }
        findings.compare(&self.meta().stats);
        Ok(findings.found)
    }
}

impl Findings {
    /// Counts what one series or family has, by its times.
    fn count(&mut self, times: impl Iterator<Item = i64>) {
        self.series += 1;
        for ms in times {
            self.samples += 1;
            let (min_ms, max_ms) = self.times.unwrap_or((ms, ms));
            self.times = Some((min_ms.min(ms), max_ms.max(ms)));
        }
    }

    /// Compares what was counted with the footer.
    fn compare(&mut self, stats: &BlockStats) {
        let (min_ms, max_ms) = self.times.unwrap_or((stats.min_time_ms, stats.max_time_ms - 1));
        let counted = [
            ("rows", stats.rows, self.samples),
            ("series", stats.series, self.series),
            ("entries", stats.samples, self.samples),
        ];
        for (what, said, found) in counted {
            if said != found {
                self.add(|| format!("the footer says {said} {what}, there are {found}"));
            }
        }
        if (stats.min_time_ms, stats.max_time_ms) != (min_ms, max_ms.saturating_add(1)) {
            self.add(|| format!("the footer's times are not those of its rows, {min_ms} to {max_ms} ms"));
        }
    }
}
