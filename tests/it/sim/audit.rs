//! What must hold of the store's contents, seen by somebody who sees all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::store::{MARK, SEAL, SimStore, kind_of};
use perennial::bucket::{Bucket, ObjectKey};
use perennial::catalog::{CatalogSettings, Catalogs, Snapshot, check_invariants};
use perennial::model::{TenantId, Ulid};
use perennial::runtime::{Clock, ManualClock, random_from_seed};

/// Looks at everything in the store after each step.
pub(super) struct Auditor {
    store: Arc<SimStore>,
    catalogs: Catalogs,
    tenants: BTreeMap<TenantId, Tenant>,
    seen_changes: u64,
}

/// What was seen of a tenant.
#[derive(Default)]
struct Tenant {
    /// The bytes' checksum of every version ever seen.
    versions: BTreeMap<u64, u32>,
    /// What each of them names, and how large it is where that is known.
    named: BTreeMap<u64, BTreeMap<Path, Option<u64>>>,
    /// The covered end of each epoch, in the newest version seen.
    covered: BTreeMap<Ulid, u64>,
    forgotten: BTreeSet<Ulid>,
}

impl Auditor {
    pub(super) fn new(store: &Arc<SimStore>) -> Self {
        let bucket = Bucket::from_store(Arc::clone(store.contents()) as _);
        let clock = ManualClock::new(0) as Arc<dyn Clock>;
        let catalogs = Catalogs::new(bucket, clock, random_from_seed(0), CatalogSettings::default());
        Self { store: Arc::clone(store), catalogs, tenants: BTreeMap::new(), seen_changes: 0 }
    }

    /// Checks what has changed since the last time.
    pub(super) async fn check(&mut self) -> Result<(), String> {
        let changes = self.store.changes();
        if changes == self.seen_changes {
            return Ok(());
        }
        self.seen_changes = changes;
        let objects = self.objects().await;
        let mut tenants: BTreeMap<TenantId, Vec<u64>> = BTreeMap::new();
        let mut epochs: BTreeMap<Ulid, Vec<u64>> = BTreeMap::new();
        for path in objects.keys() {
            let key = ObjectKey::parse(path.as_ref());
            match key.ok_or_else(|| format!("{path} is no object of ours"))? {
                ObjectKey::CatalogVersion { tenant, version } => {
                    tenants.entry(tenant).or_default().push(version);
                }
                ObjectKey::LogEntry { epoch, seq } => epochs.entry(epoch).or_default().push(seq),
                key => {
                    tenants.extend(
                        key.tenant().filter(|t| !tenants.contains_key(*t)).map(|t| (t.clone(), vec![])),
                    );
                }
            }
        }
        for (epoch, seqs) in epochs {
            let checked = self.check_epoch(epoch, &seqs).await;
            checked.map_err(|reason| format!("log of epoch {epoch}: {reason}"))?;
        }
        for (tenant, mut versions) in tenants {
            versions.sort_unstable();
            let checked = self.check_tenant(&tenant, &versions, &objects).await;
            checked.map_err(|reason| format!("catalog of {tenant}: {reason}"))?;
        }
        Ok(())
    }

    /// Checks that nothing but the mark follows a seal. A put that lands late may bring back an entry that was deleted,
    /// or be a seal in its place: that one is garbage, for blocks hold what came before it.
    async fn check_epoch(&self, epoch: Ulid, seqs: &[u64]) -> Result<(), String> {
        let mut sealed = None;
        for seq in seqs {
            let path = Path::from(ObjectKey::LogEntry { epoch, seq: *seq }.to_string());
            let bytes = self.store.contents().get(&path).await.unwrap().bytes().await.unwrap();
            match (kind_of(&bytes), sealed) {
                (SEAL, None) if !self.store.was_deleted(&path) => sealed = Some(*seq),
                (MARK, _) | (_, None) => {}
                (_, Some(seal)) => return Err(format!("number {seq} follows the seal {seal}")),
            }
        }
        Ok(())
    }

    /// Returns the epochs that have anything in the store, and when the last of it was stored.
    pub(super) async fn epochs(&self) -> BTreeMap<Ulid, i64> {
        let mut epochs = BTreeMap::new();
        for path in self.objects().await.keys() {
            if let Some(ObjectKey::LogEntry { epoch, .. }) = ObjectKey::parse(path.as_ref()) {
                let stored_ms = self.store.stored_at_ms(path).unwrap_or(0);
                let newest = epochs.entry(epoch).or_insert(stored_ms);
                *newest = stored_ms.max(*newest);
            }
        }
        epochs
    }

    async fn check_tenant(
        &mut self,
        tenant: &TenantId,
        versions: &[u64],
        objects: &BTreeMap<Path, u64>,
    ) -> Result<(), String> {
        if let Some(pair) = versions.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
            return Err(format!("nothing between versions {} and {}", pair[0], pair[1]));
        }
        let seen = self.tenants.entry(tenant.clone()).or_default();
        let newest_seen = seen.versions.last_key_value().map_or(0, |(version, _)| *version);
        if newest_seen > 0 && versions.last().is_none_or(|newest| *newest < newest_seen) {
            return Err(format!("version {newest_seen} is gone, which was the newest"));
        }
        for version in versions {
            let path = Path::from(ObjectKey::catalog_version(tenant, *version).to_string());
            let bytes = self.store.contents().get(&path).await.unwrap().bytes().await.unwrap();
            let sum = crc32c::crc32c(&bytes);
            match seen.versions.get(version) {
                Some(known) if *known == sum => {}
                Some(_) => return Err(format!("version {version} has changed")),
                None if *version <= newest_seen || self.store.was_deleted(&path) => {
                    return Err(format!("version {version} was made a second time"));
                }
                None => {
                    let snapshot = self.catalogs.of(tenant).at(*version).await.map_err(|e| e.to_string())?;
                    check_invariants(snapshot.version()).map_err(|e| e.to_string())?;
                    seen.learn(&snapshot).await?;
                    seen.versions.insert(*version, sum);
                }
            }
        }
        for version in versions {
            for (path, size) in &seen.named[version] {
                match (objects.get(path), size) {
                    (None, _) => return Err(format!("version {version} names {path}, which is not there")),
                    (Some(found), Some(size)) if found != size => {
                        return Err(format!("{path} has {found} bytes, version {version} says {size}"));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    async fn objects(&self) -> BTreeMap<Path, u64> {
        let all: Vec<_> = self.store.contents().list(None).try_collect().await.unwrap();
        all.into_iter().map(|meta| (meta.location, meta.size)).collect()
    }

    /// Checks that nothing is left that no kept version names, but for objects younger than `age_ms`.
    pub(super) async fn check_garbage(&self, age_ms: i64, history_ms: i64) -> Result<(), String> {
        let before_ms = self.store.now_ms() - age_ms;
        let objects = self.objects().await;
        let mut named = BTreeSet::new();
        for (tenant, seen) in &self.tenants {
            let path = |version: u64| Path::from(ObjectKey::catalog_version(tenant, version).to_string());
            let kept: Vec<u64> =
                seen.versions.keys().copied().filter(|v| objects.contains_key(&path(*v))).collect();
            for pair in kept.windows(2) {
                let replaced_ms = self.store.stored_at_ms(&path(pair[1])).unwrap();
                if replaced_ms < self.store.now_ms() - history_ms - age_ms {
                    return Err(format!("version {} of {tenant} is older than the history", pair[0]));
                }
            }
            named.extend(kept.iter().flat_map(|version| seen.named[version].keys().cloned()));
        }
        for path in objects.keys() {
            let garbage = match ObjectKey::parse(path.as_ref()) {
                Some(ObjectKey::Block { .. } | ObjectKey::CatalogPart { .. }) => !named.contains(path),
                _ => false,
            };
            let stored_ms = self.store.stored_at_ms(path).unwrap_or(0);
            if garbage && stored_ms < before_ms {
                let age_s = (self.store.now_ms() - stored_ms) / 1_000;
                return Err(format!("{path} is garbage and {age_s} s old"));
            }
        }
        Ok(())
    }
}

impl Tenant {
    /// Takes in the version after the last one that was seen.
    async fn learn(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        let version = snapshot.version();
        let block = |id, size| (Path::from(ObjectKey::block(&version.tenant, id).to_string()), Some(size));
        let blocks = snapshot.blocks().await.map_err(|e| e.to_string())?;
        let mut named: BTreeMap<Path, Option<u64>> =
            blocks.iter().map(|entry| block(entry.id, entry.size_bytes)).collect();
        let parts = version.parts.iter().map(|part| ObjectKey::catalog_part(&version.tenant, part.id));
        named.extend(parts.map(|key| (Path::from(key.to_string()), None)));
        let covered: BTreeMap<Ulid, u64> = version.covered.iter().map(|(e, c)| (*e, c.through_seq)).collect();
        for (epoch, before) in &self.covered {
            match covered.get(epoch) {
                Some(now) if now < before => return Err(format!("epoch {epoch} is uncovered again")),
                Some(_) => {}
                None => {
                    self.forgotten.insert(*epoch);
                }
            }
        }
        if let Some(epoch) = covered.keys().find(|epoch| self.forgotten.contains(epoch)) {
            return Err(format!("epoch {epoch} was forgotten and is covered again"));
        }
        self.covered = covered;
        self.named.insert(version.version, named);
        Ok(())
    }
}
