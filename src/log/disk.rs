//! The log in a directory: one open segment that takes entries, closed ones that wait for their release.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::columns::{Declared, LABELS_BYTES_MAX, encode_group};
use super::directory::{DirectoryLock, SegmentName, create_dirs, enter_dir, epoch_dir};
use super::error::LogError;
use super::files::{LogFile, LogFiles};
use super::frame::FrameEncoder;
use super::recovery::recover;
use super::replay::RecoveredSegment;
use super::segment::{RECEIVER_BYTES_MAX, SegmentHeader, SegmentLink};
use super::{LogSettings, TenantWrite};
use crate::model::Ulid;
use crate::runtime::crash_point;

/// A body of this size is an entry; more samples of the same append go into the next one, so that replay never
/// has to hold a large request at once.
const BODY_BYTES_TARGET: usize = 4 << 20;

/// The log of one receiver in a directory of its own. One thread writes.
#[derive(Debug)]
pub struct DiskLog {
    dir: PathBuf,
    receiver: String,
    epoch: Ulid,
    settings: LogSettings,
    files: Arc<dyn LogFiles>,
    /// All segments on disk in the order of their history; the open one, if there is one, is the last.
    segments: VecDeque<Segment>,
    open: Option<OpenSegment>,
    /// Whether the folder of the epoch is durable in the directory.
    entered: bool,
    /// The segment that the next header names as its predecessor.
    previous: Option<SegmentLink>,
    last_seq: u64,
    frames: FrameEncoder,
    body: Vec<u8>,
    _lock: DirectoryLock,
}

#[derive(Debug)]
struct Segment {
    name: SegmentName,
    last_seq: u64,
    bytes: u64,
    released: bool,
}

#[derive(Debug)]
struct OpenSegment {
    file: Box<dyn LogFile>,
    name: SegmentName,
    seed: u32,
    declared: Declared,
    /// Up to where it is durable.
    length: u64,
}

impl DiskLog {
    /// Locks the directory, creating it where it is missing, checks what earlier epochs left and starts an epoch.
    /// Returns their segments, oldest first; they are not covered by this log's [`Self::last_seq`]. The first
    /// segment of the epoch is created with its first entry.
    ///
    /// The epoch is `epoch`, or the next ULID after the newest one found where the clock went back: the order of
    /// epochs is that of their ULIDs. [`Self::epoch`] tells.
    ///
    /// # Errors
    /// `Locked` where somebody else holds the directory, `Corrupt` where entries that were durable do not read or
    /// a segment is missing (unless `skip_damaged` is set), `Unavailable` for what the operating system refuses.
    pub fn open(
        dir: &Path,
        receiver: &str,
        epoch: Ulid,
        settings: LogSettings,
        files: Arc<dyn LogFiles>,
    ) -> Result<(Self, Vec<RecoveredSegment>), LogError> {
        if receiver.len() > RECEIVER_BYTES_MAX {
            return Err(LogError::ReceiverName { bytes: receiver.len(), allowed: RECEIVER_BYTES_MAX });
        }
        create_dirs(files.as_ref(), dir)?;
        let lock = DirectoryLock::take(dir, receiver)?;
        let recovered = recover(dir, files.as_ref(), settings.skip_damaged)?;
        let newest = recovered.last().map(|segment| segment.name.epoch);
        let epoch = match newest {
            Some(newest) if newest >= epoch => newest.increment().unwrap_or(Ulid(newest.0.wrapping_add(1))),
            _ => epoch,
        };
        let segments: VecDeque<Segment> = recovered.iter().map(Segment::of).collect();
        let log = Self {
            dir: dir.to_owned(),
            receiver: receiver.to_owned(),
            epoch,
            settings,
            files,
            previous: recovered.last().map(RecoveredSegment::link),
            segments,
            open: None,
            entered: false,
            last_seq: 0,
            frames: FrameEncoder::new().map_err(LogError::Compress)?,
            body: Vec::new(),
            _lock: lock,
        };
        Ok((log, recovered))
    }

    /// Writes what is given and makes it durable, as one entry, or as several where there are many; returns the
    /// last sequence number. Writes of nothing leave no entry.
    ///
    /// After an error none of the samples may be acknowledged. Some may be in the log all the same. The segment
    /// takes no more entries; the next append opens a new one and goes on with the next sequence number that is
    /// not durable.
    ///
    /// # Errors
    /// `TooLarge` for a label set over 1 MiB, `Unavailable` where a write or fsync fails.
    pub fn append(&mut self, writes: &[TenantWrite<'_>]) -> Result<u64, LogError> {
        self.body.clear();
        let outcome = self.append_all(writes);
        if outcome.is_err() {
            self.abandon_segment();
        }
        outcome.map(|()| self.last_seq)
    }

    fn append_all(&mut self, writes: &[TenantWrite<'_>]) -> Result<(), LogError> {
        for write in writes {
            let mut rest = *write;
            while !rest.is_empty() {
                if self.open.is_none() {
                    self.open = Some(self.create_segment()?);
                }
                rest = self.encode(&rest)?;
                if self.body.len() >= BODY_BYTES_TARGET || !rest.is_empty() {
                    self.commit()?;
                }
            }
        }
        if self.body.is_empty() { Ok(()) } else { self.commit() }
    }

    /// Encodes as much as an entry takes and returns the rest.
    fn encode<'a>(&mut self, write: &TenantWrite<'a>) -> Result<TenantWrite<'a>, LogError> {
        let Some(open) = &mut self.open else { return Ok(*write) };
        encode_group(write, &mut open.declared, BODY_BYTES_TARGET, &mut self.body).map_err(|e| {
            LogError::LabelsTooLarge {
                tenant: write.tenant.to_string(),
                bytes: e.bytes,
                allowed: LABELS_BYTES_MAX,
            }
        })
    }

    /// Writes the body as the next entry and makes it durable.
    fn commit(&mut self) -> Result<(), LogError> {
        let (Some(open), Some(segment)) = (&mut self.open, self.segments.back_mut()) else { return Ok(()) };
        let seq = self.last_seq + 1;
        let entry = self.frames.encode(seq, &self.body, open.seed).map_err(LogError::Compress)?;
        let failed = |action, source| LogError::Io { action, path: open.name.path(&self.dir), source };
        open.file.write_all(entry).map_err(|e| failed("write", e))?;
        crash_point("log.after_write");
        open.file.sync().map_err(|e| failed("sync", e))?;
        crash_point("log.after_sync");
        open.length += entry.len() as u64;
        (segment.last_seq, segment.bytes) = (seq, open.length);
        self.last_seq = seq;
        self.body.clear();
        if open.length >= self.settings.segment_bytes_max {
            self.start_segment();
        }
        Ok(())
    }

    /// Creates a segment for the next sequence number, durable under its final name before it takes an entry.
    fn create_segment(&mut self) -> Result<OpenSegment, LogError> {
        let name = SegmentName { epoch: self.epoch, first_seq: self.last_seq + 1 };
        let header = SegmentHeader {
            epoch: self.epoch,
            receiver: self.receiver.clone(),
            first_seq: name.first_seq,
            previous: self.previous,
        };
        let (bytes, seed) = header.encode();
        let (temporary, path) = (name.temporary_path(&self.dir), name.path(&self.dir));
        let folder = epoch_dir(&self.dir, self.epoch);
        if !self.entered || !folder.is_dir() {
            enter_dir(self.files.as_ref(), &folder)?;
            self.entered = true;
        }
        let mut file = self.files.create(&temporary).map_err(LogError::io("create", &temporary))?;
        file.write_all(&bytes).map_err(LogError::io("write", &temporary))?;
        file.sync().map_err(LogError::io("sync", &temporary))?;
        crash_point("log.new_segment");
        self.files.rename(&temporary, &path).map_err(LogError::io("rename a file to", &path))?;
        crash_point("log.segment_named");
        self.files.sync_dir(&folder).map_err(LogError::io("sync the directory", &folder))?;
        let length = bytes.len() as u64;
        self.segments.push_back(Segment {
            name: name.clone(),
            last_seq: self.last_seq,
            bytes: length,
            released: false,
        });
        Ok(OpenSegment { file, name, seed, declared: Declared::default(), length })
    }

    /// Ends the open segment: the next entry goes into a new one.
    pub fn start_segment(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.previous = Some(SegmentLink {
            epoch: open.name.epoch,
            first_seq: open.name.first_seq,
            last_seq: self.last_seq,
            length: open.length,
        });
    }

    /// Ends the open segment after a failure, at its last durable entry.
    fn abandon_segment(&mut self) {
        let Some(open) = self.open.take_if(|open| self.last_seq < open.name.first_seq) else {
            return self.end_failed_segment();
        };
        // It holds no entry: the next segment has the same name and takes its place.
        self.segments.pop_back();
        self.cut_off(&open);
    }

    fn end_failed_segment(&mut self) {
        if let Some(open) = &self.open {
            self.cut_off(open);
        }
        self.start_segment();
    }

    /// Removes what a failed append left. The next header records the length in any case; but a process that
    /// starts before there is one must not take bytes for durable that are only in the page cache.
    fn cut_off(&self, open: &OpenSegment) {
        let path = open.name.path(&self.dir);
        if let Err(error) = self.files.truncate(&path, open.length) {
            tracing::warn!(?path, %error, "cannot cut off a failed write to the log");
        }
    }

    /// Returns the last sequence number of this epoch; 0 before its first entry.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Returns the epoch.
    #[must_use]
    pub fn epoch(&self) -> Ulid {
        self.epoch
    }

    /// Returns the bytes on disk, of all epochs.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Lets go of what an epoch wrote up to `through_seq`: deletes the whole segments that lie there, but for the
    /// open one, and returns how many bytes that freed. A segment behind one that is still needed is deleted
    /// together with that one, later.
    ///
    /// # Errors
    /// The operating system's; the next call tries again.
    pub fn release(&mut self, epoch: Ulid, through_seq: u64) -> Result<u64, LogError> {
        for segment in self.segments.iter_mut().filter(|segment| segment.name.epoch == epoch) {
            segment.released |= segment.last_seq <= through_seq;
        }
        let closed = self.segments.len() - usize::from(self.open.is_some());
        let mut freed = 0;
        for _ in 0..closed {
            let Some(segment) = self.segments.front().filter(|segment| segment.is_dispensable()) else {
                break;
            };
            self.delete(segment)?;
            freed += segment.bytes;
            let epoch = segment.name.epoch;
            self.segments.pop_front();
            if epoch != self.epoch && self.segments.front().is_none_or(|next| next.name.epoch != epoch) {
                // An empty folder is harmless; the next start removes it if this does not.
                let _ = fs::remove_dir(epoch_dir(&self.dir, epoch));
            }
        }
        Ok(freed)
    }

    /// Deletes a segment for good before the next one goes: a hole in the history would look like damage.
    fn delete(&self, segment: &Segment) -> Result<(), LogError> {
        let (path, folder) = (segment.name.path(&self.dir), epoch_dir(&self.dir, segment.name.epoch));
        match self.files.remove(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(LogError::Io { action: "delete", path, source });
            }
            _ => crash_point("log.release"),
        }
        self.files.sync_dir(&folder).map_err(LogError::io("sync the directory", &folder))
    }
}

impl Segment {
    fn of(recovered: &RecoveredSegment) -> Self {
        Self {
            name: recovered.name.clone(),
            last_seq: recovered.last_seq,
            bytes: recovered.end,
            released: false,
        }
    }

    /// Released, or without any entry.
    fn is_dispensable(&self) -> bool {
        self.released || self.last_seq < self.name.first_seq
    }
}
