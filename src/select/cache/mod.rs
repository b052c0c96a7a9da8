//! What reads keep of blocks: open footers, and the bytes of footers, page indexes and label columns.
//!
//! **Owns** the two tiers of bytes, memory and a local folder, their bounds and their metrics.
//!
//! **Vocabulary**: an *extent* is a range of one block as it was fetched. A *hit* is a range that some extent holds
//! whole, a *miss* one that goes to the bucket. An *open block* is a footer that was parsed.
//!
//! **Flow**: a range is looked for in memory, then in the folder, then fetched; what was fetched goes to both. The bytes
//! of a footer go to memory only where they are the whole of a small block, since its parsed form is kept too.
//!
//! **Invariants**
//! - Blocks never change, so nothing here is ever out of date.
//! - Neither tier grows beyond its bound; what was used least recently goes first. Half of the memory is for open
//!   blocks, half for extents.
//! - What comes back from the folder has its checksum, or counts as a miss and is removed.
//! - A cache that fails never fails a query: it is logged, and the bucket answers.
//!
//! **Crash consistency**: a file of the folder is written under a name of its own and renamed. Nothing is fsynced: a
//! file that a power cut left in pieces has no valid checksum. Files under names of half-written ones are removed on start.
//!
//! It does not keep samples, and does not join requests of different queries for the same bytes.

mod extents;
mod folder;
mod instruments;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use self::extents::Extents;
use self::folder::Folder;
use self::instruments::Instruments;
use crate::block::{BlockError, BlockReader};
use crate::model::{ErrorKind, Ulid};
use crate::runtime::Metrics;

/// How much reads may keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// Bytes of memory.
    pub memory_bytes_max: u64,
    /// A local folder and how many bytes its files may take.
    pub folder: Option<(PathBuf, u64)>,
}

/// The folder of a cache cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {} as a folder of the read cache: {source}; choose another --store.cache-dir, or none with --store.cache-disk-bytes=0", path.display())]
pub struct CacheError {
    /// The folder.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

impl CacheError {
    /// Returns what the failure asks of the caller.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// What bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Footer and page index.
    Footer,
    /// Label columns, times, counts, scales.
    Labels,
}

/// The caches of one process's reads.
#[derive(Debug)]
pub struct ReadCache {
    open: moka::future::Cache<Ulid, BlockReader>,
    memory: Mutex<Extents<Bytes>>,
    folder: Option<Folder>,
    instruments: Instruments,
}

impl ReadCache {
    /// Opens the caches; what an earlier process left in the folder is used again.
    ///
    /// # Errors
    /// A folder that cannot be made or listed.
    pub fn open(settings: &CacheSettings, metrics: &Metrics) -> Result<Arc<Self>, CacheError> {
        let instruments = Instruments::registered(metrics);
        let folder = match &settings.folder {
            Some((path, bytes_max)) if *bytes_max > 0 => {
                let failed = |source| CacheError { path: path.clone(), source };
                Some(Folder::open(path, *bytes_max, instruments.clone()).map_err(failed)?)
            }
            _ => None,
        };
        Ok(Arc::new(Self::with_folder(settings.memory_bytes_max, folder, instruments)))
    }

    /// Makes caches that keep nothing on disk and are not shown in metrics.
    #[must_use]
    pub fn in_memory(memory_bytes_max: u64) -> Arc<Self> {
        Arc::new(Self::with_folder(memory_bytes_max, None, Instruments::default()))
    }

    fn with_folder(memory_bytes_max: u64, folder: Option<Folder>, instruments: Instruments) -> Self {
        let open = moka::future::Cache::builder()
            .max_capacity(memory_bytes_max / 2)
            .weigher(|_, reader: &BlockReader| u32::try_from(reader.memory_bytes()).unwrap_or(u32::MAX))
            .build();
        let memory = Mutex::new(Extents::new(memory_bytes_max / 2));
        Self { open, memory, folder, instruments }
    }

    /// Returns an open block; several that ask for one at once wait for the same opening.
    pub(super) async fn opened(
        &self,
        id: Ulid,
        opening: impl Future<Output = Result<BlockReader, BlockError>>,
    ) -> Result<BlockReader, Arc<BlockError>> {
        self.open.try_get_with(id, opening).await
    }

    /// Returns a range of a block where it is kept.
    pub(super) async fn get(&self, id: Ulid, range: &Range<u64>, kind: Kind) -> Option<Bytes> {
        if let Some(bytes) = self.in_memory_range(id, range) {
            self.instruments.memory_hit(kind);
            return Some(bytes);
        }
        if let Some(folder) = &self.folder
            && let Some((extent, bytes)) = folder.get(id, range).await
        {
            self.instruments.disk_hit(kind);
            let found = cut(&extent, &bytes, range);
            if kind == Kind::Labels {
                self.keep_in_memory(id, extent, &bytes);
            }
            return found;
        }
        self.instruments.miss(kind);
        None
    }

    /// Returns a range of a block where it is in memory, and counts nothing.
    pub(super) fn in_memory_range(&self, id: Ulid, range: &Range<u64>) -> Option<Bytes> {
        let mut memory = self.memory();
        let (extent, bytes) = memory.get(id, range)?;
        cut(&extent, bytes, range)
    }

    /// Keeps what was fetched; `whole` says that it is all of a block.
    pub(super) async fn keep(&self, id: Ulid, range: Range<u64>, bytes: &Bytes, (kind, whole): (Kind, bool)) {
        if kind == Kind::Labels || whole {
            self.keep_in_memory(id, range.clone(), bytes);
        }
        if let Some(folder) = &self.folder {
            folder.keep(id, range, bytes).await;
        }
    }

    fn keep_in_memory(&self, id: Ulid, extent: Range<u64>, bytes: &Bytes) {
        let mut memory = self.memory();
        // A copy of its own: a slice would keep all that was fetched with it.
        memory.insert(id, extent, Bytes::copy_from_slice(bytes));
        self.instruments.set_memory_bytes(memory.bytes());
    }

    fn memory(&self) -> MutexGuard<'_, Extents<Bytes>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a range out of the extent that holds it.
fn cut(extent: &Range<u64>, bytes: &Bytes, range: &Range<u64>) -> Option<Bytes> {
    let from = usize::try_from(range.start.checked_sub(extent.start)?).ok()?;
    let to = usize::try_from(range.end.checked_sub(extent.start)?).ok()?;
    (from <= to && to <= bytes.len()).then(|| bytes.slice(from..to))
}
