//! Deleting what no entry names: marked first, deleted after a delay by the store's own clock.
//!
//! **Invariants** Nothing that the catalog names is deleted: it is read again right before a deletion. What is under way
//! (parts of a block whose entry is still to come) is younger than the delay and not marked.
//!
//! **Crash consistency** A mark is an object of its own; whoever comes next deletes what it lists. A mark goes last.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ArchiveError;
use super::chain::{Archive, Link, decode, encode};
use super::entry::ENTRY_FORMAT;
use super::retention::{RetentionPlan, RetentionPolicy, plan_retention};
use super::view::ArchiveView;
use crate::bucket::{ArchiveObject, Bucket, BucketError, FileOwner, ObjectInfo, ObjectKey};
use crate::model::Ulid;
use crate::runtime::{Random, crash_point};

/// So many keys stand in one mark.
const MARK_KEYS_MAX: usize = 10_000;

/// What will be deleted, and when at the earliest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    format: u32,
    id: Ulid,
    made_ms: i64,
    sweep_after_ms: i64,
    pub(super) keys: Vec<String>,
}

/// What a retention run did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RetentionReport {
    /// Every second from here on is restorable.
    pub window_start_ms: i64,
    /// Restore points before that.
    pub points: Vec<super::retention::RestorePoint>,
    /// Bases dropped from the catalog.
    pub dropped_bases: usize,
    /// Pieces dropped from the catalog.
    pub dropped_pieces: usize,
    /// Objects marked for deletion.
    pub marked_objects: usize,
    /// Their size.
    pub marked_bytes: u64,
    /// Objects deleted that were marked before.
    pub deleted_objects: usize,
    /// Objects that were due and are still locked; they are tried again.
    pub locked_objects: usize,
}

/// A retention run.
#[derive(Debug, Clone, Copy)]
pub struct Retention<'a> {
    /// The archive.
    pub archive: &'a Archive,
    /// What is kept.
    pub policy: &'a RetentionPolicy,
    /// From mark to deletion, and the age below which nothing is marked.
    pub delay_ms: i64,
    /// Ids.
    pub random: &'a Random,
    /// The time now.
    pub now_ms: i64,
}

impl Archive {
    /// Reads a mark.
    pub(super) async fn read_mark(&self, key: &ObjectKey) -> Result<Mark, ArchiveError> {
        decode(key, &self.read_stored(key).await?)
    }
}

impl Retention<'_> {
    /// Returns what a run would drop.
    ///
    /// # Errors
    /// As [`plan_retention`].
    pub async fn plan(&self) -> Result<RetentionPlan, ArchiveError> {
        let links = self.archive.links().await?;
        let view = ArchiveView::fold(self.archive.source().clone(), links.clone())?;
        let holds = self.archive.holds().await?;
        plan_retention(&links, &view, &holds, self.policy, (self.random.ulid(self.now_ms), self.now_ms))
    }

    /// Deletes what was marked long enough ago, drops what the policy does not keep, and marks what nothing names.
    ///
    /// # Errors
    /// As [`Retention::plan`], or the store's failure; the next run goes on.
    pub async fn run(&self) -> Result<RetentionReport, ArchiveError> {
        let plan = self.plan().await?;
        if let Some(chapter) = &plan.chapter {
            crash_point("archive.before-condense");
            self.archive.put_chapter(chapter).await?;
            crash_point("archive.after-condense");
        }
        let named = self.named().await?;
        let (deleted_objects, locked_objects) = self.sweep(&named).await?;
        let (marked_objects, marked_bytes) = self.mark(&named).await?;
        Ok(RetentionReport {
            window_start_ms: plan.window_start_ms,
            points: plan.points,
            dropped_bases: plan.dropped_bases,
            dropped_pieces: plan.dropped_pieces.0,
            marked_objects,
            marked_bytes,
            deleted_objects,
            locked_objects,
        })
    }

    async fn named(&self) -> Result<Named, ArchiveError> {
        let links = self.archive.links().await?;
        Named::of(self.archive, &links)
    }

    /// Returns how many objects were deleted, and how many are still locked.
    async fn sweep(&self, named: &Named) -> Result<(usize, usize), ArchiveError> {
        let marks = self.marks().await?;
        if marks.is_empty() {
            return Ok((0, 0));
        }
        let bucket = self.archive.bucket();
        let has_versions = bucket.protection().await?.versioning == Some(true);
        let (mut deleted, mut locked) = (0, 0);
        for (object, mark) in marks {
            if mark.sweep_after_ms.max(object.last_modified_ms + self.delay_ms) > self.now_ms {
                continue;
            }
            let before = locked;
            for key in mark.keys.iter().filter_map(|key| ObjectKey::parse(key)) {
                if self.is_ours(&key) && !named.has(&key) {
                    let gone = delete(bucket, &key, has_versions).await?;
                    crash_point("archive.after-delete");
                    (deleted, locked) = (deleted + usize::from(gone), locked + usize::from(!gone));
                }
            }
            if locked == before {
                // A mark that is locked itself is read again until it is not.
                delete(bucket, &self.archive.key(ArchiveObject::Mark { id: mark.id }), has_versions).await?;
            }
        }
        Ok((deleted, locked))
    }

    fn is_ours(&self, key: &ObjectKey) -> bool {
        matches!(key, ObjectKey::Archive { source, .. } if source == self.archive.source())
    }

    async fn marks(&self) -> Result<Vec<(ObjectInfo, Mark)>, ArchiveError> {
        let folder = format!("{}/marks", ObjectKey::archive_folder(self.archive.source()));
        let mut marks = Vec::new();
        for object in self.archive.bucket().list(&folder).await? {
            let Some(key) = ObjectKey::parse(&object.key) else { continue };
            let mark = self.archive.read_mark(&key).await?;
            marks.push((object, mark));
        }
        Ok(marks)
    }

    async fn mark(&self, named: &Named) -> Result<(usize, u64), ArchiveError> {
        let marked: BTreeSet<String> = self.marks().await?.into_iter().flat_map(|(_, m)| m.keys).collect();
        let folder = ObjectKey::archive_folder(self.archive.source());
        let old_enough = self.now_ms - self.delay_ms;
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        for object in self.archive.bucket().list(&folder).await? {
            let Some(key) = ObjectKey::parse(&object.key) else { continue };
            if object.last_modified_ms <= old_enough && !named.has(&key) && !marked.contains(&object.key) {
                found.insert(object.key, object.size_bytes);
            }
        }
        let keys: Vec<String> = found.keys().cloned().collect();
        for keys in keys.chunks(MARK_KEYS_MAX) {
            let id = self.random.ulid(self.now_ms);
            let sweep_after_ms = self.now_ms + self.delay_ms;
            let (format, made_ms, keys) = (ENTRY_FORMAT, self.now_ms, keys.to_vec());
            let mark = Mark { format, id, made_ms, sweep_after_ms, keys };
            self.archive
                .bucket()
                .create(&self.archive.key(ArchiveObject::Mark { id }), encode(&mark))
                .await?;
        }
        Ok((found.len(), found.values().sum()))
    }
}

/// Deletes an object for good; returns false where a lock keeps it.
async fn delete(bucket: &Bucket, key: &ObjectKey, has_versions: bool) -> Result<bool, ArchiveError> {
    let deleted = if has_versions { bucket.delete_versions(key).await } else { bucket.delete(key).await };
    match deleted {
        Ok(()) => Ok(true),
        Err(BucketError::Held { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What the catalog names.
#[derive(Debug)]
pub(super) struct Named {
    links: BTreeSet<ObjectKey>,
    pieces: BTreeSet<Ulid>,
    uploads: BTreeSet<Ulid>,
    digests: BTreeSet<Ulid>,
}

impl Named {
    pub(super) fn of(archive: &Archive, links: &[Link]) -> Result<Self, ArchiveError> {
        let view = ArchiveView::fold(archive.source().clone(), links.to_vec())?;
        let keys = links.iter().map(|link| link.key(archive));
        let timelines = view.timelines.values();
        let pieces = timelines.flat_map(|t| t.wal.iter().chain(&t.wbl)).map(|piece| piece.id).collect();
        let mut uploads = BTreeSet::new();
        for base in &view.bases {
            for block in base.blocks.iter().flat_map(|block| &block.stored) {
                uploads.insert(block.upload);
                uploads.extend(block.tombstones.iter().map(|file| file.upload));
            }
            uploads.extend(base.checkpoint.iter().flat_map(|c| &c.files).map(|file| file.upload));
        }
        let digests = view.digests.iter().map(|digest| digest.id).collect();
        Ok(Self { links: keys.collect(), pieces, uploads, digests })
    }

    pub(super) fn has(&self, key: &ObjectKey) -> bool {
        let ObjectKey::Archive { object, .. } = key else { return true };
        match object {
            ArchiveObject::Entry { .. } | ArchiveObject::Chapter { .. } => self.links.contains(key),
            ArchiveObject::Piece { id, .. } => self.pieces.contains(id),
            ArchiveObject::Manifest { upload, .. }
            | ArchiveObject::FilePart {
                owner: FileOwner::Block(_) | FileOwner::Checkpoint { .. },
                upload,
                ..
            } => self.uploads.contains(upload),
            ArchiveObject::Digest { id } => self.digests.contains(id),
            ArchiveObject::Hold { .. } | ArchiveObject::Mark { .. } => true,
        }
    }
}
