//! Blocks of exemplars: a row is one exemplar.
//!
//! Owns their schema, writing, finding, and verification. Rows are sorted by series in block order, then time, labels and value.
//!
//! **Invariants**
//! - Every bit of the value and every label comes back; the order of an exemplar's labels is that of `model::Labels`.
//! - The exemplar labels `trace_id` and `span_id` stand in columns of their own, all others in `_exemplar_labels`,
//!   which is NULL where there is none.

mod read;
mod schema;
mod verify;
mod writer;

#[cfg(test)]
pub(super) mod tests;

pub use read::ExemplarReader;
pub(super) use schema::{EXEMPLAR_LABELS, IDS, VALUE, arrow_schema};
pub use writer::write_exemplars;
