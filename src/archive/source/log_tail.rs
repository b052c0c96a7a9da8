//! Reads one log from where the last batch ended, and finds where it goes on after the server changed it.

use std::fs::File;
use std::io::{ErrorKind, Result};
use std::sync::Arc;

use super::collect::{Collector, RecordPlace};
use super::segments::{Listing, LogWatch, Segment, spool_name};
use super::spool::Spool;
use super::walk::{WalkEnd, common_boundary, walk};
use crate::archive::{LogPosition, Stamp};
use crate::tsdb::wal::{Damage, PAGE_BYTES};

/// How far a log was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reached {
    /// All that was asked for.
    Target,
    /// The batch is full.
    Budget,
    /// A segment that does not end as a server leaves it when it goes on by itself; the next one was begun.
    Restart(u32),
    /// Records are missing before what follows.
    Lost(String),
    /// The rest of a segment can never be read; the next one was begun.
    Damaged(String),
    /// What the last segment holds cannot be read as it is now: it may still be written.
    Unreadable(String),
}

/// Where a log goes on after the server changed what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Divergence {
    /// What was read up to here is still there.
    pub(super) at: LogPosition,
    /// Whether other records follow, and not fewer.
    pub(super) rewritten: bool,
    /// Whether nothing of what was read was ever seen there: this is another log.
    pub(super) anew: bool,
}

/// Reads one log.
#[derive(Debug)]
pub(super) struct LogTail {
    pub(super) watch: LogWatch,
    spool: Arc<Spool>,
    /// Where to go on; nothing before the first segment was seen.
    cursor: Option<LogPosition>,
    /// Where the last record ended that was read.
    end: Option<LogPosition>,
    /// What ends after `end` was not there at this time; 0 where that is unknown.
    pub(super) after_ms: i64,
    file: Option<(u32, u64, Arc<File>)>,
}

impl LogTail {
    pub(super) fn new(watch: LogWatch, spool: Arc<Spool>, end: Option<LogPosition>, after_ms: i64) -> Self {
        Self { watch, spool, cursor: end, end, after_ms, file: None }
    }

    /// Returns where the last record ended that was read.
    pub(super) fn end(&self) -> Option<LogPosition> {
        self.end
    }

    /// Returns about how many bytes are not read yet.
    pub(super) fn unread_bytes(&self, target: LogPosition) -> u64 {
        match self.cursor {
            Some(at) if at.segment == target.segment => target.offset.saturating_sub(at.offset),
            Some(at) if at > target => 0,
            Some(at) => {
                let rest = self.watch.segment(at.segment).map_or(0, |s| s.size.saturating_sub(at.offset));
                rest.saturating_add(target.offset)
            }
            None => target.offset,
        }
    }

    /// Reads records up to a place, as far as the budget of bytes goes.
    pub(super) fn read_to(
        &mut self,
        target: LogPosition,
        seen: Stamp,
        into: &mut Collector,
        budget: &mut u64,
    ) -> Result<Reached> {
        let first = self.watch.first().unwrap_or(target.segment);
        let begin = LogPosition { segment: first, offset: 0 };
        self.end.get_or_insert(begin);
        loop {
            let at = *self.cursor.get_or_insert(begin);
            if at.segment > target.segment {
                return Ok(Reached::Target);
            }
            let Some(segment) = self.watch.segment(at.segment) else {
                return Ok(self.lose(at, into, seen));
            };
            let to = if at.segment == target.segment { target.offset } else { segment.size };
            let passed = at.segment < target.segment;
            match self.read_segment((at, to), segment, seen, into, budget) {
                Ok(WalkEnd::Enough) => return Ok(Reached::Budget),
                Ok(WalkEnd::Damaged(damage)) => return Ok(self.meet_damage(at.segment, &damage, into, seen)),
                Ok(WalkEnd::Range) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(self.lose(at, into, seen)),
                Err(error) => return Err(error),
            }
            if !passed {
                return Ok(Reached::Target);
            }
            into.cut(seen);
            if segment.inode == 0 || self.watch.after(at.segment) != at.segment.checked_add(1) {
                return Ok(self.lose(at, into, seen));
            }
            self.cursor = Some(LogPosition { segment: at.segment + 1, offset: 0 });
            if segment.size % PAGE_BYTES as u64 != 0 {
                return Ok(Reached::Restart(at.segment));
            }
        }
    }

    fn read_segment(
        &mut self,
        (at, to): (LogPosition, u64),
        segment: Segment,
        seen: Stamp,
        into: &mut Collector,
        budget: &mut u64,
    ) -> Result<WalkEnd> {
        if to <= at.offset {
            return Ok(WalkEnd::Range);
        }
        if *budget == 0 {
            return Ok(WalkEnd::Enough);
        }
        let file = self.open(at.segment, segment)?;
        let (mut read, after_ms) = (at, self.after_ms);
        let mut follows = self.end.unwrap_or(at);
        let walked = walk(&file, at.offset, to, |before, record| {
            let start = LogPosition { offset: before, ..at };
            into.take(&RecordPlace { follows, start, end: record.end, after_ms }, &record.data, seen);
            read.offset = record.end;
            follows = read;
            *budget = budget.saturating_sub(record.end - before);
            *budget > 0
        });
        // Also after a failure: what was taken is not taken again.
        if read > at {
            (self.cursor, self.end) = (Some(read), Some(read));
        }
        walked.map(|(_, end)| end)
    }

    fn open(&mut self, number: u32, segment: Segment) -> Result<Arc<File>> {
        match &self.file {
            Some((open, inode, file)) if (*open, *inode) == (number, segment.inode) => Ok(Arc::clone(file)),
            _ => {
                let file = self.spool.open_kept(&spool_name(self.watch.log(), number, segment.inode))?;
                self.file = Some((number, segment.inode, Arc::clone(&file)));
                Ok(file)
            }
        }
    }

    /// Goes on at the next segment that is there.
    fn lose(&mut self, at: LogPosition, into: &mut Collector, seen: Stamp) -> Reached {
        into.cut(seen);
        let next = self.watch.after(at.segment);
        let segment = next.unwrap_or(at.segment.saturating_add(1));
        self.cursor = Some(LogPosition { segment, offset: 0 });
        let found = next.map_or_else(|| "none".to_owned(), |segment| segment.to_string());
        Reached::Lost(format!("records after {at} are gone, the next segment is {found}"))
    }

    /// Passes over the rest of a damaged segment where the server has left that.
    fn meet_damage(&mut self, segment: u32, damage: &Damage, into: &mut Collector, seen: Stamp) -> Reached {
        let detail = format!("segment {segment} of the {:?} is damaged: {damage}", self.watch.log());
        let Some(next) = self.watch.after(segment) else { return Reached::Unreadable(detail) };
        into.cut(seen);
        self.cursor = Some(LogPosition { segment: next, offset: 0 });
        Reached::Damaged(format!("{detail}; records after that are not archived"))
    }

    /// What comes next does not follow what was read: records between are lost.
    pub(super) fn skip_lost(&mut self) {
        self.end = self.cursor;
    }

    /// Takes what is there now as the log, and returns where it left what was read.
    pub(super) fn diverge(&mut self, number: u32, listing: Listing) -> Result<Divergence> {
        let anew = self.watch.segment(number).is_none_or(|old| old.inode == 0);
        let (boundary, rewritten) = match listing.get(&number) {
            Some(new) if !anew => self.compare(number, *new)?,
            _ => (0, anew),
        };
        let same = |n: &u32| self.watch.segment(*n).map(|old| old.inode) == listing.get(n).map(|s| s.inode);
        let fresh = listing.keys().copied().find(|n| *n < number && !same(n));
        let fresh = if anew { listing.keys().next().copied() } else { fresh };
        let at = match fresh {
            Some(segment) => LogPosition { segment, offset: 0 },
            None => LogPosition { segment: number, offset: boundary },
        };
        self.file = None;
        self.watch.forget_from(at.segment, &listing, &self.spool)?;
        self.watch.take(listing, &self.spool)?;
        self.rewind(at);
        Ok(Divergence { at, rewritten, anew })
    }

    /// Returns up to where a segment still has the records that were read, and whether others follow.
    fn compare(&self, number: u32, new: Segment) -> Result<(u64, bool)> {
        let Some(old) = self.watch.segment(number) else { return Ok((0, true)) };
        let there = self.watch.open_segment(number, new, &self.spool)?;
        let Ok(kept) = self.spool.open_kept(&spool_name(self.watch.log(), number, old.inode)) else {
            return Ok((0, true));
        };
        let read = self.cursor.filter(|at| at.segment == number).map_or(old.size, |at| at.offset);
        let limit = read.min(new.size);
        let boundary = common_boundary(&kept, &there, limit)?;
        let (last, _) = walk(&there, boundary, limit, |_, _| true)?;
        Ok((boundary, last > boundary))
    }

    /// Goes on from the end of the last segment that was read, where that is the same file and shorter now. Returns that
    /// place.
    pub(super) fn cut_back(&mut self) -> Result<Option<LogPosition>> {
        let Some(end) = self.end.filter(|end| self.watch.ends_before(*end)) else { return Ok(None) };
        let Some(segment) = self.watch.segment(end.segment).filter(|_| self.watch.was_kept(end.segment))
        else {
            return Ok(None);
        };
        let kept = self.spool.open_kept(&spool_name(self.watch.log(), end.segment, segment.inode))?;
        let (offset, _) = walk(&kept, 0, segment.size, |_, _| true)?;
        let at = LogPosition { segment: end.segment, offset };
        self.rewind(at);
        Ok(Some(at))
    }

    /// Begins again at an earlier place: what was archived after it is not what is there.
    pub(super) fn rewind(&mut self, to: LogPosition) {
        self.cursor = self.cursor.map(|cursor| cursor.min(to));
        self.end = self.end.map(|end| end.min(to));
        self.file = None;
    }

    /// Begins again with the first segment that is there, or will be.
    pub(super) fn rewind_to_first(&mut self) {
        self.rewind(LogPosition { segment: self.watch.first_there().unwrap_or(0), offset: 0 });
    }
}
