//! The read APIs: StoreAPI, exemplars and metric metadata over gRPC; Prometheus' APIs of series, labels, exemplars and
//! metadata, and remote read, over HTTP.
//!
//! **Owns** the protocols and their bounds: who may see which tenant, inclusive bounds, added labels, the final
//! order, frames, limits, deadlines. Series and samples come from `select`.
//!
//! **Vocabulary**: a *find* is a selection of one tenant and producer with the labels that are *added* to its series
//! (external labels and the tenant's). The *final* label set of a series is its own with the added ones laid over
//! and without replica labels. A *list* has the series of an answer in final order; a *batch* is what is read from
//! it at once.
//!
//! **Flow**
//! 1. A request waits for a place among the queries served at once, and is bounded by its own deadline and ours.
//! 2. Matchers on added labels are evaluated and stripped; tenants and producers that cannot match are left out.
//! 3. Label sets become final, are sharded and sorted; samples stay references.
//! 4. Batches are read and encoded on compute threads and sent through a bounded channel: one batch is read ahead.
//!
//! **Invariants**
//! - StoreAPI serves all tenants; HTTP serves the one of its header, without added labels.
//! - Series are sent in the order of their final label sets over all tenants, producers, heads and blocks.
//! - A series without samples in the range is never sent, unless only label sets were asked for.
//! - What a query holds in memory is its label sets, two batches and the encoded messages of two more, whatever it
//!   answers; remote read in the form of samples has a bound of its own. Batches are bounded by the bytes that floats
//!   and histograms take, but for one larger series, and are taken from the memory budget before they are read.
//! - Reading ends when the client goes, at the deadline and when the process stops.
//!
//! It persists nothing. What it does not do: PromQL, listeners, readiness, health and reflection (`server`).

mod error;
mod exemplars;
mod frames;
mod grpc;
mod info;
mod instruments;
mod json;
mod label_sets;
mod metadata;
mod metric_metadata;
mod parameters;
mod pump;
mod query_selectors;
mod reads;
mod remote_read;
mod selector_text;
mod series_list;
mod settings;

#[cfg(test)]
mod tests;

pub use query_selectors::fuzz_query_selectors;
pub use reads::Reads;
pub use selector_text::{SelectorError, parse_selector};
pub use settings::StoreSettings;
