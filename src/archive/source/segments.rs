//! What a log of the server consists of, look by look.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::LogPosition;
use super::spool::Spool;
use crate::bucket::LogKind;

/// A segment file as a look found it. An inode of 0 stands for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) inode: u64,
    pub(super) size: u64,
}

/// Segments by number.
pub(super) type Listing = BTreeMap<u32, Segment>;

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The log is written up to here, going on from what was known; nothing where there is no segment.
    End(Option<LogPosition>),
    /// What is there does not go on from what was known: from this segment on it differs.
    Differs(u32, Listing),
}

/// Follows the segments of one log.
#[derive(Debug)]
pub(super) struct LogWatch {
    log: LogKind,
    dir: PathBuf,
    /// What was seen, and what is kept of it although the server has deleted it.
    known: Listing,
    /// What an earlier archiver kept.
    kept_before: Listing,
    first_live: Option<u32>,
    gone: bool,
    /// What differs from what is known, kept until it is taken.
    aside: Listing,
}

impl LogWatch {
    /// Begins with the segments that an earlier archiver kept.
    pub(super) fn open(log: LogKind, data_dir: &Path, spool: &Spool) -> Result<Self> {
        let (dir, known) = (data_dir.join(folder(log)), kept_segments(log, spool)?);
        let kept_before = known.clone();
        Ok(Self { log, dir, known, kept_before, first_live: None, gone: false, aside: Listing::new() })
    }

    /// Returns whether the log ends before a place up to which it is archived: it was cut back, or is another one.
    pub(super) fn ends_before(&self, end: LogPosition) -> bool {
        match self.known.get(&end.segment) {
            Some(segment) => segment.size < end.offset,
            None => self.last().is_some_and(|last| last < end.segment),
        }
    }

    /// Returns whether a segment is the file that an earlier archiver read.
    pub(super) fn was_kept(&self, number: u32) -> bool {
        let inode = |listing: &Listing| listing.get(&number).map(|segment| segment.inode);
        inode(&self.kept_before).is_some_and(|before| inode(&self.known) == Some(before))
    }

    /// Makes sure that the last archived segment counts as known, even if nothing of it was kept.
    pub(super) fn expect(&mut self, end: LogPosition) {
        let expected = self.known.entry(end.segment).or_insert(Segment { inode: 0, size: 0 });
        expected.size = expected.size.max(end.offset);
    }

    pub(super) fn log(&self) -> LogKind {
        self.log
    }

    /// Returns the size of a segment, as last seen.
    pub(super) fn segment(&self, number: u32) -> Option<Segment> {
        self.known.get(&number).copied()
    }

    /// Returns the first segment after this one.
    pub(super) fn after(&self, number: u32) -> Option<u32> {
        self.known.range(number.saturating_add(1)..).next().map(|(number, _)| *number)
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.known.keys().next().copied()
    }

    pub(super) fn last(&self) -> Option<u32> {
        self.known.keys().next_back().copied()
    }

    /// Returns the first segment that the server still has.
    pub(super) fn first_live(&self) -> Option<u32> {
        self.first_live
    }

    /// Returns the first segment that is kept or that the server has now, looked at or not.
    pub(super) fn first_there(&self) -> Option<u32> {
        let seen = self.known.iter().find(|(_, segment)| segment.inode != 0);
        seen.map(|(number, _)| *number).or_else(|| list_segments(&self.dir).ok()?.keys().next().copied())
    }

    /// Returns whether there is no segment any more, although some were known.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    pub(super) fn folder(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:08}"))
    }

    /// Looks how far the log is written. A quick look stats the last segment; a thorough one lists them all.
    pub(super) fn look(&mut self, thorough: bool, spool: &Spool) -> Result<Found> {
        if !thorough && self.look_at_last()? {
            self.gone = false;
            return Ok(Found::End(self.end()));
        }
        let found = list_segments(&self.dir)?;
        self.gone = found.is_empty() && !self.known.is_empty();
        if found.is_empty() {
            // Not started yet, a log of out-of-order samples that the server has removed, or a volume that is away.
            self.first_live = None;
            return Ok(Found::End(self.end()));
        }
        // What was put aside counts even where the server has truncated it since.
        let changed = !self.aside.is_empty() || first_difference(&self.known, &found).is_some();
        let found = if changed { self.keep_aside(&found, spool)? } else { found };
        if let Some(number) = first_difference(&self.known, &found) {
            return Ok(Found::Differs(number, found));
        }
        self.take(found, spool)?;
        Ok(Found::End(self.end()))
    }

    /// Keeps what differs until what was seen before is read, which may take as long as the store is away. Returns it
    /// with what the server has truncated since.
    fn keep_aside(&mut self, found: &Listing, spool: &Spool) -> Result<Listing> {
        let first = found.keys().next().copied().unwrap_or(0);
        let changed = |number: u32, segment: &Segment| {
            number >= first && found.get(&number).is_none_or(|now| now.inode != segment.inode)
        };
        let left: Vec<(u32, Segment)> =
            self.aside.iter().filter(|(n, segment)| changed(**n, segment)).map(|(n, s)| (*n, *s)).collect();
        for (number, segment) in left {
            self.aside.remove(&number);
            if self.known.get(&number).is_none_or(|known| known.inode != segment.inode) {
                spool.release(&spool_name(self.log, number, segment.inode))?;
            }
        }
        for (&number, &segment) in found {
            match spool.keep(&spool_name(self.log, number, segment.inode), &self.path(number)) {
                Ok(()) => {
                    self.aside.insert(number, segment);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.aside.clone())
    }

    /// Opens a segment as a listing has it.
    pub(super) fn open_segment(&self, number: u32, segment: Segment, spool: &Spool) -> Result<Arc<File>> {
        match spool.open_kept(&spool_name(self.log, number, segment.inode)) {
            Err(error) if error.kind() == ErrorKind::NotFound => File::open(self.path(number)).map(Arc::new),
            opened => opened,
        }
    }

    /// Returns whether only the last segment grew, if anything did.
    fn look_at_last(&mut self) -> Result<bool> {
        let Some((&number, &known)) = self.known.last_key_value() else { return Ok(false) };
        if number.checked_add(1).is_none_or(|next| self.path(next).exists()) {
            return Ok(false);
        }
        let meta = match fs::metadata(self.path(number)) {
            Ok(meta) => meta,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if meta.ino() != known.inode || meta.len() < known.size {
            return Ok(false);
        }
        self.known.insert(number, Segment { inode: known.inode, size: meta.len() });
        Ok(true)
    }

    /// Takes a listing as what is there, and keeps its segments.
    pub(super) fn take(&mut self, found: Listing, spool: &Spool) -> Result<()> {
        self.first_live = found.keys().next().copied();
        self.measure_deleted(spool)?;
        for (number, segment) in found {
            match spool.keep(&spool_name(self.log, number, segment.inode), &self.path(number)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    // Deleted between listing and linking: the next look sees what is left.
                    if self.aside.get(&number).is_none_or(|aside| aside.inode != segment.inode) {
                        continue;
                    }
                }
                Err(error) => return Err(error),
            }
            self.known.insert(number, segment);
        }
        self.aside.clear();
        Ok(())
    }

    /// Takes the last size of segments that the server has deleted: it may have written to them after the last look.
    fn measure_deleted(&mut self, spool: &Spool) -> Result<()> {
        let log = self.log;
        for (number, known) in self.known.range_mut(..self.first_live.unwrap_or(0)) {
            match spool.open_kept(&spool_name(log, *number, known.inode)) {
                Ok(kept) => known.size = known.size.max(kept.metadata()?.len()),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Forgets segments from a number on, and lets go of them; those of `next` with the same inode stay.
    pub(super) fn forget_from(&mut self, number: u32, next: &Listing, spool: &Spool) -> Result<()> {
        for (number, old) in self.known.split_off(&number) {
            if next.get(&number).is_none_or(|new| new.inode != old.inode) {
                spool.release(&spool_name(self.log, number, old.inode))?;
            }
        }
        Ok(())
    }

    /// Lets go of segments before this one that the server has deleted.
    pub(super) fn forget_archived(&mut self, archived: u32, spool: &Spool) -> Result<()> {
        let Some(first_live) = self.first_live else { return Ok(()) };
        let gone: Vec<(u32, Segment)> =
            self.known.range(..archived.min(first_live)).map(|(n, s)| (*n, *s)).collect();
        for (number, segment) in gone {
            spool.release(&spool_name(self.log, number, segment.inode))?;
            self.known.remove(&number);
        }
        Ok(())
    }

    fn end(&self) -> Option<LogPosition> {
        self.known.last_key_value().map(|(&segment, known)| LogPosition { segment, offset: known.size })
    }
}

/// Returns the first segment in which a listing does not go on from what was known. What is missing before the first
/// one was truncated by the server, which is as it should be.
fn first_difference(known: &Listing, found: &Listing) -> Option<u32> {
    let first = *found.keys().next()?;
    known.iter().find_map(|(&number, old)| {
        let same = match found.get(&number) {
            Some(new) => (old.inode == 0 || new.inode == old.inode) && new.size >= old.size,
            None => number < first,
        };
        (!same).then_some(number)
    })
}

/// The folder of a log in the data directory, and in the spool.
pub(super) const fn folder(log: LogKind) -> &'static str {
    match log {
        LogKind::Wal => "wal",
        LogKind::Wbl => "wbl",
    }
}

/// Returns the name under which a segment is kept.
pub(super) fn spool_name(log: LogKind, number: u32, inode: u64) -> String {
    format!("{}/{number:08}-{inode}", folder(log))
}

/// Lists the segments in a folder; none where there is no folder.
pub(super) fn list_segments(dir: &Path) -> Result<Listing> {
    let mut listing = Listing::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(listing),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(segment_number) else { continue };
        match entry.metadata() {
            Ok(meta) if meta.is_file() => {
                listing.insert(number, Segment { inode: meta.ino(), size: meta.len() });
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(listing)
}

/// Returns the segments that an earlier archiver kept, by number; where it kept two of one number, the larger one.
fn kept_segments(log: LogKind, spool: &Spool) -> Result<Listing> {
    let mut listing = Listing::new();
    for (name, inode, size) in spool.list(folder(log))? {
        let Some((number, _)) = name.split_once('-') else { continue };
        let Some(number) = segment_number(number) else { continue };
        let kept = listing.entry(number).or_insert(Segment { inode, size });
        if kept.size < size {
            *kept = Segment { inode, size };
        }
    }
    Ok(listing)
}

fn segment_number(name: &str) -> Option<u32> {
    let digits = name.len() >= 8 && name.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| name.parse().ok()).flatten()
}
