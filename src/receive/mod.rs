//! The write endpoint: from a remote-write request to a catalog version.
//!
//! **Vocabulary**: a *request* becomes a *batch* (decoded, series numbered); batches that wait together become one
//! log *entry*; a *cut* ends the heads at one entry and becomes *blocks* and a catalog *version* per tenant.
//!
//! **Flow**
//! 1. [`WriteEndpoint`] takes a request within its byte budgets and hands it to a compute thread, which decodes it,
//!    refuses what is not allowed and numbers the series in the tenant's head.
//! 2. The [`Committer`] writes everything that waits as one log entry, fsyncs, appends to the heads in log
//!    order and answers. While it is in fsync the next entry gathers: group commit without a timer.
//! 3. The [`Cutter`] ends the heads at an interval, on demand and at the end of the process, builds blocks, one of
//!    each kind of data for each window, uploads them, commits a catalog version and only then lets the log go. What cannot be committed waits in files, is
//!    served from there, and its head's memory is free.
//! 4. [`recover`] brings what the log holds beyond the catalog back into the heads.
//!
//! **Invariants**
//! - A request is answered 2xx only after its entry is fsynced and its samples can be read.
//! - A batch belongs to the entry that holds it and to the head that is active when that entry is written, never to
//!   a frozen one.
//! - A sample is in a head, in a local block or in the catalog at every moment: what takes its place comes first.
//! - Log segments are released only when every tenant in them is covered by a committed version.
//!
//! - Log and waiting blocks have a bound on disk ([`Growth`]); beyond it writes are refused until the bucket takes some.
//!
//! **Crash consistency**: before the fsync nothing was promised; after it the log has the samples. Files in
//! `pending/` are derived and removed at start. Blocks that were uploaded and not committed are invisible and
//! collected as garbage. A crash between the commits of two tenants replays only the tenants not yet covered.

mod batch;
mod block_files;
mod blocks;
mod builder;
mod commit;
mod cut;
mod endpoint;
mod growth;
mod pending;
mod positions;
mod recover;
mod recoverer;
mod replay;
mod settings;
mod written_metadata;

#[cfg(test)]
mod tests;

pub use blocks::{BlockTarget, CutError};
pub use commit::{CommandQueue, Commands, Committer, CommitterMetrics};
pub use cut::{CutReport, CutRequestQueue, CutTiming, Cutter, CutterRequests, OnCommit};
pub use endpoint::WriteEndpoint;
pub use growth::{Growth, GrowthBound};
pub use pending::CreateProbe;
pub use recover::{RecoverError, RecoverSettings, Recovered, recover};
pub use recoverer::{Recoverer, RecovererMetrics, RecovererSettings};
pub use settings::{IngestSettings, Room, TenantSettings};
pub use written_metadata::WrittenMetadata;
