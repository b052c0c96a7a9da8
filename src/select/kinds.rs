//! Exemplars and metadata out of heads and blocks.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::error::SelectError;
use super::selector::{BLOCKS_AT_ONCE, Selector, may_match};
use crate::catalog::{BlockEntry, BlockKind};
use crate::model::{Exemplar, Labels, Matcher, MetadataEntry, TenantId, TimeRange, normalize_metadata};

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
    /// Blocks that cannot be read, and more bytes than a query may fetch.
    pub async fn exemplars(
        &self,
        tenant: &TenantId,
        range: TimeRange,
        matchers_for: &(dyn Fn(&Labels) -> Option<Vec<Matcher>> + Send + Sync),
    ) -> Result<Vec<FoundExemplars>, SelectError> {
        let mut found = Vec::new();
        // Heads before blocks: see the module's invariants.
        for (external, head) in self.heads_of(tenant) {
            if let Some(matchers) = matchers_for(&external) {
                let in_head = self.cpu().run(move || head.exemplars(&matchers, range)).await?;
                found.extend(in_head.into_iter().map(|series| of_producer(&external, series)));
            }
        }
        let blocks = self.blocks_in(tenant, range).await?.into_iter();
        let blocks = blocks.filter(|block| block.kind == BlockKind::Exemplars);
        let asked = blocks.filter_map(|block| Some((matchers_for(&block.external_labels)?, block)));
        let finds = asked.filter(|(matchers, block)| may_match(matchers, block)).map(
            |(matchers, block): (Vec<Matcher>, Arc<BlockEntry>)| async move {
                let reader = self.open_exemplars(tenant, &block).await?;
                let series = reader.find(&matchers, range).await;
                let series = series.map_err(|source| SelectError::of_block(block.id, source))?;
                let of_block = series.into_iter().map(|series| of_producer(&block.external_labels, series));
                Ok::<_, SelectError>(of_block.collect::<Vec<_>>())
            },
        );
        let in_blocks: Vec<Vec<FoundExemplars>> =
            futures::stream::iter(finds.collect::<Vec<_>>()).buffered(BLOCKS_AT_ONCE).try_collect().await?;
        found.extend(in_blocks.into_iter().flatten());
        Ok(found)
    }

    /// Returns the history of a tenant's metadata, of one family or of all; sorted, changes only.
    ///
    /// # Errors
    /// Blocks that cannot be read.
    pub async fn metadata(
        &self,
        tenant: &TenantId,
        family: Option<&str>,
    ) -> Result<Vec<MetadataEntry>, SelectError> {
        let wanted = |entry: &MetadataEntry| family.is_none_or(|family| entry.family == family);
        let mut entries = Vec::new();
        for (_, head) in self.heads_of(tenant) {
            let in_head = self.cpu().run(move || head.metadata()).await?;
            entries.extend(in_head.into_iter().filter(wanted));
        }
        let blocks = self.blocks_in(tenant, TimeRange::ALL).await?.into_iter();
        let blocks = blocks.filter(|block| block.kind == BlockKind::Metadata);
        let reads = blocks.map(|block| async move { self.readers().metadata(tenant, &block).await });
        let in_blocks: Vec<Arc<Vec<MetadataEntry>>> =
            futures::stream::iter(reads.collect::<Vec<_>>()).buffered(BLOCKS_AT_ONCE).try_collect().await?;
        entries
            .extend(in_blocks.iter().flat_map(|block| block.iter().filter(|entry| wanted(entry)).cloned()));
        normalize_metadata(&mut entries);
        Ok(entries)
    }
}

fn of_producer(external: &Labels, (labels, exemplars): (Labels, Vec<Exemplar>)) -> FoundExemplars {
    FoundExemplars { external_labels: external.clone(), labels, exemplars }
}
