//! Both logs together: looks, batches of pieces, timelines.

mod start;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::collect::{Collector, LoggedDelete, SealedPiece, SharedDigests, lock_digests};
use super::log_tail::{LogTail, Reached};
use super::segments::{Found, LogWatch};
use super::sightings::{Sighting, Sightings};
use super::spool::Spool;
use super::waiting::{Waiting, look_at_both};
use crate::archive::{
    Archive, ArchiveError, ArchiveView, Digest, Event, EventKind, Fork, ForkReason, LogPosition, Position,
    SealedDigest, Stamp,
};
use crate::bucket::LogKind;
use crate::runtime::Random;

/// At most so many bytes of the logs are in memory at once, as they are stored there.
const BATCH_BYTES: u64 = 8 << 20;

/// How often the same failure is told.
const SAY_AGAIN_MS: i64 = 10_000;

/// What the next entry is to say of the logs.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) pieces: Vec<SealedPiece>,
    pub(super) digests: Vec<SealedDigest>,
    pub(super) position: Position,
    pub(super) fork: Option<Fork>,
    pub(super) events: Vec<Event>,
    /// The first look that saw something of it.
    pub(super) since: Option<Stamp>,
    /// Whether more is waiting already.
    pub(super) more: bool,
    /// The newest time of what was read, where the clock was set after it was seen.
    pub(super) old_clock_ms: Option<i64>,
}

/// The wall clock was set.
#[derive(Debug)]
struct ClockSet {
    /// Sightings of this epoch came after it.
    epoch: u32,
    noticed: Stamp,
    detail: String,
}

/// Where the logs stood at the newest look.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogsSeen {
    pub(super) seen: Stamp,
    pub(super) position: Position,
    pub(super) first_segment: u32,
    pub(super) wbl_first_segment: Option<u32>,
}

/// Reads both logs of one server.
#[derive(Debug)]
pub(super) struct Tailer {
    digests: SharedDigests,
    archive: Archive,
    random: Random,
    spool: Arc<Spool>,
    wal: LogTail,
    wbl: LogTail,
    /// 0 before the first one.
    timeline: u32,
    sightings: Sightings,
    /// Whether what was seen could not be read, and when that was said.
    stuck: Option<i64>,
    /// Whether the logs no longer go on from what is known; what was seen before is read first.
    differs: bool,
    /// Clocks that were set while something waited that was seen before: that is read first.
    clocks_set: VecDeque<ClockSet>,
    fork: Option<Fork>,
    events: Vec<Event>,
    /// Segments before this one were there when the timeline began: how they end says nothing new.
    known_before: u32,
    /// When the logs were last seen as they were read.
    alive_ms: i64,
    /// Whether a restart was seen in the logs that the server has not told of yet.
    restart_seen: bool,
    restart_told: Option<i64>,
}

impl Tailer {
    /// Begins where the archive ends, with what was kept and seen until then.
    pub(super) fn new(
        archive: Archive,
        random: Random,
        spool: Arc<Spool>,
        Waiting { wal, wbl, sightings, .. }: Waiting,
        view: Option<&ArchiveView>,
        digests: SharedDigests,
    ) -> Self {
        let timeline = view.and_then(ArchiveView::newest_timeline);
        let tail = |watch: LogWatch| {
            let log = watch.log();
            let end = timeline.and_then(|timeline| timeline.end.of(log));
            let last = timeline.and_then(|timeline| timeline.pieces(log).last());
            LogTail::new(watch, Arc::clone(&spool), end, last.map_or(0, |piece| piece.after_ms))
        };
        Self {
            archive,
            random,
            wal: tail(wal),
            wbl: tail(wbl),
            spool,
            timeline: timeline.map_or(0, |timeline| timeline.number),
            digests,
            sightings,
            stuck: None,
            differs: false,
            clocks_set: VecDeque::new(),
            fork: None,
            events: Vec::new(),
            known_before: 0,
            alive_ms: timeline.map_or(0, |timeline| timeline.last_made.wall_ms),
            restart_seen: false,
            restart_told: None,
        }
    }

    /// Looks how far the logs are written. Returns whether that is known: where they differ from what is known, what
    /// was seen before is read first.
    pub(super) fn look(&mut self, now: Stamp, thorough: bool) -> io::Result<bool> {
        if self.differs && !thorough {
            return Ok(false);
        }
        let found = look_at_both((&mut self.wal.watch, &mut self.wbl.watch), thorough, &self.spool)?;
        let Some((wal, wbl)) = found.filter(|_| !self.differs) else {
            self.differs = true;
            return Ok(false);
        };
        let Some(wal) = wal else { return Ok(true) };
        if self.timeline == 0 {
            self.timeline = 1;
            self.known_before = wal.segment;
            let detail = "the archive begins".to_owned();
            self.fork =
                Some(Fork { parent: None, at: None, reason: ForkReason::Start, noticed: now, detail });
        }
        self.sightings.note(now, wal, wbl);
        if self.sightings.is_read() {
            self.note_quiet();
        }
        Ok(true)
    }

    /// Returns where the logs stood at the newest look, where they go on from what is known.
    pub(super) fn logs_seen(&self) -> Option<LogsSeen> {
        let newest = self.sightings.newest().filter(|_| !self.forks())?;
        let position = Position { timeline: self.timeline, wal: newest.wal, wbl: newest.wbl };
        let first_segment = self.wal.watch.first_live()?;
        let wbl_first_segment = self.wbl.watch.first_live();
        Some(LogsSeen { seen: newest.until, position, first_segment, wbl_first_segment })
    }

    fn forks(&self) -> bool {
        self.differs || self.fork.is_some() || !self.clocks_set.is_empty()
    }

    /// Returns since when something waits to be read.
    pub(super) fn waits_since(&self) -> Option<Stamp> {
        self.sightings.next().map(|next| next.first)
    }

    /// Returns whether a batch would say something.
    pub(super) fn has_news(&self) -> bool {
        !self.sightings.is_read() || self.forks() || self.restart_told.is_some() || !self.events.is_empty()
    }

    /// Returns whether there is a timeline to speak of.
    pub(super) fn has_begun(&self) -> bool {
        self.timeline > 0
    }

    /// Returns about how many bytes wait to be read.
    pub(super) fn unread_bytes(&self) -> u64 {
        self.sightings.newest().map_or(0, |newest| {
            let wbl = newest.wbl.map_or(0, |end| self.wbl.unread_bytes(end));
            self.wal.unread_bytes(newest.wal).saturating_add(wbl)
        })
    }

    /// Notes what the next entry is to tell.
    pub(super) fn tell(&mut self, kind: EventKind, at_ms: i64, detail: String) {
        let position = self.position();
        self.events.push(Event { kind, at_ms, position, block: None, detail });
    }

    /// Notes that the wall clock was set. A timeline begins there, so that on each of them a time is once.
    pub(super) fn clock_stepped(&mut self, noticed: Stamp, detail: String) {
        if self.timeline > 0 {
            let epoch = self.sightings.clock_was_set();
            self.clocks_set.push_back(ClockSet { epoch, noticed, detail });
        }
    }

    /// Begins the timelines of clocks that were set before what is read next was seen.
    fn apply_clocks(&mut self) {
        while let Some(set) = self.clocks_set.pop_front() {
            if self.sightings.next().is_some_and(|next| next.epoch < set.epoch) {
                self.clocks_set.push_front(set);
                return;
            }
            self.begin_by_clock(set.noticed, set.detail);
        }
    }

    /// Begins a timeline with what was seen by another clock.
    pub(super) fn begin_by_clock(&mut self, noticed: Stamp, detail: String) {
        let kinds = (ForkReason::ClockStep, EventKind::ClockStep);
        self.begin_timeline(kinds, noticed.wall_ms, noticed, detail);
        for tail in [&mut self.wal, &mut self.wbl] {
            tail.after_ms = tail.after_ms.min(noticed.wall_ms);
        }
    }

    /// Returns what is read next on this timeline.
    fn next_sighting(&self) -> Option<Sighting> {
        let until = self.clocks_set.front().map_or(u32::MAX, |set| set.epoch);
        self.sightings.next().filter(|next| next.epoch < until)
    }

    /// Notes that the server says that it was started at another time than before.
    pub(super) fn tell_restart(&mut self, started_ms: i64) {
        if !std::mem::take(&mut self.restart_seen) {
            self.restart_told = Some(started_ms);
        }
    }

    fn rewind(&mut self) {
        self.wal.rewind_to_first();
        self.wbl.rewind_to_first();
    }

    /// Reads what was seen, up to a bound, into pieces of one timeline.
    ///
    /// # Errors
    /// A log that cannot be read, or keys that cannot encrypt.
    pub(super) fn read(&mut self, now: Stamp) -> Result<Batch, ArchiveError> {
        self.apply_clocks();
        if self.sightings.is_read() && self.differs {
            self.apply_difference(now)?;
        }
        if let Some(started_ms) = self.restart_told.take() {
            let detail = "the server says that it was started again".to_owned();
            self.begin_timeline((ForkReason::Restart, EventKind::Restart), started_ms, now, detail);
        }
        let fork = self.fork.take();
        let since = self.waits_since();
        let mut wal = Collector::new(self.timeline, LogKind::Wal, Arc::clone(&self.digests));
        let mut wbl = Collector::new(self.timeline, LogKind::Wbl, Arc::clone(&self.digests));
        let broken = self.collect(&mut wal, &mut wbl, now);
        let mut events = std::mem::take(&mut self.events);
        let position = self.position();
        events.extend(wal.deletes.drain(..).map(|delete| delete.into_event(position)));
        let mut pieces = wal.seal(&self.archive, &self.random)?;
        pieces.extend(wbl.seal(&self.archive, &self.random)?);
        if let Some(broken) = broken {
            self.broke(broken, now);
        }
        // Where nothing could be read, the next try comes in its time.
        let read = self.next_sighting().is_none();
        let waits = !self.sightings.is_read() || !self.clocks_set.is_empty();
        let more = ((!pieces.is_empty() || read) && waits) || self.fork.is_some();
        let digests = self.closed_digests(position, now)?;
        let seen = pieces.iter().map(|piece| piece.entry.seen.wall_ms);
        let newest_ms = seen.chain(self.sightings.read_until().map(|until| until.wall_ms)).max();
        let old_clock_ms = newest_ms.filter(|_| !self.clocks_set.is_empty());
        Ok(Batch { pieces, digests, position, fork, events, since, more, old_clock_ms })
    }

    /// Seals what is known of the ranges that have passed.
    fn closed_digests(&self, position: Position, now: Stamp) -> Result<Vec<SealedDigest>, ArchiveError> {
        let closed = lock_digests(&self.digests).closed(now.wall_ms);
        let seal = |digest: Digest| {
            digest.seal(&self.archive, position, self.random.ulid(now.wall_ms), &self.random)
        };
        closed.into_iter().map(seal).collect()
    }

    /// Reads sighting by sighting, the WAL before the log of out-of-order samples, until the batch is full. Returns
    /// what breaks the timeline.
    fn collect(
        &mut self,
        wal: &mut Collector,
        wbl: &mut Collector,
        now: Stamp,
    ) -> Option<(LogKind, Reached)> {
        let (mut budget, mut last, mut broken, mut unread) = (BATCH_BYTES, None, None, None);
        while let Some(next) = self.next_sighting() {
            last = Some(next.first);
            match self.wal.read_to(next.wal, next.first, wal, &mut budget) {
                Ok(Reached::Target) => wal.mark(next.first),
                Ok(Reached::Budget) => break,
                Ok(Reached::Restart(segment)) if segment < self.known_before => continue,
                // The server changed the log since: this is all that was ever there.
                Ok(Reached::Unreadable(_)) if self.differs => wal.mark(next.first),
                Ok(Reached::Unreadable(detail)) => unread = Some((LogKind::Wal, detail)),
                Ok(reached) => broken = Some((LogKind::Wal, reached)),
                Err(error) => unread = Some((LogKind::Wal, error.to_string())),
            }
            if broken.is_some() || unread.is_some() {
                break;
            }
            match next.wbl.map(|end| self.wbl.read_to(end, next.first, wbl, &mut budget)) {
                None | Some(Ok(Reached::Target)) => wbl.mark(next.first),
                Some(Ok(Reached::Budget)) => break,
                // Both happen where the server compacts out-of-order samples and begins the log anew.
                Some(Ok(Reached::Restart(_))) => continue,
                Some(Ok(Reached::Lost(_))) => {
                    self.wbl.skip_lost();
                    continue;
                }
                Some(Ok(Reached::Unreadable(_))) if self.differs => wbl.mark(next.first),
                Some(Ok(Reached::Unreadable(detail))) => unread = Some((LogKind::Wbl, detail)),
                Some(Ok(reached)) => broken = Some((LogKind::Wbl, reached)),
                Some(Err(error)) => unread = Some((LogKind::Wbl, error.to_string())),
            }
            if broken.is_some() || unread.is_some() {
                break;
            }
            self.sightings.done();
            if let Some(until) = self.sightings.read_until() {
                wal.mark(until);
                wbl.mark(until);
            }
            self.note_quiet();
        }
        if let Some(seen) = last {
            wal.cut(seen);
            wbl.cut(seen);
        }
        self.note_unread(unread, now);
        broken
    }

    /// Says now and then what cannot be read. It waits, so that the lag tells of it.
    fn note_unread(&mut self, unread: Option<(LogKind, String)>, now: Stamp) {
        let Some((log, error)) = unread else {
            self.stuck = None;
            return;
        };
        let said = self.stuck.filter(|said| now.monotonic_ms.saturating_sub(*said) < SAY_AGAIN_MS);
        if said.is_none() {
            tracing::warn!(source = %self.archive.source(), ?log, error, "cannot read the log, trying again");
        }
        self.stuck = said.or(Some(now.monotonic_ms));
    }

    /// Returns up to when everything was read, where what came then cannot be.
    pub(super) fn stuck_since(&self) -> Option<Option<Stamp>> {
        self.stuck.map(|_| self.sightings.read_until())
    }

    fn note_quiet(&mut self) {
        if let Some(until) = self.sightings.read_until() {
            (self.wal.after_ms, self.wbl.after_ms) = (until.wall_ms, until.wall_ms);
            self.alive_ms = until.wall_ms;
        }
    }

    fn broke(&mut self, (log, reached): (LogKind, Reached), now: Stamp) {
        match reached {
            Reached::Restart(segment) => {
                self.restart_seen = true;
                let detail = format!("segment {segment} ends without being closed");
                let kinds = (ForkReason::Restart, EventKind::Restart);
                self.begin_timeline(kinds, self.alive_ms, now, detail);
            }
            Reached::Lost(detail) | Reached::Damaged(detail) => {
                let kinds = (ForkReason::Gap, EventKind::Gap);
                self.begin_timeline(kinds, self.alive_ms, now, detail);
                let tail = match log {
                    LogKind::Wal => &mut self.wal,
                    LogKind::Wbl => &mut self.wbl,
                };
                tail.skip_lost();
                tail.after_ms = 0;
            }
            Reached::Target | Reached::Budget | Reached::Unreadable(_) => {}
        }
    }

    /// Takes the logs as they are now, on a new timeline that leaves the old one where both are the same.
    fn apply_difference(&mut self, now: Stamp) -> Result<(), ArchiveError> {
        let (mut rewritten, mut anew) = (false, false);
        let mut details = Vec::new();
        for tail in [&mut self.wbl, &mut self.wal] {
            let failed = |tail: &LogTail, source| ArchiveError::File { path: tail.watch.path(0), source };
            let found = tail.watch.look(true, &self.spool).map_err(|e| failed(tail, e))?;
            let Found::Differs(number, listing) = found else { continue };
            let divergence = tail.diverge(number, listing).map_err(|e| failed(tail, e))?;
            rewritten |= divergence.rewritten;
            anew |= divergence.anew;
            details.push(format!("{:?} after {}", tail.watch.log(), divergence.at));
        }
        self.differs = false;
        self.sightings.clear();
        if details.is_empty() || self.timeline == 0 {
            return Ok(());
        }
        self.restart_seen = true;
        self.known_before = self.wal.watch.last().unwrap_or(0);
        if anew {
            self.rewind();
        }
        let kinds = if rewritten {
            (ForkReason::Rewritten, EventKind::Rewritten)
        } else {
            (ForkReason::Repair, EventKind::Repair)
        };
        let detail = format!("the server changed its log: {}", details.join(", "));
        self.begin_timeline(kinds, now.wall_ms, now, detail);
        Ok(())
    }

    fn begin_timeline(
        &mut self,
        (reason, kind): (ForkReason, EventKind),
        at_ms: i64,
        now: Stamp,
        detail: String,
    ) {
        tracing::info!(source = %self.archive.source(), reason = reason.name(), detail, "a new timeline begins");
        // Otherwise the server knows what it had written.
        if !matches!(reason, ForkReason::Restart | ForkReason::ClockStep) {
            lock_digests(&self.digests).forget_open(now.wall_ms);
        }
        let at = self.position();
        // Forks that meet before an entry was made are one. The reason that says most is kept: missing records most.
        if let Some(fork) = &mut self.fork {
            fork.at = fork.at.map(|_| at);
            if fork.parent.is_some() && reason > fork.reason {
                (fork.reason, fork.detail) = (reason, detail.clone());
            }
        } else {
            let (parent, detail) = (self.timeline, detail.clone());
            self.timeline += 1;
            self.fork = Some(Fork { parent: Some(parent), at: Some(at), reason, noticed: now, detail });
        }
        self.events.push(Event { kind, at_ms, position: at, block: None, detail });
    }

    /// Returns how far was read.
    fn position(&self) -> Position {
        let wal = self
            .wal
            .end()
            .or_else(|| self.wal.watch.first().map(|segment| LogPosition { segment, offset: 0 }));
        Position { timeline: self.timeline, wal: wal.unwrap_or_default(), wbl: self.wbl.end() }
    }

    /// Lets go of what is archived up to a position.
    pub(super) fn release(&mut self, archived: &Position) -> io::Result<()> {
        self.wal.watch.forget_archived(archived.wal.segment, &self.spool)?;
        match archived.wbl {
            Some(wbl) => self.wbl.watch.forget_archived(wbl.segment, &self.spool),
            None => Ok(()),
        }
    }
}

impl LoggedDelete {
    fn into_event(self, read: Position) -> Event {
        let position = Position { wal: self.before, ..read };
        Event {
            kind: EventKind::Delete,
            at_ms: self.seen.wall_ms,
            position,
            block: None,
            detail: self.detail,
        }
    }
}
