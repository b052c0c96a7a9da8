//! A store in memory that fails as real ones do, by plan or by seed.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, future, stream};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::runtime::{Clock, Random};

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The request never arrives, and its sender is told of a broken connection.
    Lost,
    /// A put arrives; its reply does not.
    ReplyLost,
    /// A put arrives long after its sender was told of a timeout.
    Late,
    /// A create is answered with S3's 409 and nothing lands.
    FalseConflict,
    /// The bucket itself is missing.
    NoBucket,
    /// A create overwrites.
    ConditionIgnored,
}

/// What goes wrong with the answer to one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadFault {
    /// There is none.
    Broken,
    /// It ends early, as if it were whole.
    Short,
    /// It breaks off.
    BreaksOff,
    /// It begins and then nothing more comes.
    Stalls,
}

pub(crate) struct FailingStore {
    inner: InMemory,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    /// Faults of the next puts, first to come first.
    planned: VecDeque<Fault>,
    /// Faults of the next reads.
    planned_reads: VecDeque<ReadFault>,
    /// After so many objects each listing breaks off.
    listed_max: Option<usize>,
    /// Random faults: the source and how many of 100 requests fail.
    random: Option<(Random, u64)>,
    late: Vec<(Path, PutPayload, PutOptions)>,
    stored_at_ms: HashMap<Path, i64>,
    /// What was stored last: a listing may not have it yet.
    recent: VecDeque<Path>,
    requests: u64,
}

impl FailingStore {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let state = State {
            planned: VecDeque::new(),
            planned_reads: VecDeque::new(),
            listed_max: None,
            random: None,
            late: Vec::new(),
            stored_at_ms: HashMap::new(),
            recent: VecDeque::new(),
            requests: 0,
        };
        Arc::new(Self { inner: InMemory::new(), clock, state: Mutex::new(state) })
    }

    pub(crate) fn plan_puts(&self, faults: &[Fault]) {
        self.state().planned.extend(faults);
    }

    /// Plans the faults of the next reads, in place of those planned before.
    pub(crate) fn plan_reads(&self, faults: &[ReadFault]) {
        self.state().planned_reads = faults.iter().copied().collect();
    }

    pub(crate) fn break_listings_after(&self, objects: usize) {
        self.state().listed_max = Some(objects);
    }

    pub(crate) fn fail_at_random(&self, random: Random, percent: u64) {
        self.state().random = Some((random, percent));
    }

    pub(crate) fn stop_failing(&self) {
        self.state().random = None;
    }

    pub(crate) fn requests(&self) -> u64 {
        self.state().requests
    }

    /// Lets everything arrive that is late.
    pub(crate) async fn land_late_puts(&self) {
        let late = std::mem::take(&mut self.state().late);
        for (path, payload, options) in late {
            let _ = self.store(&path, payload, options).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn put_fault(&self, create: bool) -> Fault {
        let mut state = self.state();
        state.requests += 1;
        if let Some(fault) = state.planned.pop_front() {
            return fault;
        }
        match &state.random {
            Some((random, percent)) if random.next_u64() % 100 < *percent => match random.next_u64() % 4 {
                0 => Fault::ReplyLost,
                1 => Fault::Late,
                2 if create => Fault::FalseConflict,
                _ => Fault::Lost,
            },
            _ => Fault::None,
        }
    }

    /// Gives other tasks a turn, lets late puts arrive at times, and says whether a read fails.
    async fn before_read(&self) -> Result<()> {
        let (turns, lands, fails) = {
            let mut state = self.state();
            state.requests += 1;
            match &state.random {
                Some((random, percent)) => {
                    let fails = random.next_u64() % 100 < percent / 4;
                    (random.next_u64() % 4, random.next_u64().is_multiple_of(8), fails)
                }
                None => (0, false, false),
            }
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        if lands {
            self.land_late_puts().await;
        }
        if fails { Err(broken()) } else { Ok(()) }
    }

    async fn store(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let stored = self.inner.put_opts(path, payload, options).await?;
        let mut state = self.state();
        state.stored_at_ms.insert(path.clone(), self.clock.now_ms());
        state.recent.push_back(path.clone());
        if state.recent.len() > 3 {
            state.recent.pop_front();
        }
        Ok(stored)
    }
}

fn stored_at(ms: i64) -> chrono::DateTime<chrono::Utc> {
    (UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap())).into()
}

/// A connection that broke, as the clients of real stores tell it.
fn broken() -> Error {
    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let source = Box::new(HttpError::new(HttpErrorKind::Interrupted, reset));
    Error::Generic { store: "failing", source }
}

/// Ends a listing in a failure where it has more than so many objects.
fn break_off(
    listing: BoxStream<'static, Result<ObjectMeta>>,
    max: usize,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let numbered = listing.take(max + 1).enumerate();
    numbered.map(move |(n, meta)| if n < max { meta } else { Err(broken()) }).boxed()
}

impl ReadFault {
    async fn spoil(self, found: GetResult) -> Result<GetResult> {
        let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
        let whole = found.bytes().await?;
        let start = Ok(whole.slice(..whole.len() / 2));
        let body = match self {
            Self::Broken => return Err(broken()),
            Self::Short => stream::iter([start]).boxed(),
            Self::BreaksOff => stream::iter([start, Err(broken())]).boxed(),
            Self::Stalls => stream::iter([start]).chain(stream::pending()).boxed(),
        };
        Ok(GetResult { payload: GetResultPayload::Stream(body), meta, range, attributes })
    }
}

#[async_trait]
impl ObjectStore for FailingStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        tokio::task::yield_now().await;
        match self.put_fault(options.mode == PutMode::Create) {
            Fault::None => self.store(path, payload, options).await,
            Fault::Lost => Err(broken()),
            Fault::ReplyLost => {
                let _ = self.store(path, payload, options).await;
                Err(broken())
            }
            Fault::Late => {
                self.state().late.push((path.clone(), payload, options));
                Err(broken())
            }
            Fault::FalseConflict => {
                Err(Error::AlreadyExists { path: path.to_string(), source: "409 Conflict".into() })
            }
            Fault::NoBucket => Err(Error::NotFound { path: path.to_string(), source: "NoSuchBucket".into() }),
            Fault::ConditionIgnored => {
                options.mode = PutMode::Overwrite;
                self.store(path, payload, options).await
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.before_read().await?;
        let mut found = self.inner.get_opts(path, options).await?;
        if let Some(ms) = self.state().stored_at_ms.get(path) {
            found.meta.last_modified = stored_at(*ms);
        }
        let fault = self.state().planned_reads.pop_front();
        match fault {
            None => Ok(found),
            Some(fault) => fault.spoil(found).await,
        }
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let state = self.state();
        let late = state.random.as_ref().is_some_and(|(random, _)| random.next_u64().is_multiple_of(4));
        let hidden = if late { state.recent.clone() } else { VecDeque::new() };
        let stored_at_ms = state.stored_at_ms.clone();
        let dated = move |mut meta: ObjectMeta| {
            if let Some(ms) = stored_at_ms.get(&meta.location) {
                meta.last_modified = stored_at(*ms);
            }
            meta
        };
        let visible = move |meta: &ObjectMeta| future::ready(!hidden.contains(&meta.location));
        let listed_max = state.listed_max;
        let listing = self.inner.list(prefix).try_filter(visible).map_ok(dated);
        match listed_max {
            None => listing.boxed(),
            Some(max) => break_off(listing.boxed(), max),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed_max = self.state().listed_max;
        let stored_at_ms = self.state().stored_at_ms.clone();
        let listing = self.inner.list_with_offset(prefix, offset).map_ok(move |mut meta| {
            if let Some(ms) = stored_at_ms.get(&meta.location) {
                meta.last_modified = stored_at(*ms);
            }
            meta
        });
        match listed_max {
            None => listing.boxed(),
            Some(max) => break_off(listing.boxed(), max),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.before_read().await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Debug for FailingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FailingStore")
    }
}

impl fmt::Display for FailingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
