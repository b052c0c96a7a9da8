//! The archiver: follows the data directory of a live Prometheus into an archive.
//!
//! Vocabulary: a *look* asks how far the logs are written; what it finds is a *sighting*. A *batch* is what is read and
//! stored at once. The *spool* keeps files that are not archived yet. A *scan* is what lies in the directory beside
//! the logs: blocks, tombstones, the checkpoint. The server *diverges* where what is there does not go on from what was
//! read.
//!
//! Before all that the archive is read, which waits for the store as long as it must: the logs are looked at and kept
//! meanwhile.
//!
//! Flow, every `poll`: a look at both logs, `wbl/` first. Every second a scan as well. Every `flush`, or sooner where
//! much is waiting:
//! 1. sightings are read in order, records go into pieces, with the time of each sighting as a mark;
//! 2. pieces are compressed, hashed, encrypted and stored;
//! 3. an entry names them and tells how far the logs are archived.
//!
//! Beside that, one scan after the other is stored and becomes a base in the next entry.
//!
//! **Invariants**
//! - Only `perennial-spool/` in the data directory is written, and there only links.
//! - At one position every series of the WBL is declared in the WAL.
//! - Records are read once and in order; a failure to store is met by trying again, not by reading again.
//! - Memory does not grow with what is waiting: sightings are thinned, batches bounded, files stay in the spool.
//! - What could not be looked at or read is never claimed: no entry is dated later than what is known of the log.
//! - What the server changed under the archiver is never stored on the old timeline: what was seen before is read to
//!   its end from the spool, then a new timeline begins.
//!
//! **Crash consistency** Links stay in the spool, also those of segments that the server deletes while no archiver
//! runs. The next archiver takes them, goes on at the last entry's position, and lists what is there against them as
//! if it had not been away. Objects that no entry names are garbage.
//!
//! What it does not do: restore, verify, delete anything in the bucket.

mod archiver;
mod base;
mod collect;
mod facts;
mod instruments;
mod log_tail;
mod publish;
mod resume;
mod scan;
mod sealed_before;
mod seed;
mod segments;
mod sightings;
mod spool;
mod tailer;
mod upload;
mod waiting;
mod walk;

pub use archiver::{Archiver, ArchiverParts, ArchiverSettings, Opening};
pub use instruments::ArchiverMetrics;
