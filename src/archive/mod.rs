//! The archive of a live Prometheus: everything that its data directory held, at every second.
//!
//! Vocabulary: a *source* is an archived Prometheus. A *piece* holds records of its WAL (or of the WBL, the log of
//! out-of-order samples). A *base* is its blocks, tombstones and checkpoint as seen at one moment. A *position* is a
//! place in the logs. A *timeline* is a run of records without a break; it leaves its parent at a *fork*. The *archive
//! catalog* is a chain of *entries*: each names the SHA-256 of the one before, and is written after the objects that it
//! names. A *chapter* is a run of entries in one object, with their pieces rolled up.
//!
//! Flow: the archiver reads the logs at record boundaries, puts pieces, then an entry. When blocks, tombstones or the
//! checkpoint change it stores what is new, then records a base. A restore reads the catalog, finds the position of its
//! time ([`Archive::resolve`]), takes the newest base that was known then and the pieces from its checkpoint to the
//! position.
//!
//! **Invariants**
//! - What an entry names is stored and durable. Objects that no entry names do not count, and are collected later.
//! - Objects are created and never changed; each has a random id in its key or contents, so that a second attempt never
//!   meets the first one's leavings.
//! - A base is complete: its blocks and the log after its checkpoint are all that the server knew. Logs are read
//!   before blocks are listed, so that no sample falls between.
//! - Entries are not encrypted and hold no label values but the external labels; pieces, blocks, checkpoints and digests
//!   are sealed where keys are configured. Hashes are of the stored bytes, so that the chain is checked without keys.
//! - Only one archiver writes a source: entry numbers are created, never overwritten.
//!
//! **Crash consistency** An archiver that dies leaves objects that no entry names, and hard links in its spool. The next
//! one goes on at the last entry's position, reading from the spool or the logs.
//!
//! What it does not do: build data directories (that is `restore`), read or change what Prometheus serves.

mod chain;
mod collect;
mod digest;
mod entry;
mod error;
mod files;
mod hash;
mod hold;
mod holes;
mod lock;
mod piece;
mod retention;
mod roll_up;
mod source;
mod target;
mod verify;
mod view;

#[cfg(test)]
mod tests;

pub use chain::{Archive, ChainEnd, Link, fuzz_archive_catalog, sources};
pub use collect::{Retention, RetentionReport};
pub use digest::{Digest, DigestBuilder, DigestRow, SealedDigest, fuzz_digest};
pub use entry::{
    Base, BlockState, Chapter, CheckpointEntry, DigestEntry, ENTRY_FORMAT, Entry, Event, EventKind, Fork,
    ForkReason, LogPosition, Manifest, PieceEntry, Position, ServerFacts, Stamp, StoredBlock, StoredFile,
    StoredPart, UnknownFields,
};
pub use error::ArchiveError;
pub use hash::Sha256Hash;
pub use hold::{Held, Hold};
pub use holes::Hole;
pub use lock::{LockExtension, LockReport};
pub use piece::{
    Mark, PIECE_PLAIN_BYTES_MAX, Piece, PieceBuilder, PieceHeader, PieceRecord, compress, decompress,
    fuzz_piece,
};
pub use retention::{RestorePoint, RetentionPlan, RetentionPolicy, plan_retention};
pub use roll_up::{RollUp, RollUpReport, RollUpSettings};
pub use source::{Archiver, ArchiverMetrics, ArchiverParts, ArchiverSettings, Opening};
pub use target::{Resolved, Target, cut_in_piece, resolve_at, ways_to};
pub use verify::{Verify, VerifyFinding, VerifyLevel, VerifyProgress, VerifyReport, VerifySettings};
pub use view::{ArchiveView, MissingRecords, PieceCut, Timeline};
