//! The object store of a run, and each process's connection to it, which fails as real ones do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::world::World;

/// How late a listing may be.
pub(super) const LIST_LAG_MS: u64 = 8_000;

/// The store: what arrived, when, and what was ever there.
pub(super) struct SimStore {
    world: Arc<World>,
    inner: Arc<InMemory>,
    /// Its own clock, off by a constant.
    off_by_ms: i64,
    defect: StoreDefect,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stored_at_ms: BTreeMap<Path, i64>,
    /// Grows with everything that changes.
    changes: u64,
    /// Objects that were created and deleted: a catalog version must not come again.
    deleted: BTreeSet<Path>,
    /// Seals that were not stored, although their writers think so; see [`StoreDefect::SkipsSeals`].
    phantoms: BTreeMap<Path, PutPayload>,
}

/// What is planted in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum StoreDefect {
    #[default]
    None,
    /// A create overwrites, but for those that find this out when a process starts.
    IgnoresConditions,
    /// Who seals an epoch does not: it believes to have, and nothing keeps the epoch's writer from going on.
    SkipsSeals,
}

/// One process's way to the store; clones share it.
#[derive(Clone)]
pub(super) struct Link {
    world: Arc<World>,
    who: String,
    server: Arc<SimStore>,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Faults {
    /// How many of 100 requests go wrong.
    pub(super) percent: u64,
    /// The longest travel of a request one way.
    pub(super) travel_ms: u64,
    /// No request arrives before this.
    pub(super) away_until: Option<Instant>,
}

impl Faults {
    pub(super) const NONE: Self = Self { percent: 0, travel_ms: 40, away_until: None };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PutFault {
    None,
    /// The request never arrives.
    Lost,
    /// It arrives, the reply does not.
    ReplyLost,
    /// It arrives long after its sender was told of a timeout.
    Late,
    /// A create is answered with S3's 409 and nothing lands.
    FalseConflict,
}

impl SimStore {
    pub(super) fn new(world: &Arc<World>, defect: StoreDefect) -> Arc<Self> {
        let off_by_ms = i64::try_from(world.below(240_000)).unwrap() - 120_000;
        let (world, inner, state) = (Arc::clone(world), Arc::default(), Mutex::default());
        Arc::new(Self { world, inner, off_by_ms, defect, state })
    }

    pub(super) fn link(self: &Arc<Self>, who: &str) -> Arc<Link> {
        let (world, server) = (Arc::clone(&self.world), Arc::clone(self));
        Arc::new(Link { world, who: who.to_owned(), server, faults: Arc::new(Mutex::new(Faults::NONE)) })
    }

    /// Returns what is there without any fault.
    pub(super) fn contents(&self) -> &Arc<InMemory> {
        &self.inner
    }

    pub(super) fn changes(&self) -> u64 {
        self.state().changes
    }

    pub(super) fn was_deleted(&self, path: &Path) -> bool {
        self.state().deleted.contains(path)
    }

    /// Returns when an object was stored, by the store's clock.
    pub(super) fn stored_at_ms(&self, path: &Path) -> Option<i64> {
        self.state().stored_at_ms.get(path).copied()
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.world.true_ms() + self.off_by_ms
    }

    async fn store(
        &self,
        who: &str,
        path: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        let create = options.mode == PutMode::Create;
        if self.defect == StoreDefect::IgnoresConditions && !path.as_ref().starts_with("probes/") {
            options.mode = PutMode::Overwrite;
        }
        if self.defect == StoreDefect::SkipsSeals && is_seal(path, &payload) {
            let taken = self.inner.head(path).await.is_ok();
            if !taken {
                self.world.note(who, format_args!("store: {path} is not sealed"));
                self.state().phantoms.insert(path.clone(), payload);
                return Ok(PutResult { e_tag: None, version: None });
            }
        }
        let bytes = payload.content_length();
        let outcome = self.inner.put_opts(path, payload, options).await;
        let verb = if create { "create" } else { "put" };
        let word = if outcome.is_ok() { "stored" } else { "refused" };
        self.world.note(who, format_args!("store: {verb} {path} of {bytes} bytes: {word}"));
        if outcome.is_ok() {
            let mut state = self.state();
            state.stored_at_ms.insert(path.clone(), self.now_ms());
            state.changes += 1;
        }
        outcome
    }

    async fn get(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let phantom = self.state().phantoms.get(path).cloned();
        match (self.inner.get_opts(path, options.clone()).await, phantom) {
            (Err(Error::NotFound { .. }), Some(payload)) => {
                let only_it = InMemory::new();
                only_it.put(path, payload).await?;
                only_it.get_opts(path, options).await
            }
            (found, _) => found,
        }
    }

    async fn remove(&self, who: &str, path: &Path) -> Result<()> {
        let outcome = self.inner.delete(path).await;
        self.world.note(who, format_args!("store: delete {path}"));
        let mut state = self.state();
        state.changes += 1;
        state.stored_at_ms.remove(path);
        state.deleted.insert(path.clone());
        outcome
    }

    /// Lists what was stored before `lag_ms` ago.
    async fn listing(&self, prefix: Option<&Path>, lag_ms: u64) -> Result<Vec<ObjectMeta>> {
        let all: Vec<ObjectMeta> = self.inner.list(prefix).try_collect().await?;
        let before_ms = self.now_ms() - i64::try_from(lag_ms).unwrap();
        let state = self.state();
        let stored_ms = |path: &Path| state.stored_at_ms.get(path).copied().unwrap_or(0);
        let visible = all.into_iter().filter(|meta| lag_ms == 0 || stored_ms(&meta.location) <= before_ms);
        Ok(visible.map(|meta| dated(meta, &state)).collect())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kinds of objects of a log that are no entries; `docs/formats/log.md` has the bytes.
pub(super) const SEAL: u8 = 1;
pub(super) const MARK: u8 = 2;

/// Returns the kind of an object of a log.
pub(super) fn kind_of(bytes: &[u8]) -> u8 {
    bytes.get(10).copied().unwrap_or(0)
}

fn is_seal(path: &Path, payload: &PutPayload) -> bool {
    path.as_ref().starts_with("log/") && payload.iter().next().is_some_and(|bytes| kind_of(bytes) == SEAL)
}

fn dated(mut meta: ObjectMeta, state: &State) -> ObjectMeta {
    if let Some(ms) = state.stored_at_ms.get(&meta.location) {
        meta.last_modified = (UNIX_EPOCH + Duration::from_millis(u64::try_from(*ms).unwrap())).into();
    }
    meta
}

fn broken(why: &'static str) -> Error {
    Error::Generic { store: "simulated", source: why.into() }
}

impl Link {
    pub(super) fn set_faults(&self, faults: Faults) {
        self.world.note(&self.who, format_args!("{faults:?}", faults = (faults.percent, faults.travel_ms)));
        *self.faults.lock().unwrap() = faults;
    }

    pub(super) fn cut_off_for(&self, time: Duration) {
        self.world.note(&self.who, format_args!("store: unreachable for {} ms", time.as_millis()));
        self.faults.lock().unwrap().away_until = Some(Instant::now() + time);
    }

    fn faults(&self) -> Faults {
        *self.faults.lock().unwrap()
    }

    fn goes_wrong(&self) -> bool {
        let percent = self.faults().percent;
        percent > 0 && self.world.chance(percent)
    }

    async fn travel(&self) {
        sleep(self.world.millis(1, self.faults().travel_ms + 1)).await;
    }

    /// Brings a request to the store, or not.
    async fn arrive(&self) -> Result<()> {
        self.travel().await;
        match self.faults().away_until {
            Some(until) if Instant::now() < until => {
                sleep(self.world.millis(5, 3_000)).await;
                Err(broken("unreachable"))
            }
            _ if self.goes_wrong() => Err(broken("connection reset")),
            _ => Ok(()),
        }
    }

    fn put_fault(&self, create: bool) -> PutFault {
        if !self.goes_wrong() {
            return PutFault::None;
        }
        match self.world.below(4) {
            0 => PutFault::ReplyLost,
            1 => PutFault::Late,
            2 if create => PutFault::FalseConflict,
            _ => PutFault::Lost,
        }
    }

    fn lag_ms(&self) -> u64 {
        if self.faults().percent > 0 && self.world.chance(25) { self.world.below(LIST_LAG_MS) } else { 0 }
    }

    /// Reads an object; its body may be cut short, with or without an error.
    async fn read(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.arrive().await?;
        let (head, what) = (options.head, if options.head { "head" } else { "get" });
        let found = self.server.get(path, options).await;
        self.world.note(&self.who, format_args!("store: {what} {path}: {}", found.is_ok()));
        let mut found = found?;
        found.meta = dated(found.meta, &self.server.state());
        self.travel().await;
        if head || !self.goes_wrong() {
            return Ok(found);
        }
        let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
        let bytes = found.bytes().await?;
        let part = bytes.slice(..usize::try_from(self.world.below(bytes.len() as u64 + 1)).unwrap());
        self.world
            .note(&self.who, format_args!("store: {path} is cut off at {} of {}", part.len(), bytes.len()));
        let mut chunks: Vec<Result<Bytes>> = vec![Ok(part)];
        if self.world.chance(50) {
            chunks.push(Err(broken("the body broke off")));
        }
        let payload = GetResultPayload::Stream(futures::stream::iter(chunks).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }
}

#[async_trait]
impl ObjectStore for Link {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.arrive().await?;
        let fault = self.put_fault(options.mode == PutMode::Create);
        if fault != PutFault::None {
            self.world.note(&self.who, format_args!("store: put {path}: {fault:?}"));
        }
        match fault {
            PutFault::Lost => return Err(broken("lost")),
            PutFault::FalseConflict => {
                return Err(Error::AlreadyExists { path: path.to_string(), source: "409 Conflict".into() });
            }
            _ => {}
        }
        let late = if fault == PutFault::Late { self.world.millis(1_000, 400_000) } else { Duration::ZERO };
        let (server, who, path) = (Arc::clone(&self.server), self.who.clone(), path.clone());
        let (done, reply) = oneshot::channel();
        // What has left the process arrives, whatever becomes of the process.
        let onward = self.world.millis(1, 10);
        tokio::spawn(async move {
            sleep(onward + late).await;
            let _ = done.send(server.store(&who, &path, payload, options).await);
        });
        match fault {
            PutFault::None => {
                let answer = reply.await.map_err(|_| broken("the store is gone"))?;
                self.travel().await;
                answer
            }
            _ => {
                sleep(self.world.millis(20, 2_000)).await;
                Err(broken("timed out"))
            }
        }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("no object of a simulation is that large")
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.read(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let link = self.clone();
        let delete = move |path: Result<Path>| {
            let link = link.clone();
            async move {
                let path = path?;
                link.arrive().await?;
                link.server.remove(&link.who, &path).await?;
                if link.goes_wrong() { Err(broken("the reply is lost")) } else { Ok(path) }
            }
        };
        paths.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (link, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            link.arrive().await?;
            let lag_ms = link.lag_ms();
            let found = link.server.listing(prefix.as_ref(), lag_ms).await?;
            link.world.note(&link.who, format_args!("store: list {} objects, {lag_ms} ms late", found.len()));
            link.travel().await;
            Ok::<_, Error>(futures::stream::iter(found.into_iter().map(Ok)))
        };
        futures::stream::once(listing).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.arrive().await?;
        let lag_ms = self.lag_ms();
        let found = self.server.listing(prefix, lag_ms).await?;
        self.travel().await;
        let depth = prefix.map_or(0, |prefix| prefix.parts().count());
        let (mut objects, mut folders) = (Vec::new(), BTreeSet::new());
        for meta in found {
            let parts: Vec<_> = meta.location.parts().collect();
            if parts.len() == depth + 1 {
                objects.push(meta);
            } else {
                folders.insert(Path::from_iter(parts.into_iter().take(depth + 1)));
            }
        }
        Ok(ListResult { objects, common_prefixes: folders.into_iter().collect() })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unreachable!("nothing is copied")
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("who", &self.who).finish_non_exhaustive()
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}
