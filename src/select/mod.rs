//! One set of series out of heads and blocks: what every read uses.
//!
//! **Owns** the [`CatalogView`] (the newest version of every tenant's catalog), the open blocks and what is kept of them
//! ([`ReadCache`]), those of a restored Prometheus data directory ([`TsdbBlocks`]), the bounds of a query
//! ([`QueryBudget`]), and the merge.
//!
//! **Flow**
//! 1. [`Selector::select`] takes the heads first, [`LocalBlocks`] second and the catalog version last, keeps the sources whose external
//!    labels and time can match, and finds the matching series in each by labels and statistics alone.
//! 2. The answer is a [`Selection`] per set of external labels: sorted label sets with references into the sources.
//! 3. [`Selection::read`] fetches and decodes the samples of some of its series, merges their sources by time and
//!    leaves one value per timestamp.
//! 4. [`Selector::look_up`] answers for label names and values without selecting series.
//!
//! **Invariants**
//! - Heads before local blocks before catalog: what leaves one of them between two looks is already in the next. A
//!   sample may be found twice, never not at all; what is found twice is merged.
//! - Which samples come does not depend on how they are split over heads, blocks and rows. In which parts they come
//!   does, and only on that: `Selection::read_apart`.
//! - Readers hold one version throughout; blocks are immutable.
//! - Decoding, matching and merging run on the compute threads.
//!
//! **Crash consistency**: only the read cache writes files; they may vanish or break at any time.
//!
//! It persists nothing else. It knows no protocol: inclusive bounds, tenants as labels and chunk encodings belong above.

mod budget;
mod cache;
mod error;
mod kinds;
mod local_blocks;
mod lookup;
mod readers;
mod selection;
mod selector;
mod tsdb_blocks;
mod view;

#[cfg(test)]
mod tests;

pub use budget::{QueryBudget, SelectLimits};
pub use cache::{CacheError, CacheSettings, ReadCache};
pub use error::SelectError;
pub use kinds::FoundExemplars;
pub use local_blocks::LocalBlocks;
pub use lookup::LabelQuery;
pub use readers::BlockObject;
pub use selection::Selection;
pub use selector::{Grouping, Selector, remaining_matchers};
pub use tsdb_blocks::TsdbBlocks;
pub use view::CatalogView;
