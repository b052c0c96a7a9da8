//! Names in the log's directory, its lock, and directories that are durable before they are used.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::error::LogError;
use super::files::LogFiles;
use crate::model::Ulid;

const LOCK: &str = "LOCK";
const SUFFIX: &str = ".log";
const TEMPORARY_SUFFIX: &str = ".log.new";
const SEQ_DIGITS: usize = 20;
/// How much of a lock file is quoted.
const HOLDER_BYTES_MAX: u64 = 512;

/// The place of a segment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentName {
    pub(super) epoch: Ulid,
    pub(super) first_seq: u64,
}

impl SegmentName {
    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        epoch_dir(dir, self.epoch).join(format!("{:0SEQ_DIGITS$}{SUFFIX}", self.first_seq))
    }

    pub(super) fn temporary_path(&self, dir: &Path) -> PathBuf {
        epoch_dir(dir, self.epoch).join(format!("{:0SEQ_DIGITS$}{TEMPORARY_SUFFIX}", self.first_seq))
    }
}

pub(super) fn epoch_dir(dir: &Path, epoch: Ulid) -> PathBuf {
    dir.join(epoch.to_string())
}

/// Lists the segments in the order of their history, and deletes what a crash left: temporary files and epochs
/// without a segment.
pub(super) fn list_segments(dir: &Path) -> Result<Vec<SegmentName>, LogError> {
    let mut segments = Vec::new();
    for name in names_in(dir)? {
        let Ok(epoch) = Ulid::from_string(&name) else { continue };
        let folder = dir.join(&name);
        if epoch.to_string() != name || !folder.is_dir() {
            continue;
        }
        let before = segments.len();
        for file in names_in(&folder)? {
            if file.ends_with(TEMPORARY_SUFFIX) {
                let path = folder.join(&file);
                fs::remove_file(&path).map_err(LogError::io("delete the temporary file", &path))?;
            } else if let Some(first_seq) = parse_seq(&file) {
                segments.push(SegmentName { epoch, first_seq });
            }
        }
        if segments.len() == before {
            // A folder with files of somebody else stays.
            let _ = fs::remove_dir(&folder);
        }
    }
    segments.sort();
    Ok(segments)
}

/// Returns whether a directory holds segments of a log. Changes nothing there.
///
/// # Errors
/// The operating system's, but for a directory that is not there.
pub fn has_segments(dir: &Path) -> Result<bool, LogError> {
    Ok(!see_segments(dir)?.is_empty())
}

/// Lists the segments in the order of their history. Changes nothing there; a directory that is not there holds none.
pub(super) fn see_segments(dir: &Path) -> Result<Vec<SegmentName>, LogError> {
    let mut segments = Vec::new();
    if !dir.is_dir() {
        return Ok(segments);
    }
    for name in names_in(dir)? {
        let Ok(epoch) = Ulid::from_string(&name) else { continue };
        let folder = dir.join(&name);
        if epoch.to_string() != name || !folder.is_dir() {
            continue;
        }
        let files = names_in(&folder)?;
        let first_seqs = files.iter().filter_map(|file| parse_seq(file));
        segments.extend(first_seqs.map(|first_seq| SegmentName { epoch, first_seq }));
    }
    segments.sort();
    Ok(segments)
}

fn parse_seq(file: &str) -> Option<u64> {
    let digits = file.strip_suffix(SUFFIX)?;
    let all_digits = digits.len() == SEQ_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    all_digits.then(|| digits.parse().ok()).flatten()
}

fn names_in(dir: &Path) -> Result<Vec<String>, LogError> {
    let entries = fs::read_dir(dir).map_err(LogError::io("list", dir))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string()));
    let names: Vec<_> = names.collect::<Result<_, _>>().map_err(LogError::io("list", dir))?;
    Ok(names.into_iter().filter_map(Result::ok).collect())
}

/// Creates a directory and those above it that are missing, each durable in its parent.
pub(super) fn create_dirs(files: &dyn LogFiles, dir: &Path) -> Result<(), LogError> {
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|d| !d.as_os_str().is_empty() && !d.is_dir()).collect();
    if missing.is_empty() {
        // An earlier process may have died between making it and syncing its parent. A parent that we may not read was
        // not made by us.
        return match sync_parent(files, dir) {
            Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        };
    }
    for dir in missing.into_iter().rev() {
        files.create_dir(dir).map_err(LogError::io("create the directory", dir))?;
        if let Err(error) = sync_parent(files, dir) {
            // The next try would take it for durable.
            let _ = fs::remove_dir(dir);
            return Err(error);
        }
    }
    Ok(())
}

/// Creates a directory where it is missing, and makes it durable in its parent also where it is not: an earlier try may
/// have failed at that.
pub(super) fn enter_dir(files: &dyn LogFiles, dir: &Path) -> Result<(), LogError> {
    if dir.is_dir() { sync_parent(files, dir) } else { create_dirs(files, dir) }
}

fn sync_parent(files: &dyn LogFiles, dir: &Path) -> Result<(), LogError> {
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    files.sync_dir(parent).map_err(LogError::io("sync the directory", parent))
}

/// Keeps a damaged segment beside the log, under a second name, when its first one is released. Several threads that read
/// the segment may do so at once.
pub(super) fn keep_damaged(dir: &Path, name: &SegmentName) -> Result<PathBuf, LogError> {
    let folder = dir.join("damaged");
    fs::create_dir_all(&folder).map_err(LogError::io("create the directory", &folder))?;
    let kept = folder.join(format!("{}-{:0SEQ_DIGITS$}{SUFFIX}", name.epoch, name.first_seq));
    match fs::hard_link(name.path(dir), &kept) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            return Err(LogError::Io { action: "keep the damaged file as", path: kept, source });
        }
        _ => {}
    }
    let sync = |dir: &Path| File::open(dir).and_then(|d| d.sync_all());
    sync(&folder).map_err(LogError::io("sync the directory", &folder))?;
    sync(dir).map_err(LogError::io("sync the directory", dir))?;
    Ok(kept)
}

/// The exclusive right to the directory, given back when it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    pub(super) fn take(dir: &Path, receiver: &str) -> Result<Self, LogError> {
        let path = dir.join(LOCK);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(LogError::io("open the lock file", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LogError::Locked { dir: dir.to_owned(), holder: holder(&file) });
            }
            Err(TryLockError::Error(source)) => {
                return Err(LogError::Io { action: "lock", path, source });
            }
        }
        let text = format!("receiver {receiver:?}, process {}", std::process::id());
        file.set_len(0)
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(LogError::io("write the lock file", &path))?;
        Ok(Self { _file: file })
    }
}

fn holder(file: &File) -> String {
    let mut bytes = Vec::new();
    match file.take(HOLDER_BYTES_MAX).read_to_end(&mut bytes) {
        Ok(read) if read > 0 => String::from_utf8_lossy(&bytes).into_owned(),
        _ => "another process".to_owned(),
    }
}
