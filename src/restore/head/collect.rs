//! The samples of some series, collected from the logs.
//!
//! A log has the samples of all series side by side. Those of a plain series, floats in order of which none was deleted,
//! are encoded as they come, some two bytes each; all others wait for their series to be complete.

use super::HeadRules;
use super::series::SeriesTable;
use crate::restore::RestoreError;
use crate::restore::filter::{damaged, decode};
use crate::restore::records::LogRecords;
use crate::tsdb::block::SeriesChunks;
use crate::tsdb::chunk::{Encoding, SampleValue};
use crate::tsdb::wal::{Record, RecordKind, decode_samples};
use crate::tsdb::{XorChunks, XorDecoder};

/// A sample of a series.
type Point = (i64, SampleValue);

/// The samples of one series.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) id: u32,
    /// The newest in-order time.
    last_ms: i64,
    /// Chunks of a plain series, which end where a window does.
    plain: XorChunks,
    /// The window of the open chunk.
    window: i64,
    /// All samples of a series that is not plain.
    points: Option<Box<Points>>,
}

#[derive(Debug, Default)]
struct Points {
    in_order: Vec<Point>,
    late: Vec<Point>,
}

/// Which series a thread collects in a pass, and where. Neighbours in the log are neighbours here.
#[derive(Debug)]
pub(super) struct Share {
    /// By id.
    places: Vec<u32>,
    ids: Vec<u32>,
}

/// A place of a series that belongs to another share.
const ELSEWHERE: u32 = u32::MAX;

impl Share {
    /// Takes every `step`-th of some series.
    pub(super) fn of(pass: &[u32], series: usize, (thread, step): (u32, u32)) -> Self {
        let mut ids: Vec<u32> = pass.iter().copied().filter(|id| id % step == thread).collect();
        ids.sort_unstable();
        let mut places = vec![ELSEWHERE; series];
        for (place, id) in (0..).zip(&ids) {
            places[*id as usize] = place;
        }
        Self { places, ids }
    }

    #[inline]
    fn place(&self, id: u32) -> Option<usize> {
        let place = self.places[id as usize];
        (place != ELSEWHERE).then_some(place as usize)
    }
}

/// The samples of a share's series.
#[derive(Debug)]
pub(super) struct CollectedShare {
    share: Share,
    all: Vec<Option<Collected>>,
}

impl CollectedShare {
    /// Takes out a series, where this share has it.
    pub(super) fn take(&mut self, id: u32) -> Option<Collected> {
        self.share.place(id).and_then(|place| self.all[place].take())
    }
}

/// Reads both logs and returns the samples of a share of the series.
pub(super) fn collect(
    wal: &LogRecords,
    wbl: &LogRecords,
    table: &SeriesTable,
    rules: &HeadRules,
    range_ms: i64,
    share: Share,
) -> Result<CollectedShare, RestoreError> {
    let mut all: Vec<Collected> = share.ids.iter().map(|id| Collected::new(*id, table)).collect();
    let place = |reference: u64| table.id(reference).and_then(|id| share.place(id));
    wbl.each(|data| {
        each_sample(data, |reference, ts_ms, value| {
            if ts_ms <= rules.until_ms
                && let Some(place) = place(reference)
            {
                all[place].points().late.push((ts_ms, value.get()));
            }
        })
    })?;
    wal.each(|data| {
        each_sample(data, |reference, ts_ms, value| {
            if ts_ms >= rules.cut_off_ms
                && ts_ms <= rules.until_ms
                && let Some(place) = place(reference)
            {
                all[place].take(ts_ms, value, range_ms);
            }
        })
    })?;
    Ok(CollectedShare { all: all.into_iter().map(Some).collect(), share })
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
    fn new(id: u32, table: &SeriesTable) -> Self {
        let points = (!table.deleted(id).is_empty()).then(Box::default);
        Self { id, last_ms: i64::MIN, plain: XorChunks::default(), window: i64::MIN, points }
    }

    #[inline]
    fn take(&mut self, ts_ms: i64, value: Value<'_>, range_ms: i64) {
        if ts_ms <= self.last_ms {
            return;
        }
        self.last_ms = ts_ms;
        match value {
            Value::Float(bits) if self.points.is_none() => {
                let window = ts_ms.div_euclid(range_ms);
                if window != self.window {
                    self.plain.finish();
                    self.window = window;
                }
                self.plain.push(ts_ms, f64::from_bits(bits));
            }
            value => self.points().in_order.push((ts_ms, value.get())),
        }
    }

    /// Returns the list of samples; a series that was plain so far is so no more.
    fn points(&mut self) -> &mut Points {
        let plain = &mut self.plain;
        self.points.get_or_insert_with(|| {
            plain.finish();
            let samples = plain.iter().flat_map(|chunk| XorDecoder::new(chunk.data).flatten());
            let in_order =
                samples.map(|(ts_ms, value)| (ts_ms, SampleValue::Float(value.to_bits()))).collect();
            Box::new(Points { in_order, late: Vec::new() })
        })
    }

    /// Encodes what counts, by range of time.
    pub(super) fn into_chunks(
        self,
        table: &SeriesTable,
        rules: &HeadRules,
        range_ms: i64,
    ) -> Result<Vec<(i64, SeriesChunks)>, RestoreError> {
        let mut windows: Vec<(i64, SeriesChunks)> = Vec::new();
        if let Some(points) = self.points {
            for (ts_ms, value) in points.in_order_of_time(table.deleted(self.id), rules.deletes_late) {
                let open = window_of(&mut windows, ts_ms.div_euclid(range_ms));
                super::push(open, ts_ms, &value, rules.version)?;
            }
            windows.iter_mut().for_each(|(_, chunks)| chunks.finish());
            return Ok(windows);
        }
        let mut plain = self.plain;
        plain.finish();
        for chunk in plain.iter() {
            let open = window_of(&mut windows, chunk.min_time_ms.div_euclid(range_ms));
            open.push_encoded(Encoding::Xor, chunk.min_time_ms, chunk.max_time_ms, chunk.data);
        }
        Ok(windows)
    }
}

fn window_of(windows: &mut Vec<(i64, SeriesChunks)>, window: i64) -> &mut SeriesChunks {
    if windows.last().is_none_or(|(last, _)| *last != window) {
        windows.push((window, SeriesChunks::new()));
    }
    let last = windows.len() - 1;
    &mut windows[last].1
}

impl Points {
    /// Returns the samples that count, in order of time, without those that were deleted.
    fn in_order_of_time(self, deleted: &[(i64, i64)], deletes_late: bool) -> Vec<Point> {
        let Self { mut in_order, mut late } = self;
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
