//! Verification of histograms and metadata, and what that of rows without samples shares.

use arrow::datatypes::Int32Type;

use super::{Findings, are_all_found, check_order, check_times, wrong_hash};
use crate::block::MetadataReader;
use crate::block::error::BlockError;
use crate::block::meta::BlockStats;
use crate::block::reader::BlockReader;
use crate::block::schema::COUNTS;
use crate::model::TimeRange;

/// So many histograms are decoded at once, of some hundred bytes each; a row is always read whole.
const BATCH_HISTOGRAMS: u64 = 1 << 13;

impl BlockReader {
    /// Decodes all histograms and compares: the order of rows and samples, the labels' hashes, each row's times and
    /// counts with its samples, and the footer with the whole.
    pub(super) async fn verify_histograms(
        &self,
        advance: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Vec<String>, BlockError> {
        let rows = self.find_rows(&[], TimeRange::ALL).await?;
        let hashes = self.read_hashes().await?;
        let stale = self.read_column::<Int32Type>(self.block.sample_column(COUNTS[1])?).await?;
        let mut findings = Findings::default();
        if !are_all_found(&rows, hashes.len(), &mut findings) {
            return Ok(findings.found);
        }
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
                let markers = histograms.iter().filter(|sample| sample.histogram.is_stale()).count();
                let mut wrong = Vec::from_iter(wrong_hash(hashes[at], &rows[at].labels));
                if stale.get(at).and_then(|said| usize::try_from(*said).ok()) != Some(markers) {
                    wrong.push("_stale is not the number of its stale markers");
                }
                check_times(&rows[at], &times, wrong, &mut findings);
                findings.stale += markers as u64;
            }
            advance(read.iter().map(|histograms| histograms.len() as u64).sum());
            start = end;
        }
        self.check_footer(&rows, &mut findings);
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
            family.iter().enumerate().for_each(|(at, entry)| findings.count(entry.since_ms, at == 0));
        }
        let ends = [entries.first(), entries.last()].map(|entry| entry.map_or("", |entry| &entry.family));
        findings.compare(&self.meta().stats, ends);
        Ok(findings.found)
    }
}

impl Findings {
    /// Counts a row of the series or family before, or of a new one.
    pub(in crate::block) fn count(&mut self, ms: i64, is_new: bool) {
        self.series += u64::from(is_new);
        self.samples += 1;
        let (min_ms, max_ms) = self.times.unwrap_or((ms, ms));
        self.times = Some((min_ms.min(ms), max_ms.max(ms)));
    }

    /// Compares what was counted, and the names of the first and the last row, with the footer.
    pub(in crate::block) fn compare(&mut self, stats: &BlockStats, ends: [&str; 2]) {
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
        if [stats.metric_min.as_str(), stats.metric_max.as_str()] != ends {
            self.add(|| "the footer's names are not the first and the last".to_owned());
        }
    }
}
