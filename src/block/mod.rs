//! The block: one immutable Parquet file per tenant, resolution and span of time.
//!
//! Owns the file's schema and encodings, the split of series into rows, row statistics, the exact decimal form of
//! values, the key-value metadata, writing, pruning and reading, and the SQL views over a set of files.
//!
//! **Vocabulary**: a *run* is one series with its samples, as the head or a merge hands it over. A *row* is one
//! series in one aligned window of 8 h with at most 4,096 samples. A *label column* is a label with its own
//! column; all other labels of a series stand in the map `_labels_rest`. The *sample columns* are the lists at the
//! end of the schema, `_ts`, `_st`, `_scaled`, `_values`, and `_scale`.
//!
//! **Flow**
//! 1. [`extend_label_columns`] decides which labels have columns; the catalog keeps that list.
//! 2. [`write_block`] takes runs in [`block_order`], cuts them into rows, and streams row groups out.
//! 3. [`BlockReader::open`] reads footer and page index; [`BlockReader::find_rows`] prunes row groups by statistics,
//!    evaluates matchers on the dictionaries of their columns and reads the other labels of what matches;
//!    [`BlockReader::label_values`] and [`BlockReader::label_names`] read dictionaries alone where they can.
//! 4. [`BlockReader::read_samples`] fetches the pages of chosen rows, of the one list that each row has.
//! 5. [`duckdb_views`] prints the views that let SQL users forget about rows.
//!
//! **Invariants**
//! - What goes in comes out: every bit of every value, stale markers, timestamps and start timestamps. A value is
//!   stored as `scaled / 10^scale` only after that division gave back its bits.
//! - Rows are sorted by `__name__`, then the other labels as a label set, then time. No series occurs twice.
//! - A label stands in its column or in `_labels_rest`, never in both; within one file the choice is the same for
//!   all rows.
//! - The footer alone says what a catalog entry says, so that a catalog can be built again from a listing.
//! - A file is written once. Readers refuse a format version they do not know.
//!
//! **Crash consistency**: this module writes into what it is handed and names nothing; half a file has no footer
//! and is never opened as a block, because only the catalog makes a block exist.
//!
//! It does not talk to object storage (bytes come through [`RangeRead`]), knows no catalog, keeps no cache, and
//! does not merge: rows of overlapping blocks meet in `select`.

mod columns;
mod decimal;
mod dictionary;
mod error;
mod exemplars;
mod fetch;
mod file;
mod find;
mod hashing;
mod histograms;
mod label_buffer;
mod label_rows;
mod lists;
mod lookup;
mod meta;
mod metadata;
mod parts;
mod reader;
mod row;
mod row_buffer;
mod samples;
mod schema;
mod sql;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use columns::{LABEL_COLUMNS_MAX, block_order, extend_label_columns};
pub use dictionary::fuzz_dictionary;
pub use error::{BlockError, ReadFailure};
pub use exemplars::{ExemplarReader, write_exemplars};
pub use fetch::{RangeRead, join_ranges};
pub use find::{Admission, BlockRow};
pub use hashing::HashingWriter;
pub use histograms::{HistogramRun, fuzz_histogram_rows, write_histograms};
pub use meta::{BlockMeta, BlockSpec, BlockStats, FORMAT_VERSION, LogPositions};
pub use metadata::{MetadataReader, write_metadata};
pub use reader::{BlockReader, expected_index_bytes};
pub use row::{ROW_SAMPLES_MAX, SeriesRun};
pub use sql::{SqlFile, duckdb_views};
pub use writer::write_block;
