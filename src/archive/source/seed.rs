//! Tells the digests what series are called that were declared before the place from which the log is read.
//!
//! A server declares a series once, and again in each checkpoint. An archiver that begins in the middle of a log reads
//! the checkpoint and what lies between: only series are decoded.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::walk::walk;
use crate::archive::{DigestBuilder, LogPosition};
use crate::runtime::Cpu;

/// Reads the newest checkpoint and the WAL up to a position, file by file, so that other work comes in between. What
/// the server deletes meanwhile is declared again by what replaced it: the second attempt finds that.
pub(super) async fn seed(
    digests: Arc<Mutex<DigestBuilder>>,
    data_dir: PathBuf,
    until: Option<LogPosition>,
    cpu: Cpu,
) {
    for _ in 0..2 {
        let wal = data_dir.join("wal");
        let Ok(Ok(files)) = cpu.run(move || files_before(&wal, until)).await else { continue };
        let mut complete = true;
        for (path, until) in files {
            let digests = Arc::clone(&digests);
            complete &= matches!(cpu.run(move || declare(&digests, &path, until)).await, Ok(Ok(())));
        }
        if complete {
            return;
        }
    }
    tracing::warn!(
        data_dir = %data_dir.display(),
        "cannot read which series were declared before, digests lack those"
    );
}

fn declare(digests: &Mutex<DigestBuilder>, path: &Path, until: u64) -> io::Result<()> {
    let file = File::open(path)?;
    walk(&file, 0, until, |_, record| {
        digests.lock().unwrap_or_else(PoisonError::into_inner).declare(&record.data);
        true
    })
    .map(drop)
}

/// Lists the files of the newest checkpoint, and the segments after it up to a position.
fn files_before(wal: &Path, until: Option<LogPosition>) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut segments: Vec<(u32, PathBuf)> = Vec::new();
    let mut checkpoint: Option<(u32, PathBuf)> = None;
    for entry in fs::read_dir(wal)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if let Some(number) = name.strip_prefix("checkpoint.").and_then(|number| number.parse().ok()) {
            if checkpoint.as_ref().is_none_or(|(newest, _)| *newest < number) {
                checkpoint = Some((number, path));
            }
        } else if let Ok(number) = name.parse() {
            segments.push((number, path));
        }
    }
    segments.sort();
    let mut files = Vec::new();
    if let Some((_, path)) = &checkpoint {
        let mut parts = fs::read_dir(path)?.map(|part| Ok(part?.path())).collect::<io::Result<Vec<_>>>()?;
        parts.sort();
        files.extend(parts.into_iter().map(|part| (part, u64::MAX)));
    }
    let Some(until) = until else { return Ok(files) };
    let first = checkpoint.map_or(0, |(number, _)| number.saturating_add(1));
    let before = segments.into_iter().filter(|(number, _)| (first..=until.segment).contains(number));
    files.extend(
        before.map(|(number, path)| (path, if number == until.segment { until.offset } else { u64::MAX })),
    );
    Ok(files)
}
