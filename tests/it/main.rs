//! The integration tests: one binary, so that heavy dependencies are linked once.

#![allow(clippy::disallowed_methods, reason = "these tests run real processes in real time")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and may talk")]

mod archive;
mod bench;
mod blocks_verify;
mod bombs;
mod every_kind;
mod export;
mod faults;
mod fuzz;
mod generated;
mod ha_pair;
mod kill;
mod kinds_sql;
mod log_inspect;
mod object_log;
mod object_store;
mod peers;
mod progress;
mod properties;
mod protection;
mod recording;
mod restore;
mod restore_serve;
mod roles;
mod rollback;
mod senders;
mod several;
mod sim;
mod storeapi;
mod support;
mod tidy;
mod wal;
mod xor;
