//! The archiver's loop.

mod bases;
mod looks;
mod opening;
mod server;
mod window;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use self::bases::BaseWatch;
use super::base::MadeBase;
use super::collect::SharedDigests;
use super::facts::FactsClient;
use super::instruments::{ArchiverMetrics, seconds};
use super::publish::SealedObjects;
use super::scan::Scan;
use super::seed::seed;
use super::spool::Spool;
use super::tailer::{Batch, Tailer};
use super::upload::Uploader;
use crate::archive::{
    ArchiveError, Base, ChainEnd, ENTRY_FORMAT, Entry, Event, EventKind, ForkReason, ServerFacts, Stamp,
    UnknownFields,
};
use crate::bucket::Bucket;
use crate::envelope::Envelope;
use crate::model::{SourceName, Ulid, error_chain};
use crate::runtime::{Clock, Cpu, Random, Shutdown};

/// An entry is written at least this often, so that an archive tells a quiet server from a dead archiver.
const HEARTBEAT_MS: i64 = 10_000;

const SCAN_MS: i64 = 1_000;

/// A batch is read before its time where so many bytes wait.
const EAGER_BYTES: u64 = 1 << 20;

/// Which server is archived, and how often.
#[derive(Debug, Clone)]
pub struct ArchiverSettings {
    /// The archive's name.
    pub source: SourceName,
    /// The server's data directory.
    pub data_dir: PathBuf,
    /// Where the server answers HTTP, if it may be asked for its version, flags and external labels.
    pub prometheus_url: Option<String>,
    /// How often what was read is stored.
    pub flush: Duration,
    /// How often the logs are looked at.
    pub poll: Duration,
    /// What each digest covers, of sample time.
    pub digest_range: Duration,
    /// Whether an archive whose newest objects are encrypted may be gone on with in plaintext.
    pub continue_plaintext: bool,
}

/// What an archiver works with.
#[derive(Debug, Clone)]
pub struct ArchiverParts {
    /// Where the archive lies.
    pub bucket: Bucket,
    /// How objects are sealed.
    pub envelope: Envelope,
    /// Threads for reading, compressing and hashing.
    pub cpu: Cpu,
    /// The clock: that of the server's machine.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub random: Random,
    /// Metrics of all archivers of the process.
    pub metrics: ArchiverMetrics,
}

pub use opening::Opening;

type Task<T> = Option<JoinHandle<T>>;

/// Archives one server until it is told to stop.
#[derive(Debug)]
pub struct Archiver {
    settings: ArchiverSettings,
    id: Ulid,
    uploader: Uploader,
    spool: Arc<Spool>,
    tailer: Arc<Mutex<Tailer>>,
    digests: SharedDigests,
    end: ChainEnd,
    publishing: Task<Result<(ChainEnd, Entry), ArchiveError>>,
    /// The first look that saw something of what is being stored.
    storing_since: Option<Stamp>,
    /// Whether the last batch left something.
    more: bool,
    watch: BaseWatch,
    scans: VecDeque<Scan>,
    making: Task<Result<MadeBase, ArchiveError>>,
    last_base: Option<Arc<Base>>,
    /// Bases that are stored and not named by an entry yet.
    bases: VecDeque<Base>,
    unreadable: Vec<Ulid>,
    events: Vec<Event>,
    server: Option<FactsClient>,
    asking: Task<Result<Option<ServerFacts>, reqwest::Error>>,
    facts: Option<ServerFacts>,
    facts_are_news: bool,
    announced: bool,
    last_batch_ms: i64,
    last_entry: Stamp,
    /// The last look that found how far the logs are.
    last_look: Stamp,
    /// Whether the looks since then failed, and when that was said.
    blind: Option<i64>,
    last_scan_ms: i64,
    last_ask_ms: i64,
    /// When it was last read since when every second can be restored.
    window_read_ms: i64,
    /// The wall clock less the other one.
    drift_ms: i64,
}

impl Archiver {
    /// Opens the spool and begins to watch the logs. The store is not asked yet.
    ///
    /// # Errors
    /// A data directory that is not there or that another archiver works in, or an address that is none.
    pub async fn open(
        settings: ArchiverSettings,
        parts: ArchiverParts,
        stop: Shutdown,
    ) -> Result<Opening, ArchiveError> {
        Opening::open(settings, parts, stop).await
    }

    /// Archives until the stop, then stores what is left.
    async fn run(mut self) -> Result<(), ArchiveError> {
        let mut ticks = tokio::time::interval(self.settings.poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.uploader.stop.clone();
        loop {
            tokio::select! {
                biased;
                () = stop.wait() => break,
                published = ended(&mut self.publishing) => self.published(published?).await?,
                made = ended(&mut self.making) => self.made(made).await?,
                told = ended(&mut self.asking) => self.told(told),
                _ = ticks.tick() => {}
            }
            self.step().await?;
        }
        self.finish().await
    }

    /// Looks, scans, and stores what is due.
    async fn step(&mut self) -> Result<(), ArchiveError> {
        let now = self.now();
        self.check_clock(now);
        let scan_due = now.monotonic_ms.saturating_sub(self.last_scan_ms) >= SCAN_MS;
        self.look(now, scan_due).await?;
        if scan_due {
            self.last_scan_ms = now.monotonic_ms;
            self.scan().await?;
            self.show_spool().await?;
        }
        self.ask(now);
        self.make_next();
        let due = self.is_due(now);
        if due && self.publishing.is_none() {
            self.publish(now).await?;
        }
        self.show_lag(now);
        Ok(())
    }

    fn now(&self) -> Stamp {
        let clock = &self.uploader.clock;
        Stamp { wall_ms: clock.now_ms(), monotonic_ms: clock.monotonic_ms() }
    }

    fn tailer(&self) -> MutexGuard<'_, Tailer> {
        lock(&self.tailer)
    }

    fn is_due(&self, now: Stamp) -> bool {
        let (has_news, eager) = {
            let tailer = self.tailer();
            if !tailer.has_begun() {
                return false;
            }
            let eager = tailer.waits_since().is_some() && tailer.unread_bytes() >= EAGER_BYTES;
            (tailer.has_news(), eager)
        };
        let flush_ms = i64::try_from(self.settings.flush.as_millis()).unwrap_or(i64::MAX);
        let news = has_news
            || !self.events.is_empty()
            || !self.bases.is_empty()
            || self.facts_are_news
            || !self.announced;
        self.more
            || eager
            || (news && now.monotonic_ms.saturating_sub(self.last_batch_ms) >= flush_ms)
            || self.heartbeat_is_due(now)
    }

    fn heartbeat_is_due(&self, now: Stamp) -> bool {
        self.sees(now) && now.monotonic_ms.saturating_sub(self.last_entry.monotonic_ms) >= HEARTBEAT_MS
    }

    fn says_nothing(&self, batch: &Batch) -> bool {
        batch.pieces.is_empty()
            && batch.digests.is_empty()
            && batch.fork.is_none()
            && batch.events.is_empty()
            && self.events.is_empty()
            && self.bases.is_empty()
            && !self.facts_are_news
    }

    /// Reads a batch and begins to store it.
    async fn publish(&mut self, now: Stamp) -> Result<(), ArchiveError> {
        if !std::mem::replace(&mut self.announced, true) {
            let detail = format!("perennial {}", env!("CARGO_PKG_VERSION"));
            self.tailer().tell(EventKind::ArchiverStart, now.wall_ms, detail);
        }
        let tailer = Arc::clone(&self.tailer);
        let batch = match self.uploader.cpu.run(move || lock(&tailer).read(now)).await? {
            Ok(batch) => batch,
            Err(error @ ArchiveError::File { .. }) => {
                let source = &self.settings.source;
                tracing::warn!(%source, error = error_chain(&error), "cannot read the server's logs, trying again");
                self.last_batch_ms = now.monotonic_ms;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if self.says_nothing(&batch) && !self.heartbeat_is_due(now) {
            (self.last_batch_ms, self.more) = (now.monotonic_ms, batch.more);
            return Ok(());
        }
        if let Some(fork) = &batch.fork {
            self.uploader.instruments.count_fork(fork.reason);
            if fork.reason == ForkReason::Gap {
                self.count_gap(&batch, now);
                let (digests, data_dir) = (Arc::clone(&self.digests), self.settings.data_dir.clone());
                tokio::spawn(seed(digests, data_dir, None, self.uploader.cpu.clone()));
            }
            // The new timeline gets a base of its own.
            self.watch.ask();
        }
        (self.last_batch_ms, self.more, self.storing_since) = (now.monotonic_ms, batch.more, batch.since);
        let (entry, objects) = self.entry(batch);
        let (uploader, end) = (self.uploader.clone(), self.end);
        self.publishing = Some(tokio::spawn(async move { uploader.publish(end, objects, entry).await }));
        Ok(())
    }

    fn entry(&mut self, batch: Batch) -> (Entry, SealedObjects) {
        let mut made = self.knows_until();
        made.wall_ms = batch.old_clock_ms.unwrap_or(made.wall_ms);
        let mut events = std::mem::take(&mut self.events);
        events.extend(batch.events);
        let server = std::mem::take(&mut self.facts_are_news).then(|| self.facts.clone()).flatten();
        let entry = Entry {
            format: ENTRY_FORMAT,
            source: self.settings.source.clone(),
            seq: 0,
            previous_sha256: None,
            id: self.uploader.random.ulid(made.wall_ms),
            archiver: self.id,
            made,
            position: batch.position,
            fork: batch.fork,
            pieces: batch.pieces.iter().map(|piece| piece.entry.clone()).collect(),
            base: self.bases.pop_front(),
            events,
            server,
            digests: batch.digests.iter().map(|digest| digest.entry.clone()).collect(),
            unknown: UnknownFields::new(),
        };
        (entry, (batch.pieces, batch.digests))
    }

    async fn published(
        &mut self,
        published: Result<(ChainEnd, Entry), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let (end, entry) = published?;
        (self.end, self.last_entry, self.storing_since) = (end, entry.made, None);
        let instruments = &self.uploader.instruments;
        instruments.last_success.set(seconds(entry.made.wall_ms));
        if entry.base.is_some() {
            self.release_base().await?;
        }
        self.update_window(&entry);
        let (tailer, position) = (Arc::clone(&self.tailer), entry.position);
        let released = self.uploader.cpu.run(move || lock(&tailer).release(&position)).await?;
        if let Err(error) = released {
            tracing::warn!(source = %self.settings.source, %error, "cannot remove links from the spool");
        }
        Ok(())
    }

    /// Looks a last time and stores what is left.
    async fn finish(&mut self) -> Result<(), ArchiveError> {
        for task in
            [self.making.take().map(|task| task.abort_handle()), self.asking.take().map(|t| t.abort_handle())]
        {
            task.inspect(tokio::task::AbortHandle::abort);
        }
        if !self.tailer().has_begun() {
            return Ok(());
        }
        let now = self.now();
        self.look(now, true).await?;
        let (mut told, mut stuck) = (false, false);
        loop {
            if let Some(publishing) = self.publishing.take() {
                let published = publishing.await.map_err(|_| crate::runtime::CpuError::Panicked)?;
                self.published(published).await?;
            }
            let news = !stuck && (self.more || self.tailer().has_news() || !self.bases.is_empty());
            if !news && told {
                return Ok(());
            }
            if !news && !std::mem::replace(&mut told, true) {
                let now = self.now();
                self.tailer().tell(EventKind::ArchiverStop, now.wall_ms, String::new());
            }
            self.publish(self.now()).await?;
            // What cannot be read now is left to the next archiver.
            stuck = self.publishing.is_none();
        }
    }
}

fn lock(tailer: &Mutex<Tailer>) -> MutexGuard<'_, Tailer> {
    tailer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a task, if there is one, and takes it out.
async fn ended<T>(task: &mut Task<T>) -> Result<T, ArchiveError> {
    let Some(running) = task else { return std::future::pending().await };
    let ended = running.await;
    *task = None;
    ended.map_err(|_| crate::runtime::CpuError::Panicked.into())
}

#[cfg(test)]
mod tests;
