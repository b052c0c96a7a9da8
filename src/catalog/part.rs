//! Parts: how old blocks move out of a version, and back in when a change names them.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::bucket::ObjectKey;
use crate::model::{TenantId, Ulid};

use super::codec::{Part, decode_part, encode};
use super::invariants::check_block;
use super::version::{BlockEntry, FORMAT, PartEntry, UnknownFields, Version};
use super::{CatalogError, Change};

/// A part that has to be stored before the version that names it.
#[derive(Debug)]
pub(super) struct NewPart {
    pub(super) id: Ulid,
    pub(super) bytes: Bytes,
}

/// Returns the parts that may hold a block which a change adds, removes or dooms.
pub(super) fn parts_in_question<'a>(
    version: &'a Version,
    change: &'a Change,
) -> impl Iterator<Item = &'a PartEntry> {
    let recent: HashSet<Ulid> = version.blocks.iter().map(|block| block.id).collect();
    let ids: Vec<Ulid> = change
        .add
        .iter()
        .map(|block| block.id)
        .chain(change.remove.iter().copied())
        .chain(doomed_blocks(change))
        .filter(|id| !recent.contains(id))
        .collect();
    version
        .parts
        .iter()
        .filter(move |part| ids.iter().any(|id| (part.block_min..=part.block_max).contains(id)))
}

/// Returns whether a part's blocks have to be lifted for a change.
pub(super) fn is_named(blocks: &[Arc<BlockEntry>], change: &Change) -> bool {
    let added = change.add.iter().map(|block| block.id);
    let named: HashSet<Ulid> =
        added.chain(change.remove.iter().copied()).chain(doomed_blocks(change)).collect();
    blocks.iter().any(|block| named.contains(&block.id))
}

/// Returns the blocks that a change dooms. One of them may be live again since the garbage was planned.
fn doomed_blocks(change: &Change) -> impl Iterator<Item = Ulid> {
    change.doom.iter().filter_map(|key| match ObjectKey::parse(key) {
        Some(ObjectKey::Block { id, .. }) => Some(id),
        _ => None,
    })
}

/// Replaces a part by its blocks.
pub(super) fn lift(version: &mut Version, part: Ulid, blocks: &[Arc<BlockEntry>]) {
    version.parts.retain(|entry| entry.id != part);
    version.blocks.extend(blocks.iter().map(Arc::clone));
    version.blocks.sort_by_key(|block| block.id);
}

/// Moves the oldest blocks into a new part where the version has more than `recent_blocks_max`.
pub(super) fn spill(version: &mut Version, recent_blocks_max: usize, id: Ulid) -> Option<NewPart> {
    if version.blocks.len() <= recent_blocks_max {
        return None;
    }
    let kept = version.blocks.split_off(version.blocks.len() - recent_blocks_max / 2);
    let blocks = std::mem::replace(&mut version.blocks, kept);
    let (first, last) = (blocks.first()?.id, blocks.last()?.id);
    let entry = PartEntry {
        id,
        sha256: String::new(),
        blocks: blocks.len() as u64,
        block_min: first,
        block_max: last,
        min_time_ms: blocks.iter().map(|block| block.min_time_ms).min()?,
        max_time_ms: blocks.iter().map(|block| block.max_time_ms).max()?,
        unknown: UnknownFields::new(),
    };
    let part = Part { format: FORMAT, tenant: version.tenant.clone(), blocks, unknown: UnknownFields::new() };
    let bytes = encode(&part);
    version.parts.push(PartEntry { sha256: hex_sha256(&bytes), ..entry });
    Some(NewPart { id, bytes: Bytes::from(bytes) })
}

/// Decodes a part and checks it against the entry that names it.
pub(super) fn open_part(
    bytes: &[u8],
    tenant: &TenantId,
    entry: &PartEntry,
) -> Result<Vec<Arc<BlockEntry>>, CatalogError> {
    let key = ObjectKey::catalog_part(tenant, entry.id);
    let damaged = |reason: String| CatalogError::Damaged { key: key.to_string(), reason };
    if hex_sha256(bytes) != entry.sha256 {
        return Err(damaged("its SHA-256 is not the one in the version".to_owned()));
    }
    let part = decode_part(bytes).map_err(|e| e.at(&key))?;
    let sorted = part.blocks.is_sorted_by(|a, b| a.id < b.id);
    if part.tenant != *tenant || part.blocks.len() as u64 != entry.blocks || !sorted {
        return Err(damaged("its blocks are not those that the version tells of".to_owned()));
    }
    part.blocks.iter().try_for_each(|block| check_block(block)).map_err(damaged)?;
    Ok(part.blocks)
}

/// Returns the SHA-256 in lower-case hexadecimal digits.
pub(super) fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
