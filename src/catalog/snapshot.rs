//! A version that was read, with its parts loaded when they are asked for.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};

use crate::bucket::{Bucket, ObjectKey};
use crate::model::{TimeRange, Ulid};
use crate::runtime::Clock;

use super::CatalogError;
use super::part::open_part;
use super::version::{BlockEntry, PartEntry, Version};

/// So many parts are read at once.
const PARTS_AT_ONCE: usize = 16;

/// The blocks of one part.
type PartBlocks = Arc<Vec<Arc<BlockEntry>>>;

/// A moment on both clocks. Neither alone counts a suspension of the machine on every system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    wall_ms: i64,
    monotonic_ms: i64,
}

impl Moment {
    pub(super) fn now(clock: &dyn Clock) -> Self {
        Self { wall_ms: clock.now_ms(), monotonic_ms: clock.monotonic_ms() }
    }

    /// Returns the greater distance of the two clocks.
    pub(super) fn age_ms(self, clock: &dyn Clock) -> i64 {
        let now = Self::now(clock);
        let wall = now.wall_ms.saturating_sub(self.wall_ms);
        wall.max(now.monotonic_ms.saturating_sub(self.monotonic_ms))
    }
}

/// Reads parts, each once: they never change.
#[derive(Debug, Clone)]
pub(super) struct PartReader {
    bucket: Bucket,
    loaded: Arc<Mutex<HashMap<Ulid, PartBlocks>>>,
}

impl PartReader {
    pub(super) fn new(bucket: Bucket) -> Self {
        Self { bucket, loaded: Arc::default() }
    }

    pub(super) async fn read(
        &self,
        version: &Version,
        entry: &PartEntry,
    ) -> Result<PartBlocks, CatalogError> {
        if let Some(blocks) = self.loaded().get(&entry.id) {
            return Ok(Arc::clone(blocks));
        }
        let bytes = self.bucket.get(&ObjectKey::catalog_part(&version.tenant, entry.id)).await?;
        let blocks = Arc::new(open_part(&bytes, &version.tenant, entry)?);
        self.loaded().insert(entry.id, Arc::clone(&blocks));
        Ok(blocks)
    }

    /// Lets go of parts that a version does not name.
    pub(super) fn keep_only(&self, version: &Version) {
        let named: HashSet<Ulid> = version.parts.iter().map(|part| part.id).collect();
        self.loaded().retain(|id, _| named.contains(id));
    }

    fn loaded(&self) -> std::sync::MutexGuard<'_, HashMap<Ulid, PartBlocks>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One version of a tenant's catalog, as read.
pub struct Snapshot {
    version: Version,
    parts: PartReader,
    /// When this was last known to be the newest version.
    newest_at: Mutex<Option<Moment>>,
}

impl Snapshot {
    pub(super) fn new(version: Version, parts: PartReader, newest_at: Option<Moment>) -> Self {
        Self { version, parts, newest_at: Mutex::new(newest_at) }
    }

    /// Returns the version. Its `blocks` are the recent ones only; [`Snapshot::blocks`] has all.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Returns all live blocks, sorted by id.
    ///
    /// # Errors
    /// A part that cannot be read or is damaged.
    pub async fn blocks(&self) -> Result<Vec<Arc<BlockEntry>>, CatalogError> {
        self.blocks_in(TimeRange::ALL).await
    }

    /// Returns the live blocks that may hold samples of a time range, sorted by id. Parts outside are not read.
    ///
    /// # Errors
    /// A part that cannot be read or is damaged.
    pub async fn blocks_in(&self, range: TimeRange) -> Result<Vec<Arc<BlockEntry>>, CatalogError> {
        let inside = |block: &&Arc<BlockEntry>| block.range().overlaps(&range);
        let mut blocks: Vec<Arc<BlockEntry>> = self.version.blocks.iter().filter(inside).cloned().collect();
        let parts = self.version.parts.iter().filter(|part| part.range().overlaps(&range));
        let reads = parts.map(|entry| self.parts.read(&self.version, entry)).collect::<Vec<_>>();
        let mut reads = futures::stream::iter(reads).buffered(PARTS_AT_ONCE);
        while let Some(part) = reads.try_next().await? {
            blocks.extend(part.iter().filter(inside).cloned());
        }
        blocks.sort_by_key(|block| block.id);
        Ok(blocks)
    }

    /// Returns the keys of all blocks and parts that this version names.
    pub(super) async fn named(&self) -> Result<HashSet<ObjectKey>, CatalogError> {
        let tenant = &self.version.tenant;
        let mut named: HashSet<ObjectKey> =
            self.version.blocks.iter().map(|block| ObjectKey::block(tenant, block.id)).collect();
        for entry in &self.version.parts {
            named.insert(ObjectKey::catalog_part(tenant, entry.id));
            let part = self.parts.read(&self.version, entry).await?;
            named.extend(part.iter().map(|block| ObjectKey::block(tenant, block.id)));
        }
        Ok(named)
    }

    /// Records that nothing newer was there at a moment.
    pub(super) fn confirm_newest(&self, at: Moment) {
        *self.newest_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// Returns how long ago this was known to be the newest version.
    pub(super) fn newest_age_ms(&self, clock: &dyn Clock) -> Option<i64> {
        self.newest_at.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.age_ms(clock))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({} version {})", self.version.tenant, self.version.version)
    }
}
