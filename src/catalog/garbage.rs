//! Garbage: what no kept version names. It is doomed in a version first, and deleted later.

use std::collections::{HashMap, HashSet};

use crate::bucket::{ObjectInfo, ObjectKey};
use crate::model::TenantId;
use crate::runtime::crash_point;

use super::history::{CatalogSettings, TenantCatalog, VersionInfo};
use super::version::Version;
use super::{CatalogError, Snapshot};

/// How many objects one run dooms at most: what is doomed stands in every version.
const DOOMED_MAX: usize = 10_000;

/// What is to be done about garbage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GarbagePlan {
    /// Objects to delete: doomed and old for long enough.
    pub delete: Vec<ObjectKey>,
    /// Objects to doom: old enough, and named by no kept version.
    pub doom: Vec<ObjectKey>,
    /// Doomed objects that are gone.
    pub undoom: Vec<ObjectKey>,
}

/// What one run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GarbageReport {
    /// Versions that were deleted because their time in the history is over.
    pub versions_expired: u64,
    /// Objects that were doomed.
    pub doomed: u64,
    /// Objects that were deleted.
    pub deleted: u64,
    /// Bytes that were deleted, versions not counted.
    pub deleted_bytes: u64,
}

/// Plans what to delete, what to doom and what to strike off. Only blocks and parts of the newest version's tenant are
/// touched.
///
/// `named` are the keys of all blocks and parts that any version in the bucket names; `newest` is the last of these
/// versions. Young objects are left alone: somebody may be about to commit them.
#[must_use]
pub fn plan_garbage(
    named: &HashSet<ObjectKey>,
    newest: &Version,
    listing: &[ObjectInfo],
    doomed_delay_ms: i64,
    now_ms: i64,
) -> GarbagePlan {
    let doomed_since: HashMap<&str, i64> =
        newest.doomed.iter().map(|doomed| (doomed.key.as_str(), doomed.since_ms)).collect();
    let is_past = |since_ms: i64| now_ms.saturating_sub(since_ms) >= doomed_delay_ms;
    let mut plan = GarbagePlan::default();
    let mut listed = HashSet::new();
    for object in listing {
        let Some(key @ (ObjectKey::Block { .. } | ObjectKey::CatalogPart { .. })) =
            ObjectKey::parse(&object.key)
        else {
            continue;
        };
        if key.tenant() != Some(&newest.tenant) {
            continue;
        }
        if !named.contains(&key) && is_past(object.last_modified_ms) {
            match doomed_since.get(object.key.as_str()) {
                Some(since_ms) if is_past(*since_ms) => plan.delete.push(key.clone()),
                Some(_) => {}
                None if plan.doom.len() < DOOMED_MAX => plan.doom.push(key.clone()),
                None => {}
            }
        }
        listed.insert(key);
    }
    let doomed_keys = newest.doomed.iter().filter_map(|doomed| ObjectKey::parse(&doomed.key));
    plan.undoom = doomed_keys.filter(|key| !listed.contains(key)).collect();
    plan
}

/// Returns the versions whose time in the history is over, oldest first. A version's time starts when the next one
/// replaced it; the newest never expires.
pub(super) fn plan_expiry(versions: &[VersionInfo], newest: u64, history_ms: i64, now_ms: i64) -> Vec<u64> {
    versions
        .windows(2)
        .take_while(|pair| {
            // A listing with a gap has not everything yet: going on could delete a version before an older one.
            let next = pair[1].version == pair[0].version + 1;
            let replaced_ms = pair[1].last_modified_ms;
            next && pair[0].version < newest && now_ms.saturating_sub(replaced_ms) >= history_ms
        })
        .map(|pair| pair[0].version)
        .collect()
}

/// Picks the versions out of a listing, oldest first.
pub(super) fn listed_versions(tenant: &TenantId, listing: &[ObjectInfo]) -> Vec<VersionInfo> {
    let mut versions: Vec<VersionInfo> = listing
        .iter()
        .filter_map(|object| match ObjectKey::parse(&object.key) {
            Some(ObjectKey::CatalogVersion { tenant: of, version }) if of == *tenant => Some(VersionInfo {
                version,
                size_bytes: object.size_bytes,
                last_modified_ms: object.last_modified_ms,
            }),
            _ => None,
        })
        .collect();
    versions.sort_by_key(|info| info.version);
    versions
}

impl TenantCatalog {
    /// Lets versions go whose time is over, deletes what was doomed long enough, and dooms what nothing names any
    /// more. May be run by several processes at once, and again after a crash.
    ///
    /// # Errors
    /// A version that cannot be read: nothing is deleted while it is unknown what it names. The store's failure.
    pub async fn collect_garbage(&self) -> Result<GarbageReport, CatalogError> {
        let CatalogSettings { history_ms, doomed_delay_ms, .. } = self.settings;
        let mut report = GarbageReport::default();
        let Some(newest) = self.newest(None).await? else { return Ok(report) };
        // A clock that is ahead would let versions expire on which others still build.
        let now_ms = self.clock.now_ms().min(self.bucket.store_now_ms(&self.random).await?);
        let listing = self.bucket.list(&ObjectKey::tenant_folder(&self.tenant)).await?;
        let versions = listed_versions(&self.tenant, &listing);
        let expired = plan_expiry(&versions, newest.version().version, history_ms, now_ms);
        for version in &expired {
            crash_point("garbage.before_expire");
            self.bucket.delete(&ObjectKey::catalog_version(&self.tenant, *version)).await?;
            report.versions_expired += 1;
        }
        let named = self.named_by_kept(&versions[expired.len()..], &newest).await?;
        let plan = plan_garbage(&named, newest.version(), &listing, doomed_delay_ms, now_ms);
        for key in &plan.delete {
            crash_point("garbage.before_delete");
            self.bucket.delete(key).await?;
            report.deleted += 1;
            let text = key.to_string();
            report.deleted_bytes += listing.iter().find(|o| o.key == text).map_or(0, |o| o.size_bytes);
        }
        report.doomed = plan.doom.len() as u64;
        self.record_doomed(plan).await?;
        Ok(report)
    }

    /// Returns what the kept versions name. They must be there without a gap, up to the newest.
    async fn named_by_kept(
        &self,
        versions: &[VersionInfo],
        newest: &Snapshot,
    ) -> Result<HashSet<ObjectKey>, CatalogError> {
        let number = newest.version().version;
        let first = versions.first().map_or(number, |info| info.version);
        let mut named = newest.named().await?;
        for version in first..number {
            named.extend(self.at(version).await?.named().await?);
        }
        Ok(named)
    }

    async fn record_doomed(&self, plan: GarbagePlan) -> Result<(), CatalogError> {
        let mut change = self.new_change();
        change.doom = plan.doom.iter().map(ToString::to_string).collect();
        for key in &plan.undoom {
            // An entry protects its key from being named again; it may go only if the object is gone for certain.
            if self.bucket.head(key).await?.is_none() {
                change.undoom.push(key.to_string());
            }
        }
        if !change.doom.is_empty() || !change.undoom.is_empty() {
            crash_point("garbage.before_doom");
            self.commit(&change).await?;
        }
        Ok(())
    }
}
