//! What a way to a position consists of: blocks with their files, checkpoint and pieces, with names and sizes checked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures::{StreamExt, TryStreamExt};

use super::RestoreError;
use super::context::RestoreContext;
use super::fetch::patiently;
use crate::archive::{Archive, ArchiveError, BlockState, Resolved, StoredBlock, StoredFile, Target};
use crate::bucket::{FileOwner, file_name};
use crate::model::Ulid;

/// The largest part that is accepted.
const PART_BYTES_MAX: u64 = 256 << 20;

/// So many parts a file may have: 16 TiB in parts of 16 MiB.
const PARTS_MAX: usize = 1 << 20;

/// So many manifests are read at once.
const MANIFESTS_AT_ONCE: usize = 16;

/// A block that is restored.
#[derive(Debug, Clone)]
pub(super) struct BlockInventory {
    pub(super) block: StoredBlock,
    /// Index, chunk files and meta.json.
    pub(super) files: Vec<StoredFile>,
    /// Whether samples after the target are in it.
    pub(super) straddles: bool,
}

impl BlockInventory {
    /// Returns a file's path below the data directory.
    pub(super) fn path_of(&self, file: &StoredFile) -> PathBuf {
        PathBuf::from(self.block.id.to_string()).join(&file.path)
    }

    /// Returns the files with the tombstones.
    pub(super) fn all_files(&self) -> impl Iterator<Item = &StoredFile> {
        self.files.iter().chain(&self.block.tombstones)
    }

    pub(super) fn plain_bytes(&self) -> u64 {
        self.all_files().map(|file| file.size_bytes).sum()
    }
}

/// A way to the position.
#[derive(Debug, Clone)]
pub(super) struct Inventory {
    pub(super) resolved: Resolved,
    /// Blocks that hold something up to the target.
    pub(super) blocks: Vec<BlockInventory>,
}

impl Inventory {
    /// Returns every upload and piece that the way needs, by its random id.
    pub(super) fn needs(resolved: &Resolved) -> impl Iterator<Item = Ulid> + '_ {
        let pieces = resolved.wal.iter().chain(&resolved.wbl).map(|cut| cut.piece.id);
        let checkpoint = resolved.base.checkpoint.iter().flat_map(|c| c.files.iter().map(|f| f.upload));
        let blocks = resolved.base.blocks.iter().flat_map(|state| &state.stored);
        let uploads =
            blocks.flat_map(|b| std::iter::once(b.upload).chain(b.tombstones.iter().map(|t| t.upload)));
        pieces.chain(checkpoint).chain(uploads)
    }

    /// Returns the stored files of the way, with their owners' ids, in the order in which they are fetched.
    pub(super) fn checkpoint_files(&self) -> &[StoredFile] {
        self.resolved.base.checkpoint.as_ref().map_or(&[], |checkpoint| &checkpoint.files)
    }

    /// Returns the time up to which samples are restored, where there is one.
    pub(super) fn until_ms(&self) -> Option<i64> {
        match self.resolved.target {
            Target::AsOf(_) => None,
            Target::Until(until_ms) => Some(until_ms),
        }
    }
}

/// Why a way cannot be gone: which upload or piece is at fault, and the failure.
#[derive(Debug)]
pub(super) struct Obstacle {
    pub(super) id: Ulid,
    pub(super) error: RestoreError,
}

impl Obstacle {
    /// Makes an obstacle of a failure that another way may avoid; other failures come back as they are.
    pub(super) fn of(id: Ulid, error: RestoreError) -> Self {
        Self { id, error }
    }

    /// Returns whether another way may avoid it.
    pub(super) fn is_damage(&self) -> bool {
        match &self.error {
            RestoreError::Archive(error) => {
                matches!(error, ArchiveError::Damaged { .. } | ArchiveError::Missing { .. })
                    || error.kind() == crate::model::ErrorKind::Corrupt
            }
            RestoreError::Damaged { .. } | RestoreError::Untrusted { .. } | RestoreError::Block { .. } => {
                true
            }
            _ => false,
        }
    }
}

/// Reads the manifests of a way and checks every name and size in it.
pub(super) async fn take_inventory(
    context: &RestoreContext,
    resolved: Resolved,
) -> Result<Inventory, Obstacle> {
    if let Some(checkpoint) = &resolved.base.checkpoint {
        let owner = FileOwner::Checkpoint { timeline: checkpoint.timeline, number: checkpoint.number };
        let what = format!("checkpoint {}", checkpoint.number);
        for file in &checkpoint.files {
            let plain = !file.path.contains('/') && file.path.bytes().all(|b| b.is_ascii_digit());
            check_file(&what, file, owner, plain).map_err(|error| Obstacle::of(file.upload, error))?;
        }
        check_unique(&what, &checkpoint.files).map_err(|error| {
            Obstacle::of(checkpoint.files.first().map_or(Ulid::nil(), |f| f.upload), error)
        })?;
    }
    let wanted = wanted_blocks(&resolved.base.blocks, resolved.target);
    let archive = &context.archive;
    let blocks = wanted.into_iter().map(|block| block_inventory(archive, block, resolved.target));
    let blocks: Vec<BlockInventory> =
        futures::stream::iter(blocks).buffered(MANIFESTS_AT_ONCE).try_collect().await?;
    Ok(Inventory { resolved, blocks })
}

/// Returns each stored block of the base once, without those that hold nothing up to the target.
fn wanted_blocks(states: &[BlockState], target: Target) -> Vec<StoredBlock> {
    let mut by_id: BTreeMap<Ulid, (bool, &StoredBlock)> = BTreeMap::new();
    for state in states {
        for block in &state.stored {
            // Where parent and child were seen together, the block's own state is the newer one.
            let own = state.id == block.id;
            let known = by_id.get(&block.id).is_some_and(|(known_own, _)| *known_own);
            if own || !known {
                by_id.insert(block.id, (own, block));
            }
        }
    }
    let until_ms = match target {
        Target::AsOf(_) => i64::MAX,
        Target::Until(until_ms) => until_ms,
    };
    let blocks = by_id.into_values().map(|(_, block)| block);
    blocks.filter(|block| block.min_time_ms <= until_ms).cloned().collect()
}

async fn block_inventory(
    archive: &Archive,
    block: StoredBlock,
    target: Target,
) -> Result<BlockInventory, Obstacle> {
    let upload = block.upload;
    let manifest =
        patiently(|| archive.read_manifest(&block)).await.map_err(|e| Obstacle::of(upload, e.into()))?;
    let files: Vec<StoredFile> =
        manifest.files.into_iter().filter(|file| file.path != "tombstones").collect();
    let check = || {
        let what = format!("block {}", block.id);
        for file in files.iter().chain(&block.tombstones) {
            let belongs = file_name(&file.path).is_some() && !file.path.bytes().all(|b| b.is_ascii_digit());
            check_file(&what, file, FileOwner::Block(block.id), belongs)?;
        }
        if block.tombstones.as_ref().is_some_and(|file| file.path != "tombstones") {
            return Err(untrusted(&what, "its tombstones have another name".to_owned()));
        }
        for needed in ["index", "meta.json"] {
            if !files.iter().any(|file| file.path == needed) {
                return Err(untrusted(&what, format!("its manifest names no {needed}")));
            }
        }
        check_unique(&what, &files)
    };
    check().map_err(|error| Obstacle::of(upload, error))?;
    let straddles = matches!(target, Target::Until(until_ms) if block.max_time_ms - 1 > until_ms);
    Ok(BlockInventory { block, files, straddles })
}

fn check_file(what: &str, file: &StoredFile, owner: FileOwner, allowed: bool) -> Result<(), RestoreError> {
    let refuse = |reason: String| Err(untrusted(what, reason));
    // Of what this lets through, every path stays inside of the target.
    if !allowed || file_name(&file.path).is_none() {
        return refuse(format!("no file of it can be called {:?}", shortened(&file.path)));
    }
    if file.owner != owner {
        return refuse(format!("the file {} belongs to something else", file.path));
    }
    if file.parts.len() > PARTS_MAX {
        return refuse(format!("the file {} has {} parts", file.path, file.parts.len()));
    }
    let mut total = 0_u64;
    for part in &file.parts {
        if part.plain_bytes > PART_BYTES_MAX || part.stored_bytes > PART_BYTES_MAX + (16 << 20) {
            return refuse(format!("a part of {} has {} bytes", file.path, part.plain_bytes));
        }
        total += part.plain_bytes;
    }
    if total != file.size_bytes {
        return refuse(format!("{} has {} bytes and its parts have {total}", file.path, file.size_bytes));
    }
    Ok(())
}

fn check_unique(what: &str, files: &[StoredFile]) -> Result<(), RestoreError> {
    let mut paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    paths.sort_unstable();
    match paths.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(untrusted(what, format!("it names {} twice", pair[0]))),
        None => Ok(()),
    }
}

fn untrusted(what: &str, reason: String) -> RestoreError {
    RestoreError::Untrusted { what: what.to_owned(), reason }
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}
