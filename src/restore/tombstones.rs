//! The tombstones of restored blocks: every block has a file of them, and one that straddles the target hides what
//! lies after it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::RestoreError;
use super::inventory::BlockInventory;
use super::workplace::write_file;
use crate::tsdb::block::{BlockError, IndexReader, ReadAt, Tombstone, decode_tombstones, encode_tombstones};

/// Files up to this size are read at once: a block has a chunk every few hundred bytes.
const WHOLE_FILE_BYTES_MAX: u64 = 64 << 20;

/// A file that is read at any place.
#[derive(Debug)]
pub(super) enum FileAt {
    /// A small one, as it was when it was opened.
    Whole(Vec<u8>),
    /// A large one.
    Open(File, u64),
}

impl FileAt {
    pub(super) fn open(path: &Path) -> Result<Self, RestoreError> {
        let mut file = File::open(path).map_err(RestoreError::file(path))?;
        let bytes = file.metadata().map_err(RestoreError::file(path))?.len();
        if bytes > WHOLE_FILE_BYTES_MAX {
            return Ok(Self::Open(file, bytes));
        }
        let mut whole = Vec::with_capacity(bytes as usize);
        file.read_to_end(&mut whole).map_err(RestoreError::file(path))?;
        Ok(Self::Whole(whole))
    }
}

impl ReadAt for FileAt {
    fn read_at(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let at = range.start as usize..range.end as usize;
        match self {
            Self::Whole(bytes) => bytes.get(at).map(Cow::Borrowed).ok_or(io::ErrorKind::UnexpectedEof.into()),
            Self::Open(_, len) if range.start > range.end || range.end > *len => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Self::Open(file, _) => {
                let mut bytes = vec![0; at.len()];
                file.read_exact_at(&mut bytes, range.start)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Open(_, len) => *len,
        }
    }
}

/// Writes the tombstones of a block whose files are in place, where the archive has none or the target cuts it.
pub(super) fn write_tombstones(
    data: &Path,
    block: &BlockInventory,
    until_ms: Option<i64>,
) -> Result<(), RestoreError> {
    let folder = data.join(block.block.id.to_string());
    let path = folder.join("tombstones");
    let cut_ms = until_ms.filter(|_| block.straddles);
    if block.block.tombstones.is_some() && cut_ms.is_none() {
        return Ok(());
    }
    let mut tombstones = match &block.block.tombstones {
        Some(_) => read_tombstones(&path)?,
        None => Vec::new(),
    };
    if let Some(cut_ms) = cut_ms {
        let first_ms = cut_ms.saturating_add(1);
        let hidden = read_references(&folder)?.into_iter().map(|reference| Tombstone {
            reference,
            min_time_ms: first_ms,
            max_time_ms: block.block.max_time_ms.max(first_ms),
        });
        tombstones.extend(hidden);
        tombstones.sort_by_key(|stone| (stone.reference, stone.min_time_ms));
    }
    write_file(&path, &encode_tombstones(&merged(tombstones)))
}

/// Reads a tombstones file; none where it is missing.
pub(super) fn read_tombstones(path: &Path) -> Result<Vec<Tombstone>, RestoreError> {
    match std::fs::read(path) {
        Ok(bytes) => decode_tombstones(&bytes).map_err(|source| block_error(path, source)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(RestoreError::File { path: path.to_owned(), source }),
    }
}

fn read_references(folder: &Path) -> Result<Vec<u64>, RestoreError> {
    let path = folder.join("index");
    let index = IndexReader::open(FileAt::open(&path)?).map_err(|source| block_error(&path, source))?;
    let references = index.series().map(|entry| entry.map(|entry| u64::from(entry.reference)));
    references.collect::<Result<_, _>>().map_err(|source| block_error(&path, source))
}

/// Joins intervals of one series that overlap or touch; they are sorted.
fn merged(sorted: Vec<Tombstone>) -> Vec<Tombstone> {
    let mut merged: Vec<Tombstone> = Vec::with_capacity(sorted.len());
    for stone in sorted {
        match merged.last_mut() {
            Some(last)
                if last.reference == stone.reference
                    && stone.min_time_ms <= last.max_time_ms.saturating_add(1) =>
            {
                last.max_time_ms = last.max_time_ms.max(stone.max_time_ms);
            }
            _ => merged.push(stone),
        }
    }
    merged
}

pub(super) fn block_error(path: &Path, source: BlockError) -> RestoreError {
    let parts: PathBuf = path.components().rev().take(2).collect::<Vec<_>>().into_iter().rev().collect();
    RestoreError::Block { block: parts.display().to_string(), source }
}
