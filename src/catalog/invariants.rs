//! What every version must hold. Used on what is read, on what is about to be written, and by tests.

use std::collections::HashSet;

use crate::bucket::ObjectKey;
use crate::model::Ulid;

use super::CatalogError;
use super::version::{BlockEntry, Version};

/// Checks one version by itself.
///
/// # Errors
/// [`CatalogError::Inconsistent`] with the first thing that is wrong.
pub fn check_invariants(version: &Version) -> Result<(), CatalogError> {
    let checks = [check_blocks(version), check_parts(version), check_columns(version), check_doomed(version)];
    let head = if version.version == 0 { Err("it has number 0".to_owned()) } else { Ok(()) };
    match std::iter::once(head).chain(checks).find_map(Result::err) {
        None => Ok(()),
        Some(reason) => Err(CatalogError::Inconsistent { version: version.version, reason }),
    }
}

/// Checks one block by itself.
pub(super) fn check_block(block: &BlockEntry) -> Result<(), String> {
    let id = block.id;
    if block.min_time_ms >= block.max_time_ms {
        return Err(format!("block {id} covers no time"));
    }
    if block.size_bytes == 0 || block.rows == 0 || block.series == 0 {
        return Err(format!("block {id} is empty"));
    }
    if block.series > block.rows {
        return Err(format!("block {id} has more series than rows"));
    }
    if !is_sha256(&block.sha256) {
        return Err(format!("block {id} has no SHA-256"));
    }
    Ok(())
}

fn check_blocks(version: &Version) -> Result<(), String> {
    let mut previous: Option<Ulid> = None;
    for block in &version.blocks {
        check_block(block)?;
        if previous.is_some_and(|previous| previous >= block.id) {
            return Err(format!("block {} is out of order or there twice", block.id));
        }
        previous = Some(block.id);
    }
    Ok(())
}

fn check_parts(version: &Version) -> Result<(), String> {
    let mut ids = HashSet::new();
    for part in &version.parts {
        if !ids.insert(part.id) {
            return Err(format!("part {} is there twice", part.id));
        }
        if part.blocks == 0 || part.block_min > part.block_max || part.min_time_ms >= part.max_time_ms {
            return Err(format!("part {} is empty", part.id));
        }
        if !is_sha256(&part.sha256) {
            return Err(format!("part {} has no SHA-256", part.id));
        }
    }
    Ok(())
}

fn check_columns(version: &Version) -> Result<(), String> {
    let mut folded = HashSet::new();
    for column in &version.label_columns {
        if column.is_empty() || !folded.insert(column.to_lowercase()) {
            return Err(format!("label column {column:?} is empty or there twice"));
        }
    }
    let columns: HashSet<&str> = version.label_columns.iter().map(String::as_str).collect();
    for block in &version.blocks {
        if let Some(column) = block.label_columns.iter().find(|c| !columns.contains(c.as_str())) {
            return Err(format!(
                "block {} has the label column {column:?}, which the tenant has not",
                block.id
            ));
        }
    }
    Ok(())
}

fn check_doomed(version: &Version) -> Result<(), String> {
    let block_ids: HashSet<Ulid> = version.blocks.iter().map(|block| block.id).collect();
    let mut keys = HashSet::new();
    for doomed in &version.doomed {
        if !keys.insert(doomed.key.as_str()) {
            return Err(format!("{} is doomed twice", doomed.key));
        }
        let (tenant, live) = match ObjectKey::parse(&doomed.key) {
            Some(ObjectKey::Block { tenant, id }) => (tenant, block_ids.contains(&id)),
            Some(ObjectKey::CatalogPart { tenant, id }) => (tenant, version.parts.iter().any(|p| p.id == id)),
            _ => return Err(format!("{} is doomed and no block or part", doomed.key)),
        };
        if tenant != version.tenant {
            return Err(format!("{} is doomed and another tenant's", doomed.key));
        }
        if live {
            return Err(format!("{} is doomed and live", doomed.key));
        }
    }
    Ok(())
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
