//! The samples of some series, collected from the logs.

use super::HeadRules;
use super::series::SeriesTable;
use crate::restore::RestoreError;
use crate::restore::filter::{damaged, decode};
use crate::restore::records::LogRecords;
use crate::tsdb::chunk::SampleValue;
use crate::tsdb::wal::{Record, RecordKind, decode_samples};

/// A sample of a series.
type Point = (i64, SampleValue);

/// The samples of one series.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) rank: u32,
    /// The newest in-order time, those in the tail included.
    last_ms: i64,
    in_order: Vec<Point>,
    late: Vec<Point>,
}

/// Which series a thread collects in a pass: every `step`-th rank of a range, from `first` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) first: u32,
    pub(super) end: u32,
    pub(super) step: u32,
}

impl Share {
    /// Returns the place of a rank in the share.
    #[inline]
    fn place(&self, rank: u32) -> Option<usize> {
        let inside = rank >= self.first && rank < self.end && (rank - self.first).is_multiple_of(self.step);
        inside.then(|| ((rank - self.first) / self.step) as usize)
    }
}

/// Reads both logs and returns the samples of a share of the series, in order of rank.
pub(super) fn collect(
    wal: &LogRecords,
    wbl: &LogRecords,
    table: &SeriesTable,
    rules: &HeadRules,
    share: Share,
) -> Result<Vec<Collected>, RestoreError> {
    let ranks = (share.first..share.end).step_by(share.step as usize);
    let mut all: Vec<Collected> = ranks
        .map(|rank| Collected { rank, last_ms: i64::MIN, in_order: Vec::new(), late: Vec::new() })
        .collect();
    let place = |reference: u64| table.rank(reference).and_then(|rank| share.place(rank));
    wal.each(|data| {
        each_sample(data, |reference, ts_ms, value| {
            if ts_ms >= rules.cut_off_ms
                && ts_ms <= rules.until_ms
                && let Some(place) = place(reference)
            {
                all[place].take(ts_ms, value, rules.tail_ms);
            }
        })
    })?;
    wbl.each(|data| {
        each_sample(data, |reference, ts_ms, value| {
            if ts_ms <= rules.until_ms
                && let Some(place) = place(reference)
            {
                all[place].late.push((ts_ms, value.get()));
            }
        })
    })?;
    Ok(all)
}

/// A value that is copied out of its record only if it is wanted.
enum Value<'a> {
    Float(u64),
    Other(&'a mut dyn FnMut() -> SampleValue),
}

impl Value<'_> {
    #[inline]
    fn get(self) -> SampleValue {
        match self {
            Self::Float(bits) => SampleValue::Float(bits),
            Self::Other(take) => take(),
        }
    }
}

fn each_sample(data: &[u8], mut visit: impl FnMut(u64, i64, Value<'_>)) -> Result<(), RestoreError> {
    match RecordKind::of(data) {
        RecordKind::Samples | RecordKind::SamplesV2 => {
            decode_samples(data, |sample| {
                visit(sample.reference, sample.ts_ms, Value::Float(sample.value_bits));
            })
            .map_err(damaged)?;
        }
        RecordKind::Series
        | RecordKind::Tombstones
        | RecordKind::Exemplars
        | RecordKind::MmapMarkers
        | RecordKind::Metadata
        | RecordKind::MinValidTime
        | RecordKind::Unknown => {}
        _ => match decode(data)? {
            Record::Histograms { samples, .. } | Record::HistogramsV2(samples) => {
                for row in samples {
                    let mut histogram = Some(row.histogram);
                    let mut take = || SampleValue::Histogram(Box::new(histogram.take().unwrap_or_default()));
                    visit(row.reference, row.ts_ms, Value::Other(&mut take));
                }
            }
            Record::FloatHistograms { samples, .. } | Record::FloatHistogramsV2(samples) => {
                for row in samples {
                    let mut histogram = Some(row.histogram);
                    let mut take =
                        || SampleValue::FloatHistogram(Box::new(histogram.take().unwrap_or_default()));
                    visit(row.reference, row.ts_ms, Value::Other(&mut take));
                }
            }
            _ => {}
        },
    }
    Ok(())
}

impl Collected {
    #[inline]
    fn take(&mut self, ts_ms: i64, value: Value<'_>, tail_ms: i64) {
        if ts_ms <= self.last_ms {
            return;
        }
        self.last_ms = ts_ms;
        if ts_ms < tail_ms {
            self.in_order.push((ts_ms, value.get()));
        }
    }

    /// Returns the samples that count, in order of time, without those that were deleted.
    pub(super) fn into_points(self, table: &SeriesTable, deletes_late: bool) -> Vec<Point> {
        let deleted = table.deleted(self.rank);
        let Self { mut in_order, mut late, .. } = self;
        let is_deleted = |ts_ms: i64| deleted.iter().any(|(first, last)| (*first..=*last).contains(&ts_ms));
        if !deleted.is_empty() {
            in_order.retain(|(ts_ms, _)| !is_deleted(*ts_ms));
            // A series that was given up is gone with everything.
            let deletes_late = deletes_late || deleted.contains(&(i64::MIN, i64::MAX));
            late.retain(|(ts_ms, _)| !deletes_late || !is_deleted(*ts_ms));
        }
        if late.is_empty() {
            return in_order;
        }
        // Stable: of two with one time the late one comes first and stays, of late ones the first.
        late.append(&mut in_order);
        late.sort_by_key(|(ts_ms, _)| *ts_ms);
        late.dedup_by_key(|(ts_ms, _)| *ts_ms);
        late
    }
}
