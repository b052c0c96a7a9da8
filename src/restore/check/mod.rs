//! The offline verification of a data directory, which `promtool` lacks: every checksum of blocks, WAL, WBL,
//! checkpoints and head chunks, orders and counts. Nothing is changed.

mod chunks_head;
mod log;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;

use super::RestoreError;
use super::context::RestoreContext;
use super::progress::Progress;
use super::tombstones::FileAt;
use crate::model::Ulid;
use crate::runtime::Cpu;
use crate::tsdb::block::{BlockParts, check_block};

pub use chunks_head::fuzz_chunks_head;

/// What a check of a data directory found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DirReport {
    /// Damage. Nothing for a sound directory.
    pub findings: Vec<DirFinding>,
    /// What Prometheus puts right by itself when it starts.
    pub remarks: Vec<DirFinding>,
    /// How many more findings there are than `findings` lists.
    pub omitted: u64,
    /// Blocks that were read.
    pub blocks: u64,
    /// Series in them.
    pub series: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Samples in them.
    pub samples: u64,
    /// Records of the logs.
    pub records: u64,
    /// Samples in those.
    pub record_samples: u64,
}

/// Something that is wrong in a data directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DirFinding {
    /// In which file, below the directory.
    pub file: String,
    /// Where in it.
    pub offset: Option<u64>,
    /// What it is.
    pub what: String,
}

impl DirReport {
    fn find(&mut self, file: impl Into<String>, offset: Option<u64>, what: impl Into<String>) {
        self.findings.push(DirFinding { file: file.into(), offset, what: what.into() });
    }

    fn remark(&mut self, file: impl Into<String>, offset: Option<u64>, what: impl Into<String>) {
        self.remarks.push(DirFinding { file: file.into(), offset, what: what.into() });
    }

    fn add(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.remarks.extend(other.remarks);
        self.omitted += other.omitted;
        self.blocks += other.blocks;
        self.series += other.series;
        self.chunks += other.chunks;
        self.samples += other.samples;
        self.records += other.records;
        self.record_samples += other.record_samples;
    }
}

/// Reads a whole data directory and lists everything that is wrong with it.
///
/// # Errors
/// A directory that cannot be read. Damage in it is no error: see [`DirReport::findings`].
pub async fn check_dir(
    dir: &Path,
    cpu: &Cpu,
    threads: usize,
    progress: &std::sync::Arc<dyn Progress>,
) -> Result<DirReport, RestoreError> {
    let mut blocks = Vec::new();
    let mut report = DirReport::default();
    for name in names_in(dir)? {
        if name.parse::<Ulid>().is_ok() && dir.join(&name).is_dir() {
            blocks.push(name);
        } else if name.ends_with(".tmp-for-creation") || name.ends_with(".tmp-for-deletion") {
            report.remark(name, None, "it is unfinished: Prometheus removes it when it starts");
        }
    }
    let is_data_dir = !blocks.is_empty() || dir.join("wal").is_dir();
    if !is_data_dir {
        let reason =
            "it holds neither blocks nor a wal folder: give the directory of --storage.tsdb.path".to_owned();
        return Err(RestoreError::Invalid(format!("{}: {reason}", dir.display())));
    }
    let total_bytes = super::run::bytes_below(dir);
    progress.begin(super::progress::Phase::Check, total_bytes);
    report.add(check_parts(dir, &blocks, cpu, threads, progress).await?);
    progress.end();
    report.findings.sort();
    report.remarks.sort();
    Ok(report)
}

/// Checks the logs of a directory and those of its blocks that are named.
pub(super) async fn check_built(
    context: &RestoreContext,
    dir: &Path,
    blocks: &BTreeSet<String>,
) -> Result<DirReport, RestoreError> {
    let blocks: Vec<String> = blocks.iter().cloned().collect();
    check_parts(dir, &blocks, &context.cpu, context.threads, &context.progress).await
}

async fn check_parts(
    dir: &Path,
    blocks: &[String],
    cpu: &Cpu,
    threads: usize,
    progress: &std::sync::Arc<dyn Progress>,
) -> Result<DirReport, RestoreError> {
    let mut jobs: Vec<Box<dyn FnOnce() -> Result<DirReport, RestoreError> + Send>> = Vec::new();
    for name in ["wal", "wbl"] {
        let (dir, progress) = (dir.to_owned(), std::sync::Arc::clone(progress));
        jobs.push(Box::new(move || log::check_log(&dir, name, &*progress)));
    }
    let (head, told) = (dir.to_owned(), std::sync::Arc::clone(progress));
    jobs.push(Box::new(move || chunks_head::check_chunks_head(&head, &*told)));
    for name in blocks {
        let (dir, name, progress) = (dir.to_owned(), name.clone(), std::sync::Arc::clone(progress));
        jobs.push(Box::new(move || check_one_block(&dir, &name, &*progress)));
    }
    let runs = jobs.into_iter().map(|job| async { cpu.run(job).await? });
    let mut report = DirReport::default();
    let mut done = futures::stream::iter(runs).buffer_unordered(threads.max(1));
    while let Some(part) = done.try_next().await? {
        report.add(part);
    }
    Ok(report)
}

/// Checks one block's folder.
fn check_one_block(dir: &Path, name: &str, progress: &dyn Progress) -> Result<DirReport, RestoreError> {
    let folder = dir.join(name);
    let mut report = DirReport { blocks: 1, ..DirReport::default() };
    let file = |path: &str| format!("{name}/{path}");
    let meta = match std::fs::read(folder.join("meta.json")) {
        Ok(meta) => meta,
        Err(error) => {
            let what = format!("cannot read it ({error}): Prometheus passes over the whole block");
            report.find(file("meta.json"), None, what);
            return Ok(report);
        }
    };
    let Ok(index) = FileAt::open(&folder.join("index")) else {
        report.find(file("index"), None, "it is missing: Prometheus does not start");
        return Ok(report);
    };
    let tombstones = std::fs::read(folder.join("tombstones")).ok();
    if tombstones.is_none() {
        report.remark(file("tombstones"), None, "it is missing: Prometheus' snapshots fail without it");
    }
    let mut chunks = Vec::new();
    let mut numbers: Vec<String> = names_in(&folder.join("chunks")).unwrap_or_default();
    numbers.retain(|number| number.len() == 6 && number.bytes().all(|b| b.is_ascii_digit()));
    for (i, number) in numbers.iter().enumerate() {
        if number.parse() != Ok(i + 1) {
            let missing = format!("chunks/{:06}", i + 1);
            report.find(file(&missing), None, "it is missing: queries that need it fail");
            return Ok(report);
        }
        chunks.push(FileAt::open(&folder.join("chunks").join(number))?);
    }
    let parts = BlockParts {
        ulid: name.parse().ok(),
        meta: &meta,
        tombstones: tombstones.as_deref(),
        index: &index,
        chunks: &chunks,
    };
    let found = check_block(&parts);
    for finding in found.findings {
        report.find(file(&finding.file.to_string()), finding.offset, finding.what);
    }
    report.omitted = found.omitted;
    (report.series, report.chunks, report.samples) = (found.series, found.chunks, found.samples);
    progress.advance(super::run::bytes_below(&folder));
    Ok(report)
}

/// Returns the names in a folder, sorted.
fn names_in(folder: &Path) -> Result<Vec<String>, RestoreError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(RestoreError::file(folder))? {
        let entry = entry.map_err(RestoreError::file(folder))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Returns a path below the directory as findings name it.
fn below(dir: &Path, path: &Path) -> String {
    let relative: PathBuf = path.strip_prefix(dir).map_or_else(|_| path.to_owned(), Path::to_owned);
    relative.display().to_string()
}
