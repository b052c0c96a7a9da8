//! The head: samples that are durable in the log and not yet in a block.
//!
//! **Owns** one [`Head`] per tenant and cut, and the set of them ([`Heads`]). A head has a table of series (label
//! bytes to a number) and, per number, the samples as chunks: one *open* chunk of plain samples and *sealed* ones
//! in Prometheus' XOR form.
//!
//! **Flow**
//! 1. A request looks its series up by their label bytes and creates the missing ones ([`Head::resolve`]).
//! 2. Once the log entry is durable, the samples are appended in log order ([`Head::append`]).
//! 3. A cut freezes every head at one log entry ([`Heads::freeze`]); new samples go to fresh heads.
//! 4. Blocks are built from the frozen head; it is dropped once readers see the blocks ([`Heads::release`]).
//!
//! **Invariants**
//! - Series numbers are dense, never reused within a head, and mean nothing outside of it.
//! - Appending never fails and never loses: order, duplicates and conflicts are settled when samples are read, by
//!   `model::Sample::winner`, so that the outcome does not depend on the order of arrival.
//! - A frozen head takes no more samples.
//! - A series without samples is invisible; a request whose log write failed leaves such series behind.
//!
//! **Crash consistency**: nothing here survives a crash; the log does.
//!
//! It does no I/O, reads no clock and knows neither log nor blocks.

mod chunk;
mod heads;
mod series;
mod table;

#[cfg(test)]
mod tests;

pub use heads::Heads;
pub use series::{Head, HeadSeries};
pub use table::label_hash;
