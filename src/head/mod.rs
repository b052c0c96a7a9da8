//! The head: samples that are durable in the log and not yet in a block.
//!
//! **Owns** one [`Head`] per tenant and cut, and the set of them ([`Heads`]). A head has a table of series (label
//! bytes to a number) and, per number, what came in: floats as chunks (one *open* chunk of plain samples and *sealed*
//! ones in Prometheus' XOR form), native histograms as rows of bytes, exemplars as they are. Metadata stands beside, by
//! family. The series are spread over *shards*, which can be written to at the same time.
//!
//! **Flow**
//! 1. A request looks its series up, by their label bytes or by the numbers of their *symbols* ([`Head::look_up`]), and
//!    creates the missing ones ([`Head::resolve`]).
//! 2. Once the log entry is durable, its parts are appended in log order ([`Head::append`] and its siblings).
//! 3. A cut freezes every head at one log entry ([`Heads::freeze`]); what comes then goes to fresh heads.
//! 4. Blocks are built from the frozen head; it is dropped once readers see the blocks ([`Heads::release`]).
//!
//! **Invariants**
//! - Series numbers are dense, never reused within a head, and mean nothing outside of it.
//! - Appending never fails and never loses: order, duplicates and conflicts are settled when samples are read, by
//!   content (`model::Sample::winner`, `model::SeriesData::merge`), so that the outcome does not depend on the order of
//!   arrival.
//! - A frozen head takes nothing more.
//! - A series without samples is invisible; a request whose log write failed leaves such series behind. One with
//!   exemplars only is found by [`Head::exemplars`].
//! - Metadata is kept once for each different text of a family, with the time it first came to this head.
//!
//! **Crash consistency**: nothing here survives a crash; the log does.
//!
//! It does no I/O, reads no clock and knows neither log nor blocks.

mod chunk;
mod heads;
mod histograms;
mod open;
mod reads;
mod series;
mod shard;
mod symbols;
mod table;

#[cfg(test)]
mod tests;

pub use heads::Heads;
pub use series::{Head, HeadSeries};
pub use shard::HeadPart;
pub use symbols::RowCursor;
pub use table::SeriesLookup;
