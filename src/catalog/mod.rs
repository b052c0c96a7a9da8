//! The catalog: which blocks exist, per tenant, as numbered immutable versions in the bucket.
//!
//! Vocabulary: a *version* is one object that describes a tenant's whole state; a *snapshot* is a version that was
//! read; a *change* is what somebody wants to be different; a *commit* creates the next version with a change in it; a
//! *part* holds blocks that a version names by reference; a *doomed* object is one that no kept version names and that
//! will be deleted; a *rollback* is a commit whose content is that of a kept version.
//!
//! How a commit runs:
//! 1. find the newest version, from the one known or from the `latest` hint;
//! 2. plan the next one: a pure function of that version and the change ([`plan_commit`]);
//! 3. create it under the next number, put-if-absent and verified;
//! 4. on a conflict somebody else was faster: start again at 1 from there;
//! 5. move the hint, which nobody relies on.
//!
//! **Invariants**
//! - A block exists if and only if the newest version names it, directly or through a part.
//! - Versions are numbered without gaps; one that was created is never changed; the newest is never deleted and older
//!   ones go oldest first. So where a version is, every later one is too.
//! - Positions covered are the fence: entries `(after, through]` of an epoch are taken only if exactly `after` is
//!   covered, so entries are never counted twice or left out.
//! - A commit carries its change's id. A change whose reply was lost is found by that id and not applied again.
//! - A version is not created on a base read more than an hour ago; history is at least a day by
//!   the store's clock. So the number of an expired version is never created a second time.
//! - Later versions have later times, so that a time names one version: the last that was made by then.
//! - A doomed object is never named again, and its entry stays until the object is gone.
//!
//! [`check_invariants`] holds what one version can show of this; every version is checked before it is created.
//!
//! **Crash consistency** A crash before the create leaves blocks and parts that no version names: garbage, doomed and
//! deleted after the delay. A crash after it leaves an outdated hint: readers probe on. A crash in the middle of
//! collecting garbage leaves the rest for the next run.
//!
//! What it does not do: read blocks, decide what to merge, lock. Leases, tombstones and quarantine have their place in
//! the format and are carried along.

mod catalogs;
mod codec;
mod error;
mod garbage;
mod history;
mod invariants;
mod part;
mod plan;
mod rollback;
mod snapshot;
mod version;

#[cfg(test)]
mod tests;

pub use catalogs::Catalogs;
pub use codec::fuzz_catalog;
pub use error::CatalogError;
pub use garbage::{GarbagePlan, GarbageReport, plan_garbage};
pub use history::{CatalogSettings, TenantCatalog, VersionInfo};
pub use invariants::check_invariants;
pub use plan::{Change, CoverChange, Plan, TombstoneChange, plan_commit};
pub use rollback::{LostBlock, RollbackError, RollbackPlan};
pub use snapshot::Snapshot;
pub use version::{BlockEntry, Covered, Doomed, FORMAT, PartEntry, UnknownFields, Version, WRITER};

pub use crate::model::BlockKind;

use crate::bucket::{Bucket, ObjectKey};
use crate::model::TenantId;

/// Lists the tenants that have a folder in the bucket. One may have no catalog yet.
///
/// # Errors
/// The store's failure.
pub async fn tenants(bucket: &Bucket) -> Result<Vec<TenantId>, CatalogError> {
    let names = bucket.list_folders(ObjectKey::TENANTS).await?;
    let tenant = |name: &String| match TenantId::new(name) {
        Ok(tenant) => Some(tenant),
        Err(error) => {
            tracing::warn!(folder = %name, %error, "ignoring a folder among the tenants");
            None
        }
    };
    Ok(names.iter().filter_map(tenant).collect())
}
