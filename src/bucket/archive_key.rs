//! Keys of archive objects, below `archives/<source>/`.

use std::fmt;

use crate::model::Ulid;

use super::key::parse_ulid;

/// Digits of an entry's sequence number.
const SEQ_DIGITS: usize = 20;

/// Digits of a timeline, a segment or a checkpoint.
const NUMBER_DIGITS: usize = 8;

/// Digits of an offset in a segment.
const OFFSET_DIGITS: usize = 12;

/// Which of Prometheus' two logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogKind {
    /// The write-ahead log, `wal/`.
    Wal,
    /// The log of out-of-order samples, `wbl/`.
    Wbl,
}

/// What a stored file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileOwner {
    /// A block of Prometheus.
    Block(Ulid),
    /// A checkpoint of its WAL, seen on a timeline.
    Checkpoint {
        /// The timeline.
        timeline: u32,
        /// The number in its name: the last segment that it replaces.
        number: u32,
    },
}

/// An object of one source's archive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArchiveObject {
    /// `catalog/<seq>`: an entry of the archive catalog.
    Entry {
        /// Its number, from 1.
        seq: u64,
    },
    /// `catalog/chapters/<first>-<last>-<ULID>`: a run of entries, rolled up.
    Chapter {
        /// The first entry that it replaces.
        first_seq: u64,
        /// The last one.
        last_seq: u64,
        /// Of two chapters of one run, the one with the greater id counts.
        id: Ulid,
    },
    /// `timelines/<timeline>/<wal|wbl>/<segment>/<start>-<end>-<ULID>`: records of a log.
    Piece {
        /// The timeline that it was read on.
        timeline: u32,
        /// Which log.
        log: LogKind,
        /// The segment.
        segment: u32,
        /// Where its first record begins in the segment.
        start: u64,
        /// Where its last record ends.
        end: u64,
        /// A random id: an attempt that was not recorded never stands in the way.
        id: Ulid,
    },
    /// `blocks/<ULID>/<upload>/manifest`: what a stored block consists of.
    Manifest {
        /// The block.
        block: Ulid,
        /// The upload's random id.
        upload: Ulid,
    },
    /// `blocks/<ULID>/<upload>/<file>.<part>` or `timelines/<timeline>/checkpoints/<number>/<upload>/<file>.<part>`.
    FilePart {
        /// What the file belongs to.
        owner: FileOwner,
        /// The upload's random id.
        upload: Ulid,
        /// The file, as [`file_name`] writes it.
        file: String,
        /// The part, from 0.
        part: u32,
    },
    /// `digests/<ULID>`: digests of series.
    Digest {
        /// A random id.
        id: Ulid,
    },
    /// `holds/<ULID>`: a hold, or the release of one.
    Hold {
        /// A random id.
        id: Ulid,
    },
    /// `marks/<ULID>`: what retention will delete, and when.
    Mark {
        /// A random id.
        id: Ulid,
    },
}

/// Returns the name of a local file (`index`, `meta.json`, `tombstones`, `chunks/000001`, `00000000`) as a key has it,
/// or nothing for a name that no block or checkpoint has: keys and restored paths are made of these only.
#[must_use]
pub fn file_name(path: &str) -> Option<String> {
    let digits = |text: &str, n: usize| text.len() == n && text.bytes().all(|b| b.is_ascii_digit());
    match path {
        "index" | "meta.json" | "tombstones" => Some(path.to_owned()),
        _ => match path.strip_prefix("chunks/") {
            Some(number) if digits(number, 6) => Some(format!("chunks-{number}")),
            None if digits(path, NUMBER_DIGITS) => Some(path.to_owned()),
            _ => None,
        },
    }
}

fn is_key_file_name(name: &str) -> bool {
    let path = name.replacen("chunks-", "chunks/", 1);
    file_name(&path).as_deref() == Some(name)
}

impl ArchiveObject {
    /// Reads the segments below `archives/<source>/`.
    pub(super) fn parse(segments: &[&str]) -> Option<Self> {
        let object = match segments {
            ["catalog", "chapters", range] => {
                let mut parts = range.splitn(3, '-');
                Self::Chapter {
                    first_seq: number(parts.next()?, SEQ_DIGITS)?,
                    last_seq: number(parts.next()?, SEQ_DIGITS)?,
                    id: parse_ulid(parts.next()?)?,
                }
            }
            ["catalog", seq] => Self::Entry { seq: number(seq, SEQ_DIGITS)? },
            ["timelines", timeline, "checkpoints", checkpoint, upload, file] => {
                let owner =
                    FileOwner::Checkpoint { timeline: number32(timeline)?, number: number32(checkpoint)? };
                Self::parse_part(owner, upload, file)?
            }
            ["timelines", timeline, log @ ("wal" | "wbl"), segment, range] => {
                let mut parts = range.splitn(3, '-');
                Self::Piece {
                    timeline: number32(timeline)?,
                    log: if *log == "wal" { LogKind::Wal } else { LogKind::Wbl },
                    segment: number32(segment)?,
                    start: number(parts.next()?, OFFSET_DIGITS)?,
                    end: number(parts.next()?, OFFSET_DIGITS)?,
                    id: parse_ulid(parts.next()?)?,
                }
            }
            ["blocks", block, upload, "manifest"] => {
                Self::Manifest { block: parse_ulid(block)?, upload: parse_ulid(upload)? }
            }
            ["blocks", block, upload, file] => {
                Self::parse_part(FileOwner::Block(parse_ulid(block)?), upload, file)?
            }
            ["digests", id] => Self::Digest { id: parse_ulid(id)? },
            ["holds", id] => Self::Hold { id: parse_ulid(id)? },
            ["marks", id] => Self::Mark { id: parse_ulid(id)? },
            _ => return None,
        };
        Some(object)
    }

    fn parse_part(owner: FileOwner, upload: &str, name: &str) -> Option<Self> {
        let (file, part) = name.rsplit_once('.')?;
        let part = number(part, NUMBER_DIGITS).and_then(|n| u32::try_from(n).ok())?;
        is_key_file_name(file).then_some(())?;
        Some(Self::FilePart { owner, upload: parse_ulid(upload)?, file: file.to_owned(), part })
    }
}

fn number(text: &str, digits: usize) -> Option<u64> {
    let ok = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    ok.then(|| text.parse().ok()).flatten()
}

fn number32(text: &str) -> Option<u32> {
    number(text, NUMBER_DIGITS).and_then(|n| u32::try_from(n).ok())
}

impl fmt::Display for ArchiveObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const N: usize = NUMBER_DIGITS;
        match self {
            Self::Entry { seq } => write!(f, "catalog/{seq:0w$}", w = SEQ_DIGITS),
            Self::Chapter { first_seq, last_seq, id } => {
                write!(f, "catalog/chapters/{first_seq:0w$}-{last_seq:0w$}-{id}", w = SEQ_DIGITS)
            }
            Self::Piece { timeline, log, segment, start, end, id } => {
                let (log, w) = (if *log == LogKind::Wal { "wal" } else { "wbl" }, OFFSET_DIGITS);
                write!(f, "timelines/{timeline:0N$}/{log}/{segment:0N$}/{start:0w$}-{end:0w$}-{id}")
            }
            Self::Manifest { block, upload } => write!(f, "blocks/{block}/{upload}/manifest"),
            Self::FilePart { owner, upload, file, part } => match owner {
                FileOwner::Block(block) => write!(f, "blocks/{block}/{upload}/{file}.{part:0N$}"),
                FileOwner::Checkpoint { timeline, number } => {
                    write!(f, "timelines/{timeline:0N$}/checkpoints/{number:0N$}/{upload}/{file}.{part:0N$}")
                }
            },
            Self::Digest { id } => write!(f, "digests/{id}"),
            Self::Hold { id } => write!(f, "holds/{id}"),
            Self::Mark { id } => write!(f, "marks/{id}"),
        }
    }
}
