//! The next version as a pure function of the newest one and a change.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use crate::bucket::ObjectKey;
use crate::model::{TenantId, Ulid};

use super::invariants::check_block;
use super::version::{BlockEntry, Covered, Doomed, FORMAT, Version, WRITER};
use super::{CatalogError, check_invariants};

/// What somebody wants to be different. All of it happens in one version, or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// A random id, the same for every attempt: it becomes the version's commit id.
    pub id: Ulid,
    /// Blocks that are new. Their objects are stored already.
    pub add: Vec<BlockEntry>,
    /// Blocks that go.
    pub remove: Vec<Ulid>,
    /// Label columns that the tenant needs to have.
    pub label_columns: Vec<String>,
    /// Entries of logs that are in the new blocks.
    pub covered: Vec<CoverChange>,
    /// Epochs whose logs are gone and need no fence any more.
    pub forget_epochs: Vec<Ulid>,
    /// Keys that will be deleted.
    pub doom: Vec<String>,
    /// Keys that were deleted.
    pub undoom: Vec<String>,
    /// Other deletions of series.
    pub tombstones: Option<TombstoneChange>,
}

impl Change {
    /// Returns a change of nothing.
    #[must_use]
    pub fn new(id: Ulid) -> Self {
        Self {
            id,
            add: Vec::new(),
            remove: Vec::new(),
            label_columns: Vec::new(),
            covered: Vec::new(),
            forget_epochs: Vec::new(),
            doom: Vec::new(),
            undoom: Vec::new(),
            tombstones: None,
        }
    }
}

/// Entries `(after_seq, through_seq]` of an epoch that a change puts into blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoverChange {
    /// The epoch of the log.
    pub epoch: Ulid,
    /// Who commits them.
    pub receiver: String,
    /// What the catalog must cover so far; 0 where the epoch is new.
    pub after_seq: u64,
    /// What it covers then.
    pub through_seq: u64,
}

/// Deletions of series that take the place of others.
#[derive(Debug, Clone, PartialEq)]
pub struct TombstoneChange {
    /// What the catalog must have so far.
    pub from: Vec<Value>,
    /// What it has then.
    pub to: Vec<Value>,
}

/// What is to be done for a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Create this version.
    Create(Box<Version>),
    /// Nothing: the change is in the catalog; its reply was lost.
    Landed,
}

/// Plans the next version. Blocks that lie in a part must have been lifted out of it where the change names them.
///
/// # Errors
/// A change that does not fit this base; it must not be tried again unchanged.
pub fn plan_commit(
    base: Option<&Version>,
    tenant: &TenantId,
    change: &Change,
    now_ms: i64,
) -> Result<Plan, CatalogError> {
    let base = base.cloned().unwrap_or_else(|| Version::nothing(tenant.clone()));
    if base.min_writer > WRITER || base.format > FORMAT {
        let needed = base.min_writer.max(base.format);
        return Err(CatalogError::NewerWriter { tenant: base.tenant, needed, ours: WRITER });
    }
    if has_landed(&base, change) {
        return Ok(Plan::Landed);
    }
    let number = base.version.checked_add(1).ok_or_else(|| bad_change("no version number is left"))?;
    let mut next = base;
    next.format = FORMAT;
    next.version = number;
    next.commit_id = change.id;
    // A writer whose clock is behind must not make history run backwards, nor two versions have one time.
    next.written_at_ms = now_ms.max(next.written_at_ms.saturating_add(1));
    cover(&mut next, change)?;
    add_label_columns(&mut next, change)?;
    remove_blocks(&mut next, &change.remove)?;
    add_blocks(&mut next, &change.add)?;
    doom(&mut next, change)?;
    change_tombstones(&mut next, change)?;
    check_invariants(&next)?;
    Ok(Plan::Create(Box::new(next)))
}

/// Returns whether the base has this change: by its id, or because it covers its entries with its very blocks.
fn has_landed(base: &Version, change: &Change) -> bool {
    if base.version > 0 && base.commit_id == change.id {
        return true;
    }
    let covered =
        |c: &CoverChange| base.covered_through(c.epoch) == c.through_seq && c.after_seq < c.through_seq;
    !change.covered.is_empty()
        && !change.add.is_empty()
        && change.covered.iter().all(covered)
        && change.add.iter().all(|new| base.blocks.iter().any(|block| block.id == new.id))
}

fn cover(next: &mut Version, change: &Change) -> Result<(), CatalogError> {
    let mut epochs = HashSet::new();
    for cover in &change.covered {
        if !epochs.insert(cover.epoch) {
            return Err(bad_change(format!("epoch {} is covered twice", cover.epoch)));
        }
        if cover.after_seq > cover.through_seq {
            return Err(bad_change(format!(
                "epoch {} is covered after {} through {}",
                cover.epoch, cover.after_seq, cover.through_seq
            )));
        }
        let known = next.covered_through(cover.epoch);
        if known != cover.after_seq {
            return Err(CatalogError::Fenced {
                epoch: cover.epoch,
                covered: known,
                after_seq: cover.after_seq,
            });
        }
        let entry = next.covered.entry(cover.epoch).or_insert_with(|| Covered {
            receiver: cover.receiver.clone(),
            through_seq: 0,
            sealed_by: None,
            unknown: std::collections::BTreeMap::new(),
        });
        if let Some(by) = entry.sealed_by.as_ref().filter(|by| **by != cover.receiver) {
            return Err(CatalogError::Sealed { epoch: cover.epoch, by: by.clone() });
        }
        entry.through_seq = cover.through_seq;
    }
    for epoch in &change.forget_epochs {
        if epochs.contains(epoch) {
            return Err(bad_change(format!("epoch {epoch} is covered and forgotten")));
        }
        next.covered.remove(epoch);
    }
    Ok(())
}

fn add_label_columns(next: &mut Version, change: &Change) -> Result<(), CatalogError> {
    for column in &change.label_columns {
        let folded = column.to_lowercase();
        match next.label_columns.iter().find(|known| known.to_lowercase() == folded) {
            Some(known) if known == column => {}
            Some(known) => {
                let reason = format!("there is {known:?} already, and SQL does not tell them apart");
                return Err(CatalogError::LabelColumn { column: column.clone(), reason });
            }
            None => next.label_columns.push(column.clone()),
        }
    }
    Ok(())
}

fn remove_blocks(next: &mut Version, ids: &[Ulid]) -> Result<(), CatalogError> {
    let going: HashSet<Ulid> = ids.iter().copied().collect();
    if going.len() != ids.len() {
        return Err(bad_change("a block is removed twice"));
    }
    if let Some(id) = ids.iter().find(|id| !next.blocks.iter().any(|block| block.id == **id)) {
        return Err(CatalogError::BlockMissing { id: *id });
    }
    next.blocks.retain(|block| !going.contains(&block.id));
    Ok(())
}

fn add_blocks(next: &mut Version, blocks: &[BlockEntry]) -> Result<(), CatalogError> {
    let mut known: HashSet<Ulid> = next.blocks.iter().map(|block| block.id).collect();
    let doomed: HashSet<&str> = next.doomed.iter().map(|doomed| doomed.key.as_str()).collect();
    for block in blocks {
        check_block(block).map_err(bad_change)?;
        if !known.insert(block.id) {
            return Err(CatalogError::BlockTwice { id: block.id });
        }
        let key = ObjectKey::block(&next.tenant, block.id).to_string();
        if doomed.contains(key.as_str()) {
            return Err(CatalogError::DoomedKey { key });
        }
        if let Some(column) = block.label_columns.iter().find(|column| !next.label_columns.contains(column)) {
            let reason = "it is not one of them".to_owned();
            return Err(CatalogError::LabelColumn { column: column.clone(), reason });
        }
    }
    next.blocks.extend(blocks.iter().cloned().map(Arc::new));
    next.blocks.sort_by_key(|block| block.id);
    Ok(())
}

fn doom(next: &mut Version, change: &Change) -> Result<(), CatalogError> {
    let undoomed: HashSet<&str> = change.undoom.iter().map(String::as_str).collect();
    next.doomed.retain(|doomed| !undoomed.contains(doomed.key.as_str()));
    for key in &change.doom {
        if !next.doomed.iter().any(|doomed| doomed.key == *key) {
            next.doomed.push(Doomed { key: key.clone(), since_ms: next.written_at_ms });
        }
    }
    // Somebody else may have named it since the garbage was planned: an ordinary conflict, not a defect.
    for key in &change.doom {
        let live = match ObjectKey::parse(key) {
            Some(ObjectKey::Block { id, .. }) => next.blocks.iter().any(|block| block.id == id),
            Some(ObjectKey::CatalogPart { id, .. }) => next.parts.iter().any(|part| part.id == id),
            _ => return Err(bad_change(format!("{key} is no block or part and cannot be doomed"))),
        };
        if live {
            return Err(bad_change(format!("{key} is live and cannot be doomed")));
        }
    }
    Ok(())
}

fn change_tombstones(next: &mut Version, change: &Change) -> Result<(), CatalogError> {
    let Some(TombstoneChange { from, to }) = &change.tombstones else { return Ok(()) };
    if next.tombstones != *from {
        return Err(CatalogError::TombstonesChanged { tenant: next.tenant.clone() });
    }
    next.tombstones.clone_from(to);
    Ok(())
}

fn bad_change(reason: impl Into<String>) -> CatalogError {
    CatalogError::BadChange { reason: reason.into() }
}
