//! What an entry of the archive catalog says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::hash::Sha256Hash;
use crate::bucket::{ArchiveObject, FileOwner, LogKind, ObjectKey};
use crate::model::{SourceName, Ulid};

/// The format of entries and chapters that this program writes, and the newest that it reads.
pub const ENTRY_FORMAT: u32 = 1;

/// Keys that a newer program may have written; they are kept.
pub type UnknownFields = serde_json::Map<String, serde_json::Value>;

/// When something was seen: on the archiver's wall clock, and on one that never steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// Milliseconds since the Unix epoch.
    pub wall_ms: i64,
    /// Milliseconds since the archiver's process started.
    pub monotonic_ms: i64,
}

/// A place in a log of Prometheus: a segment and an offset at the end of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct LogPosition {
    /// The segment's number.
    pub segment: u32,
    /// Bytes from its beginning.
    pub offset: u64,
}

impl std::fmt::Display for LogPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08}:{}", self.segment, self.offset)
    }
}

/// A moment in the life of a server's data: everything before it is in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Position {
    /// The timeline.
    pub timeline: u32,
    /// Where the WAL is read up to: the end of a record, never the beginning of a segment that was read nothing of,
    /// but in an archive that has no record yet.
    pub wal: LogPosition,
    /// Where the log of out-of-order samples is read up to, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wbl: Option<LogPosition>,
}

/// One entry: what one flush added. It is written last, and names the bytes of the entry before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// [`ENTRY_FORMAT`].
    pub format: u32,
    /// The source.
    pub source: SourceName,
    /// Its number, from 1, without holes.
    pub seq: u64,
    /// SHA-256 of the stored bytes of entry `seq - 1`; none for the first.
    pub previous_sha256: Option<Sha256Hash>,
    /// A random id, so that no two entries have the same bytes.
    pub id: Ulid,
    /// The archiver's process, named by when it started.
    pub archiver: Ulid,
    /// When the entry was made.
    pub made: Stamp,
    /// What the archive holds with this entry. Its WAL position equals the end of the newest piece.
    pub position: Position,
    /// Set where this entry begins a timeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<Fork>,
    /// Records added, in the order of reading.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pieces: Vec<PieceEntry>,
    /// Set where blocks, tombstones or the checkpoint changed and the new ones are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// What happened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// Set where it changed, and in the first entry of an archiver's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerFacts>,
    /// Digests of series that were recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub digests: Vec<DigestEntry>,
    /// Keys of newer programs.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// Where a timeline left the one before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fork {
    /// The timeline that it continues; none for the first one of an archive.
    pub parent: Option<u32>,
    /// What it shares with the parent: the parent's records after this place are not part of it. Where the reason is
    /// a gap, records are missing between this place and the first piece.
    pub at: Option<Position>,
    /// Why.
    pub reason: ForkReason,
    /// When it was noticed.
    pub noticed: Stamp,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Why a timeline begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForkReason {
    /// The archive begins.
    Start,
    /// The wall clock was set: on one timeline every time is once.
    ClockStep,
    /// The server was started again.
    Restart,
    /// The server repaired its log, or lost its end: what the archive had read is no longer there.
    Repair,
    /// A segment was replaced by another (inode, size or contents).
    Rewritten,
    /// Records were gone before they could be read.
    Gap,
}

impl ForkReason {
    /// Returns the name, as in metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::ClockStep => "clock_step",
            Self::Restart => "restart",
            Self::Repair => "repair",
            Self::Rewritten => "rewritten",
            Self::Gap => "gap",
        }
    }
}

/// Records of a log in one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PieceEntry {
    /// The object's random id.
    pub id: Ulid,
    /// The timeline that it was read on.
    pub timeline: u32,
    /// Which log.
    pub log: LogKind,
    /// The segment.
    pub segment: u32,
    /// Where its first record begins.
    pub start: u64,
    /// Where its last record ends.
    pub end: u64,
    /// Where the log was read up to before: the end of the piece before it, on this timeline or where that left its
    /// parent, in this segment or an earlier one. Records are missing where no piece ends there.
    pub follows: LogPosition,
    /// None of its records was there at this time (0 where that is unknown).
    pub after_ms: i64,
    /// All of its records were there at this time.
    pub seen: Stamp,
    /// The least and greatest time of its samples, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_times_ms: Option<(i64, i64)>,
    /// The greatest series reference that it declares or uses.
    pub series_ref_max: u64,
    /// How many items of each kind it holds, by the name of the kind.
    pub counts: BTreeMap<String, u64>,
    /// Size of the piece before compression.
    pub plain_bytes: u64,
    /// SHA-256 of that.
    pub plain_sha256: Sha256Hash,
    /// Size of the object.
    pub stored_bytes: u64,
    /// SHA-256 of the object.
    pub stored_sha256: Sha256Hash,
}

impl PieceEntry {
    /// Returns the look before the first record; nothing after a pause, or where the clock was set back since.
    #[must_use]
    pub(super) fn looked_before_ms(&self) -> Option<i64> {
        Some(self.after_ms).filter(|after_ms| (1..=self.seen.wall_ms).contains(after_ms))
    }

    /// Returns the object's key.
    #[must_use]
    pub fn key(&self, source: &SourceName) -> ObjectKey {
        let Self { id, timeline, log, segment, start, end, .. } = *self;
        ObjectKey::archive(source, ArchiveObject::Piece { timeline, log, segment, start, end, id })
    }

    /// Returns where the piece ends.
    #[must_use]
    pub fn end_position(&self) -> LogPosition {
        LogPosition { segment: self.segment, offset: self.end }
    }

    /// Returns where the piece begins.
    #[must_use]
    pub fn start_position(&self) -> LogPosition {
        LogPosition { segment: self.segment, offset: self.start }
    }
}

/// Blocks, tombstones and checkpoint as seen at one moment: with the log after the checkpoint, all that the server knew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Base {
    /// When it was seen.
    pub seen: Stamp,
    /// When it came about, by the newest modification time of what changed, and not before the look that still found
    /// something else; at most `seen`.
    pub changed_ms: i64,
    /// How far the logs were written at that moment.
    pub position: Position,
    /// The newest checkpoint, where there is one. The log that it needs begins with the segment after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointEntry>,
    /// The first segment of the WAL that was there.
    pub first_segment: u32,
    /// The first segment of the log of out-of-order samples that was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wbl_first_segment: Option<u32>,
    /// The blocks, sorted by id.
    pub blocks: Vec<BlockState>,
}

/// A checkpoint in the archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointEntry {
    /// The timeline that it was seen on.
    pub timeline: u32,
    /// The last segment that it replaces.
    pub number: u32,
    /// Its segments.
    pub files: Vec<StoredFile>,
}

/// A block as the server had it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockState {
    /// Its id on the server.
    pub id: Ulid,
    /// Start of its time range.
    pub min_time_ms: i64,
    /// End of its time range, exclusive.
    pub max_time_ms: i64,
    /// Samples in it.
    pub samples: u64,
    /// Series in it.
    pub series: u64,
    /// Compaction level.
    pub level: u32,
    /// Whether it holds out-of-order samples and does not move the server's replay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out_of_order: bool,
    /// What to restore for it: itself, or the blocks that it was compacted from.
    pub stored: Vec<StoredBlock>,
}

/// A block in the archive, with one version of its tombstones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredBlock {
    /// The block.
    pub id: Ulid,
    /// The upload's random id.
    pub upload: Ulid,
    /// Start of its time range.
    pub min_time_ms: i64,
    /// End of its time range, exclusive.
    pub max_time_ms: i64,
    /// Samples in it.
    pub samples: u64,
    /// Size of its files.
    pub plain_bytes: u64,
    /// Size of their objects.
    pub stored_bytes: u64,
    /// SHA-256 of the manifest's object.
    pub manifest_sha256: Sha256Hash,
    /// Its tombstones file, where that was not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tombstones: Option<StoredFile>,
}

/// What a stored block consists of: its index, chunk files and `meta.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`ENTRY_FORMAT`].
    pub format: u32,
    /// The block.
    pub block: Ulid,
    /// Its files.
    pub files: Vec<StoredFile>,
}

/// A file in parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredFile {
    /// The path below the block or checkpoint: only what [`crate::bucket::file_name`] allows.
    pub path: String,
    /// What it belongs to.
    pub owner: FileOwner,
    /// The upload's random id.
    pub upload: Ulid,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of the whole file.
    pub sha256: Sha256Hash,
    /// Its parts, in order.
    pub parts: Vec<StoredPart>,
}

/// One part of a file: one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredPart {
    /// Size in the file.
    pub plain_bytes: u64,
    /// Whether it is compressed with zstd.
    pub compressed: bool,
    /// Size of the object.
    pub stored_bytes: u64,
    /// SHA-256 of the object.
    pub stored_sha256: Sha256Hash,
}

/// Something that happened, for `restore find`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// When, as exactly as is known.
    pub at_ms: i64,
    /// How far the log was written.
    pub position: Position,
    /// The block that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<Ulid>,
    /// For people: no label values, as entries are not encrypted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// What kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Series were deleted: tombstones in the log or in a block.
    Delete,
    /// The server was started again.
    Restart,
    /// The server repaired its log or lost its end.
    Repair,
    /// A segment was replaced.
    Rewritten,
    /// Records are missing.
    Gap,
    /// A block is gone and no other holds its samples.
    BlockGone,
    /// A block was replaced by a compacted or cleaned one.
    BlockReplaced,
    /// A block that the archive could not read; it is not part of any base.
    BlockUnreadable,
    /// The archiver's wall clock was set.
    ClockStep,
    /// An archiver started.
    ArchiverStart,
    /// An archiver ended in an orderly way.
    ArchiverStop,
}

/// What is known of the server: only what a restore needs, as entries are not encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServerFacts {
    /// Its version, such as `2.42.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its external labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub external_labels: BTreeMap<String, String>,
    /// Its `storage.tsdb.*` flags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub flags: BTreeMap<String, String>,
    /// When its process started, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
}

/// A digest object: count, sum and hash of the samples of every series in a range of sample time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DigestEntry {
    /// The object's random id.
    pub id: Ulid,
    /// Start of the range.
    pub min_time_ms: i64,
    /// End of the range, exclusive.
    pub max_time_ms: i64,
    /// How far the log was read: a restore to this position or a later one has all that was counted.
    pub position: Position,
    /// How many series it holds.
    pub series: u64,
    /// Size of the object.
    pub stored_bytes: u64,
    /// SHA-256 of the object.
    pub stored_sha256: Sha256Hash,
}

/// A run of entries in one object, with pieces rolled up. It takes the place of the entries in the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chapter {
    /// [`ENTRY_FORMAT`].
    pub format: u32,
    /// The source.
    pub source: SourceName,
    /// The first entry that it replaces.
    pub first_seq: u64,
    /// The last one.
    pub last_seq: u64,
    /// SHA-256 of the stored bytes of entry `first_seq - 1`; none for the first.
    pub previous_sha256: Option<Sha256Hash>,
    /// SHA-256 of the stored bytes of entry `last_seq`, which the next entry names.
    pub last_sha256: Sha256Hash,
    /// A random id.
    pub id: Ulid,
    /// When the first and the last entry were made.
    pub made: (Stamp, Stamp),
    /// The entries that say more than where the log stands, with pieces rolled up into larger ones. Numbers and
    /// positions are as they were; a rolled-up piece stands in the entry that named the last of its records.
    pub entries: Vec<Entry>,
}

impl Chapter {
    /// Returns its key.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        let Self { first_seq, last_seq, id, .. } = *self;
        let object = ArchiveObject::Chapter { first_seq, last_seq, id };
        ObjectKey::archive(&self.source, object)
    }
}

impl StoredFile {
    /// Returns the key of a part.
    #[must_use]
    pub fn part_key(&self, source: &SourceName, part: u32) -> Option<ObjectKey> {
        let file = crate::bucket::file_name(&self.path)?;
        let object = ArchiveObject::FilePart { owner: self.owner, upload: self.upload, file, part };
        Some(ObjectKey::archive(source, object))
    }

    /// Returns the size of its objects.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.stored_bytes).sum()
    }
}

impl StoredBlock {
    /// Returns the key of its manifest.
    #[must_use]
    pub fn manifest_key(&self, source: &SourceName) -> ObjectKey {
        ObjectKey::archive(source, ArchiveObject::Manifest { block: self.id, upload: self.upload })
    }
}
