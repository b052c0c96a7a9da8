//! Which records go into the restored log, and in what form.

use std::collections::HashSet;

use super::RestoreError;
use super::records::LogRecords;
use super::request::{Selector, ServerVersion, is_selected};
use crate::tsdb::wal::{Record, RecordError, RecordKind, decode_samples, summarize};

/// The first version that reads histograms with custom buckets.
const READS_CUSTOM_BUCKETS: ServerVersion = ServerVersion::new(3, 2);

/// The first version that reads records with start timestamps of floats and histograms.
const READS_START_TIMES: ServerVersion = ServerVersion::new(3, 12);

/// What a restored log holds.
#[derive(Debug, Clone, Default)]
pub(super) struct RecordRules {
    /// Samples and exemplars after this time are left out.
    pub(super) until_ms: Option<i64>,
    /// Samples before this time are left out: they stand in blocks. The last time of all leaves out every sample.
    pub(super) from_ms: Option<i64>,
    /// Only these series, where not all are wanted.
    pub(super) series: Option<HashSet<u64>>,
    /// Who has to read it.
    pub(super) version: Option<ServerVersion>,
}

impl RecordRules {
    /// Finds the series that are wanted: those that a selector takes and that have something in this log.
    pub(super) fn choose_series(
        &mut self,
        wal: &LogRecords,
        wbl: &LogRecords,
        selectors: &[Selector],
    ) -> Result<(), RestoreError> {
        let only_seen = self.until_ms.is_some() || self.drops_samples();
        if selectors.is_empty() && !only_seen {
            return Ok(());
        }
        let (mut selected, mut seen) = (HashSet::new(), HashSet::new());
        let mut look = |data: &[u8]| -> Result<(), RestoreError> {
            match RecordKind::of(data) {
                RecordKind::Series if !selectors.is_empty() => {
                    let Record::Series(rows) = decode(data)? else { return Ok(()) };
                    for row in rows {
                        if is_selected(selectors, &row.labels.to_labels().map_err(damaged)?) {
                            selected.insert(row.reference);
                        }
                    }
                }
                RecordKind::Metadata if self.drops_samples() => {
                    let Record::Metadata(rows) = decode(data)? else { return Ok(()) };
                    seen.extend(rows.iter().map(|row| row.reference));
                }
                kind if self.drops_samples() && holds_samples(kind) => {}
                _ => each_point(data, |reference, ts_ms| {
                    if self.until_ms.is_none_or(|until_ms| ts_ms <= until_ms) {
                        seen.insert(reference);
                    }
                })?,
            }
            Ok(())
        };
        wal.each(&mut look)?;
        wbl.each(&mut look)?;
        self.series = Some(match (only_seen, selectors.is_empty()) {
            (true, true) => seen,
            (true, false) => selected.intersection(&seen).copied().collect(),
            (false, _) => selected,
        });
        Ok(())
    }

    /// Returns whether the log holds no samples at all: they stand in blocks.
    fn drops_samples(&self) -> bool {
        self.from_ms == Some(i64::MAX)
    }

    /// Returns whether every record stays as it is, but for kinds that no restored log has.
    fn keeps_all(&self) -> bool {
        self.until_ms.is_none() && self.from_ms.is_none() && self.series.is_none() && self.version.is_none()
    }

    /// Hands on what remains of a record.
    ///
    /// # Errors
    /// A damaged record; one that the wanted version cannot read and that has no older form.
    pub(super) fn apply(
        &self,
        data: &[u8],
        scratch: &mut Vec<u8>,
        mut emit: impl FnMut(&[u8]) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        let kind = RecordKind::of(data);
        // The markers name chunks in files that are not restored, and later files may take their names.
        if kind == RecordKind::MmapMarkers {
            return Ok(());
        }
        if self.keeps_all() {
            return emit(data);
        }
        let of_series = matches!(kind, RecordKind::Series | RecordKind::Tombstones | RecordKind::Metadata);
        match &self.series {
            None if of_series => return emit(data),
            Some(series) if of_series && series.is_empty() => return Ok(()),
            _ if self.drops_samples() && holds_samples(kind) => return Ok(()),
            _ => {}
        }
        if kind == RecordKind::Samples {
            if self.drops_whole(data)? {
                return Ok(());
            }
            if self.keeps_whole(data)? {
                return emit(data);
            }
        }
        let mut record = decode(data)?;
        self.thin_out(&mut record);
        if is_empty(&record) {
            return Ok(());
        }
        let records = match self.version {
            Some(version) if version < READS_START_TIMES => record.without_start_times(),
            _ => vec![record],
        };
        for record in records {
            self.check_version(record.kind())?;
            scratch.clear();
            record.encode(scratch);
            emit(scratch)?;
        }
        Ok(())
    }

    /// Returns whether nothing of a record with float samples is left out.
    fn keeps_whole(&self, data: &[u8]) -> Result<bool, RestoreError> {
        let mut keeps = true;
        decode_samples(data, |sample| keeps &= self.keeps(sample.reference, sample.ts_ms))
            .map_err(damaged)?;
        Ok(keeps)
    }

    fn drops_whole(&self, data: &[u8]) -> Result<bool, RestoreError> {
        let times_ms = summarize(data).map_err(damaged)?.times_ms;
        let too_early = |max_ms: i64| self.from_ms.is_some_and(|from_ms| max_ms < from_ms);
        Ok(times_ms.is_none_or(|(_, max_ms)| too_early(max_ms)))
    }

    fn keeps(&self, reference: u64, ts_ms: i64) -> bool {
        self.until_ms.is_none_or(|until_ms| ts_ms <= until_ms)
            && self.from_ms.is_none_or(|from_ms| ts_ms >= from_ms)
            && self.has(reference)
    }

    fn has(&self, reference: u64) -> bool {
        self.series.as_ref().is_none_or(|series| series.contains(&reference))
    }

    fn thin_out(&self, record: &mut Record<'_>) {
        match record {
            Record::Series(rows) => rows.retain(|row| self.has(row.reference)),
            Record::Samples(rows) | Record::SamplesV2(rows) => {
                rows.retain(|row| self.keeps(row.reference, row.ts_ms));
            }
            Record::Histograms { samples, .. } | Record::HistogramsV2(samples) => {
                samples.retain(|row| self.keeps(row.reference, row.ts_ms));
            }
            Record::FloatHistograms { samples, .. } | Record::FloatHistogramsV2(samples) => {
                samples.retain(|row| self.keeps(row.reference, row.ts_ms));
            }
            Record::Exemplars(rows) => rows.retain(|row| {
                self.until_ms.is_none_or(|until_ms| row.ts_ms <= until_ms) && self.has(row.reference)
            }),
            Record::Tombstones(rows) => rows.retain(|row| self.has(row.reference)),
            Record::Metadata(rows) => rows.retain(|row| self.has(row.reference)),
            Record::MmapMarkers(rows) => rows.clear(),
            Record::MinValidTime(_) | Record::Unknown(_) => {}
        }
    }

    fn check_version(&self, kind: RecordKind) -> Result<(), RestoreError> {
        let custom = matches!(kind, RecordKind::CustomHistograms | RecordKind::CustomFloatHistograms);
        match self.version {
            Some(version) if custom && version < READS_CUSTOM_BUCKETS => {
                Err(RestoreError::Unsupported(format!(
                    "the log holds native histograms with custom buckets, which version {version} drops without a word: \
                 restore for {READS_CUSTOM_BUCKETS} or later, or leave those series out with --match"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Returns whether records of a kind hold samples, with or without histograms.
fn holds_samples(kind: RecordKind) -> bool {
    use RecordKind::{Exemplars, Metadata, MinValidTime, MmapMarkers, Series, Tombstones, Unknown};
    !matches!(kind, Series | Tombstones | Exemplars | MmapMarkers | Metadata | MinValidTime | Unknown)
}

/// Calls `visit` with series and time of everything in a record that has both.
fn each_point(data: &[u8], mut visit: impl FnMut(u64, i64)) -> Result<(), RestoreError> {
    match RecordKind::of(data) {
        RecordKind::Samples | RecordKind::SamplesV2 => {
            decode_samples(data, |sample| visit(sample.reference, sample.ts_ms)).map_err(damaged)?;
        }
        RecordKind::Series | RecordKind::Tombstones | RecordKind::MmapMarkers | RecordKind::Metadata => {}
        _ => match decode(data)? {
            Record::Histograms { samples, .. } | Record::HistogramsV2(samples) => {
                samples.iter().for_each(|row| visit(row.reference, row.ts_ms));
            }
            Record::FloatHistograms { samples, .. } | Record::FloatHistogramsV2(samples) => {
                samples.iter().for_each(|row| visit(row.reference, row.ts_ms));
            }
            Record::Exemplars(rows) => rows.iter().for_each(|row| visit(row.reference, row.ts_ms)),
            _ => {}
        },
    }
    Ok(())
}

fn is_empty(record: &Record<'_>) -> bool {
    match record {
        Record::Series(rows) => rows.is_empty(),
        Record::Samples(rows) | Record::SamplesV2(rows) => rows.is_empty(),
        Record::Histograms { samples, .. } | Record::HistogramsV2(samples) => samples.is_empty(),
        Record::FloatHistograms { samples, .. } | Record::FloatHistogramsV2(samples) => samples.is_empty(),
        Record::Exemplars(rows) => rows.is_empty(),
        Record::Tombstones(rows) => rows.is_empty(),
        Record::Metadata(rows) => rows.is_empty(),
        Record::MmapMarkers(rows) => rows.is_empty(),
        Record::MinValidTime(_) | Record::Unknown(_) => false,
    }
}

pub(super) fn decode(data: &[u8]) -> Result<Record<'_>, RestoreError> {
    Record::decode(data).map_err(damaged)
}

pub(super) fn damaged(error: RecordError) -> RestoreError {
    RestoreError::Damaged { what: "a record of the archived log".to_owned(), reason: error.to_string() }
}
