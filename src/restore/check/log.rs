//! The logs of a data directory: numbers of segments, checksums, and every record decoded.

use std::path::Path;

use super::{DirReport, below, names_in};
use crate::restore::RestoreError;
use crate::restore::progress::Progress;
use crate::tsdb::wal::{RecordKind, SegmentReader, Step, summarize};

/// Checks `wal` or `wbl`, with the checkpoints in it.
pub(super) fn check_log(dir: &Path, name: &str, progress: &dyn Progress) -> Result<DirReport, RestoreError> {
    let mut report = DirReport::default();
    let folder = dir.join(name);
    if !folder.is_dir() {
        if name == "wal" {
            report.remark(name, None, "there is no log: Prometheus begins a new one");
        }
        return Ok(report);
    }
    let names = names_in(&folder)?;
    let checkpoint = newest_checkpoint(&folder, &names, dir, &mut report, progress)?;
    let mut segments: Vec<(u32, &str)> = names
        .iter()
        .filter(|n| is_number(n, 8))
        .filter_map(|n| Some((n.parse().ok()?, n.as_str())))
        .collect();
    segments.sort_unstable();
    check_numbers(&segments, checkpoint, name, &mut report);
    for (i, (number, segment)) in segments.iter().enumerate() {
        // What a checkpoint replaces is passed over.
        if checkpoint.is_some_and(|last| *number <= last) {
            continue;
        }
        check_segment(dir, &folder.join(segment), i + 1 == segments.len(), &mut report, progress)?;
    }
    Ok(report)
}

fn is_number(name: &str, digits: usize) -> bool {
    name.len() >= digits && name.bytes().all(|b| b.is_ascii_digit())
}

/// Checks the newest checkpoint and returns its number.
fn newest_checkpoint(
    folder: &Path,
    names: &[String],
    dir: &Path,
    report: &mut DirReport,
    progress: &dyn Progress,
) -> Result<Option<u32>, RestoreError> {
    let mut newest = None;
    for name in names {
        let Some(number) = name.strip_prefix("checkpoint.") else { continue };
        let path = folder.join(name);
        match number.parse::<u32>() {
            Ok(number) if path.is_dir() => newest = newest.max(Some((number, path))),
            Ok(_) => {
                report.find(
                    below(dir, &path),
                    None,
                    "it is a file and not a folder: Prometheus does not start",
                );
            }
            Err(_) => {
                report.remark(
                    below(dir, &path),
                    None,
                    "it is unfinished: Prometheus removes it when it starts",
                );
            }
        }
    }
    let Some((number, path)) = newest else { return Ok(None) };
    let segments: Vec<String> = names_in(&path)?.into_iter().filter(|n| is_number(n, 8)).collect();
    for (i, segment) in segments.iter().enumerate() {
        if segment.parse() != Ok(i) {
            report.find(below(dir, &path.join(format!("{i:08}"))), None, "it is missing");
            break;
        }
        check_segment(dir, &path.join(segment), false, report, progress)?;
    }
    Ok(Some(number))
}

fn check_numbers(segments: &[(u32, &str)], checkpoint: Option<u32>, name: &str, report: &mut DirReport) {
    let first_needed = checkpoint.map_or(0, |last| last.saturating_add(1));
    let live: Vec<u32> = segments.iter().map(|(number, _)| *number).filter(|n| *n >= first_needed).collect();
    let mut expected = first_needed;
    for number in live {
        if number != expected {
            let what = match checkpoint {
                None if expected == 0 => {
                    "it is missing, and no checkpoint replaces it: Prometheus does not start"
                }
                _ => "it is missing: Prometheus does not start",
            };
            // The log of late samples is cut off at the front without a checkpoint.
            if name == "wal" || expected != first_needed {
                report.find(format!("{name}/{expected:08}"), None, what);
                return;
            }
        }
        expected = number.saturating_add(1);
    }
}

fn check_segment(
    dir: &Path,
    path: &Path,
    is_last: bool,
    report: &mut DirReport,
    progress: &dyn Progress,
) -> Result<(), RestoreError> {
    let bytes = std::fs::read(path).map_err(RestoreError::file(path))?;
    let file = below(dir, path);
    let mut reader = SegmentReader::new(&bytes, 0);
    loop {
        match reader.next_record() {
            Step::Record(record) => {
                report.records += 1;
                check_record(&record.data, record.start, &file, report);
            }
            Step::End { .. } => break,
            Step::Incomplete { offset } if is_last => {
                let what =
                    "the last record is not whole, as after a crash: Prometheus cuts it off when it starts";
                report.remark(file.as_str(), Some(offset), what);
                break;
            }
            Step::Incomplete { offset } => {
                let what = "a record is not whole and other segments follow: Prometheus deletes those when it starts";
                report.find(file.as_str(), Some(offset), what);
                break;
            }
            Step::Damaged(damage) => {
                let what = format!(
                    "{}; Prometheus deletes everything from the record at byte {} on",
                    damage.flaw, damage.record_start
                );
                report.find(file.as_str(), Some(damage.offset), what);
                break;
            }
        }
    }
    progress.advance(bytes.len() as u64);
    Ok(())
}

fn check_record(data: &[u8], start: u64, file: &str, report: &mut DirReport) {
    match summarize(data) {
        Ok(summary) if summary.kind == RecordKind::Unknown => {
            report.remark(
                file,
                Some(start),
                "a record of a kind that is not known: Prometheus passes over it",
            );
        }
        Ok(summary) => {
            if summary.times_ms.is_some() {
                report.record_samples += summary.count as u64;
            }
        }
        Err(error) => report.find(file, Some(start), error.to_string()),
    }
}
