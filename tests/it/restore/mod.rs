//! A real Prometheus is archived under load; every time of its life comes back from the archive bit for bit.
//!
//! What is equal to what: a restore `--until T` holds exactly the samples of the original whose time is not after T. A
//! restore `--as-of T` holds what the server had written at T: all samples that were acknowledged by then, and none of
//! a later time. Scrapes are stamped before they are written, so those of the last moment may be in flight.

mod damage;
mod drill;
mod edges;
mod hostile;
mod incident;
mod interrupted;
mod keys;
mod page;
mod replicas;
mod retention;
pub(crate) mod scene;
mod times;
