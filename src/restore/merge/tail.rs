//! The times of samples that a restored directory holds in its log.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::model::Labels;
use crate::restore::error::RestoreError;
use crate::tsdb::wal::{Record, RecordKind, SegmentReader, Step, decode_samples};

/// Times by series, sorted.
pub(super) type TailTimes = HashMap<Labels, Vec<i64>>;

/// Reads the float samples' times of a log; a restored one holds the last seconds only.
pub(super) fn tail_times(data_dir: &Path) -> Result<TailTimes, RestoreError> {
    let folder = data_dir.join("wal");
    let mut times: TailTimes = HashMap::new();
    let mut series: HashMap<u64, Labels> = HashMap::new();
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(times) };
    let mut segments: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    segments.sort();
    for path in segments {
        let bytes = fs::read(&path).map_err(RestoreError::file(&path))?;
        let mut reader = SegmentReader::new(&bytes, 0);
        loop {
            match reader.next_record() {
                Step::Record(record) => take(&record.data, &mut series, &mut times),
                Step::End { .. } => break,
                Step::Incomplete { offset } => {
                    let reason = format!("it is cut off at byte {offset}");
                    return Err(RestoreError::Damaged { what: path.display().to_string(), reason });
                }
                Step::Damaged(damage) => {
                    let (what, reason) = (path.display().to_string(), damage.to_string());
                    return Err(RestoreError::Damaged { what, reason });
                }
            }
        }
    }
    times.values_mut().for_each(|times| times.sort_unstable());
    Ok(times)
}

fn take(data: &[u8], series: &mut HashMap<u64, Labels>, times: &mut TailTimes) {
    if RecordKind::of(data) == RecordKind::Series {
        if let Ok(Record::Series(rows)) = Record::decode(data) {
            let named =
                rows.into_iter().filter_map(|row| Some((row.reference, row.labels.to_labels().ok()?)));
            series.extend(named);
        }
        return;
    }
    // Another kind of record has no floats.
    let _ = decode_samples(data, |sample| {
        if let Some(labels) = series.get(&sample.reference) {
            times.entry(labels.clone()).or_default().push(sample.ts_ms);
        }
    });
}
