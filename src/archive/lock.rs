//! Locks that are extended: what is still needed stays locked, what is not runs out of its lock and may be collected.
//!
//! **Crash consistency** Every object is locked by itself; a run that ends early leaves the others with the locks that
//! they have, and the next one goes on.

use futures::StreamExt;
use serde::Serialize;

use super::ArchiveError;
use super::chain::Archive;
use super::collect::Named;
use crate::bucket::{ArchiveObject, Lock, LockMode, ObjectKey};
use crate::runtime::crash_point;

/// So many objects are locked at once.
const LOCKS_AT_ONCE: usize = 16;

/// What an extension of locks did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LockReport {
    /// Objects that are needed, and are locked at least until then.
    pub objects: u64,
    /// Their size.
    pub bytes: u64,
    /// Until when.
    pub until_ms: i64,
}

/// Extends the locks of what the catalog names.
#[derive(Debug, Clone, Copy)]
pub struct LockExtension<'a> {
    /// The archive.
    pub archive: &'a Archive,
    /// Who can end a lock before its time; a lock that is there keeps its own mode.
    pub mode: LockMode,
    /// How long from now on.
    pub retain_ms: i64,
    /// The time now.
    pub now_ms: i64,
}

impl LockExtension<'_> {
    /// Locks all objects that the catalog names, the catalog itself and the holds.
    ///
    /// # Errors
    /// A bucket without Object Lock, an archive that cannot be read, or the store's failure.
    pub async fn run(&self) -> Result<LockReport, ArchiveError> {
        let named = Named::of(self.archive, &self.archive.links().await?)?;
        let folder = ObjectKey::archive_folder(self.archive.source());
        let objects = self.archive.bucket().list(&folder).await?;
        let lock = Lock { mode: self.mode, until_ms: self.now_ms.saturating_add(self.retain_ms) };
        let needed = objects.into_iter().filter_map(|object| {
            let key = ObjectKey::parse(&object.key).filter(|key| named.has(key) && !is_mark(key))?;
            Some((key, object.size_bytes))
        });
        let locking = needed.map(|(key, bytes)| async move {
            self.archive.bucket().extend_lock(&key, lock).await?;
            crash_point("archive.after-lock");
            Ok::<u64, ArchiveError>(bytes)
        });
        let mut locking = futures::stream::iter(locking).buffer_unordered(LOCKS_AT_ONCE);
        let mut report = LockReport { until_ms: lock.until_ms, ..LockReport::default() };
        while let Some(bytes) = locking.next().await {
            report.bytes += bytes?;
            report.objects += 1;
        }
        Ok(report)
    }
}

/// A mark has to go once what it lists is gone.
fn is_mark(key: &ObjectKey) -> bool {
    matches!(key, ObjectKey::Archive { object: ArchiveObject::Mark { .. }, .. })
}
