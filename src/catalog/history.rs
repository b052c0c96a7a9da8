//! A tenant's versions in the bucket: finding the newest, reading a given one, creating the next.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::bucket::{Bucket, BucketError, Created, ObjectKey};
use crate::model::{TenantId, Ulid};
use crate::runtime::{Clock, Random, crash_point};

use super::codec::{decode_version, encode};
use super::part::{is_named, lift, parts_in_question, spill};
use super::plan::{Change, Plan, plan_commit};
use super::snapshot::{Moment, PartReader, Snapshot};
use super::version::Version;
use super::{CatalogError, check_invariants};

/// The least history: far more than [`BASE_AGE_MAX_MS`], so that no writer still works on what has expired.
const HISTORY_MIN_MS: i64 = 86_400_000;

/// How old the base of a commit, or the certainty that a version is the newest, may be.
const BASE_AGE_MAX_MS: i64 = 3_600_000;

/// How often a commit starts again because others were faster.
const ATTEMPTS_MAX: u32 = 100;

/// How many ids of earlier commits are remembered to recognise a change that landed without a reply.
const SEEN_MAX: usize = 4_096;

/// How a tenant's catalog is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogSettings {
    /// How long a version is kept after the next one replaced it; at least a day. Each version costs a few KiB.
    pub history_ms: i64,
    /// How long an object must be old, and then doomed, before it is deleted.
    pub doomed_delay_ms: i64,
    /// How many blocks a version holds itself before the oldest move to a part.
    pub recent_blocks_max: usize,
}

impl Default for CatalogSettings {
    fn default() -> Self {
        Self { history_ms: 7 * HISTORY_MIN_MS, doomed_delay_ms: HISTORY_MIN_MS, recent_blocks_max: 512 }
    }
}

/// A version in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionInfo {
    /// The version's number.
    pub version: u64,
    /// Size of its object.
    pub size_bytes: u64,
    /// When it was stored, by the store's clock.
    pub last_modified_ms: i64,
}

/// What is believed without a look about the newest version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// What was the newest within the last hour is still there. An error shows old data to a reader, for a while.
    LastHour,
    /// An error would fork the history.
    Nothing,
}

/// The catalog of one tenant.
#[derive(Debug)]
pub struct TenantCatalog {
    pub(super) bucket: Bucket,
    pub(super) tenant: TenantId,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: CatalogSettings,
    pub(super) random: Random,
    parts: PartReader,
    /// Held during a commit: commits of one process do not race each other.
    writer: tokio::sync::Mutex<Writer>,
}

/// What a writer remembers between commits.
#[derive(Debug, Default)]
struct Writer {
    known: Option<Arc<Snapshot>>,
    seen: VecDeque<Ulid>,
}

impl Writer {
    fn see(&mut self, version: &Version) {
        if self.seen.len() == SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(version.commit_id);
    }
}

impl TenantCatalog {
    /// Returns a tenant's catalog; nothing is read yet. Settings below their least value are raised to it.
    #[must_use]
    pub fn new(
        bucket: Bucket,
        tenant: TenantId,
        clock: Arc<dyn Clock>,
        random: Random,
        settings: CatalogSettings,
    ) -> Self {
        let settings = CatalogSettings {
            history_ms: settings.history_ms.max(HISTORY_MIN_MS),
            doomed_delay_ms: settings.doomed_delay_ms.max(BASE_AGE_MAX_MS),
            recent_blocks_max: settings.recent_blocks_max.max(2),
        };
        let parts = PartReader::new(bucket.clone());
        Self { bucket, tenant, clock, settings, random, parts, writer: tokio::sync::Mutex::default() }
    }

    /// Returns whose catalog this is.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Returns a change of nothing with a new random id.
    #[must_use]
    pub fn new_change(&self) -> Change {
        Change::new(self.random.ulid(self.clock.now_ms()))
    }

    /// Returns the newest version, or nothing where the tenant has no catalog. A version that is known saves reads:
    /// mostly one request for the version after it, which is not there.
    ///
    /// # Errors
    /// The store's failure, or a damaged version.
    pub async fn newest(&self, known: Option<Arc<Snapshot>>) -> Result<Option<Arc<Snapshot>>, CatalogError> {
        self.find_newest(known, Trust::LastHour, &mut |_| {}).await
    }

    /// Reads a kept version.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchVersion`], the store's failure, or a damaged version.
    pub async fn at(&self, version: u64) -> Result<Arc<Snapshot>, CatalogError> {
        let found = self.read(version).await?;
        found.ok_or_else(|| CatalogError::NoSuchVersion { tenant: self.tenant.clone(), version })
    }

    /// Lists the kept versions, oldest first.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn versions(&self) -> Result<Vec<VersionInfo>, CatalogError> {
        let listing = self.bucket.list(&ObjectKey::catalog_folder(&self.tenant)).await?;
        Ok(super::garbage::listed_versions(&self.tenant, &listing))
    }

    /// Brings a change into the catalog, whatever others do meanwhile. The same change may be given again after a
    /// failure: it is applied once.
    ///
    /// # Errors
    /// A change that does not fit the newest version (kind `Conflict` or `Invalid`), or the store's failure: the
    /// change may then be in or not.
    pub async fn commit(&self, change: &Change) -> Result<Arc<Snapshot>, CatalogError> {
        let mut writer = self.writer.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            let read_at = Moment::now(&*self.clock);
            let known = writer.known.clone();
            let base = self.find_newest(known, Trust::Nothing, &mut |version| writer.see(version)).await?;
            writer.known.clone_from(&base);
            let landed = writer.seen.contains(&change.id);
            match (base, landed) {
                (Some(base), true) => return self.settle(base).await,
                (base, _) => match self.plan(base.as_deref(), change).await? {
                    Plan::Landed => {
                        if let Some(base) = base {
                            return self.settle(base).await;
                        }
                    }
                    Plan::Create(next) => {
                        if let Some(created) = self.create(*next, read_at).await? {
                            writer.see(created.version());
                            writer.known = Some(Arc::clone(&created));
                            return Ok(created);
                        }
                    }
                },
            }
        }
        Err(CatalogError::Contended { tenant: self.tenant.clone(), attempts: ATTEMPTS_MAX })
    }

    /// Plans the next version, with the parts lifted that the change touches.
    async fn plan(&self, base: Option<&Snapshot>, change: &Change) -> Result<Plan, CatalogError> {
        let now_ms = self.clock.now_ms();
        let Some(base) = base else { return plan_commit(None, &self.tenant, change, now_ms) };
        let mut lifted = base.version().clone();
        for entry in parts_in_question(base.version(), change) {
            let blocks = self.parts.read(base.version(), entry).await?;
            if is_named(&blocks, change) {
                lift(&mut lifted, entry.id, &blocks);
            }
        }
        plan_commit(Some(&lifted), &self.tenant, change, now_ms)
    }

    /// Creates a planned version; returns nothing where it has to be planned again.
    async fn create(
        &self,
        mut next: Version,
        read_at: Moment,
    ) -> Result<Option<Arc<Snapshot>>, CatalogError> {
        let part_id = self.random.ulid(self.clock.now_ms());
        if let Some(part) = spill(&mut next, self.settings.recent_blocks_max, part_id) {
            let key = ObjectKey::catalog_part(&self.tenant, part.id);
            if self.bucket.create(&key, part.bytes).await? != Created::Stored {
                return Err(BucketError::Occupied { key: key.to_string() }.into());
            }
            check_invariants(&next)?;
        }
        if read_at.age_ms(&*self.clock) > BASE_AGE_MAX_MS {
            tracing::warn!(tenant = %self.tenant, "the base of a commit has become too old, reading it again");
            return Ok(None);
        }
        let key = ObjectKey::catalog_version(&self.tenant, next.version);
        let created_at = Moment::now(&*self.clock);
        crash_point("catalog.before_create");
        if self.bucket.create(&key, Bytes::from(encode(&next))).await? != Created::Stored {
            return Ok(None);
        }
        crash_point("catalog.after_create");
        self.move_hint(next.version).await;
        Ok(Some(Arc::new(Snapshot::new(next, self.parts.clone(), Some(created_at)))))
    }

    /// Returns the newest version after a change was found in the catalog. Its own reply was lost, so was perhaps
    /// the fsync that it reported.
    async fn settle(&self, newest: Arc<Snapshot>) -> Result<Arc<Snapshot>, CatalogError> {
        let key = ObjectKey::catalog_version(&self.tenant, newest.version().version);
        self.bucket.confirm_durable(&key).await?;
        Ok(newest)
    }

    async fn move_hint(&self, version: u64) {
        let key = ObjectKey::catalog_latest(&self.tenant);
        if let Err(error) = self.bucket.put(&key, Bytes::from(version.to_string())).await {
            tracing::warn!(%key, %error, "cannot move the hint at the newest version, readers find it without");
        }
    }

    async fn find_newest(
        &self,
        known: Option<Arc<Snapshot>>,
        trust: Trust,
        visit: &mut (dyn FnMut(&Version) + Send),
    ) -> Result<Option<Arc<Snapshot>>, CatalogError> {
        if let Some(known) = known
            && let Some(newest) = self.walk(known, trust, visit).await?
        {
            return Ok(Some(newest));
        }
        if let Some(hinted) = self.read_hinted().await? {
            visit(hinted.version());
            if let Some(newest) = self.walk(hinted, trust, visit).await? {
                return Ok(Some(newest));
            }
        }
        // Whoever deletes versions while they are listed leaves newer ones, so a few rounds are enough.
        const ROUNDS: u32 = 3;
        for _ in 0..ROUNDS {
            let Some(last) = self.versions().await?.pop() else { return Ok(None) };
            if let Some(start) = self.read(last.version).await? {
                visit(start.version());
                if let Some(newest) = self.walk(start, trust, visit).await? {
                    return Ok(Some(newest));
                }
            }
        }
        Err(CatalogError::Contended { tenant: self.tenant.clone(), attempts: ROUNDS })
    }

    /// Goes up from a version to the newest; nothing where the start may have expired.
    ///
    /// A missing next version proves little if garbage collection may have taken it. What was the newest within the
    /// last hour has successors that are too young for that, if all clocks are right. Otherwise the last version found is
    /// looked up once more: as versions go oldest first, its presence proves that no later one was taken.
    async fn walk(
        &self,
        start: Arc<Snapshot>,
        trust: Trust,
        visit: &mut (dyn FnMut(&Version) + Send),
    ) -> Result<Option<Arc<Snapshot>>, CatalogError> {
        let is_young = |age_ms| age_ms <= BASE_AGE_MAX_MS;
        let trusted = trust == Trust::LastHour && start.newest_age_ms(&*self.clock).is_some_and(is_young);
        let mut last = start;
        loop {
            let asked_at = Moment::now(&*self.clock);
            let number = last.version().version;
            match self.read(number.saturating_add(1)).await? {
                Some(next) => {
                    visit(next.version());
                    last = next;
                }
                None => {
                    let key = ObjectKey::catalog_version(&self.tenant, number);
                    if !trusted && self.bucket.head(&key).await?.is_none() {
                        return Ok(None);
                    }
                    last.confirm_newest(asked_at);
                    self.parts.keep_only(last.version());
                    return Ok(Some(last));
                }
            }
        }
    }

    /// Reads the version that the hint points at, if both are there and make sense.
    async fn read_hinted(&self) -> Result<Option<Arc<Snapshot>>, CatalogError> {
        let hint = match self.bucket.get(&ObjectKey::catalog_latest(&self.tenant)).await {
            Ok(bytes) => std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok()),
            Err(BucketError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        match hint {
            Some(version) => self.read(version).await,
            None => Ok(None),
        }
    }

    async fn read(&self, version: u64) -> Result<Option<Arc<Snapshot>>, CatalogError> {
        let key = ObjectKey::catalog_version(&self.tenant, version);
        let bytes = match self.bucket.get(&key).await {
            Ok(bytes) => bytes,
            Err(BucketError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let found = decode_version(&bytes).map_err(|e| e.at(&key))?;
        if found.version != version || found.tenant != self.tenant {
            let reason = format!("it says that it is version {} of tenant {}", found.version, found.tenant);
            return Err(CatalogError::Damaged { key: key.to_string(), reason });
        }
        Ok(Some(Arc::new(Snapshot::new(found, self.parts.clone(), None))))
    }
}
