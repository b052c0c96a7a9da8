//! The log in the bucket: one object per group commit, so that a receiver needs no disk that outlives it.
//!
//! **Vocabulary.** An *entry* is an object `log/<epoch>/<sequence number>`. A *generation* is a run of entries within
//! which a series number, once declared, keeps its meaning. A *seal* ends an epoch: it takes the next sequence number.
//! The mark *released*, behind the seal, says that blocks hold the whole epoch. A *zombie* is a writer that goes on
//! although its epoch was sealed.
//!
//! **Flow**
//! 1. [`ObjectLog`] creates entry after entry, one at a time, each with put-if-absent. A writer that has nothing to
//!    say creates an empty one every 10 s.
//! 2. An epoch whose newest object is older than 60 s is dead. Both times are the store's: the present is that of an
//!    object which is created and deleted for this alone. So no two machines' clocks are ever compared.
//! 3. Whoever finds a dead epoch seals it ([`DeadEpochs::seal`]), reads its entries ([`EpochReader`]), turns them into
//!    blocks, commits these with the positions that they cover, and marks the epoch as released.
//! 4. Entries that blocks hold are deleted: by their writer after an entry that says so, by others after the mark.
//!    Seal and mark go a day later.
//!
//! **Invariants**
//! - Entries of an epoch have no gap between what is released and the seal. Nothing but a seal follows the last one.
//! - An acknowledged entry lies before the seal: put-if-absent lets only one object have a number.
//! - A generation starts at every cut, after every failed put, and every 64 MiB; entries are released up to the end of
//!   a generation only. So no entry that is needed refers to one that is gone.
//! - What the catalog covers is the fence: whoever commits entries says after which position, so that writer,
//!   recoverer and second recoverer may all try, and one commits.
//! - No entry is acknowledged that landed more than 35 minutes after the one before it: a writer that heard nothing
//!   for 5 minutes begins a new epoch, and a put that took over 30 is not believed. A seal stays for a day after the
//!   epoch was released. So a writer that was paused for long cannot use a number again whose seal is gone.
//!
//! **Crash points**
//! - *Writer, before a put or with its reply outstanding*: nobody was answered. The entry may be there; it is replayed.
//!   A writer that goes on finds it under the number it wants, knows its own epoch, and takes the next number. Its
//!   samples are in no head; nobody was told that they are stored.
//! - *Writer, after the put*: the entry is there and is replayed.
//! - *Writer, between commit of a cut and the entry that releases*: a recoverer reads from the catalog that blocks hold
//!   these entries, tenant by tenant, and passes over them.
//! - *Writer, while it deletes*: the newest entry says up to where; what is left there is garbage.
//! - *Recoverer, before its seal*: nothing has happened. *After it*: the epoch is sealed and not released; whoever
//!   looks after 2 minutes goes on, and so may several at once.
//! - *Recoverer, between the commits of two tenants*: the next one finds the first tenant covered.
//! - *Recoverer, before the mark*: the next one replays nothing and writes it. *While it deletes*: the mark tells.
//! - *Whoever removes the epoch*: catalogs forget it first, then entries, seal and mark go, the mark last.
//! - *Zombie*: its put meets the seal. It does not acknowledge, begins a new epoch, and keeps its heads readable until
//!   its own or the recoverer's commit covers them.
//!
//! It does not decide what is covered and does not know the catalog.

mod dead;
mod format;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub(super) use format::VERSION;

pub use dead::{DeadEpochs, Judged, Seal, Sighting, Verdict, delete_entries};
pub use format::{ObjectHeader, ObjectKind, fuzz_log_object};
pub use reader::{EpochReader, ReadObject};
pub use writer::{EndedEpoch, ObjectLog, ObjectLogSettings, OwnEpoch};
