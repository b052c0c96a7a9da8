//! From what lies in the data directory to a base: what is new is stored, the rest is named again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::scan::{KeptFile, Scan, SeenBlock, SeenCheckpoint};
use super::spool::Spool;
use super::tailer::LogsSeen;
use super::upload::{Uploader, hash_file};
use crate::archive::chain::encode;
use crate::archive::{
    ArchiveError, Base, BlockState, CheckpointEntry, ENTRY_FORMAT, Event, EventKind, Manifest, Sha256Hash,
    StoredBlock, StoredFile,
};
use crate::bucket::FileOwner;
use crate::model::{Ulid, error_chain};
use crate::runtime::crash_point;

const OUT_OF_ORDER: &str = "from-out-of-order";

/// Blocks that were stored and are in no base yet, by the name under which their `meta.json` is kept: that tells a block
/// from another one of the same id.
pub(super) type Finished = Arc<Mutex<BTreeMap<String, StoredBlock>>>;

/// Makes bases of one source.
#[derive(Debug, Clone)]
pub(super) struct BaseMaker {
    pub(super) uploader: Uploader,
    pub(super) spool: Arc<Spool>,
    pub(super) finished: Finished,
}

/// A base with all that it names stored, and what it tells beside.
#[derive(Debug)]
pub(super) struct MadeBase {
    /// Nothing where it says the same as the one before.
    pub(super) base: Option<Base>,
    pub(super) events: Vec<Event>,
    /// Blocks that were stored for it.
    pub(super) uploads: u64,
    /// Blocks that could not be read: they are in the base as they were in the one before, if they were.
    pub(super) unreadable: Vec<Event>,
}

impl BaseMaker {
    /// Stores what is new in the data directory since the base before.
    ///
    /// # Errors
    /// A checkpoint that cannot be read, keys that cannot encrypt, or the store's failure.
    pub(super) async fn make(&self, scan: Scan, before: Option<Arc<Base>>) -> Result<MadeBase, ArchiveError> {
        let before = before.as_deref();
        let archived: BTreeMap<Ulid, StoredBlock> = before
            .into_iter()
            .flat_map(|base| base.blocks.iter().flat_map(|block| block.stored.iter().cloned()))
            .map(|stored| (stored.id, stored))
            .collect();
        let (mut blocks, mut uploads) = (Vec::with_capacity(scan.blocks.len()), 0);
        let mut unreadable = Vec::new();
        for seen in &scan.blocks {
            let known = before.and_then(|base| base.blocks.iter().find(|block| block.id == seen.id));
            match self.stored(seen, known, &archived).await {
                Ok((stored, uploaded)) => {
                    uploads += u64::from(uploaded);
                    blocks.push(block_state(seen, stored));
                }
                Err(error @ ArchiveError::File { .. }) => {
                    blocks.extend(known.cloned());
                    unreadable.push(unreadable_block(&scan.logs, seen.id, error_chain(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        let checkpoint = match &scan.checkpoint {
            Some(seen) => {
                let last = before.and_then(|base| base.checkpoint.as_ref());
                Some(self.checkpoint(seen, scan.logs.position.timeline, last).await?)
            }
            None => None,
        };
        let alike = before.filter(|before| (&before.checkpoint, &before.blocks) == (&checkpoint, &blocks));
        let base = Base {
            seen: scan.logs.seen,
            changed_ms: changed_ms(&scan, alike),
            position: scan.logs.position,
            checkpoint,
            first_segment: scan.logs.first_segment,
            wbl_first_segment: scan.logs.wbl_first_segment,
            blocks,
        };
        let events = before.map_or_else(Vec::new, |before| events(before, &base, &scan));
        let same = alike.is_some_and(|before| before.position.timeline == base.position.timeline);
        crash_point("archive.before-base");
        Ok(MadeBase { base: (!same).then_some(base), events, uploads, unreadable })
    }

    /// Returns what is to be restored for a block, and whether it was stored for that.
    async fn stored(
        &self,
        seen: &SeenBlock,
        known: Option<&BlockState>,
        archived: &BTreeMap<Ulid, StoredBlock>,
    ) -> Result<(Vec<StoredBlock>, bool), ArchiveError> {
        if let Some(stored) = archived.get(&seen.id) {
            let tombstones = self.tombstones(seen, stored.tombstones.as_ref()).await?;
            return Ok((vec![StoredBlock { tombstones, ..stored.clone() }], false));
        }
        let name = seen.files.iter().flatten().next().map_or("", |meta| meta.kept.as_str()).to_owned();
        let finished = lock(&self.finished).get(&name).cloned();
        if let Some(stored) = finished {
            let tombstones = self.tombstones(seen, stored.tombstones.as_ref()).await?;
            return Ok((vec![StoredBlock { tombstones, ..stored }], true));
        }
        if seen.tombstones.is_none() {
            if let Some(known) = known {
                return Ok((known.stored.clone(), false));
            }
            if let Some(sources) = equal_sources(seen, archived) {
                return Ok((sources, false));
            }
        }
        let stored = self.store_block(seen).await?;
        lock(&self.finished).insert(name, stored.clone());
        Ok((vec![stored], true))
    }

    async fn store_block(&self, seen: &SeenBlock) -> Result<StoredBlock, ArchiveError> {
        let uploader = &self.uploader;
        let upload = uploader.random.ulid(uploader.clock.now_ms());
        // The archive had it when it was seen, and has it no more: the next scan keeps its files.
        let Some(kept) = &seen.files else {
            let (path, source) = (seen.id.to_string().into(), std::io::ErrorKind::NotFound.into());
            return Err(ArchiveError::File { path, source });
        };
        let mut files = Vec::with_capacity(kept.len());
        for file in kept {
            files.push(self.store_file(FileOwner::Block(seen.id), upload, file).await?);
        }
        let plain_bytes = files.iter().map(|file| file.size_bytes).sum();
        let stored_bytes = files.iter().map(StoredFile::stored_bytes).sum();
        let mut stored = StoredBlock {
            id: seen.id,
            upload,
            min_time_ms: seen.meta.min_time,
            max_time_ms: seen.meta.max_time,
            samples: seen.meta.stats.num_samples,
            plain_bytes,
            stored_bytes,
            manifest_sha256: Sha256Hash::of(&[]),
            tombstones: self.tombstones(seen, None).await?,
        };
        let archive = &uploader.archive;
        let key = stored.manifest_key(archive.source());
        let manifest = Manifest { format: ENTRY_FORMAT, block: seen.id, files };
        let name = key.to_string();
        let bytes = archive
            .envelope()
            .seal(&name, encode(&manifest), &uploader.random)
            .map_err(|source| ArchiveError::Envelope { key: name, source })?;
        stored.manifest_sha256 = Sha256Hash::of(&bytes);
        uploader.put("a block's manifest", &key, bytes).await?;
        Ok(stored)
    }

    /// Returns the block's tombstones as they are now, stored unless they are what was stored before.
    async fn tombstones(
        &self,
        seen: &SeenBlock,
        before: Option<&StoredFile>,
    ) -> Result<Option<StoredFile>, ArchiveError> {
        let Some((file, _)) = &seen.tombstones else { return Ok(None) };
        if let Some(before) = before
            && self.is_same(file, before).await?
        {
            return Ok(Some(before.clone()));
        }
        let upload = self.uploader.random.ulid(self.uploader.clock.now_ms());
        self.store_file(FileOwner::Block(seen.id), upload, file).await.map(Some)
    }

    async fn checkpoint(
        &self,
        seen: &SeenCheckpoint,
        timeline: u32,
        before: Option<&CheckpointEntry>,
    ) -> Result<CheckpointEntry, ArchiveError> {
        if let Some(before) = before.filter(|b| b.number == seen.number && b.files.len() == seen.files.len())
        {
            let mut same = true;
            for (file, stored) in seen.files.iter().zip(&before.files) {
                same = same && file.path == stored.path && self.is_same(file, stored).await?;
            }
            if same {
                return Ok(before.clone());
            }
        }
        let upload = self.uploader.random.ulid(self.uploader.clock.now_ms());
        let owner = FileOwner::Checkpoint { timeline, number: seen.number };
        let mut files = Vec::with_capacity(seen.files.len());
        for file in &seen.files {
            files.push(self.store_file(owner, upload, file).await?);
        }
        Ok(CheckpointEntry { timeline, number: seen.number, files })
    }

    async fn store_file(
        &self,
        owner: FileOwner,
        upload: Ulid,
        file: &KeptFile,
    ) -> Result<StoredFile, ArchiveError> {
        let kept = self.spool.open_kept(&file.kept).map_err(|e| failed(file, e))?;
        self.uploader.store_file(owner, &file.path, upload, kept).await
    }

    async fn is_same(&self, file: &KeptFile, stored: &StoredFile) -> Result<bool, ArchiveError> {
        let kept = self.spool.open_kept(&file.kept).map_err(|e| failed(file, e))?;
        let hashed = self.uploader.cpu.run(move || hash_file(&kept)).await?;
        let found = hashed.map_err(|e| failed(file, e))?;
        Ok(found == (stored.size_bytes, stored.sha256))
    }
}

/// Locks what is finished.
pub(super) fn lock<T>(finished: &Mutex<T>) -> MutexGuard<'_, T> {
    finished.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells that a block is not archived as it is.
pub(super) fn unreadable_block(logs: &LogsSeen, id: Ulid, detail: String) -> Event {
    let (kind, at_ms) = (EventKind::BlockUnreadable, logs.seen.wall_ms);
    Event { kind, at_ms, position: logs.position, block: Some(id), detail }
}

fn failed(file: &KeptFile, source: std::io::Error) -> ArchiveError {
    ArchiveError::File { path: (&file.kept).into(), source }
}

/// Returns the blocks that a compacted one was made from, where they hold exactly what it holds: all are archived,
/// nothing was deleted in them, and no sample was in two of them.
fn equal_sources(seen: &SeenBlock, archived: &BTreeMap<Ulid, StoredBlock>) -> Option<Vec<StoredBlock>> {
    let compaction = &seen.meta.compaction;
    if compaction.level < 2 {
        return None;
    }
    let ids: BTreeSet<Ulid> = compaction.sources.iter().copied().collect();
    let sources: Vec<StoredBlock> = ids.iter().map(|id| archived.get(id).cloned()).collect::<Option<_>>()?;
    let samples = sources.iter().try_fold(0_u64, |sum, source| sum.checked_add(source.samples))?;
    let whole = sources.iter().all(|source| source.tombstones.is_none());
    (!sources.is_empty() && whole && samples == seen.meta.stats.num_samples).then_some(sources)
}

fn block_state(seen: &SeenBlock, stored: Vec<StoredBlock>) -> BlockState {
    let meta = &seen.meta;
    BlockState {
        id: seen.id,
        min_time_ms: meta.min_time,
        max_time_ms: meta.max_time,
        samples: meta.stats.num_samples,
        series: meta.stats.num_series,
        level: meta.compaction.level,
        out_of_order: meta.compaction.hints.iter().any(|hint| hint == OUT_OF_ORDER),
        stored,
    }
}

/// Returns since when all was as a scan found it. `alike` is the base before, where that says the same.
fn changed_ms(scan: &Scan, alike: Option<&Base>) -> i64 {
    match alike {
        Some(before) => before.changed_ms.min(scan.logs.seen.wall_ms),
        None => scan.dated.changed_ms.max(scan.dated.not_before_ms),
    }
}

/// Tells what became of the blocks of the base before.
fn events(before: &Base, base: &Base, scan: &Scan) -> Vec<Event> {
    let event = |kind, at_ms, id: Ulid, detail: String| Event {
        kind,
        at_ms,
        position: base.position,
        block: Some(id),
        detail,
    };
    let mut events = Vec::new();
    for old in &before.blocks {
        let Some(now) = base.blocks.iter().find(|block| block.id == old.id) else {
            let heir = scan.blocks.iter().find(|block| came_from(block, old));
            events.push(match heir {
                Some(heir) => {
                    let detail = format!("{} took its place", heir.id);
                    event(EventKind::BlockReplaced, heir.meta_ms.min(base.seen.wall_ms), old.id, detail)
                }
                None => {
                    let detail = "no block holds its samples now: retention, or deleted by hand".to_owned();
                    event(EventKind::BlockGone, base.changed_ms, old.id, detail)
                }
            });
            continue;
        };
        let tombstones = |block: &BlockState| {
            block
                .stored
                .iter()
                .find(|s| s.id == block.id)
                .and_then(|s| s.tombstones.as_ref().map(|t| t.sha256))
        };
        let seen = scan.blocks.iter().find(|block| block.id == old.id);
        if let Some((_, at_ms)) = seen.and_then(|block| block.tombstones.as_ref())
            && tombstones(old) != tombstones(now)
        {
            let detail = "series were deleted in a block".to_owned();
            events.push(event(EventKind::Delete, (*at_ms).min(base.seen.wall_ms), old.id, detail));
        }
    }
    events
}

fn came_from(block: &SeenBlock, old: &BlockState) -> bool {
    let compaction = &block.meta.compaction;
    block.id != old.id
        && (compaction.parents.iter().any(|parent| parent.ulid == old.id)
            || compaction.sources.contains(&old.id)
            || old.stored.iter().all(|stored| compaction.sources.contains(&stored.id))
                && !old.stored.is_empty())
}
