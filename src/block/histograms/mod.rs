//! Blocks of native histograms.
//!
//! Owns the form of rows with histograms: their split, their schema, writing and reading.
//!
//! **Vocabulary**: the *layout* of a row is what its samples share: whole or fractional counts, schema, zero
//! threshold, custom bounds and the *places* of buckets on both *sides* (positive, negative). A *bare* sample is a
//! stale marker and nothing else: what Prometheus writes when a series ends. The *increment* of a bucket is the
//! difference to its count one sample before.
//!
//! **Flow**: [`split_rows`] cuts a run into rows; [`HistogramBuffer`] turns their samples around, from buckets by
//! sample to samples by bucket, so that a list holds how one bucket grew; `read` turns them back.
//!
//! **Invariants**
//! - Every bit of every field comes back, reset hints and odd spans included.
//! - A row's buckets are the union of its samples' buckets. A NULL element says that the sample does not have the
//!   bucket; the sample's spans are then the shortest that cover its buckets. A sample whose spans are not those
//!   shares a row only with samples whose spans are the very same, and bare ones.
//! - Whole counts never pass through a double. Differences wrap, so that every 64-bit count comes back.
//! - The union of buckets is at most about twice what the samples hold, and a row at most 2^18 bucket counts unless a
//!   single sample has more.

mod buffer;
mod fuzz;
mod layout;
mod matrix;
mod read;
mod row;
mod schema;
mod writer;

#[cfg(test)]
pub(super) mod tests;

use buffer::HistogramBuffer;
pub use fuzz::fuzz_histogram_rows;
pub use row::HistogramRun;
use row::split_rows;
pub(super) use schema::{arrow_schema, sample_bytes};
pub use writer::write_histograms;
