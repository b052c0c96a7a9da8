//! Blocks in files of this machine, which catalogs do not name yet or not for long.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use crate::block::ReadFailure;
use crate::catalog::BlockEntry;
use crate::model::{ErrorKind, TenantId, TimeRange, Ulid};

/// A block and its file.
#[derive(Debug, Clone)]
struct LocalBlock {
    entry: Arc<BlockEntry>,
    path: PathBuf,
}

/// The blocks that a receiver keeps in files until they are committed and every reader knows of them.
///
/// A writer adds blocks before it releases the head that they were built from, and removes them after the catalog
/// that names them is installed: with heads, local blocks and catalog taken in this order a reader misses nothing.
#[derive(Debug, Default)]
pub struct LocalBlocks(RwLock<BTreeMap<TenantId, Vec<LocalBlock>>>);

impl LocalBlocks {
    /// Returns an empty set.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Serves a tenant's blocks from files from now on, all of them at once.
    pub fn add(&self, tenant: &TenantId, blocks: impl IntoIterator<Item = (BlockEntry, PathBuf)>) {
        let blocks = blocks.into_iter().map(|(entry, path)| LocalBlock { entry: Arc::new(entry), path });
        let blocks: Vec<LocalBlock> = blocks.collect();
        self.write(|map| map.entry(tenant.clone()).or_default().extend(blocks));
    }

    /// Stops serving blocks from files. Their files may go then: who still reads one goes on in the bucket.
    pub fn remove(&self, tenant: &TenantId, ids: &[Ulid]) {
        self.write(|map| {
            if let Some(blocks) = map.get_mut(tenant) {
                blocks.retain(|block| !ids.contains(&block.entry.id));
            }
            map.retain(|_, blocks| !blocks.is_empty());
        });
    }

    /// Returns the tenants that have such blocks.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantId> {
        self.read(|map| map.keys().cloned().collect())
    }

    /// Returns the bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.read(|map| map.values().flatten().map(|block| block.entry.size_bytes).sum())
    }

    /// Returns the time of the first sample in them.
    pub(super) fn min_time_ms(&self) -> Option<i64> {
        self.read(|map| map.values().flatten().map(|block| block.entry.min_time_ms).min())
    }

    pub(super) fn of_tenant(&self, tenant: &TenantId) -> Vec<Arc<BlockEntry>> {
        self.read(|map| {
            let blocks = map.get(tenant).into_iter().flatten();
            blocks.map(|block| Arc::clone(&block.entry)).collect()
        })
    }

    pub(super) fn in_range(&self, tenant: &TenantId, range: TimeRange) -> Vec<Arc<BlockEntry>> {
        let mut blocks = self.of_tenant(tenant);
        blocks.retain(|block| block.range().overlaps(&range));
        blocks
    }

    pub(super) fn path(&self, tenant: &TenantId, id: Ulid) -> Option<PathBuf> {
        self.read(|map| {
            let mut blocks = map.get(tenant)?.iter();
            blocks.find(|block| block.entry.id == id).map(|block| block.path.clone())
        })
    }

    // Nothing under the lock can be half done: a poisoned map is whole.
    fn read<T>(&self, work: impl FnOnce(&BTreeMap<TenantId, Vec<LocalBlock>>) -> T) -> T {
        work(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, work: impl FnOnce(&mut BTreeMap<TenantId, Vec<LocalBlock>>) -> T) -> T {
        work(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads ranges of a block's file; nothing where the file has gone, which it does after its commit only.
pub(super) fn read_file(path: &Path, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>, ReadFailure> {
    let failed = |error: std::io::Error| ReadFailure {
        kind: ErrorKind::Unavailable,
        source: format!("cannot read {}: {error}", path.display()).into(),
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let read = |range: &Range<u64>| {
        let length = usize::try_from(range.end.saturating_sub(range.start)).map_err(std::io::Error::other)?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, range.start)?;
        Ok(Bytes::from(bytes))
    };
    ranges.iter().map(read).collect::<Result<_, _>>().map(Some).map_err(failed)
}
