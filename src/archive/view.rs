//! The archive catalog folded into one picture: timelines, pieces, bases, events.

use std::collections::BTreeMap;

use super::ArchiveError;
use super::chain::{ChainEnd, Link};
use super::entry::{
    Base, DigestEntry, Entry, Event, Fork, LogPosition, PieceEntry, Position, ServerFacts, Stamp,
};
use crate::bucket::LogKind;
use crate::model::SourceName;

/// Everything that the catalog says, in the order in which it was written.
#[derive(Debug, Clone)]
pub struct ArchiveView {
    /// The source.
    pub source: SourceName,
    /// The first entry that is kept.
    pub first_seq: u64,
    /// The end of the chain.
    pub end: ChainEnd,
    /// The timelines, by number.
    pub timelines: BTreeMap<u32, Timeline>,
    /// Bases in the order of their entries.
    pub bases: Vec<Base>,
    /// Events in the order of their entries.
    pub events: Vec<Event>,
    /// What was known of the server, with the time from which on it is known.
    pub servers: Vec<(i64, ServerFacts)>,
    /// Digests of series.
    pub digests: Vec<DigestEntry>,
    /// When the last entry was made.
    pub last_made: Stamp,
    /// The process that made the last entry.
    pub last_archiver: crate::model::Ulid,
}

/// A run of records without a break.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// Its number.
    pub number: u32,
    /// Where it left its parent, and why.
    pub fork: Fork,
    /// Its end so far.
    pub end: Position,
    /// When its newest entry was made.
    pub last_made: Stamp,
    /// Pieces of the WAL, in order.
    pub wal: Vec<PieceEntry>,
    /// Pieces of the log of out-of-order samples, in order.
    pub wbl: Vec<PieceEntry>,
}

/// A piece as a restore needs it: its records that end at `until` or before.
#[derive(Debug, Clone, PartialEq)]
pub struct PieceCut {
    /// The piece.
    pub piece: PieceEntry,
    /// The last offset that counts; the piece's end, or less.
    pub until: u64,
}

impl Timeline {
    fn begin(number: u32, fork: Fork) -> Self {
        let last_made = fork.noticed;
        let end = Position { timeline: number, ..fork.at.unwrap_or_default() };
        Self { number, fork, end, last_made, wal: Vec::new(), wbl: Vec::new() }
    }

    /// Returns the pieces of one log.
    #[must_use]
    pub fn pieces(&self, log: LogKind) -> &[PieceEntry] {
        match log {
            LogKind::Wal => &self.wal,
            LogKind::Wbl => &self.wbl,
        }
    }
}

impl Position {
    /// Returns the place in one of the logs.
    #[must_use]
    pub fn of(&self, log: LogKind) -> Option<LogPosition> {
        match log {
            LogKind::Wal => Some(self.wal),
            LogKind::Wbl => self.wbl,
        }
    }

    /// Returns the position that neither this nor another one is before, in each log.
    fn earlier(&self, other: &Self) -> Self {
        let wbl = match (self.wbl, other.wbl) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
        Self { timeline: self.timeline, wal: self.wal.min(other.wal), wbl }
    }
}

impl ArchiveView {
    /// Folds the parts of the chain, in order.
    ///
    /// # Errors
    /// A part that does not follow its predecessor.
    pub fn fold(source: SourceName, links: Vec<Link>) -> Result<Self, ArchiveError> {
        let first_seq = links.first().map_or(1, |link| link.begin().0);
        let mut view = Self {
            source,
            first_seq,
            end: ChainEnd { seq: first_seq - 1, sha256: None },
            timelines: BTreeMap::new(),
            bases: Vec::new(),
            events: Vec::new(),
            servers: Vec::new(),
            digests: Vec::new(),
            last_made: Stamp::default(),
            last_archiver: crate::model::Ulid::nil(),
        };
        for (i, link) in links.into_iter().enumerate() {
            let ((seq, previous), end) = (link.begin(), link.end());
            let chained = |reason: &str| Err(ArchiveError::Chain { seq, reason: reason.to_owned() });
            if seq != view.end.seq + 1 {
                return chained("its predecessor is missing");
            }
            if i > 0 && previous != view.end.sha256 {
                return chained("its predecessor is not the one that it names");
            }
            view.end = end;
            match link {
                Link::Entry { entry, .. } => view.take(*entry)?,
                Link::Chapter(chapter) => {
                    let made = chapter.made.1;
                    chapter.entries.into_iter().try_for_each(|entry| view.take(entry))?;
                    view.last_made = made;
                }
            }
        }
        Ok(view)
    }

    fn take(&mut self, entry: Entry) -> Result<(), ArchiveError> {
        let Entry { seq, made, position, fork, pieces, base, events, server, digests, archiver, .. } = entry;
        if let Some(fork) = fork {
            self.timelines.insert(position.timeline, Timeline::begin(position.timeline, fork));
        }
        let unknown = |number: u32| ArchiveError::Chain {
            seq,
            reason: format!("it belongs to timeline {number}, which no entry begins"),
        };
        for piece in pieces {
            let number = piece.timeline;
            let timeline = self.timelines.get_mut(&number).ok_or_else(|| unknown(number))?;
            match piece.log {
                LogKind::Wal => timeline.wal.push(piece),
                LogKind::Wbl => timeline.wbl.push(piece),
            }
        }
        let number = position.timeline;
        let timeline = self.timelines.get_mut(&number).ok_or_else(|| unknown(number))?;
        (timeline.end, timeline.last_made) = (position, made);
        self.bases.extend(base);
        self.events.extend(events);
        self.servers.extend(server.map(|facts| (made.wall_ms, facts)));
        self.digests.extend(digests);
        (self.last_made, self.last_archiver) = (made, archiver);
        Ok(())
    }

    /// Returns the newest timeline.
    #[must_use]
    pub fn newest_timeline(&self) -> Option<&Timeline> {
        self.timelines.values().next_back()
    }

    /// Returns what was known of the server at a time, else the first that is known.
    #[must_use]
    pub fn server_at(&self, wall_ms: i64) -> Option<&ServerFacts> {
        let known = self.servers.iter().rev().find(|(since, _)| *since <= wall_ms);
        known.or(self.servers.first()).map(|(_, facts)| facts)
    }

    /// Returns a timeline and its ancestors, the oldest first, each with the place where its successor left it.
    #[must_use]
    pub fn lineage(&self, number: u32) -> Vec<(&Timeline, Option<Position>)> {
        let mut lineage = Vec::new();
        let (mut next, mut until) = (Some(number), None);
        while let Some(timeline) = next.and_then(|n| self.timelines.get(&n)) {
            lineage.push((timeline, until));
            // A parent's number is smaller, whatever damaged entries say.
            next = timeline.fork.parent.filter(|parent| *parent < timeline.number);
            // A successor may have left it before it had left its own parent: nothing of it counts then.
            until = timeline.fork.at.map(|at| until.map_or(at, |until| at.earlier(&until)));
        }
        lineage.reverse();
        lineage
    }

    /// Returns whether a position lies on the way to another one.
    #[must_use]
    pub fn is_before(&self, position: &Position, target: &Position) -> bool {
        let lineage = self.lineage(target.timeline);
        let found = lineage.iter().find(|(timeline, _)| timeline.number == position.timeline);
        found.is_some_and(|(_, until)| position.wal <= until.unwrap_or(*target).wal)
    }

    /// Returns the place of the last record that counts for a position. A base may have been seen when a segment had
    /// just begun, or its last page was filled up: nothing was read between the last record and there.
    #[must_use]
    pub fn settled(&self, position: &Position) -> Position {
        let place = |log: LogKind| {
            let at = position.of(log)?;
            let Some(timeline) = self.timelines.get(&position.timeline) else { return Some(at) };
            let pieces = timeline.pieces(log);
            let next = pieces.partition_point(|piece| piece.end_position() <= at);
            let before = match next.checked_sub(1) {
                Some(last) => Some(pieces[last].end_position()),
                // An archive begins with nothing read.
                None if timeline.fork.at.is_none() => {
                    Some(pieces.first().map(|piece| piece.follows).unwrap_or_default())
                }
                None => timeline.fork.at.and_then(|fork| fork.of(log)),
            };
            let follows = |before: &LogPosition| {
                *before < at
                    && pieces
                        .get(next)
                        .is_none_or(|next| next.follows == *before && next.start_position() >= at)
            };
            before.filter(follows).or(Some(at))
        };
        let (wal, wbl) = (place(LogKind::Wal), place(LogKind::Wbl));
        Position { timeline: position.timeline, wal: wal.unwrap_or(position.wal), wbl }
    }

    /// Returns the pieces of a log from a segment on that lead to a position, each cut where the way leaves it.
    ///
    /// # Errors
    /// What is missing: the place after which no piece follows.
    pub fn pieces_to(
        &self,
        log: LogKind,
        first_segment: u32,
        target: &Position,
    ) -> Result<Vec<PieceCut>, MissingRecords> {
        // A log that ended before this segment was truncated as a whole: its samples are in blocks.
        let Some(end) = target.of(log).filter(|end| end.segment >= first_segment) else {
            return Ok(Vec::new());
        };
        let mut cuts: Vec<PieceCut> = Vec::new();
        let mut at = LogPosition { segment: first_segment, offset: 0 };
        for (timeline, until) in self.lineage(target.timeline) {
            let until = until.and_then(|position| position.of(log)).unwrap_or(end).min(end);
            for piece in timeline.pieces(log) {
                if piece.segment < first_segment || piece.start_position() >= until {
                    continue;
                }
                let follows = if cuts.is_empty() { piece.follows <= at } else { piece.follows == at };
                if !follows {
                    return Err(MissingRecords { log, after: at });
                }
                at = piece.end_position().min(until);
                cuts.push(PieceCut { piece: piece.clone(), until: at.offset });
            }
            // A fork, or what a base had read, may lie at the beginning of a segment. Nothing is between the last record
            // before it and it, where the next piece follows that record.
            let next = timeline.pieces(log).iter().find(|piece| piece.start_position() >= until);
            let between = until < end || until.offset == 0;
            if !cuts.is_empty() && at < until && between && next.is_none_or(|piece| piece.follows == at) {
                at = until;
            }
        }
        // Without a piece, the log after the first segment's beginning may be empty, or its pieces are gone.
        let empty = cuts.is_empty() && end <= at;
        if at == end || empty { Ok(cuts) } else { Err(MissingRecords { log, after: at }) }
    }
}

/// Records that the archive does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingRecords {
    /// The log.
    pub log: LogKind,
    /// What is there ends here.
    pub after: LogPosition,
}
