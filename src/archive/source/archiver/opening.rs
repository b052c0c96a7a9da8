//! The archiver's start: it watches the logs and keeps them while the archive's end is read.

use std::collections::VecDeque;
use std::io::ErrorKind as IoErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::bases::BaseWatch;
use super::window::show_window;
use super::{Archiver, ArchiverParts, ArchiverSettings, HEARTBEAT_MS, SCAN_MS};
use crate::archive::source::facts::FactsClient;
use crate::archive::source::instruments::{Instruments, seconds};
use crate::archive::source::resume::{check_clock, compare_ends, newest_piece};
use crate::archive::source::scan::KEPT;
use crate::archive::source::sealed_before::check_goes_on;
use crate::archive::source::seed::seed;
use crate::archive::source::spool::{Spool, SpoolMode};
use crate::archive::source::tailer::Tailer;
use crate::archive::source::upload::Uploader;
use crate::archive::source::waiting::Waiting;
use crate::archive::{Archive, ArchiveError, ArchiveView, ChainEnd, DigestBuilder, Piece, Stamp};
use crate::model::{ErrorKind, error_chain};
use crate::runtime::{CpuError, Random, Shutdown};

const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// How long nothing is asked after what was stored was found to be damaged: only a person mends that.
const PAUSE_DAMAGED: Duration = Duration::from_secs(60);

/// An archiver that has its spool, and does not know yet how far the archive goes.
#[derive(Debug)]
pub struct Opening {
    settings: ArchiverSettings,
    parts: ArchiverParts,
    stop: Shutdown,
    instruments: Instruments,
    spool: Arc<Spool>,
    server: Option<FactsClient>,
    waiting: Arc<Mutex<Waiting>>,
    begun: Stamp,
    last_look: Option<Stamp>,
    last_scan_ms: i64,
    /// Whether the looks since then failed, and when that was said.
    blind: Option<i64>,
    failure: Arc<Mutex<Option<ArchiveError>>>,
}

/// What is known of an archive before it is gone on with.
#[derive(Debug)]
pub(super) struct Known {
    view: Option<ArchiveView>,
    newest_piece: Option<Piece>,
}

impl Opening {
    pub(super) async fn open(
        settings: ArchiverSettings,
        parts: ArchiverParts,
        stop: Shutdown,
    ) -> Result<Self, ArchiveError> {
        let server = settings.prometheus_url.as_deref().map(FactsClient::new).transpose().map_err(|e| {
            ArchiveError::Invalid(format!("--prometheus.url cannot be used: {}", error_chain(&e)))
        })?;
        let instruments = parts.metrics.of(&settings.source);
        let (to_open, data_dir) = (settings.clone(), settings.data_dir.clone());
        let opened = parts.cpu.run(move || {
            let spool = Arc::new(open_spool(&to_open)?);
            let failed = |source| ArchiveError::File { path: data_dir.clone(), source };
            spool.release_folder(KEPT).map_err(failed)?;
            let waiting = Waiting::open(&data_dir, &spool).map_err(failed)?;
            Ok::<_, ArchiveError>((spool, waiting))
        });
        let (spool, waiting) = opened.await??;
        instruments.show_mode(spool.mode());
        let begun = Stamp { wall_ms: parts.clock.now_ms(), monotonic_ms: parts.clock.monotonic_ms() };
        Ok(Self {
            settings,
            parts,
            stop,
            instruments,
            spool,
            server,
            waiting: Arc::new(Mutex::new(waiting)),
            begun,
            last_look: None,
            last_scan_ms: i64::MIN,
            blind: None,
            failure: Arc::new(Mutex::new(None)),
        })
    }

    fn archive(&self) -> Archive {
        let ArchiverParts { bucket, envelope, .. } = &self.parts;
        Archive::new(bucket.clone(), envelope.clone(), self.settings.source.clone())
    }

    /// Reads the archive's end as soon as the store gives it, then archives until the stop and stores what is left.
    /// `opened` is called in between.
    ///
    /// # Errors
    /// A store that can never be used, another archiver of the same source, keys that cannot encrypt, or a store that
    /// does not take what is left.
    pub async fn run(mut self, opened: impl FnOnce() + Send) -> Result<(), ArchiveError> {
        let mut ticks = tokio::time::interval(self.settings.poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (archive, random, failure) =
            (self.archive(), self.parts.random.clone(), Arc::clone(&self.failure));
        let in_plaintext = self.settings.continue_plaintext;
        let mut reading = tokio::spawn(read_until_it_succeeds(archive, in_plaintext, random, failure));
        let stop = self.stop.clone();
        let known = loop {
            self.keep().await?;
            tokio::select! {
                biased;
                () = stop.wait() => {
                    reading.abort();
                    let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
                    return failure.map_or(Ok(()), Err);
                }
                known = &mut reading => break known.map_err(|_| CpuError::Panicked)??,
                _ = ticks.tick() => {}
            }
        };
        let archiver = self.opened(known).await?;
        opened();
        archiver.run().await
    }

    /// Looks at the logs and keeps what is there.
    pub(super) async fn keep(&mut self) -> Result<(), ArchiveError> {
        let clock = &self.parts.clock;
        let now = Stamp { wall_ms: clock.now_ms(), monotonic_ms: clock.monotonic_ms() };
        let scan_due = now.monotonic_ms.saturating_sub(self.last_scan_ms) >= SCAN_MS;
        let thorough = scan_due || self.blind.is_some();
        let (waiting, spool) = (Arc::clone(&self.waiting), Arc::clone(&self.spool));
        let look = move || {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let looked = waiting.look(now, thorough);
            (looked, waiting.sightings.next(), scan_due.then(|| spool.bytes()))
        };
        let (looked, waits, spooled) = self.parts.cpu.run(look).await?;
        if let Some(bytes) = spooled {
            self.last_scan_ms = now.monotonic_ms;
            self.instruments.show_mode(self.spool.mode());
            self.instruments.spool_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        let mut since = waits.map(|waits| waits.first.monotonic_ms);
        match looked {
            Ok(()) => (self.blind, self.last_look) = (None, Some(now)),
            Err(error) => {
                let said = self.blind.filter(|said| now.monotonic_ms.saturating_sub(*said) < HEARTBEAT_MS);
                if said.is_none() {
                    let source = &self.settings.source;
                    tracing::warn!(%source, %error, "cannot look at the server's logs, trying again");
                }
                self.blind = said.or(Some(now.monotonic_ms));
                since = since.or(Some(self.last_look.unwrap_or(self.begun).monotonic_ms));
            }
        }
        let lag_ms = since.map_or(0, |since_ms| now.monotonic_ms.saturating_sub(since_ms));
        self.instruments.lag.set(seconds(lag_ms));
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn lag(&self) -> f64 {
        self.instruments.lag.get()
    }

    /// Goes on where the archive ends.
    pub(super) async fn opened(self, known: Known) -> Result<Archiver, ArchiveError> {
        let Known { view, newest_piece } = known;
        let archive = self.archive();
        let Self { settings, parts, stop, instruments, spool, server, waiting, begun, last_look, .. } = self;
        let ArchiverParts { cpu, clock, random, .. } = parts;
        let waiting = Arc::into_inner(waiting).ok_or(CpuError::Panicked)?;
        let waiting = waiting.into_inner().unwrap_or_else(PoisonError::into_inner);
        let range_ms = i64::try_from(settings.digest_range.as_millis()).unwrap_or(i64::MAX);
        let now = Stamp { wall_ms: clock.now_ms(), monotonic_ms: clock.monotonic_ms() };
        let digests = Arc::new(Mutex::new(DigestBuilder::new(range_ms, now.wall_ms)));
        let read_to = view.as_ref().and_then(ArchiveView::newest_timeline).map(|timeline| timeline.end.wal);
        let seen = (archive.clone(), random.clone(), Arc::clone(&spool), Arc::clone(&digests));
        let counted = instruments.clone();
        let begin = move || {
            let (archive, random, spool, digests) = seen;
            let mut tailer = Tailer::new(archive, random, spool, waiting, view.as_ref(), digests);
            compare_ends(newest_piece.as_ref(), &mut tailer, now)?;
            if let Some(view) = &view {
                check_clock(view, &mut tailer, begun, &counted);
            }
            Ok::<_, ArchiveError>((tailer, view))
        };
        let (tailer, view) = cpu.run(begin).await??;
        if let Some(view) = &view {
            show_window(&instruments, view);
        }
        let facts = view.as_ref().and_then(|view| view.servers.last()).map(|(_, facts)| facts.clone());
        let last_base = view.as_ref().and_then(|view| view.bases.last()).cloned().map(Arc::new);
        let last_entry = view.as_ref().map_or(now, |view| Stamp { wall_ms: view.last_made.wall_ms, ..now });
        tokio::spawn(seed(Arc::clone(&digests), settings.data_dir.clone(), read_to, cpu.clone()));
        Ok(Archiver {
            digests,
            id: random.ulid(now.wall_ms),
            uploader: Uploader { archive, cpu, random, clock, stop, instruments },
            settings,
            spool,
            tailer: Arc::new(Mutex::new(tailer)),
            end: view.as_ref().map_or_else(ChainEnd::default, |view| view.end),
            publishing: None,
            storing_since: None,
            more: false,
            watch: BaseWatch::new(view.as_ref()),
            scans: VecDeque::new(),
            making: None,
            last_base,
            bases: VecDeque::new(),
            unreadable: Vec::new(),
            events: Vec::new(),
            server,
            asking: None,
            facts_are_news: facts.is_some(),
            facts,
            announced: false,
            last_batch_ms: i64::MIN,
            last_entry,
            last_look: last_look.unwrap_or(last_entry),
            blind: None,
            last_scan_ms: i64::MIN,
            last_ask_ms: i64::MIN,
            window_read_ms: now.monotonic_ms,
            drift_ms: begun.wall_ms.saturating_sub(begun.monotonic_ms),
        })
    }
}

/// Reads what an archiver must know, until the store gives it. What cannot be mended by waiting is returned.
async fn read_until_it_succeeds(
    archive: Archive,
    in_plaintext: bool,
    random: Random,
    failure: Arc<Mutex<Option<ArchiveError>>>,
) -> Result<Known, ArchiveError> {
    let mut pause = PAUSE_FIRST;
    loop {
        let error = match read(&archive, in_plaintext, &random).await {
            Ok(known) => return Ok(known),
            Err(error) => error,
        };
        let source = archive.source();
        match error.kind() {
            ErrorKind::Corrupt | ErrorKind::Incomplete => {
                tracing::error!(%source, error = error_chain(&error), "the archive catalog is damaged: the server's files \
                    are kept and nothing is archived until it is whole; `perennial archive verify` names every object \
                    that is damaged");
                pause = PAUSE_DAMAGED;
            }
            ErrorKind::Unavailable | ErrorKind::Overloaded | ErrorKind::Cancelled | ErrorKind::NotFound => {
                tracing::warn!(%source, error = error_chain(&error), "the archive cannot be read, trying again; the \
                    server's files are kept meanwhile");
            }
            _ => return Err(error),
        }
        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Reads the archive's end from a store that can be written as an archiver must.
pub(super) async fn read(
    archive: &Archive,
    in_plaintext: bool,
    random: &Random,
) -> Result<Known, ArchiveError> {
    archive.bucket().probe_conditional_create(random).await?;
    archive.bucket().check_lock().await?;
    let view = match archive.load().await {
        Ok(view) => view,
        Err(ArchiveError::NoSource(_)) => return Ok(Known { view: None, newest_piece: None }),
        Err(error) => return Err(error),
    };
    check_goes_on(archive, &view, in_plaintext).await?;
    let newest_piece = newest_piece(archive, &view).await?;
    Ok(Known { view: Some(view), newest_piece })
}

fn open_spool(settings: &ArchiverSettings) -> Result<Spool, ArchiveError> {
    let path = settings.data_dir.clone();
    let spool = Spool::open(&path).map_err(|source| match source.kind() {
        IoErrorKind::WouldBlock => ArchiveError::Locked(path),
        IoErrorKind::NotFound => ArchiveError::Invalid(format!(
            "{} is not a directory: give the one of --storage.tsdb.path",
            path.display()
        )),
        _ => ArchiveError::File { path, source },
    })?;
    if spool.mode() == SpoolMode::Descriptors {
        tracing::warn!(source = %settings.source, "the data directory cannot be written: files are held open instead of \
            linked, and what the server deletes while no archiver runs is lost");
    }
    Ok(spool)
}
