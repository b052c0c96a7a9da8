//! Brings a moment of an archived Prometheus back as a data directory.
//!
//! Owns the way from a time to a directory that Prometheus opens without a repair, and the offline check of any such
//! directory. What is in an archive is the business of `archive`, the bytes of Prometheus' files that of `tsdb`.
//!
//! Vocabulary: the *target* is a time, `--as-of` (what the server knew then) or `--until` (no sample after it). A *way*
//! leads to its position: a base (blocks, tombstones, checkpoint) and the pieces of the log after it. The *plan* says
//! what a way takes before anything is written. The *head* is what the server had in memory; it comes back as the log
//! it was or as *head blocks*. The *work directory* `<to>.restore/` holds everything until it is complete.
//!
//! Flow
//! 1. [`plan`]: the position, the newest base that was known then, manifests, what of it is there already, room, time.
//! 2. [`run`]: fetch (stored hashes), verify (whole files and pieces), build (tombstones, head blocks), log, check
//!    (what was built here is read back), rename.
//! 3. [`status`] and [`find_events`] say which times there are to choose from, [`check_dir`] reads any directory.
//!
//! **Invariants**
//! - Nothing is written outside of `<to>.restore/` before the last step, and that is a rename. Names come from
//!   `bucket::file_name` and ULIDs only, never through a link.
//! - Bytes count after their hash was found right; a file that was fetched before is hashed again.
//! - Damage leads to another way (an older base with a longer log) or to a stop, never to a directory with a hole
//!   that was not confirmed.
//! - The same archive and target give the same bytes, however often the restore was interrupted.
//! - Logs are numbered from 0 without a checkpoint, blocks have a tombstones file, there are no head chunks.
//!
//! **Crash consistency** A restore that was killed leaves its work directory with a journal that names what it is
//! about; the same call goes on there. With `--delta` the old and the new directory change places at once, where the file
//! system can, and the old one is then `<to>.replaced`. `report.json` in the work directory tells of a restore that was
//! killed after that: the same call ends it and reports what came of it.
//!
//! [`export`] is the same for what was never archived: a data directory out of our own blocks.
//!
//! What it does not do: start Prometheus but for a drill, write to the bucket.

mod build;
mod check;
mod context;
mod drill;
mod error;
mod estimate;
pub mod export;
mod fetch;
mod filter;
mod find;
mod finish;
mod head;
mod inventory;
mod journal;
mod local;
mod merge;
mod plan;
mod progress;
mod records;
mod request;
mod resume;
mod rewrite;
mod run;
mod scratch;
mod segments;
mod status;
mod tombstones;
mod warnings;
mod workplace;

#[cfg(test)]
mod tests;

pub use check::{DirFinding, DirReport, check_dir, fuzz_chunks_head};
pub use context::RestoreContext;
pub use drill::{DrillReport, DrillSettings, SeriesDifference, drill};
pub use error::RestoreError;
pub use estimate::Estimate;
pub use find::{EventFilter, FoundEvent, find_events};
pub use merge::{MergeReport, MergeRequest, Replica, merge_replicas};
pub use plan::{PlannedBlock, PlannedDisk, PlannedFetch, PlannedLog, RestorePlan, plan};
pub use progress::{NoProgress, Phase, Progress};
pub use request::{HeadMode, RestoreRequest, Selector, ServerVersion};
pub use run::{RestoreReport, complete_interrupted, run};
pub use scratch::Scratch;
pub use status::{ArchiveStatus, GapStatus, TimelineStatus, status};
