//! The tier on local disk: one file an extent.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::extents::Extents;
use super::instruments::Instruments;
use crate::model::Ulid;

/// Each file ends with the checksum of its block, offset and bytes.
const CHECKSUM_BYTES: usize = 8;
/// What names of files have that are being written.
const UNFINISHED: &str = ".part";

/// Extents in the files of a folder. Names change only while the index is locked, together with it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    files: Mutex<Extents<()>>,
    unfinished: AtomicU64,
    instruments: Instruments,
}

fn file_name(id: Ulid, range: &Range<u64>) -> String {
    format!("{id}-{:x}-{:x}", range.start, range.end)
}

/// Returns the extent that a file is named after.
fn parse_name(name: &str) -> Option<(Ulid, Range<u64>)> {
    let mut words = name.split('-');
    let (id, start, end) = (words.next()?, words.next()?, words.next()?);
    let id = Ulid::from_string(id).ok()?;
    let range = u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?;
    // Only names as they are written: no signs, no zeros ahead, no fourth word.
    (file_name(id, &range) == name && !range.is_empty()).then_some((id, range))
}

fn checksum(id: Ulid, start: u64, bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hash = Xxh3::new();
    hash.update(&id.to_bytes());
    hash.update(&start.to_le_bytes());
    hash.update(bytes);
    hash.digest().to_le_bytes()
}

/// Returns the bytes of a file if they are those that its name promises.
fn open_file(id: Ulid, extent: &Range<u64>, file: Vec<u8>) -> Option<Bytes> {
    let (bytes, sum) = file.split_last_chunk::<CHECKSUM_BYTES>()?;
    let whole = bytes.len() as u64 == extent.end - extent.start && *sum == checksum(id, extent.start, bytes);
    let mut bytes = Bytes::from(file);
    bytes.truncate(bytes.len() - CHECKSUM_BYTES);
    whole.then_some(bytes)
}

/// Removes a file, which another process may have done before.
fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove a file of the read cache");
        }
        _ => {}
    }
}

impl Folder {
    /// Opens a folder. Files of an earlier process count as used in the order in which they were written.
    pub(super) fn open(path: &Path, bytes_max: u64, instruments: Instruments) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let mut found = Vec::new();
        for file in std::fs::read_dir(path)? {
            let file = file?;
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            let Some((id, range)) = parse_name(name) else {
                if name.ends_with(UNFINISHED) {
                    remove(&file.path());
                }
                continue;
            };
            match file.metadata().and_then(|metadata| Ok((metadata.len(), metadata.modified()?))) {
                Ok((bytes, modified)) if bytes == range.end - range.start + CHECKSUM_BYTES as u64 => {
                    found.push((modified, id, range));
                }
                _ => remove(&file.path()),
            }
        }
        found.sort_by_key(|(modified, ..)| *modified);
        let mut files = Extents::new(bytes_max);
        for (_, id, range) in found {
            for (id, gone, ()) in files.insert(id, range, ()) {
                remove(&path.join(file_name(id, &gone)));
            }
        }
        instruments.set_disk_bytes(files.bytes());
        let (files, unfinished) = (Mutex::new(files), AtomicU64::new(0));
        Ok(Self { path: path.to_owned(), files, unfinished, instruments })
    }

    /// Returns the extent that holds a range, with its bytes.
    pub(super) async fn get(&self, id: Ulid, range: &Range<u64>) -> Option<(Range<u64>, Bytes)> {
        let (extent, ()) = self.files().get(id, range)?;
        self.read(id, extent).await
    }

    /// Reads an extent that was in the index; one that does not read is kept no longer.
    pub(super) async fn read(&self, id: Ulid, extent: Range<u64>) -> Option<(Range<u64>, Bytes)> {
        let path = self.path.join(file_name(id, &extent));
        let opened = match tokio::fs::read(&path).await {
            Ok(file) => open_file(id, &extent, file),
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "a file of the read cache is gone");
                None
            }
        };
        if opened.is_none() {
            let mut files = self.files();
            // A larger extent may have taken this one's place, and its file with it.
            if files.remove_exactly(id, &extent) {
                remove(&path);
                self.instruments.set_disk_bytes(files.bytes());
            }
        }
        opened.map(|bytes| (extent, bytes))
    }

    /// Writes an extent; where that fails, it is not kept.
    pub(super) async fn keep(&self, id: Ulid, range: Range<u64>, bytes: &Bytes) {
        if self.files().get(id, &range).is_some() {
            return;
        }
        let number = self.unfinished.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.path.join(format!("{}-{number}{UNFINISHED}", std::process::id()));
        let file = [bytes.as_ref(), &checksum(id, range.start, bytes)].concat();
        let written = tokio::fs::write(&unfinished, file).await;
        if let Err(error) = written.and_then(|()| self.add(id, &range, &unfinished)) {
            tracing::warn!(path = %unfinished.display(), %error, "cannot write to the read cache");
            remove(&unfinished);
        }
    }

    /// Gives a file its name, with the index locked: several queries that miss the same range keep it once.
    fn add(&self, id: Ulid, range: &Range<u64>, unfinished: &Path) -> io::Result<()> {
        let mut files = self.files();
        let gone = files.insert(id, range.clone(), ());
        if gone.iter().any(|(of, extent, ())| *of == id && extent == range) {
            remove(unfinished);
            return Ok(());
        }
        for (id, extent, ()) in gone {
            remove(&self.path.join(file_name(id, &extent)));
        }
        let renamed = std::fs::rename(unfinished, self.path.join(file_name(id, range)));
        if renamed.is_err() {
            files.remove_exactly(id, range);
        }
        self.instruments.set_disk_bytes(files.bytes());
        renamed
    }

    fn files(&self) -> MutexGuard<'_, Extents<()>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
